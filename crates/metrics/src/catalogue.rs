//! Every metric we serve. Names beginning with `kubevirt_` are upstream's, with its types and labels; ours begin with `ferrovirt_`.

pub mod domain;
pub mod machine;
pub mod own;
pub mod program;

use crate::Definition;

/// All metrics, by name.
pub fn all() -> Vec<&'static Definition> {
    let parts = [domain::ALL, machine::ALL].into_iter().chain(own::PARTS).chain(program::PARTS);
    let mut all: Vec<_> = parts.flatten().copied().collect();
    all.sort_by_key(|definition| definition.name);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_labels_are_labels() {
        let all = all();
        for pair in all.windows(2) {
            assert_ne!(pair[0].name, pair[1].name);
        }
        let is_word = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        for definition in all {
            assert!(is_word(definition.name), "{}", definition.name);
            assert!(definition.labels.iter().all(|label| is_word(label)), "{}", definition.name);
            assert!(["kubevirt_", "ferrovirt_"].iter().any(|p| definition.name.starts_with(p)), "{}", definition.name);
            assert!(definition.help.ends_with('.') && !definition.programs.is_empty(), "{}", definition.name);
        }
    }
}
