//! Names derived from a VMI.

use sha2::{Digest, Sha256};

/// Longest value of a label and longest host name label.
pub const MAX_LABEL: usize = 63;
const PREFIX: &str = "virt-launcher-";
const SUFFIX_LEN: usize = 5;
/// Letters Kubernetes uses for generated names: no vowels, nothing to misread.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Name of a launcher pod.
pub type LauncherPodName = String;

/// `virt-launcher-<vmi>-<5 characters>`; the characters are a hash of the VMI's uid and the attempt, so that making the
/// same pod twice meets "already exists" and nothing else. The VMI's name is cut so that the result is a valid host name.
///
/// ```
/// let name = fv_render::launcher_pod_name("demo", "0f6f…", 0);
/// assert!(name.starts_with("virt-launcher-demo-"));
/// assert_eq!(name.len(), "virt-launcher-demo-".len() + 5);
/// ```
pub fn launcher_pod_name(vmi_name: &str, vmi_uid: &str, attempt: u32) -> LauncherPodName {
    let digest = Sha256::digest(format!("{vmi_uid}/{attempt}").as_bytes());
    let suffix: String =
        digest.iter().take(SUFFIX_LEN).map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])).collect();
    let room = MAX_LABEL - PREFIX.len() - SUFFIX_LEN - 1;
    let stem = cut(vmi_name, room).trim_end_matches(['-', '.']);
    format!("{PREFIX}{stem}-{suffix}")
}

/// Value of the label `vmi.kubevirt.io/id`: the name, or (over 63 characters) its beginning and eight digits of its SHA-1, as upstream.
pub fn vmi_id(vmi_name: &str) -> String {
    if vmi_name.len() <= MAX_LABEL {
        return vmi_name.to_owned();
    }
    let digest = hex::encode(sha1::Sha1::digest(vmi_name.as_bytes()));
    format!("{}-{}", cut(vmi_name, MAX_LABEL - 9), &digest[..8])
}

/// The guest's and pod's host name: `spec.hostname` or the VMI's name, up to the first dot, at most 63 characters.
pub fn hostname(vmi_name: &str, wanted: Option<&str>) -> String {
    let wanted = wanted.filter(|name| !name.is_empty()).unwrap_or(vmi_name);
    let label = wanted.split('.').next().unwrap_or_default();
    cut(label, MAX_LABEL).trim_matches('-').to_owned()
}

/// Sixteen digits that stand for a text which may not be a name.
pub(crate) fn short_hash(text: &str) -> String {
    hex::encode(&Sha256::digest(text.as_bytes())[..8])
}

/// The longest prefix of at most `max` bytes that ends between characters.
fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn attempts_and_uids_give_different_names() {
        let first = launcher_pod_name("demo", "u1", 0);
        assert_ne!(first, launcher_pod_name("demo", "u1", 1));
        assert_ne!(first, launcher_pod_name("demo", "u2", 0));
        assert_eq!(first, launcher_pod_name("demo", "u1", 0));
    }

    #[test]
    fn long_names_get_upstreams_id() {
        let name = "a".repeat(70);
        assert_eq!(
            vmi_id(&name),
            format!("{}-{}", "a".repeat(54), &hex::encode(sha1::Sha1::digest(name.as_bytes()))[..8])
        );
        assert_eq!(vmi_id("short"), "short");
    }

    #[test]
    fn hostname_is_one_label() {
        assert_eq!(hostname("vm.with.dots", None), "vm");
        assert_eq!(hostname("vm", Some("web-1")), "web-1");
        assert_eq!(hostname(&"x".repeat(100), None).len(), 63);
    }

    proptest! {
        #[test]
        fn pod_names_are_host_names(vmi in "[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?", uid in ".*", attempt: u32) {
            let name = launcher_pod_name(&vmi, &uid, attempt);
            prop_assert!(name.len() <= MAX_LABEL);
            prop_assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.'));
            prop_assert!(!name.contains("--") || vmi.contains("--") || vmi.contains("-."), "{}", name);
        }

        #[test]
        fn any_text_is_cut_without_panic(vmi in ".*") {
            launcher_pod_name(&vmi, "u", 0);
            vmi_id(&vmi);
            hostname(&vmi, None);
        }
    }
}
