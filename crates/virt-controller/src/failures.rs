//! The last failure of each object's plan. In memory only: after a restart the same plan fails again and is noted again.

use std::collections::HashMap;

use fv_plan::{EffectFailure, ObjectKey};
use parking_lot::Mutex;

#[derive(Debug, Default)]
pub(crate) struct Failures {
    last: Mutex<HashMap<ObjectKey, EffectFailure>>,
}

impl Failures {
    pub(crate) fn get(&self, key: &ObjectKey) -> Option<EffectFailure> {
        self.last.lock().get(key).cloned()
    }

    pub(crate) fn set(&self, key: &ObjectKey, failure: EffectFailure) {
        self.last.lock().insert(key.clone(), failure);
    }

    pub(crate) fn clear(&self, key: &ObjectKey) {
        self.last.lock().remove(key);
    }
}
