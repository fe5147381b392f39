//! JSON patches.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::strategy::{anything, word};

/// One JSON patch.
pub(super) fn operations() -> impl Strategy<Value = Value> {
    prop_oneof![2 => vec(single(), 1..4), 3 => pair()].prop_map(Value::Array)
}

fn path() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "/data/a",
        "/data/b",
        "/data",
        "/spec/size",
        "/spec/labels/a",
        "/spec/ports/0",
        "/spec/ports/-",
        "/spec/tags/1",
        "/spec/unknown",
        "/metadata/labels",
        "/metadata/labels/a",
        "/metadata/annotations/a",
        "/metadata/finalizers/0",
        "/spec/containers/0/image",
        "/secrets/0",
        "/imagePullSecrets",
    ])
}

fn single() -> impl Strategy<Value = Value> {
    (prop::sample::select(vec!["add", "remove"]), path(), anything()).prop_map(|(op, path, value)| match op {
        "remove" => json!({"op": op, "path": path}),
        _ => json!({"op": op, "path": path, "value": value}),
    })
}

/// Something is added, and then tested, replaced, copied or moved. Only what is there is: the real server's library takes a missing
/// place for null, against RFC 6902, and so what is null for missing; it panics when it compares lists with a null. The former are
/// sequences of the corpus and known differences.
fn pair() -> impl Strategy<Value = Vec<Value>> {
    let value = || {
        let whole = anything().prop_filter("without nulls", |value| !has_null(value));
        prop_oneof![3 => word().prop_map(Value::from), 1 => whole]
    };
    (prop::sample::select(vec!["test", "replace", "copy", "move"]), path(), path(), value(), value(), any::<bool>())
        .prop_map(|(op, from, to, value, other, same)| {
            // The end of a list is nowhere, once something is there.
            let from = from.strip_suffix("/-").map_or(from, |_| "/metadata/annotations/b");
            let second = match op {
                "test" => json!({"op": op, "path": from, "value": if same { &value } else { &other }}),
                "replace" => json!({"op": op, "path": from, "value": other}),
                // Nothing is moved into itself.
                "move" if to.starts_with(&format!("{from}/")) => json!({"op": op, "from": from, "path": from}),
                _ => json!({"op": op, "from": from, "path": to}),
            };
            vec![json!({"op": "add", "path": from, "value": value}), second]
        })
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.iter().any(has_null),
        Value::Object(fields) => fields.values().any(has_null),
        _ => false,
    }
}
