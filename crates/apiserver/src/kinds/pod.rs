//! Pods.

use serde_json::{Map, Value, json};

use crate::meta::{object_mut, timestamp};
use crate::schema::Cause;

const DEFAULT_GRACE: i64 = 30;

pub(super) fn prepare_create(object: &mut Value) {
    // The plugin DefaultTolerationSeconds.
    tolerate(object_mut(object_mut(object).entry("spec").or_insert(Value::Null)));
    object_mut(object).insert("status".into(), json!({"phase": "Pending"}));
}

/// What follows from the final requests and limits of a new pod.
pub(super) fn complete(object: &mut Value) {
    let class = qos_class(object);
    object_mut(object_mut(object).entry("status").or_insert(Value::Null)).insert("qosClass".into(), json!(class));
}

/// Sets a condition; its time changes only with its status. `why` is a reason and a message.
pub(crate) fn set_condition(pod: &mut Value, kind: &str, status: &str, why: Option<(&str, &str)>) {
    let conditions = object_mut(object_mut(pod).entry("status").or_insert(Value::Null))
        .entry("conditions")
        .or_insert_with(|| json!([]));
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(conditions) = conditions.as_array_mut() else { return };
    let known = conditions.iter_mut().find(|c| c["type"] == kind);
    if known.as_ref().is_some_and(|c| c["status"] == status) {
        return;
    }
    let mut condition = json!({
        "type": kind, "status": status, "lastProbeTime": null,
        "lastTransitionTime": timestamp(jiff::Timestamp::now()),
    });
    if let Some((reason, message)) = why {
        condition["reason"] = json!(reason);
        condition["message"] = json!(message);
    }
    match known {
        Some(known) => *known = condition,
        None => conditions.push(condition),
    }
}

/// The same plugin completes an update, so that what made a pod can also replace it.
pub(super) fn prepare_update(new: &mut Value) {
    tolerate(object_mut(object_mut(new).entry("spec").or_insert(Value::Null)));
}

/// A pod stays five minutes on a node that is not well, unless it says otherwise.
fn tolerate(spec: &mut Map<String, Value>) {
    let list = spec.entry("tolerations").or_insert(json!([]));
    let Some(list) = list.as_array_mut() else { return };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let covered = list.iter().any(|t| {
            let text = |field: &str| t.get(field).and_then(Value::as_str).unwrap_or_default();
            (text("key") == key || text("key").is_empty()) && matches!(text("effect"), "" | "NoExecute")
        });
        if !covered {
            list.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}));
        }
    }
}

/// Of what a pod may have more or less of while it lives: tolerations are only added, scheduling gates only removed.
pub(super) fn check_update(new: &Value, old: &Value) -> Vec<Cause> {
    let list = |pod: &Value, field: &str| {
        pod.pointer(&format!("/spec/{field}")).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let mut causes = Vec::new();
    let tolerations: Vec<Value> = list(new, "tolerations").iter().map(lasting).collect();
    if list(old, "tolerations").iter().any(|toleration| !tolerations.contains(&lasting(toleration))) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        causes.push(Cause::forbidden("spec.tolerations", detail));
    }
    let before = list(old, "schedulingGates");
    let known = |gate: &Value| before.iter().any(|known| known["name"] == gate["name"]);
    for (n, gate) in list(new, "schedulingGates").iter().enumerate().filter(|(_, gate)| !known(gate)) {
        let name = gate["name"].as_str().unwrap_or_default();
        let detail = format!("only deletion is allowed, but found new scheduling gate '{name}'");
        causes.push(Cause::forbidden(format!("spec.schedulingGates[{n}].name"), &detail));
    }
    causes
}

/// What of a toleration stays as it is; an empty text is as good as none.
fn lasting(toleration: &Value) -> Value {
    let fields = toleration.as_object().into_iter().flatten();
    let said = |value: &Value| !value.is_null() && value.as_str() != Some("");
    fields
        .filter(|(field, value)| *field != "tolerationSeconds" && said(value))
        .map(|(field, value)| (field.clone(), value.clone()))
        .collect::<Map<_, _>>()
        .into()
}

/// The grace period of a deletion: nothing runs yet, or any more, before binding and after the end.
pub(super) fn grace_period(requested: Option<i64>, pod: &Value) -> i64 {
    let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    if text("/spec/nodeName").is_empty() || matches!(text("/status/phase"), "Succeeded" | "Failed") {
        return 0;
    }
    let own = pod.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_i64);
    let grace = requested.or(own).unwrap_or(DEFAULT_GRACE);
    if grace < 0 { 1 } else { grace }
}

/// The quality of service: from requests and limits of CPU and memory.
fn qos_class(pod: &Value) -> &'static str {
    let containers = ["/spec/containers", "/spec/initContainers"]
        .iter()
        .filter_map(|list| pod.pointer(list).and_then(Value::as_array))
        .flatten();
    let (mut any, mut guaranteed) = (false, true);
    for container in containers {
        let empty = Map::new();
        let part = |name: &str| {
            let part = container.pointer(&format!("/resources/{name}")).and_then(Value::as_object);
            part.unwrap_or(&empty).clone()
        };
        let (requests, limits) = (part("requests"), part("limits"));
        for resource in ["cpu", "memory"] {
            any |= requests.contains_key(resource) || limits.contains_key(resource);
            let limit = limits.get(resource);
            guaranteed &= limit.is_some() && requests.get(resource).is_none_or(|r| Some(r) == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qos_follows_requests_and_limits() {
        let pod = |resources: Value| json!({"spec": {"containers": [{"resources": resources}]}});
        for (resources, class) in [
            (json!({}), "BestEffort"),
            (json!({"requests": {"cpu": "1"}}), "Burstable"),
            (json!({"limits": {"cpu": "1", "memory": "1Gi"}}), "Guaranteed"),
            (json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Mi"}}), "Burstable"),
            (json!({"requests": {"ephemeral-storage": "1Gi"}}), "BestEffort"),
        ] {
            assert_eq!(qos_class(&pod(resources.clone())), class, "{resources}");
        }
    }

    #[test]
    fn grace_is_for_running_pods_only() {
        let bound =
            json!({"spec": {"nodeName": "n", "terminationGracePeriodSeconds": 7}, "status": {"phase": "Running"}});
        assert_eq!(grace_period(None, &bound), 7);
        assert_eq!(grace_period(Some(0), &bound), 0);
        assert_eq!(grace_period(Some(-1), &bound), 1);
        assert_eq!(grace_period(Some(5), &json!({"spec": {}})), 0);
        let ended = json!({"spec": {"nodeName": "n"}, "status": {"phase": "Failed"}});
        assert_eq!(grace_period(Some(5), &ended), 0);
    }
}
