//! Limit ranges: what they add to pods and refuse of pods and claims (the admission plugin LimitRanger).

use fv_api::Quantity;
use serde_json::{Map, Value, json};

use super::stored;
use crate::amounts::{self, Amounts};
use crate::meta::{MetaExt as _, object_mut};
use crate::server::Core;

/// Says what was added.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

fn ranges(core: &Core, namespace: &str) -> Vec<Value> {
    stored(core, "", "limitranges", namespace)
}

fn limits(range: &Value) -> &[Value] {
    range.pointer("/spec/limits").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Adds default limits and requests to the containers of a new pod.
pub(super) fn admit_pod(core: &Core, pod: &mut Value) {
    for range in ranges(core, pod.meta_str("namespace")) {
        let (mut default_limits, mut default_requests) = (Amounts::new(), Amounts::new());
        for limit in limits(&range).iter().filter(|limit| limit["type"] == "Container") {
            default_limits.extend(amounts::read(&limit["default"]));
            default_requests.extend(amounts::read(&limit["defaultRequest"]));
        }
        let mut added = Vec::new();
        for (list, word) in [("containers", "container"), ("initContainers", "init container")] {
            for container in pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                let name = container["name"].as_str().unwrap_or_default().to_owned();
                let resources = object_mut(object_mut(container).entry("resources").or_insert(Value::Null));
                for (field, what, defaults) in
                    [("requests", "request", &default_requests), ("limits", "limit", &default_limits)]
                {
                    let names = complete(resources, field, defaults);
                    if !names.is_empty() {
                        added.push(format!("{} {what} for {word} {name}", names.join(", ")));
                    }
                }
            }
        }
        if !added.is_empty() {
            let annotations = object_mut(pod.meta_mut().entry("annotations").or_insert(Value::Null));
            annotations.insert(ANNOTATION.into(), json!(format!("LimitRanger plugin set: {}", added.join("; "))));
        }
    }
}

/// Adds what is not there; returns the names of what it added.
fn complete(resources: &mut Map<String, Value>, field: &str, defaults: &Amounts) -> Vec<String> {
    let known = resources.get(field).and_then(Value::as_object).cloned().unwrap_or_default();
    let missing: Amounts = defaults.clone().into_iter().filter(|(name, _)| !known.contains_key(name)).collect();
    if let (false, Value::Object(missing)) = (missing.is_empty(), amounts::write(&missing)) {
        object_mut(resources.entry(field).or_insert(Value::Null)).extend(missing);
    }
    missing.into_keys().collect()
}

/// Why a pod or a claim does not fit the ranges of its namespace.
pub(super) fn check(core: &Core, plural: &str, object: &Value) -> Option<String> {
    for range in ranges(core, object.meta_str("namespace")) {
        let faults: Vec<String> = limits(&range).iter().flat_map(|limit| faults(limit, plural, object)).collect();
        match faults.as_slice() {
            [] => {}
            [one] => return Some(one.clone()),
            many => return Some(format!("[{}]", many.join(", "))),
        }
    }
    None
}

fn faults(limit: &Value, plural: &str, object: &Value) -> Vec<String> {
    let kind = limit["type"].as_str().unwrap_or_default();
    let own = |object: &Value| (amounts::read(&object["requests"]), amounts::read(&object["limits"]));
    let list = |field: &str| object["spec"][field].as_array().into_iter().flatten();
    let subjects: Vec<(Amounts, Amounts)> = match (kind, plural) {
        ("Container", "pods") => {
            list("containers").chain(list("initContainers")).map(|container| own(&container["resources"])).collect()
        }
        ("Pod", "pods") => vec![(amounts::of_pod(object, "requests"), amounts::of_pod(object, "limits"))],
        ("PersistentVolumeClaim", "persistentvolumeclaims") => {
            vec![(amounts::read(&object["spec"]["resources"]["requests"]), Amounts::new())]
        }
        _ => Vec::new(),
    };
    let claims = plural == "persistentvolumeclaims";
    let mut faults = Vec::new();
    for (requests, limits) in &subjects {
        for (name, bound) in amounts::read(&limit["min"]) {
            faults.extend(below(kind, &name, bound, requests.get(&name), limits.get(&name)));
        }
        for (name, bound) in amounts::read(&limit["max"]) {
            let (request, limit) = (requests.get(&name), limits.get(&name));
            faults.extend(above(kind, &name, bound, request, if claims { request } else { limit }, claims));
        }
        if !claims {
            for (name, bound) in amounts::read(&limit["maxLimitRequestRatio"]) {
                faults.extend(ratio(kind, &name, bound, requests.get(&name), limits.get(&name)));
            }
        }
    }
    faults
}

fn below(
    kind: &str,
    name: &str,
    bound: Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let head = format!("minimum {name} usage per {kind} is {bound}");
    match (request, limit) {
        (None, _) => Some(format!("{head}.  No request is specified")),
        (Some(request), _) if *request < bound => Some(format!("{head}, but request is {request}")),
        (_, Some(limit)) if *limit < bound => Some(format!("{head}, but limit is {limit}")),
        _ => None,
    }
}

/// `of_requests`: the kind has no limits, its requests are bounded.
fn above(
    kind: &str,
    name: &str,
    bound: Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
    of_requests: bool,
) -> Option<String> {
    let head = format!("maximum {name} usage per {kind} is {bound}");
    let what = if of_requests { "request" } else { "limit" };
    match (limit, request) {
        (None, _) => Some(format!("{head}.  No {what} is specified")),
        (Some(limit), _) if *limit > bound => Some(format!("{head}, but {what} is {limit}")),
        (_, Some(request)) if *request > bound => Some(format!("{head}, but request is {request}")),
        _ => None,
    }
}

fn ratio(
    kind: &str,
    name: &str,
    bound: Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let head = format!("{name} max limit to request ratio per {kind} is {bound}");
    let given = |amount: Option<&Quantity>| amount.filter(|amount| !amount.is_zero()).map(Quantity::nano_value);
    let (Some(request), Some(limit)) = (given(request), given(limit)) else {
        let what = if given(request).is_none() { "request" } else { "limit" };
        return Some(format!("{head}, but no {what} is specified or {what} is 0"));
    };
    let ratio = limit as f64 / request as f64;
    (ratio > bound.nano_value() as f64 / 1e9).then(|| format!("{head}, but provided ratio is {ratio:.6}"))
}
