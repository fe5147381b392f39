//! Checks of built-in kinds beyond their types: what our own components rely on, worded as Kubernetes words it.

mod event;
mod limits;
mod pod;
mod scheduling;
mod storage;

pub use scheduling::SYSTEM_PRIORITIES;

use serde_json::{Value, json};

use crate::schema::{Cause, names};

/// Bytes of data in a Secret or ConfigMap.
const MAX_DATA: usize = 1024 * 1024;

/// Everything wrong with an object of a built-in kind, `old` being the stored one on updates.
pub fn check(group: &str, kind: &str, object: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    match (group, kind) {
        ("", "Pod") => pod::pod(object, old, &mut causes),
        ("", "Secret") => {
            data(object, old, true, &mut causes);
            secret_type(object, &mut causes);
        }
        ("", "ConfigMap") => data(object, old, false, &mut causes),
        ("coordination.k8s.io", "Lease") => lease(object, &mut causes),
        ("", "Event") => event::core(object, &mut causes),
        ("events.k8s.io", "Event") => event::events(object, old, &mut causes),
        ("", "LimitRange") => limits::range(object, &mut causes),
        ("", "ResourceQuota") => limits::quota(object, old, &mut causes),
        ("apps", "ControllerRevision") => scheduling::controller_revision(object, old, &mut causes),
        ("policy", "PodDisruptionBudget") => {
            scheduling::disruption_budget(object, &mut causes);
            scheduling::disruption_budget_status(object, &mut causes);
        }
        ("scheduling.k8s.io", "PriorityClass") => scheduling::priority_class(object, old, &mut causes),
        ("authorization.k8s.io", "SelfSubjectAccessReview") => access_review(object, &mut causes),
        ("", "PersistentVolumeClaim") => storage::claim(object, old, &mut causes),
        ("", "PersistentVolume") => storage::volume(object, old, &mut causes),
        ("storage.k8s.io", "StorageClass") => storage::class(object, old, &mut causes),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => causes.extend(crate::schema::crd::check(object, old)),
        _ => {}
    }
    causes
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn enumerated(value: &Value, key: &str, path: &str, allowed: &[&str], causes: &mut Vec<Cause>) {
    let given = text(value, key);
    if !given.is_empty() && !allowed.contains(&given) {
        let allowed: Vec<String> = allowed.iter().map(|s| (*s).to_owned()).collect();
        causes.push(Cause::not_supported(format!("{path}.{key}"), &json!(given), &allowed));
    }
}

fn immutable(path: &str, new: &Value, old: &Value, causes: &mut Vec<Cause>) {
    if new != old {
        causes.push(Cause::invalid(path, new, "field is immutable"));
    }
}

/// Problems of a `LabelSelector`.
fn label_selector(selector: &Value, path: &str, causes: &mut Vec<Cause>) {
    for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
        let path = format!("{path}.matchLabels");
        for error in names::qualified_name(key) {
            causes.push(Cause::invalid(path.clone(), &json!(key), &error));
        }
        for error in names::label_value(value.as_str().unwrap_or_default()) {
            causes.push(Cause::invalid(path.clone(), value, &error));
        }
    }
    for (i, requirement) in list(selector, "matchExpressions").iter().enumerate() {
        let path = format!("{path}.matchExpressions[{i}]");
        let values = list(requirement, "values");
        match text(requirement, "operator") {
            "In" | "NotIn" if values.is_empty() => {
                let detail = "must be specified when `operator` is 'In' or 'NotIn'";
                causes.push(Cause::required(format!("{path}.values"), detail));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                causes.push(Cause::forbidden(format!("{path}.values"), detail));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                let detail = "not a valid selector operator";
                causes.push(Cause::invalid(format!("{path}.operator"), &json!(other), detail));
            }
        }
        for error in names::qualified_name(text(requirement, "key")) {
            causes.push(Cause::invalid(format!("{path}.key"), &requirement["key"], &error));
        }
        for (j, value) in values.iter().enumerate() {
            for error in names::label_value(value.as_str().unwrap_or_default()) {
                causes.push(Cause::invalid(format!("{path}.values[{j}]"), value, &error));
            }
        }
    }
}

