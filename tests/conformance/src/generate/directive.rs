//! Directives within strategic merge patches.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::strategy::FINALIZERS;

/// A directive: where, its key (`-` stands for a new item of a list) and its value.
type Directive = (&'static str, &'static str, Value);

/// Strategic merge patches made from others, each with one directive: where a patch has several mistakes, the real server tells another
/// one each time. No `$patch: merge`, which together with `$retainKeys` is such a case.
pub(super) fn with_directive(theme: &str, patches: BoxedStrategy<Value>) -> impl Strategy<Value = Value> + use<> {
    let mut choice = common();
    choice.extend(special(theme));
    (patches, prop::sample::select(choice)).prop_map(|(mut patch, (at, key, value))| {
        put(&mut patch, at, key, value);
        unambiguous(&mut patch);
        patch
    })
}

fn common() -> Vec<Directive> {
    let keys = json!(["a", "b", "c.d", "size", "labels", "mode", "unknown"]);
    let mut all = vec![
        ("/metadata/labels", "$patch", json!("replace")),
        ("/metadata/labels", "$patch", json!("delete")),
        ("/metadata/labels", "$retainKeys", json!(["a"])),
        ("/metadata/labels", "$other", json!("x")),
        ("/metadata/annotations", "$patch", json!("replace")),
        ("/metadata/annotations", "$retainKeys", keys),
        ("/metadata/annotations", "$deleteFromPrimitiveList/a", json!(["x"])),
        ("/metadata", "$setElementOrder/ownerReferences", json!([{"uid": "x"}])),
        ("", "$retainKeys", json!(["apiVersion", "kind", "metadata", "data", "spec", "secrets", "imagePullSecrets"])),
    ];
    let [a, b] = FINALIZERS;
    for gone in [json!([a]), json!([b, a])] {
        all.push(("/metadata", "$deleteFromPrimitiveList/finalizers", gone));
    }
    for order in [json!([a, b]), json!([b, a]), json!([])] {
        all.push(("/metadata", "$setElementOrder/finalizers", order));
    }
    all
}

fn special(theme: &str) -> Vec<Directive> {
    let named = |names: &[&str]| Value::Array(names.iter().map(|name| json!({"name": name})).collect());
    match theme {
        "configmap" => vec![
            ("/data", "$patch", json!("replace")),
            ("/data", "$patch", json!("delete")),
            ("/data", "$retainKeys", json!(["a", "b"])),
            ("/data", "$retainKeys", json!(["a", "b", "c.d", "size", "labels", "mode", "unknown"])),
            ("/data", "$setElementOrder/a", json!(["x"])),
        ],
        "pod" => vec![
            ("/spec/containers", "-", json!({"name": "c", "$patch": "delete"})),
            ("/spec/containers", "-", json!({"$patch": "replace"})),
            ("/spec/containers", "-", json!({"name": "d", "$setElementOrder/env": [{"name": "B"}, {"name": "A"}]})),
            ("/spec", "$setElementOrder/containers", named(&["d", "c", "e"])),
            ("/spec", "$setElementOrder/volumes", named(&["x"])),
            ("/spec/securityContext", "$patch", json!("delete")),
            ("/spec", "$retainKeys", json!(["containers", "tolerations"])),
        ],
        "serviceaccount" => vec![
            ("/secrets", "-", json!({"name": "a", "$patch": "delete"})),
            ("/secrets", "-", json!({"name": "b", "$patch": "delete"})),
            ("/secrets", "-", json!({"$patch": "replace"})),
            ("/secrets", "-", json!({"name": "a", "$retainKeys": ["name"]})),
            ("/secrets", "-", json!({"name": "a", "$patch": "replace"})),
            ("/secrets", "-", json!({"kind": "x"})),
            ("", "$setElementOrder/secrets", named(&["c", "b", "a"])),
            ("", "$setElementOrder/secrets", named(&["a", "b", "c"])),
            ("", "$setElementOrder/secrets", named(&["b"])),
            ("", "$setElementOrder/secrets", json!([])),
            ("/imagePullSecrets", "-", json!({"$patch": "replace"})),
            ("/imagePullSecrets", "-", json!({"name": "a", "$patch": "delete"})),
        ],
        _ => Vec::new(),
    }
}

/// Puts a value where it belongs, unless something else is there.
fn put(patch: &mut Value, at: &str, key: &str, value: Value) {
    let Some(mut place) = patch.as_object_mut() else { return };
    let mut parts = at.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let list = key == "-" && parts.peek().is_none();
        let below = place.entry(part).or_insert_with(|| if list { json!([]) } else { json!({}) });
        match below {
            Value::Array(items) if list => {
                items.push(value);
                return;
            }
            Value::Object(fields) => place = fields,
            _ => return,
        }
    }
    if key != "-" {
        place.insert(key.to_owned(), value);
    }
}

/// What a patch both adds and deletes is there or gone, by chance.
fn unambiguous(patch: &mut Value) {
    let added = patch["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    let gone = patch.pointer_mut("/metadata/$deleteFromPrimitiveList~1finalizers").and_then(Value::as_array_mut);
    if let Some(gone) = gone {
        gone.retain(|item| !added.contains(item));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_directive_finds_its_place_in_an_empty_patch() {
        for theme in ["configmap", "pod", "serviceaccount"] {
            for (at, key, value) in common().into_iter().chain(special(theme)) {
                let mut patch = json!({});
                put(&mut patch, at, key, value.clone());
                let place = patch.pointer(at).unwrap();
                assert_eq!(if key == "-" { &place[0] } else { &place[key] }, &value, "{at} {key}");
            }
        }
    }

    #[test]
    fn what_stands_in_the_way_stays() {
        let mut patch = json!({"data": "text", "secrets": 5});
        put(&mut patch, "/data", "$patch", json!("delete"));
        put(&mut patch, "/secrets", "-", json!({"$patch": "replace"}));
        assert_eq!(patch, json!({"data": "text", "secrets": 5}));
    }

    #[test]
    fn nothing_is_both_added_and_deleted() {
        let mut patch = json!({"metadata": {"finalizers": ["a"], "$deleteFromPrimitiveList/finalizers": ["b", "a"]}});
        unambiguous(&mut patch);
        assert_eq!(patch["metadata"]["$deleteFromPrimitiveList/finalizers"], json!(["b"]));
    }
}
