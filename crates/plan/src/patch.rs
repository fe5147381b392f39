//! Smallest patches between two states of an object.

use serde::Serialize;
use serde_json::{Map, Value, json};

/// The JSON merge patch (RFC 7386) that turns `old` into `new`; `None` when they are equal. Lists are replaced whole.
pub fn merge_patch(old: &Value, new: &Value) -> Option<Value> {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let mut patch = Map::new();
            for (key, value) in new {
                match old.get(key) {
                    Some(before) => {
                        if let Some(difference) = merge_patch(before, value) {
                            patch.insert(key.clone(), difference);
                        }
                    }
                    None => {
                        patch.insert(key.clone(), value.clone());
                    }
                }
            }
            for key in old.keys().filter(|key| !new.contains_key(*key)) {
                patch.insert(key.clone(), Value::Null);
            }
            (!patch.is_empty()).then_some(Value::Object(patch))
        }
        (old, new) => (old != new).then(|| new.clone()),
    }
}

/// [`merge_patch`] of two values of one type.
pub(crate) fn typed_merge_patch<T: Serialize>(old: &T, new: &T) -> Option<Value> {
    // The API's types serialise without failing; were one not to, no patch is the safe answer.
    merge_patch(&serde_json::to_value(old).ok()?, &serde_json::to_value(new).ok()?)
}

/// Adds the version `patch` was made for: the API refuses it for any other.
pub(crate) fn at_version(mut patch: Value, resource_version: &str) -> Value {
    if let Value::Object(fields) = &mut patch {
        let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
        if let Value::Object(metadata) = metadata {
            metadata.insert("resourceVersion".to_owned(), Value::from(resource_version));
        }
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 7386, the receiving side.
    pub(crate) fn apply(target: &mut Value, patch: &Value) {
        let Value::Object(changes) = patch else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = json!({});
        }
        let Value::Object(fields) = target else { return };
        for (key, change) in changes {
            if change.is_null() {
                fields.remove(key);
            } else {
                apply(fields.entry(key.clone()).or_insert(Value::Null), change);
            }
        }
    }

    fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-z]{0,3}".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                proptest::collection::btree_map("[a-c]", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn applying_the_patch_gives_the_new_state(old in tree(), new in tree()) {
            let (old, new) = (json!({"k": old}), json!({"k": new}));
            let mut state = old.clone();
            if let Some(patch) = merge_patch(&old, &new) {
                apply(&mut state, &patch);
            }
            prop_assert_eq!(state, new);
        }
    }

    #[test]
    fn version_goes_into_metadata() {
        let patch = at_version(json!({"metadata": {"labels": {"a": "b"}}}), "7");
        assert_eq!(patch, json!({"metadata": {"labels": {"a": "b"}, "resourceVersion": "7"}}));
    }
}
