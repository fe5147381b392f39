//! What is remembered of each object between decisions. In memory only: started anew, the controller does without.

use std::collections::HashMap;

use fv_plan::{EffectFailure, ObjectKey};
use fv_runtime::Outcome;
use parking_lot::Mutex;

/// Of all objects of a kind.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    of: Mutex<HashMap<ObjectKey, Remembered>>,
}

#[derive(Debug, Default)]
struct Remembered {
    /// How the last plan failed, if nothing has gone right since.
    failure: Option<EffectFailure>,
    /// The version that our last write replaced.
    replaced: Option<String>,
}

impl Memory {
    /// The last failure of the object's plan.
    pub(crate) fn failure(&self, key: &ObjectKey) -> Option<EffectFailure> {
        self.of.lock().get(key)?.failure.clone()
    }

    /// Whether this version of the object is one that we have replaced: the watch is about to tell of the next. What is decided on the old
    /// one is refused.
    pub(crate) fn is_replaced(&self, key: &ObjectKey, version: Option<&str>) -> bool {
        version.is_some() && self.of.lock().get(key).is_some_and(|known| known.replaced.as_deref() == version)
    }

    /// Keeps what the next decision must know of this one.
    pub(crate) fn note(&self, key: &ObjectKey, outcome: &Outcome) {
        // Facts that were behind say nothing about whether it works now.
        let is_behind = outcome.failure.is_none() && outcome.again == fv_runtime::Again::Soon;
        let mut of = self.of.lock();
        let known = of.entry(key.clone()).or_default();
        if !is_behind {
            known.failure.clone_from(&outcome.failure);
        }
        known.replaced.clone_from(&outcome.replaced);
        if known.failure.is_none() && known.replaced.is_none() {
            of.remove(key);
        }
    }

    pub(crate) fn forget(&self, key: &ObjectKey) {
        self.of.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use fv_runtime::Again;

    use super::*;

    fn outcome(again: Again, failure: Option<&str>, replaced: Option<&str>) -> Outcome {
        let failure = failure.map(|message| EffectFailure { reason: "FailedCreate", message: message.to_owned() });
        Outcome { again, failure, writes: 0, replaced: replaced.map(str::to_owned) }
    }

    #[test]
    fn a_version_that_we_replaced_is_behind_until_the_next_is_known() {
        let (memory, key) = (Memory::default(), ObjectKey::new("ns", "demo"));
        memory.note(&key, &outcome(Again::OnChange, None, Some("7")));
        assert!(memory.is_replaced(&key, Some("7")));
        assert!(!memory.is_replaced(&key, Some("8")));
        assert!(!memory.is_replaced(&key, None));
        assert!(!memory.is_replaced(&ObjectKey::new("ns", "other"), Some("7")));
        memory.note(&key, &outcome(Again::OnChange, None, None));
        assert!(!memory.is_replaced(&key, Some("7")));
        assert!(memory.of.lock().is_empty(), "nothing is kept of objects that give no reason");
    }

    #[test]
    fn a_failure_is_remembered_until_something_goes_right() {
        let (memory, key) = (Memory::default(), ObjectKey::new("ns", "demo"));
        memory.note(&key, &outcome(Again::Backoff, Some("no"), None));
        memory.note(&key, &outcome(Again::Soon, None, None));
        assert_eq!(memory.failure(&key).map(|failure| failure.message).as_deref(), Some("no"), "the facts were behind");
        memory.note(&key, &outcome(Again::OnChange, None, Some("3")));
        assert_eq!(memory.failure(&key), None);
        memory.note(&key, &outcome(Again::Backoff, Some("no"), None));
        memory.forget(&key);
        assert_eq!(memory.failure(&key), None);
    }
}
