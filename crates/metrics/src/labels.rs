//! Labels and their values: bounded in number and length, and made of what Prometheus takes.

use std::collections::BTreeMap;

/// Labels of an instance that become labels of its series; the first by name.
const MAX_VMI_LABELS: usize = 32;
/// Bytes of a value. Names of Kubernetes fit; what is longer was said by a guest.
const MAX_VALUE: usize = 253;
/// What upstream puts before the name of an instance's label.
const PREFIX: &str = "kubernetes_vmi_label_";

/// The labels an instance's own labels become: `kubernetes_vmi_label_` and the name, with `_` for what a label's name cannot have. Of
/// names that become the same the first counts.
pub fn vmi_labels(labels: Option<&BTreeMap<String, String>>) -> Vec<(String, String)> {
    let mut made = BTreeMap::new();
    for (name, text) in labels.into_iter().flatten().take(MAX_VMI_LABELS) {
        let name = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
        made.entry(name.fold(PREFIX.to_owned(), |all, c| all + c.encode_utf8(&mut [0; 4])))
            .or_insert_with(|| value(text));
    }
    made.into_iter().collect()
}

/// A value without control characters, cut to [`MAX_VALUE`].
pub(crate) fn value(text: &str) -> String {
    let mut end = text.len().min(MAX_VALUE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_an_instance_are_sanitised_and_unique() {
        let labels = |pairs: &[(&str, &str)]| {
            vmi_labels(Some(&pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()))
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            labels(&[("kubevirt.io/domain", "a"), ("x-y", "1"), ("x.y", "2")]),
            [pair("kubernetes_vmi_label_kubevirt_io_domain", "a"), pair("kubernetes_vmi_label_x_y", "1")]
        );
        assert!(vmi_labels(None).is_empty());
        let many: BTreeMap<_, _> = (0..500).map(|n| (format!("l{n:03}"), "x".to_owned())).collect();
        assert_eq!(vmi_labels(Some(&many)).len(), MAX_VMI_LABELS);
    }

    #[test]
    fn values_are_short_and_without_control_characters() {
        assert_eq!(value("Debian\n\u{1b}[31m"), "Debian??[31m");
        assert_eq!(value(&"é".repeat(500)).len(), 252);
    }
}
