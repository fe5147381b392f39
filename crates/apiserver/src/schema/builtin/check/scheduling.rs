//! Priority classes, and revisions of controllers.

use serde_json::{Value, json};

use super::{enumerated, immutable, text};
use crate::schema::Cause;

/// The priority classes every cluster has: name, value, description.
pub const SYSTEM_PRIORITIES: [(&str, i64, &str); 2] = [
    (
        "system-node-critical",
        SYSTEM_CRITICAL + 1000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        SYSTEM_CRITICAL,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
];
const SYSTEM_CRITICAL: i64 = 2_000_000_000;
/// Users' classes end here.
const HIGHEST: i64 = 1_000_000_000;

pub(super) fn priority_class(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let value = object["value"].as_i64().unwrap_or_default();
    if let Some(old) = old {
        if value != old["value"].as_i64().unwrap_or_default() {
            causes.push(Cause::forbidden("value", "may not be changed in an update."));
        }
        immutable("preemptionPolicy", &object["preemptionPolicy"], &old["preemptionPolicy"], causes);
        return;
    }
    let name = object.get("metadata").map(|metadata| text(metadata, "name")).unwrap_or_default();
    if name.starts_with("system-") {
        let system = SYSTEM_PRIORITIES.iter().find(|(known, ..)| *known == name);
        let error = match system {
            None => Some(format!("{name} is not a known system priority class")),
            Some((_, known, _)) if *known != value => Some(format!("value of {name} PriorityClass must be {known}")),
            Some(_) if object["globalDefault"] == true => {
                Some(format!("globalDefault of {name} PriorityClass must be false"))
            }
            Some(_) => None,
        };
        if let Some(error) = error {
            let detail =
                format!("priority class names with 'system-' prefix are reserved for system use only. error: {error}");
            causes.push(Cause::forbidden("metadata.name", &detail));
        }
    } else if value > HIGHEST {
        let detail = format!("maximum allowed value of a user defined priority is {HIGHEST}");
        causes.push(Cause::forbidden("value", &detail));
    }
    let policy = text(object, "preemptionPolicy");
    let allowed = ["PreemptLowerPriority", "Never"];
    if !policy.is_empty() && !allowed.contains(&policy) {
        causes.push(Cause::not_supported("preemptionPolicy", &json!(policy), &allowed.map(str::to_owned)));
    }
}

pub(super) fn controller_revision(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let revision = &object["revision"];
    if revision.as_i64().is_some_and(|revision| revision < 0) {
        causes.push(Cause::invalid("revision", revision, "must be greater than or equal to 0"));
    }
    let data = &object["data"];
    match old {
        Some(old) => immutable("data", data, &old["data"], causes),
        None if data.is_null() => causes.push(Cause::required("data", "data is mandatory")),
        None if !data.is_object() => causes.push(Cause::required("data", "data must be a valid JSON object")),
        None => {}
    }
}

pub(super) fn disruption_budget(object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    if spec.get("minAvailable").is_some() && spec.get("maxUnavailable").is_some() {
        let detail = "minAvailable and maxUnavailable cannot be both set";
        causes.push(Cause::invalid("spec", spec, detail));
    }
    for field in ["minAvailable", "maxUnavailable"] {
        if let Some(value) = spec.get(field) {
            int_or_percent(&format!("spec.{field}"), value, causes);
        }
    }
    super::label_selector(&spec["selector"], "spec.selector", causes);
    enumerated(spec, "unhealthyPodEvictionPolicy", "spec", &["AlwaysAllow", "IfHealthyBudget"], causes);
}

fn int_or_percent(path: &str, value: &Value, causes: &mut Vec<Cause>) {
    if value.as_i64().is_some_and(|number| number < 0) {
        causes.push(Cause::invalid(path, value, "must be greater than or equal to 0"));
    }
    let Some(given) = value.as_str() else { return };
    let digits = given.strip_suffix('%').unwrap_or_default();
    let percent = Some(digits).filter(|d| !d.is_empty() && d.bytes().all(|c| c.is_ascii_digit()));
    match percent.map(|digits| digits.parse::<u32>().unwrap_or(u32::MAX)) {
        None => {
            let detail = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', \
                          regex used for validation is '[0-9]+%')";
            causes.push(Cause::invalid(path, value, detail));
        }
        Some(percent) if percent > 100 => causes.push(Cause::invalid(path, value, "must not be greater than 100%")),
        Some(_) => {}
    }
}

pub(super) fn disruption_budget_status(object: &Value, causes: &mut Vec<Cause>) {
    for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
        let value = &object["status"][field];
        if value.as_i64().is_some_and(|number| number < 0) {
            causes.push(Cause::invalid(format!("status.{field}"), value, "must be greater than or equal to 0"));
        }
    }
}