fn access_review(object: &Value, causes: &mut Vec<Cause>) {
    let has = |field: &str| object["spec"].get(field).is_some();
    match (has("resourceAttributes"), has("nonResourceAttributes")) {
        (true, true) => {
            let detail = "cannot be specified in combination with resourceAttributes";
            let value = &object["spec"]["nonResourceAttributes"];
            causes.push(Cause::invalid("spec.nonResourceAttributes", value, detail));
        }
        (false, false) => {
            let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            causes.push(Cause::invalid("spec.resourceAttributes", &Value::Null, detail));
        }
        _ => {}
    }
    if object["metadata"].as_object().is_some_and(|metadata| metadata.keys().any(|key| key != "managedFields")) {
        causes.push(Cause::invalid("metadata", &object["metadata"], "must be empty"));
    }
}

fn data(object: &Value, old: Option<&Value>, secret: bool, causes: &mut Vec<Cause>) {
    use base64::Engine as _;
    let mut size = 0;
    for field in ["data", "binaryData"] {
        for (key, value) in object.get(field).and_then(Value::as_object).into_iter().flatten() {
            let path = format!("{field}[{key}]");
            for error in names::config_key(key) {
                causes.push(Cause::invalid(path.clone(), &json!(key), &error));
            }
            let both = field == "data" && object.get("binaryData").is_some_and(|b| b.get(key).is_some());
            if both {
                causes.push(Cause::invalid(path.clone(), &json!(key), "duplicate of key present in binaryData"));
            }
            let text = value.as_str().unwrap_or_default();
            if secret || field == "binaryData" {
                match base64::engine::general_purpose::STANDARD.decode(text) {
                    Ok(bytes) => size += bytes.len(),
                    Err(_) => causes.push(Cause::invalid(path, value, "must be base64")),
                }
            } else {
                size += text.len();
            }
        }
    }
    if size > MAX_DATA {
        causes.push(Cause::too_long(if secret { "data" } else { "[]" }, MAX_DATA as u64));
    }
    let Some(old) = old else { return };
    if secret && text(object, "type") != text(old, "type") {
        causes.push(Cause::invalid("type", &object["type"], "field is immutable"));
    }
    if old.get("immutable") == Some(&Value::Bool(true)) {
        if object.get("immutable") != Some(&Value::Bool(true)) {
            causes.push(Cause::forbidden("immutable", "field is immutable when `immutable` is set"));
        }
        for field in ["data", "binaryData"] {
            if object.get(field) != old.get(field) {
                causes.push(Cause::forbidden(field, "field is immutable when `immutable` is set"));
            }
        }
    }
}

/// Types of secrets promise certain keys.
fn secret_type(object: &Value, causes: &mut Vec<Cause>) {
    let data = object.get("data").unwrap_or(&Value::Null);
    let mut need = |key: &str| {
        if data.get(key).is_none() {
            causes.push(Cause::required(format!("data[{key}]"), ""));
        }
    };
    match text(object, "type") {
        "kubernetes.io/tls" => ["tls.crt", "tls.key"].into_iter().for_each(need),
        "kubernetes.io/ssh-auth" => need("ssh-privatekey"),
        "kubernetes.io/dockercfg" => need(".dockercfg"),
        "kubernetes.io/dockerconfigjson" => need(".dockerconfigjson"),
        "kubernetes.io/basic-auth" if data.get("username").is_none() && data.get("password").is_none() => {
            ["username", "password"].into_iter().for_each(need);
        }
        _ => {}
    }
}

fn lease(object: &Value, causes: &mut Vec<Cause>) {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    for (key, least, detail) in [
        ("leaseDurationSeconds", 1, "must be greater than 0"),
        ("leaseTransitions", 0, "must be greater than or equal to 0"),
    ] {
        if let Some(value) = spec.get(key)
            && value.as_i64().is_some_and(|v| v < least)
        {
            causes.push(Cause::invalid(format!("spec.{key}"), value, detail));
        }
    }
}
