//! Who may do what: service accounts of the components, and roles of users.
//!
//! Each component has what its program uses and nothing else; what it needs in one namespace only is in a Role there.

use serde_json::{Value, json};

use super::{Install, monitoring};

pub(super) mod components;
mod users;

pub(super) const HANDLER_ACCOUNT: &str = "kubevirt-handler";

/// A rule over API resources.
pub(super) fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
}

/// A rule over single objects.
pub(super) fn named(group: &str, resources: &[&str], names: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "resourceNames": names, "verbs": verbs})
}

/// All access objects: service accounts before what binds them.
pub(super) fn objects(install: &Install<'_>) -> Vec<Value> {
    let mut objects = components::objects(install.namespace);
    objects.extend(users::objects(install));
    objects.extend(monitoring::access(install));
    objects
}

/// Every rule that [`objects`] hands out in roles of `kind`. An operator can only give what it has.
pub(super) fn granted(install: &Install<'_>, kind: &str) -> Vec<Value> {
    let roles = objects(install).into_iter().filter(|value| value["kind"] == kind);
    roles.flat_map(|role| role["rules"].as_array().cloned().unwrap_or_default()).collect()
}

pub(super) fn service_account(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}})
}

pub(super) fn cluster_role(name: &str, rules: Vec<Value>) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules})
}

pub(super) fn role(namespace: &str, name: &str, rules: Vec<Value>) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": name, "namespace": namespace}, "rules": rules
    })
}

/// Binds a role to a service account; `in_namespace` says where a binding of a Role is.
pub(super) fn binding(name: &str, in_namespace: Option<&str>, role: &str, account: (&str, &str)) -> Value {
    let (namespace, account) = account;
    let mut binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": if in_namespace.is_some() { "RoleBinding" } else { "ClusterRoleBinding" },
        "metadata": {"name": name},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "name": role,
            "kind": if in_namespace.is_some() { "Role" } else { "ClusterRole" }
        },
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}]
    });
    if let Some(place) = in_namespace {
        binding["metadata"]["namespace"] = json!(place);
    }
    binding
}
