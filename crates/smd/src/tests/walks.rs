//! Extraction, comparison, merge, removal, validation.

use serde_json::{Value, json};

use super::schema::{Arena, everything};
use crate::set::Set;
use crate::typed::Duplicates;

fn spec(value: Value) -> Value {
    json!({"spec": value})
}

fn below_spec(set: &Set) -> Value {
    set.to_fields()["f:spec"].clone()
}

#[test]
fn the_set_of_a_value_has_leaves_keys_and_items() {
    let arena = Arena::parse(&everything());
    for (value, fields) in [
        (json!({"size": 1, "args": ["a"]}), json!({"f:args": {}, "f:size": {}})),
        (json!({"selector": {"a": "b"}}), json!({"f:selector": {}})),
        (json!({"tags": ["a", "b"]}), json!({"f:tags": {"v:\"a\"": {}, "v:\"b\"": {}}})),
        (json!({"tags": []}), Value::Null),
        (json!({"tags": null}), json!({"f:tags": {}})),
        (
            json!({"ports": [{"port": 80, "name": "web"}]}),
            json!({"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:name": {}, "f:port": {}}}}),
        ),
        (
            json!({"ports": [{"port": 80, "protocol": "UDP"}, {"port": 80, "protocol": "UDP"}]}),
            json!({"f:ports": {"k:{\"port\":80,\"protocol\":\"UDP\"}": {}}}),
        ),
        (
            json!({"parts": [{"name": "a", "env": {"X": "1"}}]}),
            json!({"f:parts": {"k:{\"name\":\"a\"}": {".": {}, "f:env": {"f:X": {}}, "f:name": {}}}}),
        ),
        (
            json!({"open": {"a": {"b": 1, "c": [1]}, "d": {}}}),
            json!({"f:open": {"f:a": {".": {}, "f:b": {}, "f:c": {}}, "f:d": {}}}),
        ),
        (json!({"open": {}}), json!({"f:open": {}})),
    ] {
        assert_eq!(below_spec(&arena.ty().fields(&spec(value.clone())).unwrap()), fields, "{value}");
    }
}

#[test]
fn comparison_tells_added_modified_and_removed() {
    let arena = Arena::parse(&everything());
    let none = Value::Null;
    for (old, new, added, modified, removed) in [
        (json!({"size": 1}), json!({"size": 2}), &none, json!({"f:size": {}}), &none),
        (json!({"size": 1}), json!({"size": 1.0}), &none, none.clone(), &none),
        (json!({"args": ["a"]}), json!({"args": ["b"]}), &none, json!({"f:args": {}}), &none),
        (json!({}), json!({"tags": ["a"]}), &json!({"f:tags": {".": {}, "v:\"a\"": {}}}), none.clone(), &none),
        (
            json!({"tags": ["a", "b"]}),
            json!({"tags": ["c", "b"]}),
            &json!({"f:tags": {"v:\"c\"": {}}}),
            none.clone(),
            &json!({"f:tags": {"v:\"a\"": {}}}),
        ),
        (
            json!({"parts": [{"name": "a", "image": "x"}, {"name": "b"}]}),
            json!({"parts": [{"name": "b", "env": {"E": "1"}}, {"name": "a", "image": "y"}]}),
            &json!({"f:parts": {"k:{\"name\":\"b\"}": {"f:env": {".": {}, "f:E": {}}}}}),
            json!({"f:parts": {"k:{\"name\":\"a\"}": {"f:image": {}}}}),
            &none,
        ),
        (
            json!({"open": {"a": 1}}),
            json!({"open": {"a": {"b": 1}}}),
            &json!({"f:open": {"f:a": {"f:b": {}}}}),
            json!({"f:open": {"f:a": {}}}),
            &none,
        ),
        (json!({"tags": ["a", "a"]}), json!({"tags": ["a"]}), &none, none.clone(), &none),
    ] {
        let found = arena.ty().compare(&spec(old.clone()), &spec(new.clone())).unwrap();
        if old == json!({"tags": ["a", "a"]}) {
            // The item that was there twice goes and comes as one.
            assert_eq!(below_spec(&found.removed), json!({"f:tags": {"v:\"a\"": {}}}));
            assert_eq!(below_spec(&found.added), json!({"f:tags": {"v:\"a\"": {}}}));
            continue;
        }
        assert_eq!(below_spec(&found.added), *added, "{old} {new}");
        assert_eq!(below_spec(&found.modified), modified, "{old} {new}");
        assert_eq!(below_spec(&found.removed), *removed, "{old} {new}");
    }
}

