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
fn what_is_new_in_a_list_or_replaces_keeps_nulls_and_directives() {
    let account =
        json!({"metadata": {"labels": {"a": "b"}}, "secrets": [{"name": "a"}], "imagePullSecrets": [{"name": "x"}]});
    for (patch, field, after) in [
        (
            json!({"secrets": [{"name": "b", "kind": null, "$retainKeys": ["name"]}]}),
            "/secrets",
            json!([{"name": "b", "kind": null, "$retainKeys": ["name"]}, {"name": "a"}]),
        ),
        (
            json!({"secrets": [{"$patch": "replace"}, {"name": "c", "$other": null}]}),
            "/secrets",
            json!([{"name": "c", "$other": null}]),
        ),
        (
            json!({"imagePullSecrets": [{"$patch": "replace"}, {"name": "w"}]}),
            "/imagePullSecrets",
            json!([{"$patch": "replace"}, {"name": "w"}]),
        ),
        (
            json!({"metadata": {"labels": {"$patch": "replace", "$retainKeys": ["c"], "c": null}}}),
            "/metadata/labels",
            json!({"$retainKeys": ["c"], "c": null}),
        ),
        (
            json!({"metadata": {"annotations": {"$retainKeys": ["c"], "c": null}}}),
            "/metadata/annotations",
            json!({"$retainKeys": ["c"]}),
        ),
        (
            json!({"metadata": {"labels": {"$other": "c", "$d": null}}}),
            "/metadata/labels",
            json!({"a": "b", "$other": "c"}),
        ),
    ] {
        let found = patched("ServiceAccount", account.clone(), patch.clone()).unwrap();
        assert_eq!(found.pointer(field), Some(&after), "{patch}");
    }
}

#[test]
fn deletions_merge_what_is_no_list_of_plain_values() {
    let account = json!({"metadata": {"labels": {"a": "b"}, "finalizers": ["x", "y"]}, "secrets": [{"name": "a"}, {"name": "b"}]});
    for (patch, after) in [
        (json!({"$deleteFromPrimitiveList/secrets": [{"name": "a", "$patch": "delete"}]}), json!([{"name": "b"}])),
        (
            json!({"$deleteFromPrimitiveList/secrets": [{"name": "c"}]}),
            json!([{"name": "c"}, {"name": "a"}, {"name": "b"}]),
        ),
        (json!({"$deleteFromPrimitiveList/secrets": "a"}), json!([{"name": "a"}, {"name": "b"}])),
        (json!({"$deleteFromPrimitiveList/secrets": null}), Value::Null),
    ] {
        let found = patched("ServiceAccount", account.clone(), patch.clone()).unwrap();
        assert_eq!(found["secrets"], after, "{patch}");
    }
    let patch = json!({"metadata": {"$deleteFromPrimitiveList/labels": {"c": "d"}, "$deleteFromPrimitiveList/annotations": {"c": "d"}}});
    let found = patched("ServiceAccount", account, patch).unwrap();
    assert_eq!(found["metadata"], json!({"labels": {"a": "b", "c": "d"}, "finalizers": ["x", "y"]}));
}

#[test]
fn items_without_a_place_in_the_order_are_reversed() {
    let finalizers =
        |live: Value, patch: Value| merged(json!({"metadata": live}), json!({"metadata": patch}))["metadata"].clone();
    let patch = json!({"$setElementOrder/finalizers": [], "finalizers": ["a", "b", "c"]});
    assert_eq!(finalizers(json!({}), patch), json!({"finalizers": ["c", "b", "a"]}));
    let patch = json!({"$setElementOrder/finalizers": ["x"]});
    assert_eq!(finalizers(json!({}), patch.clone()), json!({}));
    assert_eq!(finalizers(json!({"finalizers": ["a"]}), patch), json!({"finalizers": ["a"]}));
    let patch = json!({"$setElementOrder/secrets": [], "secrets": [{"name": "c"}, {"name": "d"}]});
    let found = patched("ServiceAccount", json!({"secrets": [{"name": "a"}, {"name": "b"}]}), patch).unwrap();
    assert_eq!(found["secrets"], json!([{"name": "a"}, {"name": "b"}, {"name": "d"}, {"name": "c"}]));
}

