use serde_json::{Value, json};

use super::*;

fn role(kind: &str, name: &str, place: &str, rules: &Value) -> Value {
    json!({"kind": kind, "metadata": {"name": name, "namespace": place}, "rules": rules})
}

fn bound(account: &str, kind: &str, name: &str, place: &str) -> Value {
    json!({
        "kind": if place.is_empty() { "ClusterRoleBinding" } else { "RoleBinding" },
        "metadata": {"name": name, "namespace": place},
        "roleRef": {"kind": kind, "name": name},
        "subjects": [{"kind": "ServiceAccount", "namespace": "kubevirt", "name": account}]
    })
}

fn rule(group: &str, resource: &str, verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": [resource], "verbs": verbs})
}

fn event(account: &str, verb: &str, object: Value, decision: &str) -> Value {
    json!({
        "kind": "Event", "stage": "ResponseComplete", "verb": verb, "objectRef": object,
        "user": {"username": format!("system:serviceaccount:kubevirt:{account}")},
        "annotations": {"authorization.k8s.io/decision": decision}
    })
}

fn faults(roles: &[Value], log: &[Value], reviewed: &str) -> Vec<String> {
    let grants = Grants::read(&json!({"items": roles}), "kubevirt").unwrap();
    let log: String = log.iter().map(|event| format!("{event}\n")).collect();
    let usage = Usage::read(log.as_bytes(), "kubevirt").unwrap();
    review::judge(&grants, &usage, &serde_saphyr::from_str(reviewed).unwrap()).faults
}

#[test]
fn rights_that_nothing_used_are_named_unless_a_reason_is_given() {
    let roles = [
        role(
            "ClusterRole",
            "handler",
            "",
            &json!([rule("", "nodes", &["get", "patch"]), rule("", "nodes/status", &["patch"])]),
        ),
        bound("handler", "ClusterRole", "handler", ""),
    ];
    let node = json!({"resource": "nodes", "name": "a"});
    let log = [
        event("handler", "get", node.clone(), "allow"),
        // Of another's and of a status, which is a right of its own.
        event("other", "patch", node, "allow"),
        event("handler", "patch", json!({"resource": "nodes", "subresource": "status", "name": "a"}), "allow"),
    ];
    assert_eq!(faults(&roles, &log, "unused: []"), ["handler may patch nodes, and nothing used it"]);
    let reviewed = "unused: [{account: handler, resources: [nodes], verbs: [patch], reason: rare}]";
    assert_eq!(faults(&roles, &log, reviewed), Vec::<String>::new());
}

#[test]
fn a_right_in_one_namespace_or_over_one_object_is_used_there_only() {
    let mut named = rule("coordination.k8s.io", "leases", &["update"]);
    named["resourceNames"] = json!(["one", "two"]);
    let roles = [role("Role", "lead", "kubevirt", &json!([named])), bound("api", "Role", "lead", "kubevirt")];
    let lease = |namespace: &str, name: &str| {
        let object =
            json!({"apiGroup": "coordination.k8s.io", "resource": "leases", "namespace": namespace, "name": name});
        event("api", "update", object, "allow")
    };
    let expected = "api may update leases.coordination.k8s.io two in kubevirt, and nothing used it";
    assert_eq!(faults(&roles, &[lease("kubevirt", "one"), lease("default", "two")], "unused: []"), [expected]);
}

#[test]
fn what_was_denied_fails_the_check() {
    let log = [event("api", "list", json!({"resource": "secrets", "namespace": "kubevirt"}), "forbid")];
    assert_eq!(faults(&[], &log, "unused: []"), ["api was denied: list secrets () kubevirt/"]);
}

#[test]
fn an_operator_need_not_use_what_it_hands_out() {
    let rules = json!([rule("kubevirt.io", "virtualmachines", &["patch"])]);
    let mut given = role("ClusterRole", "kubevirt-controller", "", &rules);
    given["metadata"]["labels"]["ferrovirt.io/installed-by"] = json!("kubevirt");
    let roles = [
        given,
        role("ClusterRole", "kubevirt-operator", "", &rules),
        bound("kubevirt-operator", "ClusterRole", "kubevirt-operator", ""),
    ];
    assert_eq!(faults(&roles, &[], "unused: []"), Vec::<String>::new());
}

#[test]
fn a_reason_for_what_nobody_may_and_a_right_that_must_not_be_fail_the_check() {
    let roles = [
        role("ClusterRole", "handler", "", &json!([rule("", "secrets", &["get"])])),
        bound("handler", "ClusterRole", "handler", ""),
    ];
    let log = [event("handler", "get", json!({"resource": "secrets", "namespace": "x", "name": "y"}), "allow")];
    let reviewed = "unused: [{account: handler, resources: [pods], verbs: [get], reason: gone}]\n\
                    never: [{account: handler, resources: [secrets]}]";
    assert_eq!(
        faults(&roles, &log, reviewed),
        ["handler: get pods is explained, and nobody may it", "handler may get secrets, which it never must"]
    );
}

#[test]
fn a_role_that_is_bound_and_not_there_is_an_error() {
    let list = json!({"items": [bound("api", "ClusterRole", "gone", "")]});
    assert!(Grants::read(&list, "kubevirt").unwrap_err().to_string().contains("ClusterRole gone"));
}

#[test]
fn the_reviewed_file_can_be_read() {
    let path = crate::root().unwrap().join("tests/e2e/rights.yaml");
    serde_saphyr::from_str::<Reviewed>(&read(&path).unwrap()).unwrap();
}
