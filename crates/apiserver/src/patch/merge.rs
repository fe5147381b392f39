//! Merge patch (RFC 7386), with what Kubernetes does differently: a null member is not taken over within lists either, unless the list takes
//! the place of an object.

use serde_json::Value;

/// Merges a patch into what is there.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                match target.get_mut(key) {
                    _ if value.is_null() => {
                        target.shift_remove(key);
                    }
                    None | Some(Value::Null) => {
                        target.insert(key.clone(), without_nulls(value));
                    }
                    Some(field) => merge(field, value),
                }
            }
        }
        (target @ Value::Object(_), patch) => *target = patch.clone(),
        (target, patch) => *target = without_nulls(patch),
    }
}

/// A value without the null members of its objects, however deep; null items of lists stay.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let given = fields.iter().filter(|(_, value)| !value.is_null());
            Value::Object(given.map(|(key, value)| (key.clone(), without_nulls(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        scalar => scalar.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nulls_remove_members_and_are_not_taken_over_but_in_a_list_for_an_object() {
        for (object, patch, after) in [
            (json!({"a": {"b": 1, "c": 2}}), json!({"a": {"b": null}}), json!({"a": {"c": 2}})),
            (json!({}), json!({"a": {"b": null, "c": {"d": null}}}), json!({"a": {"c": {}}})),
            (json!({"a": null}), json!({"a": {"b": null}}), json!({"a": {}})),
            (json!({"a": [1]}), json!({"a": [{"b": null}, null]}), json!({"a": [{}, null]})),
            (json!({"a": 1}), json!({"a": {"b": null, "c": 1}}), json!({"a": {"c": 1}})),
            (json!({}), json!({"a": [[{"b": null}]]}), json!({"a": [[{}]]})),
            // The case of a generated test.
            (json!({"a": {}}), json!({"a": [{"b": null}]}), json!({"a": [{"b": null}]})),
            (json!({"a": {"b": 1}}), json!({"a": 2}), json!({"a": 2})),
        ] {
            let mut found = object.clone();
            merge(&mut found, &patch);
            assert_eq!(found, after, "{object} {patch}");
        }
    }
}