#[test]
fn nonsense_is_refused() {
    let object = json!({"spec": {
        "containers": [{"name": "a"}], "securityContext": {"a": 1}, "tolerations": [{"key": "a"}], "hostname": "h", "nodeSelector": {"a": "b"},
    }});
    for (patch, text) in [
        (json!({"containers": [{"image": "x"}]}), "map: map[image:x] does not contain declared merge key: name"),
        (json!({"containers": [{"$patch": "replace"}, {"image": "x"}]}), "does not contain declared merge key: name"),
        (json!({"containers": ["x"]}), "list element types are not identical: [[map[name:a]] [x]]"),
        (
            json!({"containers": [{"name": "a", "$patch": "merge"}]}),
            "merging lists cannot yet be specified in the patch",
        ),
        (json!({"$patch": "explode"}), "unknown patch type: explode in map: map[$patch:explode]"),
        (json!({"$patch": "merge"}), "unknown patch type: merge in map: map[$patch:merge]"),
        (json!({"$patch": null}), "unknown patch type: %!s(<nil>) in map: map[$patch:<nil>]"),
        (json!({"$patch": [1, "x"]}), "unknown patch type: [%!s(int64=1) x] in map: map[$patch:[1 x]]"),
        (json!({"$setElementOrder/containers": 1}), "expected a []interface {}, but received a int64"),
        (json!({"$setElementOrder/containers": [], "containers": null}), "but received a %!s(<nil>)"),
        (json!({"$setElementOrder/hostname": []}), "expected a []interface {}, but received a string"),
        (json!({"$setElementOrder/subdomain": []}), "expected slice or array type, but got: struct"),
        (json!({"nodeSelector": {"$setElementOrder/b": []}}), "data type is not struct, instead is: map"),
        (json!({"$setElementOrder/nothing": []}), "unable to find api field \"nothing\""),
        (json!({"$setElementOrder/volumes": [], "volumes": []}), "no elements in any of the given slices"),
        (json!({"$setElementOrder/tolerations": []}), "items without a merge key have no order"),
        (json!({"$setElementOrder/containers": ["x", {"name": "a"}]}), "value for key 0 is not a map"),
        (json!({"$setElementOrder/containers": [{"name": "a"}, "x"]}), "but received a string"),
        (
            json!({"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "b"}]}),
            "The order in patch list:\n[map[name:b]]\n doesn't match $setElementOrder list:\n[map[name:a]]\n",
        ),
        (
            json!({"$deleteFromPrimitiveList/tolerations": [{"key": "a"}]}),
            "cannot merge lists without merge key for struct",
        ),
        (json!({"securityContext": {"$retainKeys": [{}]}}), "names no field"),
    ] {
        let Err(Refused::Content(refused)) = patched("Pod", object.clone(), json!({"spec": patch})) else {
            panic!("{patch} was not refused for what is in it")
        };
        assert!(refused.contains(text), "{patch}: {refused}");
    }
    let lists = patched("Pod", json!({"spec": {"containers": []}}), json!({"spec": {"containers": [[]]}}));
    assert_eq!(lists, Err(Refused::ListOfLists));
}

#[test]
fn directives_without_their_form_are_bad_requests() {
    let object = json!({"metadata": {"labels": {"a": "b"}}});
    for (patch, text) in [
        (json!({"labels": {"$retainKeys": ["c"], "b": "c"}}), "retainKeys"),
        (json!({"labels": {"$retainKeys": ["c"], "$other": "c"}}), "retainKeys"),
        (json!({"labels": {"$retainKeys": null}}), "retainKeys"),
        (json!({"labels": {"$retainKeys": "a"}}), "retainKeys"),
        (json!({"$setElementOrder": []}), "setElementOrder list"),
        (json!({"$setElementOrderx/finalizers": []}), "setElementOrder list"),
        (json!({"$deleteFromPrimitiveList": ["a"]}), "primitive list"),
        (json!({"$deleteFromPrimitiveListx/finalizers": ["a"]}), "primitive list"),
    ] {
        let refused = patched("ConfigMap", object.clone(), json!({"metadata": patch}));
        assert_eq!(refused, Err(Refused::Format(format!("invalid patch format of {text}"))), "{patch}");
    }
    let kept = json!({"metadata": {"labels": {"$retainKeys": ["a"], "a": null, "b": null}}});
    assert_eq!(patched("ConfigMap", object, kept).unwrap(), json!({"metadata": {"labels": {}}}));
}
