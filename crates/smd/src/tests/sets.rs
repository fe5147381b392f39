//! Sets and their written form.

use serde_json::json;

use super::path;
use crate::path::{Element, PathText};
use crate::set::Set;

#[test]
fn paths_read_as_clients_know_them() {
    for (steps, text) in [
        (vec!["f:spec", "f:size"], ".spec.size"),
        (vec!["f:spec", "f:parts", "k:{\"name\":\"web\"}", "f:image"], ".spec.parts[name=\"web\"].image"),
        (vec!["f:ports", "k:{\"protocol\":\"TCP\",\"port\":80}"], ".ports[port=80,protocol=\"TCP\"]"),
        (vec!["f:tags", "v:\"a\""], ".tags[=\"a\"]"),
        (vec!["f:numbers", "v:1.5"], ".numbers[=1.5]"),
        (vec!["f:args", "i:3"], ".args[3]"),
    ] {
        assert_eq!(PathText(&path(&steps)).to_string(), text);
    }
}

#[test]
fn fields_are_written_and_read_back() {
    let written = json!({
        "f:metadata": {"f:labels": {".": {}, "f:a": {}}, "f:finalizers": {".": {}, "v:\"x\"": {}}},
        "f:spec": {"f:parts": {"k:{\"name\":\"web\"}": {".": {}, "f:image": {}, "f:name": {}}}, "f:size": {}},
    });
    let set = Set::from_fields(&written).unwrap();
    assert_eq!(set.to_fields(), written);
    assert!(set.has(&path(&["f:metadata", "f:labels"])) && !set.has(&path(&["f:spec"])));
    assert_eq!(set.len(), 8);
}

#[test]
fn unknown_steps_are_dropped_and_damaged_ones_refused() {
    let set = Set::from_fields(&json!({"x:new": {}, "f:a": {"q:z": {}}, "f:b": {}})).unwrap();
    assert_eq!(set.to_fields(), json!({"f:a": {}, "f:b": {}}));
    for (bad, why) in [
        (json!({"nocolon": {}}), "no colon"),
        (json!({"v:{": {}}), "EOF"),
        (json!({"k:[]": {}}), "not an object"),
        (json!({"i:x": {}}), "whole number"),
        (json!({"f:a": 1}), "not an object"),
        (json!([]), "not an object"),
    ] {
        let error = Set::from_fields(&bad).unwrap_err().to_string();
        assert!(error.contains(why), "{bad}: {error}");
    }
}

#[test]
fn differences_with_parents_follow_their_kind() {
    let set = Set::of_fields(&["a", "a.b", "a.b.c", "d"]);
    assert_eq!(set.difference(&Set::of_fields(&["a.b"])), Set::of_fields(&["a", "a.b.c", "d"]));
    assert_eq!(set.recursive_difference(&Set::of_fields(&["a.b"])), Set::of_fields(&["a", "d"]));
    assert_eq!(set.recursive_difference(&Set::of_fields(&["a"])), Set::of_fields(&["d"]));
    assert_eq!(set.difference(&set), Set::default());
}

#[test]
fn steps_have_one_order() {
    let steps =
        path(&["f:a", "f:b", "k:{\"a\":1}", "k:{\"a\":1,\"b\":0}", "k:{\"a\":2}", "v:1", "v:1.5", "v:\"x\"", "i:0"]);
    for (i, a) in steps.iter().enumerate() {
        for (j, b) in steps.iter().enumerate() {
            assert_eq!(a.cmp(b), i.cmp(&j), "{a} {b}");
        }
    }
    assert_eq!(Element::parse("v:1").unwrap(), Element::parse("v:1.0").unwrap());
}
