//! The built-in kinds: their schemas, their defaults and the checks beyond types.
//!
//! The schemas are a committed table generated from Kubernetes' published OpenAPI documents (`cargo xtask kinds`). They
//! are parsed once, on first use, into one arena shared by all kinds.

mod check;
mod defaults;
mod metadata;

use std::collections::HashMap;
use std::sync::OnceLock;

use serde_json::{Map, Value};

use super::parse::parse_definitions;
use super::{Cause, Structural};

pub use check::{SYSTEM_PRIORITIES, check};
pub use defaults::complete;
pub use metadata::{NameRule, check_object_meta, finalizer_warnings, name_rule};

static TABLE: &str = include_str!("builtin/table.json");

/// (group, version, kind, definition)
const KINDS: &[(&str, &str, &str, &str)] = &[
    ("", "v1", "Binding", "io.k8s.api.core.v1.Binding"),
    ("", "v1", "ConfigMap", "io.k8s.api.core.v1.ConfigMap"),
    ("", "v1", "Event", "io.k8s.api.core.v1.Event"),
    ("", "v1", "LimitRange", "io.k8s.api.core.v1.LimitRange"),
    ("", "v1", "Namespace", "io.k8s.api.core.v1.Namespace"),
    ("", "v1", "Node", "io.k8s.api.core.v1.Node"),
    ("", "v1", "PersistentVolume", "io.k8s.api.core.v1.PersistentVolume"),
    ("", "v1", "PersistentVolumeClaim", "io.k8s.api.core.v1.PersistentVolumeClaim"),
    ("", "v1", "Pod", "io.k8s.api.core.v1.Pod"),
    ("", "v1", "ResourceQuota", "io.k8s.api.core.v1.ResourceQuota"),
    ("", "v1", "Secret", "io.k8s.api.core.v1.Secret"),
    ("", "v1", "ServiceAccount", "io.k8s.api.core.v1.ServiceAccount"),
    (
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
    ),
    ("apps", "v1", "ControllerRevision", "io.k8s.api.apps.v1.ControllerRevision"),
    ("authentication.k8s.io", "v1", "SelfSubjectReview", "io.k8s.api.authentication.v1.SelfSubjectReview"),
    ("authentication.k8s.io", "v1", "TokenRequest", "io.k8s.api.authentication.v1.TokenRequest"),
    ("authorization.k8s.io", "v1", "SelfSubjectAccessReview", "io.k8s.api.authorization.v1.SelfSubjectAccessReview"),
    ("authorization.k8s.io", "v1", "SelfSubjectRulesReview", "io.k8s.api.authorization.v1.SelfSubjectRulesReview"),
    ("coordination.k8s.io", "v1", "Lease", "io.k8s.api.coordination.v1.Lease"),
    ("events.k8s.io", "v1", "Event", "io.k8s.api.events.v1.Event"),
    ("policy", "v1", "Eviction", "io.k8s.api.policy.v1.Eviction"),
    ("policy", "v1", "PodDisruptionBudget", "io.k8s.api.policy.v1.PodDisruptionBudget"),
    ("scheduling.k8s.io", "v1", "PriorityClass", "io.k8s.api.scheduling.v1.PriorityClass"),
    ("storage.k8s.io", "v1", "StorageClass", "io.k8s.api.storage.v1.StorageClass"),
];

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

/// The schema of a built-in kind.
pub fn schema(group: &str, version: &str, kind: &str) -> Option<&'static Structural> {
    let definition = definition_name(group, version, kind)?;
    parsed().get(definition)
}

/// The schema of `DeleteOptions`, the body of deletions.
pub fn delete_options() -> Option<&'static Structural> {
    parsed().get("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions")
}

/// The name of a built-in kind's definition, as OpenAPI publishes it.
pub fn definition_name(group: &str, version: &str, kind: &str) -> Option<&'static str> {
    KINDS.iter().find(|(g, v, k, _)| (*g, *v, *k) == (group, version, kind)).map(|(.., name)| *name)
}

/// The whole table, parsed afresh: for the OpenAPI documents, which are built, cached as text and dropped.
pub fn definitions() -> Map<String, Value> {
    serde_json::from_str(TABLE).unwrap_or_default()
}

/// Identifies the table: part of the hashes of OpenAPI documents.
pub fn table_digest() -> &'static str {
    use sha2::{Digest as _, Sha256};
    static DIGEST: OnceLock<String> = OnceLock::new();
    DIGEST.get_or_init(|| hex::encode(Sha256::digest(TABLE.as_bytes())))
}

fn parsed() -> &'static HashMap<String, Structural> {
    static PARSED: OnceLock<HashMap<String, Structural>> = OnceLock::new();
    PARSED.get_or_init(|| {
        let definitions = definitions();
        let meta = ["ObjectMeta", "DeleteOptions"].map(|name| format!("{META}{name}"));
        let roots: Vec<&str> = KINDS.iter().map(|(.., name)| *name).chain(meta.iter().map(String::as_str)).collect();
        // The table is compiled in and tested: this cannot fail at run time.
        parse_definitions(&definitions, &roots).unwrap_or_default()
    })
}

/// The schema of every object's metadata.
pub(crate) fn object_meta() -> Option<&'static Structural> {
    parsed().get("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
}

/// Drops what does not belong into an object's metadata; returns the paths below `metadata`.
pub(crate) fn normalise_metadata(metadata: &mut Value) -> Vec<String> {
    object_meta().map(|schema| schema.normalise(metadata)).unwrap_or_default()
}

/// The first value in the metadata of a custom object that has the wrong type.
pub(crate) fn metadata_decode_error(metadata: &Value) -> Option<String> {
    if !metadata.is_object() && !metadata.is_null() {
        return Some("cannot decode metadata, which is of type object".to_owned());
    }
    object_meta()?.decode_error(metadata).map(|text| text.replacen("field ", "field metadata.", 1))
}

/// Wrong types and malformed entries in the metadata of a custom or embedded object.
pub(crate) fn validate_metadata(value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let Some(schema) = object_meta() else { return };
    for mut cause in schema.validate(value) {
        let inner = if cause.field.is_empty() { path.to_owned() } else { format!("{path}.{}", cause.field) };
        cause.message = cause.message.replacen(&format!("{} in body", cause.field), &format!("{inner} in body"), 1);
        cause.field = inner;
        causes.push(cause);
    }
}
