//! Pods.

use serde_json::{Value, json};

use super::{enumerated, list, text};
use crate::amounts;
use crate::schema::{Cause, CauseReason, names};

pub(super) fn pod(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let containers = list(spec, "containers");
    if containers.is_empty() {
        causes.push(Cause::required("spec.containers", ""));
    }
    let mut container_names: Vec<&str> = Vec::new();
    let mut volume_names: Vec<&str> = Vec::new();
    for (i, volume) in list(spec, "volumes").iter().enumerate() {
        let path = format!("spec.volumes[{i}]");
        unique_name(volume, &path, &mut volume_names, causes);
        let sources = volume.as_object().map_or(0, |v| v.keys().filter(|k| *k != "name").count());
        if sources > 1 {
            causes.push(Cause::forbidden(path, "may not specify more than 1 volume type"));
        }
    }
    for key in ["initContainers", "containers"] {
        for (i, container) in list(spec, key).iter().enumerate() {
            let path = format!("spec.{key}[{i}]");
            unique_name(container, &path, &mut container_names, causes);
            if text(container, "image").is_empty() {
                causes.push(Cause::required(format!("{path}.image"), ""));
            } else if text(container, "image").trim() != text(container, "image") {
                let detail = "must not have leading or trailing whitespace";
                causes.push(Cause::invalid(format!("{path}.image"), &container["image"], detail));
            }
            resources(&container["resources"], &format!("{path}.resources"), causes);
            enumerated(container, "imagePullPolicy", &path, &["Always", "IfNotPresent", "Never"], causes);
            for (j, port) in list(container, "ports").iter().enumerate() {
                if let Some(number) = port.get("containerPort")
                    && number.as_i64().is_some_and(|n| !(1..=65535).contains(&n))
                {
                    let path = format!("{path}.ports[{j}].containerPort");
                    causes.push(Cause::invalid(path, number, "must be between 1 and 65535, inclusive"));
                }
            }
            for (j, mount) in list(container, "volumeMounts").iter().enumerate() {
                let path = format!("{path}.volumeMounts[{j}]");
                if !volume_names.contains(&text(mount, "name")) {
                    causes.push(Cause {
                        reason: CauseReason::NotFound,
                        message: format!("Not found: {}", json!(text(mount, "name"))),
                        field: format!("{path}.name"),
                    });
                }
                if text(mount, "mountPath").is_empty() {
                    causes.push(Cause::required(format!("{path}.mountPath"), ""));
                }
            }
        }
    }
    enumerated(spec, "restartPolicy", "spec", &["Always", "OnFailure", "Never"], causes);
    enumerated(spec, "dnsPolicy", "spec", &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"], causes);
    for key in ["hostname", "subdomain"] {
        let given = text(spec, key);
        if !given.is_empty() {
            for error in names::dns_1123_label(given) {
                causes.push(Cause::invalid(format!("spec.{key}"), &json!(given), &error));
            }
        }
    }
    if let Some(old) = old.and_then(|o| o.pointer("/spec/activeDeadlineSeconds")).and_then(Value::as_i64) {
        match spec.get("activeDeadlineSeconds") {
            Some(new) if new.as_i64().is_some_and(|new| new > old) => {
                let detail = "must be less than or equal to previous value";
                causes.push(Cause::invalid("spec.activeDeadlineSeconds", new, detail));
            }
            Some(_) => {}
            None => {
                let detail = "must not update from a positive integer to nil value";
                causes.push(Cause::invalid("spec.activeDeadlineSeconds", &Value::Null, detail));
            }
        }
    }
    if let Some(value) = spec.get("activeDeadlineSeconds")
        && value.as_i64().is_some_and(|s| !(1..=i64::from(i32::MAX)).contains(&s))
    {
        let detail = "must be between 1 and 2147483647, inclusive";
        causes.push(Cause::invalid("spec.activeDeadlineSeconds", value, detail));
    }
    if let Some(old) = old {
        pod_update(object, old, causes);
    }
}

/// No amount is negative, and nothing is requested beyond its limit.
fn resources(resources: &Value, path: &str, causes: &mut Vec<Cause>) {
    let limits = amounts::read(&resources["limits"]);
    for field in ["limits", "requests"] {
        for (name, amount) in amounts::read(&resources[field]) {
            if amount.is_negative() {
                let path = format!("{path}.{field}[{name}]");
                causes.push(Cause::invalid(path, &json!(amount.to_string()), "must be greater than or equal to 0"));
            }
            if let Some(limit) = limits.get(&name).filter(|limit| amount > **limit) {
                let detail = format!("must be less than or equal to {name} limit of {limit}");
                causes.push(Cause::invalid(format!("{path}.{field}"), &json!(amount.to_string()), &detail));
            }
        }
    }
}

/// A pod's spec hardly changes once it exists.
fn pod_update(object: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let strip = |pod: &Value| {
        let mut spec = pod.get("spec").cloned().unwrap_or_default();
        if let Some(map) = spec.as_object_mut() {
            for key in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
                map.shift_remove(key);
            }
            for key in ["initContainers", "containers"] {
                for container in map.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten() {
                    if let Some(container) = container.as_object_mut() {
                        container.shift_remove("image");
                    }
                }
            }
        }
        spec
    };
    let count =
        |pod: &Value, key: &str| pod.pointer(&format!("/spec/{key}")).map_or(0, |l| l.as_array().map_or(0, Vec::len));
    for key in ["containers", "initContainers"] {
        if count(object, key) != count(old, key) {
            let detail = "pod updates may not add or remove containers";
            causes.push(Cause::forbidden(format!("spec.{key}"), detail));
            return;
        }
    }
    if strip(object) != strip(old) {
        let detail = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
                      `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
                      `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
        causes.push(Cause::forbidden("spec", detail));
    }
}

fn unique_name<'v>(value: &'v Value, path: &str, seen: &mut Vec<&'v str>, causes: &mut Vec<Cause>) {
    let name = text(value, "name");
    if name.is_empty() {
        causes.push(Cause::required(format!("{path}.name"), ""));
        return;
    }
    for error in names::dns_1123_label(name) {
        causes.push(Cause::invalid(format!("{path}.name"), &json!(name), &error));
    }
    if seen.contains(&name) {
        causes.push(Cause::duplicate(format!("{path}.name"), &json!(name)));
    }
    seen.push(name);
}