#[test]
fn merge_keeps_what_the_configuration_does_not_name() {
    let arena = Arena::parse(&everything());
    for (live, config, merged) in [
        (json!({"size": 1, "name": "x"}), json!({"size": 2}), json!({"size": 2, "name": "x"})),
        (json!({"args": ["a", "b"]}), json!({"args": ["c"]}), json!({"args": ["c"]})),
        (json!({"selector": {"a": "1"}}), json!({"selector": {"b": "2"}}), json!({"selector": {"b": "2"}})),
        (json!({"tags": ["a", "b"]}), json!({"tags": ["c", "a"]}), json!({"tags": ["c", "a", "b"]})),
        (json!({"tags": ["a", "b", "c"]}), json!({"tags": ["c", "a"]}), json!({"tags": ["b", "c", "a"]})),
        (json!({"tags": ["a", "x", "b"]}), json!({"tags": ["a", "b", "c"]}), json!({"tags": ["a", "x", "b", "c"]})),
        (
            json!({"parts": [{"name": "a", "image": "x", "env": {"A": "1"}}, {"name": "z"}]}),
            json!({"parts": [{"name": "a", "env": {"B": "2"}}]}),
            json!({"parts": [{"name": "a", "image": "x", "env": {"A": "1", "B": "2"}}, {"name": "z"}]}),
        ),
        (
            json!({"ports": [{"port": 80, "protocol": "TCP", "name": "x"}, {"port": 80, "protocol": "UDP"}]}),
            json!({"ports": [{"port": 80, "name": "y"}]}),
            json!({"ports": [{"port": 80, "protocol": "TCP", "name": "y"}, {"port": 80, "protocol": "UDP"}]}),
        ),
        (json!({"open": {"a": {"b": 1}}}), json!({"open": {"a": {"c": 2}}}), json!({"open": {"a": {"b": 1, "c": 2}}})),
        (json!({"open": {"a": {"b": 1}}}), json!({"open": {"a": 5}}), json!({"open": {"a": 5}})),
        (json!({"open": {"a": 5}}), json!({"open": null}), json!({"open": {"a": 5}})),
        (json!({"size": 1}), json!({"size": null}), json!({"size": null})),
        (json!({}), json!({"tags": []}), json!({"tags": []})),
    ] {
        let found = arena.ty().merge(&spec(live.clone()), &spec(config.clone())).unwrap();
        assert_eq!(found, spec(merged), "{live} {config}");
    }
}

#[test]
fn removal_takes_members_and_all_below_them() {
    let arena = Arena::parse(&everything());
    let value = spec(
        json!({"size": 1, "tags": ["a", "b"], "parts": [{"name": "x", "env": {"A": "1"}}], "open": {"q": {"r": 1}}}),
    );
    for (gone, left) in [
        (
            json!({"f:size": {}}),
            json!({"tags": ["a", "b"], "parts": [{"name": "x", "env": {"A": "1"}}], "open": {"q": {"r": 1}}}),
        ),
        (json!({"f:tags": {"v:\"a\"": {}}, "f:parts": {}, "f:open": {}}), json!({"size": 1, "tags": ["b"]})),
        (
            json!({"f:parts": {"k:{\"name\":\"x\"}": {"f:env": {"f:A": {}}}}, "f:tags": {}, "f:open": {}, "f:size": {}}),
            json!({"parts": [{"name": "x", "env": null}]}),
        ),
    ] {
        let set = Set::from_fields(&json!({"f:spec": gone})).unwrap();
        assert_eq!(arena.ty().remove(&value, &set), spec(left));
    }
}

#[test]
fn values_that_do_not_fit_are_named_with_their_path() {
    let arena = Arena::parse(&everything());
    for (value, text) in [
        (json!({"siez": 1}), ".spec.siez: field not declared in schema"),
        (json!({"size": "x"}), ".spec.size: expected numeric (int or float), got string"),
        (json!({"name": 1}), ".spec.name: expected string, got &value.valueUnstructured{Value:1}"),
        (json!({"on": "yes"}), ".spec.on: expected boolean, got &{yes}"),
        (json!({"tags": "x"}), ".spec.tags: expected list, got &{x}"),
        (json!({"parts": [{"name": "a"}, {"name": "a"}]}), ".spec.parts: duplicate entries for key [name=\"a\"]"),
        (json!({"parts": [{"name": "a", "x": 1}]}), ".spec.parts[name=\"a\"].x: field not declared in schema"),
        (
            json!({"parts": [{"image": "a"}]}),
            ".spec.parts: element 0: associative list with keys has an element that omits all key fields [\"name\"] (and \
             doesn't have default values for any key fields)",
        ),
        (json!({"args": [1]}), ".spec.args[0]: expected string, got &value.valueUnstructured{Value:1}"),
        (
            json!({"size": "x", "on": 1}),
            "errors:\n  .spec.size: expected numeric (int or float), got string\n  .spec.on: expected boolean, got &{1}",
        ),
    ] {
        let problems = arena.ty().validate(&spec(value.clone()), Duplicates::Refused).unwrap_err();
        assert_eq!(problems.to_string(), text, "{value}");
    }
    arena.ty().validate(&spec(json!({"tags": ["a", "a"], "size": null})), Duplicates::Allowed).unwrap();
}

#[test]
fn lists_and_maps_that_became_atomic_are_owned_whole() {
    let arena = Arena::parse(&everything());
    let before = json!({"f:spec": {
        "f:args": {"v:\"a\"": {}}, "f:selector": {".": {}, "f:a": {}}, "f:size": {}, "f:tags": {"v:\"a\"": {}},
    }});
    let after = arena.ty().reconcile(&Set::from_fields(&before).unwrap()).unwrap();
    let expected = json!({"f:spec": {"f:args": {}, "f:selector": {}, "f:size": {}, "f:tags": {"v:\"a\"": {}}}});
    assert_eq!(after.to_fields(), expected);
    assert_eq!(arena.ty().reconcile(&after), None);
}
