//! Ratcheting: an update is refused only for what its old object did not already have. Otherwise an object stored under
//! laxer rules could be neither labelled nor stopped.

use std::collections::HashMap;

use crate::request::{Cause, CauseReason};

/// The causes of the new object that the old one had not. `old` is asked only when there is something to compare.
pub(crate) fn new_causes(new: Vec<Cause>, old: impl FnOnce() -> Vec<Cause>) -> Vec<Cause> {
    if new.is_empty() {
        return new;
    }
    let mut known: HashMap<Key, usize> = HashMap::new();
    for cause in old() {
        *known.entry(key(&cause)).or_default() += 1;
    }
    new.into_iter()
        .filter(|cause| match known.get_mut(&key(cause)) {
            Some(left) if *left > 0 => {
                *left -= 1;
                false
            }
            _ => true,
        })
        .collect()
}

type Key = (CauseReason, String, String);

/// A cause without list positions: removing one disk moves the faults of those behind it.
fn key(cause: &Cause) -> Key {
    (cause.reason, without_positions(&cause.field), without_positions(&cause.message))
}

fn without_positions(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        let digits = rest[open + 1..].bytes().take_while(u8::is_ascii_digit).count();
        let end = open + 1 + digits;
        out.push_str(&rest[..=open]);
        rest = if digits > 0 && rest[end..].starts_with(']') { &rest[end..] } else { &rest[open + 1..] };
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(field: &str) -> Cause {
        Cause { reason: CauseReason::FieldValueInvalid, message: format!("{field} is wrong"), field: field.into() }
    }

    #[test]
    fn faults_that_only_moved_are_known_and_added_ones_are_not() {
        let old = || vec![cause("disks[1].bus")];
        assert!(new_causes(vec![cause("disks[0].bus")], old).is_empty());
        assert_eq!(new_causes(vec![cause("disks[0].bus"), cause("disks[1].bus")], old), [cause("disks[1].bus")]);
        assert_eq!(new_causes(vec![cause("disks[0].io")], old), [cause("disks[0].io")]);
    }

    #[test]
    fn only_numbers_in_brackets_are_positions() {
        assert_eq!(without_positions("a[12].b[0] [x] [] c[1"), "a[].b[] [x] [] c[1");
    }
}
