//! `schema/builtin/table.json`: the schemas of built-in kinds, from Kubernetes' published OpenAPI v3 documents. Descriptions are left out;
//! what remains is what defaulting, merging, validation and `explain` need.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

/// Documents (after `api/openapi-spec/v3/`) and the kinds wanted of each, after the prefix of its definitions.
const KINDS: &[(&str, &str, &[&str])] = &[
    (
        "api__v1",
        "io.k8s.api.core.v1",
        &[
            "Binding",
            "ConfigMap",
            "Event",
            "LimitRange",
            "Namespace",
            "Node",
            "PersistentVolume",
            "PersistentVolumeClaim",
            "Pod",
            "ResourceQuota",
            "Secret",
            "ServiceAccount",
        ],
    ),
    (
        "apis__apiextensions.k8s.io__v1",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1",
        &["CustomResourceDefinition"],
    ),
    ("apis__apps__v1", "io.k8s.api.apps.v1", &["ControllerRevision"]),
    ("apis__authentication.k8s.io__v1", "io.k8s.api.authentication.v1", &["SelfSubjectReview", "TokenRequest"]),
    (
        "apis__authorization.k8s.io__v1",
        "io.k8s.api.authorization.v1",
        &["SelfSubjectAccessReview", "SelfSubjectRulesReview"],
    ),
    ("apis__coordination.k8s.io__v1", "io.k8s.api.coordination.v1", &["Lease"]),
    ("apis__events.k8s.io__v1", "io.k8s.api.events.v1", &["Event"]),
    ("apis__policy__v1", "io.k8s.api.policy.v1", &["PodDisruptionBudget", "Eviction"]),
    ("apis__scheduling.k8s.io__v1", "io.k8s.api.scheduling.v1", &["PriorityClass"]),
    ("apis__storage.k8s.io__v1", "io.k8s.api.storage.v1", &["StorageClass"]),
];
const META_PREFIX: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const META: &[&str] = &["APIResourceList", "DeleteOptions", "ObjectMeta", "Patch", "Status", "WatchEvent"];
/// Types that hold any JSON although their schema names no fields.
const FREE: &[&str] = &[
    "FieldsV1",
    "RawExtension",
    ".v1.JSON",
    "JSONSchemaPropsOrArray",
    "JSONSchemaPropsOrBool",
    "JSONSchemaPropsOrStringArray",
    "Patch",
];

/// The table, from the directory of the module `k8s.io/kubernetes`.
pub(super) fn render(kubernetes: &Path) -> Result<String> {
    let mut published = Map::new();
    let mut wanted = Vec::new();
    for (document, prefix, kinds) in KINDS {
        published.extend(self::document(kubernetes, document)?);
        for kind in *kinds {
            wanted.push(format!("{prefix}.{kind}"));
            let list = format!("{prefix}.{kind}List");
            if published.contains_key(&list) {
                wanted.push(list);
            }
        }
    }
    wanted.extend(META.iter().map(|kind| format!("{META_PREFIX}.{kind}")));

    let mut table: BTreeMap<String, Value> = BTreeMap::new();
    while let Some(name) = wanted.pop() {
        if table.contains_key(&name) {
            continue;
        }
        let schema = published.get(&name).with_context(|| format!("{name} is in none of the documents read"))?;
        let mut schema = slim(schema);
        if FREE.iter().any(|free| name.ends_with(free)) {
            schema["x-kubernetes-preserve-unknown-fields"] = json!(true);
            if name.ends_with("RawExtension") {
                // Whoever writes it owns all of it.
                schema["x-kubernetes-map-type"] = json!("atomic");
            }
            if let (false, Some(map)) =
                (name.ends_with("FieldsV1") || name.ends_with("RawExtension"), schema.as_object_mut())
            {
                map.shift_remove("type");
            }
        }
        let mut found = BTreeSet::new();
        references(&schema, &mut found);
        wanted.extend(found);
        table.insert(name, schema);
    }
    let lines: Vec<String> = table.iter().map(|(name, schema)| format!("{}:{schema}", json!(name))).collect();
    Ok(format!("{{\n{}\n}}\n", lines.join(",\n")))
}

/// The definitions of a published document.
pub(super) fn document(kubernetes: &Path, name: &str) -> Result<Map<String, Value>> {
    let path = kubernetes.join("api/openapi-spec/v3").join(format!("{name}_openapi.json"));
    let text = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let mut value: Value = serde_json::from_slice(&text).with_context(|| format!("parse {}", path.display()))?;
    match value["components"]["schemas"].take() {
        Value::Object(schemas) => Ok(schemas),
        _ => bail!("{} has no schemas", path.display()),
    }
}

/// One schema without descriptions, without defaults that only say "zero", and with plain references.
fn slim(schema: &Value) -> Value {
    let Value::Object(map) = schema else { return schema.clone() };
    let mut out = Map::new();
    for (key, value) in map {
        match key.as_str() {
            "description" => {}
            "default" if [json!(""), json!({}), json!(0), json!(false)].contains(value) => {}
            "properties" => {
                let fields = value.as_object().into_iter().flatten();
                out.insert(key.clone(), Value::Object(fields.map(|(k, v)| (k.clone(), slim(v))).collect()));
            }
            "items" | "additionalProperties" => {
                out.insert(key.clone(), slim(value));
            }
            // A single entry, beside a description or default of the field.
            "allOf" => out.extend(reference(&value[0]["$ref"])),
            "$ref" => out.extend(reference(value)),
            // A group-version-kind list names every group that can embed the type; ours is the first.
            "x-kubernetes-group-version-kind" => {
                let first = value.as_array().and_then(|l| l.first()).cloned().into_iter().collect();
                out.insert(key.clone(), Value::Array(first));
            }
            _ => {
                out.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(out)
}

/// A reference by its plain name; named types that are scalars are written out in place.
fn reference(target: &Value) -> Map<String, Value> {
    let name = target.as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    let schema = match name.rsplit('.').next().unwrap_or(name) {
        "Time" | "MicroTime" => json!({"type": "string", "format": "date-time"}),
        "IntOrString" => json!({"x-kubernetes-int-or-string": true}),
        "Quantity" => json!({"x-kubernetes-int-or-string": true, "format": "quantity"}),
        _ => json!({"$ref": name}),
    };
    schema.as_object().cloned().unwrap_or_default()
}

fn references(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(target) if key == "$ref" => {
                        found.insert(target.clone());
                    }
                    _ => references(value, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|v| references(v, found)),
        _ => {}
    }
}
