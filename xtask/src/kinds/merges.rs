//! `render/src/install/merges.json`: how strategic merge patches treat the kinds that an installation consists of, from Kubernetes' published
//! OpenAPI v3 documents. A place has `fields`, the `items` of a list, and `merge`: `set`, `replace` or `key:` with the merge key; places
//! without any of these below them are left out.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::schemas::document;

/// Documents, and the kinds wanted of each after the prefix of its definitions.
const KINDS: &[(&str, &str, &[&str])] = &[
    ("api__v1", "io.k8s.api.core.v1", &["ConfigMap", "Namespace", "Secret", "Service", "ServiceAccount"]),
    (
        "apis__admissionregistration.k8s.io__v1",
        "io.k8s.api.admissionregistration.v1",
        &[
            "MutatingWebhookConfiguration",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
            "ValidatingWebhookConfiguration",
        ],
    ),
    (
        "apis__apiextensions.k8s.io__v1",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1",
        &["CustomResourceDefinition"],
    ),
    ("apis__apiregistration.k8s.io__v1", "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1", &["APIService"]),
    ("apis__apps__v1", "io.k8s.api.apps.v1", &["DaemonSet", "Deployment"]),
    ("apis__policy__v1", "io.k8s.api.policy.v1", &["PodDisruptionBudget"]),
    (
        "apis__rbac.authorization.k8s.io__v1",
        "io.k8s.api.rbac.v1",
        &["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"],
    ),
    ("apis__scheduling.k8s.io__v1", "io.k8s.api.scheduling.v1", &["PriorityClass"]),
];

/// The table, from the directory of the module `k8s.io/kubernetes`.
pub(super) fn render(kubernetes: &Path) -> Result<String> {
    let mut lines = Vec::new();
    for (name, prefix, kinds) in KINDS {
        let schemas = document(kubernetes, name)?;
        for kind in *kinds {
            let definition = format!("{prefix}.{kind}");
            let schema = schemas.get(&definition).with_context(|| format!("{definition} is not in {name}"))?;
            let place = place(&schemas, schema, &mut vec![definition]).unwrap_or_else(|| json!({}));
            lines.push(format!("{}:{place}", json!(kind)));
        }
    }
    lines.sort();
    Ok(format!("{{\n{}\n}}\n", lines.join(",\n")))
}

/// One place with what is below it. A definition inside of itself (`within`), which only the schema of a custom kind has, is not followed.
fn place(schemas: &Map<String, Value>, schema: &Value, within: &mut Vec<String>) -> Option<Value> {
    let mut out = Map::new();
    let word = |key: &str| schema.get(key).and_then(Value::as_str);
    match word("x-kubernetes-patch-strategy") {
        Some(strategy) if strategy.split(',').any(|word| word == "merge") && word("type") == Some("array") => {
            let key = word("x-kubernetes-patch-merge-key");
            out.insert("merge".to_owned(), json!(key.map_or("set".to_owned(), |key| format!("key:{key}"))));
        }
        Some("replace") => {
            out.insert("merge".to_owned(), json!("replace"));
        }
        _ => {}
    }
    if let Some(target) = word("$ref").or_else(|| schema["allOf"][0]["$ref"].as_str()) {
        let name = target.rsplit('/').next().unwrap_or(target).to_owned();
        if let Some(definition) = schemas.get(&name).filter(|_| !within.contains(&name)) {
            within.push(name);
            let below = place(schemas, definition, within);
            within.pop();
            if let Some(Value::Object(below)) = below {
                out.extend(below);
            }
        }
    }
    let mut fields = Map::new();
    for (name, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        fields.extend(place(schemas, field, within).map(|below| (name.clone(), below)));
    }
    if !fields.is_empty() {
        out.insert("fields".to_owned(), Value::Object(fields));
    }
    if let Some(items) = schema.get("items").and_then(|items| place(schemas, items, within)) {
        out.insert("items".to_owned(), items);
    }
    (!out.is_empty()).then_some(Value::Object(out))
}
