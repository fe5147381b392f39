//! Strategic merge patches of pods and their like.

use fv_smd::strategic::{Refused, patch};
use serde_json::{Value, json};

use super::Node;
use crate::schema::builtin;

fn patched(kind: &str, mut object: Value, changes: Value) -> Result<Value, Refused> {
    patch(&mut object, &changes, Node::root(builtin::schema("", "v1", kind).unwrap()))?;
    Ok(object)
}

fn merged(object: Value, patch: Value) -> Value {
    patched("Pod", object, patch).unwrap()
}

#[test]
fn lists_merge_by_their_keys() {
    let pod = json!({"spec": {"containers": [
        {"name": "a", "image": "x", "env": [{"name": "E", "value": "1"}]}, {"name": "b", "image": "y"},
    ], "tolerations": [{"key": "k"}]}});
    let patch = json!({"spec": {"containers": [
        {"name": "a", "env": [{"name": "F", "value": "2"}], "image": null}, {"name": "b", "$patch": "delete"}, {"name": "c"},
    ], "tolerations": [{"key": "z"}]}});
    assert_eq!(
        merged(pod, patch),
        json!({"spec": {"containers": [
            {"name": "a", "env": [{"name": "F", "value": "2"}, {"name": "E", "value": "1"}]}, {"name": "c"},
        ], "tolerations": [{"key": "z"}]}})
    );
}

#[test]
fn the_selector_of_a_budget_is_replaced_as_a_whole() {
    let budget = |labels: Value| json!({"spec": {"minAvailable": 1, "selector": {"matchLabels": labels}}});
    let mut object = budget(json!({"a": "b"}));
    let schema = builtin::schema("policy", "v1", "PodDisruptionBudget").unwrap();
    patch(&mut object, &json!({"spec": {"selector": {"matchLabels": {"c": "d"}}}}), Node::root(schema)).unwrap();
    assert_eq!(object, budget(json!({"c": "d"})));
}

#[test]
fn the_merge_key_is_the_first_key_of_the_list_only() {
    let ports = |ports: Value| json!({"spec": {"containers": [{"name": "a", "ports": ports}]}});
    let object = ports(json!([{"containerPort": 53, "protocol": "UDP", "name": "x"}]));
    let after = merged(object, ports(json!([{"containerPort": 53, "protocol": "TCP"}])));
    assert_eq!(after, ports(json!([{"containerPort": 53, "protocol": "TCP", "name": "x"}])));
    let object = json!({"status": {"hostIPs": [{"ip": "1"}], "conditions": [{"type": "A", "status": "True"}]}});
    let patch = json!({"status": {"hostIPs": [{"ip": "2"}], "conditions": [{"type": "A", "status": "False"}]}});
    let after = merged(object, patch);
    assert_eq!(after["status"]["conditions"], json!([{"type": "A", "status": "False"}]));
    assert_eq!(after["status"]["hostIPs"].as_array().unwrap().len(), 2);
}

#[test]
fn directives_delete_replace_and_retain() {
    let object = json!({"metadata": {"finalizers": ["a", "b"], "labels": {"x": "1", "y": "2"}}});
    let patch = json!({"metadata": {
        "finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"], "labels": {"$patch": "replace", "z": "3"},
    }});
    assert_eq!(merged(object, patch), json!({"metadata": {"finalizers": ["c", "b"], "labels": {"z": "3"}}}));
    let object = json!({"spec": {"volumes": [{"name": "a", "emptyDir": {}}], "securityContext": {"a": 1, "b": 2}}});
    let patch = json!({"spec": {
        "volumes": [{"name": "a", "hostPath": {"path": "/x"}, "$retainKeys": ["name", "hostPath"]}],
        "securityContext": {"$patch": "delete"},
    }});
    let after = json!({"spec": {"volumes": [{"name": "a", "hostPath": {"path": "/x"}}], "securityContext": {}}});
    assert_eq!(merged(object, patch), after);
    let object = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
    let patch = json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "c"}]}});
    assert_eq!(merged(object, patch), json!({"spec": {"containers": [{"name": "c"}]}}));
}

#[test]
fn order_is_what_the_patch_says_and_others_keep_their_place() {
    let named = |names: &[&str]| Value::Array(names.iter().map(|name| json!({"name": name})).collect());
    for (live, patch, wanted, after) in [
        (vec!["a", "b"], None, vec!["b", "a"], vec!["b", "a"]),
        (vec!["a", "s", "b"], None, vec!["b", "a"], vec!["s", "b", "a"]),
        (vec!["a", "b"], Some(vec!["c"]), vec!["a", "c", "b"], vec!["a", "c", "b"]),
        (vec!["s", "a"], Some(vec!["c"]), vec!["c", "a"], vec!["c", "s", "a"]),
        (vec![], Some(vec!["b", "a"]), vec!["b", "a"], vec!["b", "a"]),
    ] {
        let mut body = json!({"$setElementOrder/volumes": named(&wanted)});
        if let Some(patch) = &patch {
            body["volumes"] = named(patch);
        }
        let object = if live.is_empty() { json!({"spec": {}}) } else { json!({"spec": {"volumes": named(&live)}}) };
        let found = merged(object, json!({"spec": body}));
        assert_eq!(found["spec"]["volumes"], named(&after), "{live:?} {patch:?} {wanted:?}");
    }
    let object = json!({"metadata": {"finalizers": ["x", "b"]}});
    let patch = json!({"metadata": {"finalizers": ["a"], "$setElementOrder/finalizers": ["a", "b"]}});
    assert_eq!(merged(object, patch)["metadata"]["finalizers"], json!(["a", "x", "b"]));
}

#[test]
fn new_fields_come_without_nulls_and_directives() {
    let patch = json!({"spec": {
        "containers": [{"name": "a", "image": null, "env": [{"name": "x"}, {"name": "y", "$patch": "delete"}]}],
        "securityContext": {"$patch": "delete"},
    }});
    assert_eq!(merged(json!({}), patch), json!({"spec": {"containers": [{"name": "a", "env": [{"name": "x"}]}]}}));
}

#[test]
fn nonsense_is_refused() {
    let object = json!({"spec": {"containers": [{"name": "a"}], "securityContext": {"a": 1}}});
    for (patch, text) in [
        (json!({"containers": [{"image": "x"}]}), "does not contain declared merge key: name"),
        (json!({"containers": ["x"]}), "expected a map[string]interface {}, but received a string"),
        (json!({"$patch": "explode"}), "unknown patch type: explode in map"),
        (json!({"securityContext": {"$retainKeys": ["a"], "b": 1}}), "invalid patch format of retainKeys"),
        (json!({"$setElementOrder/containers": 1}), "expected a []interface {}, but received a int64"),
        (
            json!({"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "b"}]}),
            "doesn't match $setElementOrder list",
        ),
    ] {
        let refused = patched("Pod", object.clone(), json!({"spec": patch})).unwrap_err().to_string();
        assert!(refused.contains(text), "{patch}: {refused}");
    }
}
