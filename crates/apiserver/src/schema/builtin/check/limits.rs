//! Resource quotas and limit ranges.

use std::collections::BTreeSet;

use fv_api::Quantity;
use serde_json::{Value, json};

use super::{list, text};
use crate::amounts;
use crate::schema::{Cause, names, quantity};

/// Names a quota knows without a domain.
const QUOTA_NAMES: [&str; 19] = [
    "configmaps",
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];
/// Those of them that are counts.
const COUNTS: [&str; 9] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];
const SCOPES: [&str; 6] =
    ["BestEffort", "CrossNamespacePodAffinity", "NotBestEffort", "NotTerminating", "PriorityClass", "Terminating"];

pub(super) fn quota(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    for (part, field) in [("spec", "hard"), ("status", "hard"), ("status", "used")] {
        for (name, value) in object[part][field].as_object().into_iter().flatten() {
            quota_amount(name, value, &format!("{part}.{field}[{name}]"), causes);
        }
    }
    let spec = &object["spec"];
    scopes(spec, causes);
    for expression in list(&spec["scopeSelector"], "matchExpressions") {
        scope_expression(expression, causes);
    }
    let Some(old) = old else { return };
    let set = |spec: &Value| -> BTreeSet<String> {
        list(spec, "scopes").iter().filter_map(|scope| scope.as_str().map(str::to_owned)).collect()
    };
    if set(spec) != set(&old["spec"]) {
        causes.push(Cause::invalid("spec.scopes", &spec["scopes"], "field is immutable"));
    }
}

fn quota_amount(name: &str, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    resource_name(name, path, causes);
    let huge = name.strip_prefix("requests.").unwrap_or(name).starts_with("hugepages-");
    if !name.contains('/') && !QUOTA_NAMES.contains(&name) && !huge {
        causes.push(Cause::invalid(path, &json!(name), "must be a standard resource for quota"));
    }
    let Some(amount) = quantity::of(value) else { return };
    if amount.is_negative() {
        causes.push(Cause::invalid(path, value, "must be greater than or equal to 0"));
    }
    let extended = name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.");
    if (COUNTS.contains(&name) || extended) && !amount.is_whole() {
        causes.push(Cause::invalid(path, value, "must be an integer"));
    }
}

fn resource_name(name: &str, path: &str, causes: &mut Vec<Cause>) {
    let errors = names::qualified_name(name);
    let bare = name.strip_prefix("requests.").unwrap_or(name);
    if errors.is_empty()
        && !name.contains('/')
        && !bare.starts_with("hugepages-")
        && !QUOTA_NAMES.contains(&name)
        && name != "storage"
    {
        let detail = "must be a standard resource type or fully qualified";
        causes.push(Cause::invalid(path, &json!(name), detail));
    }
    for error in errors {
        causes.push(Cause::invalid(path, &json!(name), &error));
    }
}

fn scopes(spec: &Value, causes: &mut Vec<Cause>) {
    let given = list(spec, "scopes");
    let path = "spec.scopes";
    for scope in given {
        if !SCOPES.iter().any(|known| scope == known) {
            causes.push(Cause::invalid(path, &spec["scopes"], "unsupported scope"));
        }
        for name in spec["hard"].as_object().into_iter().flatten().map(|(name, _)| name) {
            if QUOTA_NAMES.contains(&name.as_str()) && !fits(scope.as_str().unwrap_or_default(), name) {
                causes.push(Cause::invalid(path, &spec["scopes"], "unsupported scope applied to resource"));
            }
        }
    }
    let has = |name: &str| given.iter().any(|scope| scope == name);
    if (has("BestEffort") && has("NotBestEffort")) || (has("Terminating") && has("NotTerminating")) {
        causes.push(Cause::invalid(path, &spec["scopes"], "conflicting scopes"));
    }
}

/// Whether a scope can be said of what a name limits.
fn fits(scope: &str, name: &str) -> bool {
    let bare = name.strip_prefix("requests.").or_else(|| name.strip_prefix("limits.")).unwrap_or(name);
    match scope {
        "BestEffort" => name == "pods",
        _ => matches!(bare, "pods" | "cpu" | "memory" | "ephemeral-storage"),
    }
}

