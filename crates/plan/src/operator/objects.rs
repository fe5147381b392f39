//! One object: is it as wanted, is it ready, and what to write in its place.

use fv_render::install::{ObjectId, Stage};
use serde_json::{Map, Value};

/// An object as the cluster has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Live {
    pub value: Value,
}

impl Live {
    pub fn uid(&self) -> &str {
        self.value["metadata"]["uid"].as_str().unwrap_or_default()
    }

    /// Generation of the spec, for kinds that count it.
    pub fn generation(&self) -> Option<i64> {
        self.value["metadata"]["generation"].as_i64()
    }

    pub fn is_leaving(&self) -> bool {
        self.value["metadata"]["deletionTimestamp"].is_string()
    }
}

/// Whether the live object has all of what is wanted. What others or the API server added beside it is found by the generation
/// of kinds that have one; lists must be the same.
pub fn is_as_wanted(live: &Live, wanted: &Value, written: Option<i64>) -> bool {
    let is_untouched = match (live.generation(), written) {
        (Some(generation), Some(written)) => generation == written,
        (Some(_), None) => false,
        (None, _) => true,
    };
    is_untouched && contains(&live.value, wanted)
}

pub(super) fn contains(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => wanted.iter().all(|(key, value)| match live.get(key) {
            Some(live) => contains(live, value),
            None => is_nothing(value),
        }),
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| contains(live, wanted))
        }
        _ => live == wanted,
    }
}

/// What the API server leaves out when it stores an object.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

/// What to put in the place of `live`: the wanted object with the version it replaces, the labels, annotations, finalizers and
/// owners that others gave it, and the fields that the cluster itself assigned.
pub fn replacement(live: &Live, wanted: &Value) -> Value {
    let mut value = wanted.clone();
    let old = &live.value["metadata"];
    for key in ["uid", "resourceVersion", "finalizers", "ownerReferences"] {
        if let Some(kept) = old.get(key) {
            value["metadata"][key] = kept.clone();
        }
    }
    for key in ["labels", "annotations"] {
        let mut merged: Map<String, Value> = old[key].as_object().cloned().unwrap_or_default();
        merged.extend(wanted["metadata"][key].as_object().cloned().unwrap_or_default());
        if !merged.is_empty() {
            value["metadata"][key] = Value::Object(merged);
        }
    }
    let assigned: &[&str] = match wanted["kind"].as_str().unwrap_or_default() {
        "Service" => &["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"],
        _ => &[],
    };
    for key in assigned {
        if let Some(kept) = live.value["spec"].get(*key) {
            value["spec"][*key] = kept.clone();
        }
    }
    // A token controller may have added to it.
    if wanted["kind"] == "ServiceAccount" {
        for key in ["secrets", "imagePullSecrets"] {
            if let Some(kept) = live.value.get(key) {
                value[key] = kept.clone();
            }
        }
    }
    value
}

/// Whether an object does its work, which only some kinds tell.
pub fn is_ready(live: &Value) -> bool {
    let status = &live["status"];
    let count = |value: &Value| value.as_i64().unwrap_or_default();
    let is_seen = count(&status["observedGeneration"]) >= count(&live["metadata"]["generation"]);
    match live["kind"].as_str().unwrap_or_default() {
        "CustomResourceDefinition" => has_condition(status, "Established"),
        "APIService" => has_condition(status, "Available"),
        "Deployment" => {
            let wanted = live["spec"]["replicas"].as_i64().unwrap_or(1);
            let all = ["replicas", "updatedReplicas", "availableReplicas"];
            is_seen && all.iter().all(|key| count(&status[*key]) == wanted)
        }
        "DaemonSet" => {
            let wanted = count(&status["desiredNumberScheduled"]);
            let all = ["updatedNumberScheduled", "numberAvailable"];
            is_seen && all.iter().all(|key| count(&status[*key]) >= wanted)
        }
        _ => true,
    }
}

fn has_condition(status: &Value, type_: &str) -> bool {
    let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == type_ && condition["status"] == "True")
}

/// Where an object of an earlier installation belongs in the order of removal.
pub fn stage_of(id: &ObjectId) -> Stage {
    match id.kind.as_str() {
        "CustomResourceDefinition" => Stage::Definitions,
        "ServiceAccount" | "Role" | "RoleBinding" | "ClusterRole" | "ClusterRoleBinding" => Stage::Access,
        "Secret" | "ConfigMap" => Stage::Certificates,
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" | "APIService" => Stage::Registration,
        "DaemonSet" => Stage::Handler,
        "ServiceMonitor" | "PrometheusRule" => Stage::Monitoring,
        "Deployment" | "PodDisruptionBudget" if id.name.starts_with("virt-api") => Stage::Api,
        "Deployment" | "PodDisruptionBudget" => Stage::Controller,
        _ => Stage::Services,
    }
}

/// An entry of `status.generations`.
pub fn generation_entry(id: &ObjectId, generation: i64) -> fv_api::GenerationStatus {
    fv_api::GenerationStatus {
        group: id.group.clone(),
        hash: None,
        last_generation: generation,
        name: id.name.clone(),
        namespace: (!id.namespace.is_empty()).then(|| id.namespace.clone()),
        resource: resource(&id.kind),
    }
}

/// Plural of a kind of ours, as paths of the API have it.
pub fn resource(kind: &str) -> String {
    let lower = kind.to_lowercase();
    match lower.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None if lower.ends_with('s') => format!("{lower}es"),
        None => format!("{lower}s"),
    }
}
