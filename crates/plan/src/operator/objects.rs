//! One object: is it ready, and what to write in its place.

use fv_render::install::{ObjectId, Stage};
use serde_json::{Map, Value};

use super::drift::is_unwanted_label;

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
        if key == "labels" {
            merged.retain(|label, _| !is_unwanted_label(label, wanted));
        }
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