fn scope_expression(expression: &Value, causes: &mut Vec<Cause>) {
    let path = |field: &str| format!("spec.scopeSelector.matchExpressions.{field}");
    let (scope, operator) = (text(expression, "scopeName"), text(expression, "operator"));
    if !SCOPES.contains(&scope) {
        causes.push(Cause::invalid(path("scopeName"), &json!(scope), "unsupported scope"));
    }
    if SCOPES.contains(&scope) && scope != "PriorityClass" && operator != "Exists" {
        let detail = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, \
                      ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or \
                      ResourceQuotaScopeCrossNamespacePodAffinity";
        causes.push(Cause::invalid(path("operator"), &json!(operator), detail));
    }
    let values = list(expression, "values");
    match operator {
        "In" | "NotIn" if values.is_empty() => {
            let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
            causes.push(Cause::required(path("values"), detail));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
            causes.push(Cause::invalid(path("values"), &json!(values), detail));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        _ => causes.push(Cause::invalid(path("operator"), &json!(operator), "not a valid selector operator")),
    }
}

pub(super) fn range(object: &Value, causes: &mut Vec<Cause>) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, limit) in list(&object["spec"], "limits").iter().enumerate() {
        let path = format!("spec.limits[{i}]");
        let kind = text(limit, "type");
        let errors = names::qualified_name(kind);
        if errors.is_empty() && !kind.contains('/') && !["Pod", "Container", "PersistentVolumeClaim"].contains(&kind) {
            let detail = "must be a standard limit type or fully qualified";
            causes.push(Cause::invalid(format!("{path}.type"), &json!(kind), detail));
        }
        for error in errors {
            causes.push(Cause::invalid(format!("{path}.type"), &json!(kind), &error));
        }
        if seen.contains(&kind) {
            causes.push(Cause::duplicate(format!("{path}.type"), &json!(kind)));
        }
        seen.push(kind);
        bounds(limit, kind, &path, causes);
    }
}

fn bounds(limit: &Value, kind: &str, path: &str, causes: &mut Vec<Cause>) {
    let mut fields = vec!["max", "min", "maxLimitRequestRatio"];
    if kind == "Pod" {
        for field in ["default", "defaultRequest"] {
            if limit[field].as_object().is_some_and(|map| !map.is_empty()) {
                let detail = "may not be specified when `type` is 'Pod'";
                causes.push(Cause::forbidden(format!("{path}.{field}"), detail));
            }
        }
    } else {
        fields.extend(["default", "defaultRequest"]);
    }
    if kind == "PersistentVolumeClaim" && limit["min"].get("storage").is_none() && limit["max"].get("storage").is_none()
    {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        causes.push(Cause::required(format!("{path}.limits"), detail));
    }
    let of_containers = matches!(kind, "Pod" | "Container");
    let mut all = BTreeSet::new();
    for field in &fields {
        for name in amounts::read(&limit[*field]).into_keys() {
            let at = format!("{path}.{field}[{name}]");
            resource_name(&name, &at, causes);
            let standard =
                matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
            if of_containers && !name.contains('/') && !standard {
                causes.push(Cause::invalid(at, &json!(name), "must be a standard resource for containers"));
            }
            all.insert(name);
        }
    }
    for name in all {
        let get = |field: &str| fields.contains(&field).then(|| quantity::of(&limit[field][&name])).flatten();
        relations(&name, path, &get, causes);
    }
}

/// How the bounds of one resource must relate.
fn relations(name: &str, path: &str, get: &dyn Fn(&str) -> Option<Quantity>, causes: &mut Vec<Cause>) {
    // (the smaller, the larger, where it is told, whose value is shown, words for both)
    let rules = [
        ("min", "max", "min", "min", "min value", "max value"),
        ("min", "defaultRequest", "defaultRequest", "defaultRequest", "min value", "default request value"),
        ("defaultRequest", "max", "defaultRequest", "defaultRequest", "default request value", "max value"),
        (
            "defaultRequest",
            "default",
            "defaultRequest",
            "defaultRequest",
            "default request value",
            "default limit value",
        ),
        ("min", "default", "default", "min", "min value", "default value"),
        ("default", "max", "default", "max", "default value", "max value"),
    ];
    for (small, large, at, shown, small_word, large_word) in rules {
        let (Some(low), Some(high)) = (get(small), get(large)) else { continue };
        if low > high {
            let shown = if shown == small { low } else { high };
            let detail = format!("{small_word} {low} is greater than {large_word} {high}");
            causes.push(Cause::invalid(format!("{path}.{at}[{name}]"), &json!(shown.to_string()), &detail));
        }
    }
    let Some(ratio) = get("maxLimitRequestRatio") else { return };
    let at = format!("{path}.maxLimitRequestRatio[{name}]");
    if ratio < Quantity::from_units(1) {
        causes.push(Cause::invalid(at.clone(), &json!(ratio.to_string()), &format!("ratio {ratio} is less than 1")));
    }
    if let (Some(min), Some(max)) = (get("min"), get("max")) {
        let most = max.nano_value() as f64 / min.nano_value() as f64;
        if ratio.nano_value() as f64 / 1e9 > most {
            let detail = format!("ratio {ratio} is greater than max/min = {most:.6}");
            causes.push(Cause::invalid(at, &json!(ratio.to_string()), &detail));
        }
    }
}
