//! What a disruption budget allows: pods and time in, status out.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

/// An eviction that did not end its pod in this time does not count any more.
pub const DISRUPTION_TIMEOUT: SignedDuration = SignedDuration::from_secs(120);
const ALLOWED: &str = "DisruptionAllowed";

/// The status of a budget that guards these pods.
pub fn status(budget: &PodDisruptionBudget, pods: &[&Pod], now: Timestamp) -> PodDisruptionBudgetStatus {
    let before = budget.status.clone().unwrap_or_default();
    let pods: Vec<&Pod> = pods.iter().copied().filter(|pod| !ended(pod)).collect();
    let disrupted = disrupted(&before, &pods, now);
    let expected = count(pods.len());
    let desired = desired(budget, expected);
    let healthy = |pod: &&&Pod| {
        ready(pod) && pod.metadata.deletion_timestamp.is_none() && !disrupted.contains_key(&pod.name_any())
    };
    let current = count(pods.iter().filter(healthy).count());
    let allowed = if expected > 0 { (current - desired).max(0) } else { 0 };
    PodDisruptionBudgetStatus {
        conditions: Some(conditions(budget, &before, allowed, now)),
        current_healthy: current,
        desired_healthy: desired,
        disrupted_pods: Some(disrupted).filter(|pods| !pods.is_empty()),
        disruptions_allowed: allowed,
        expected_pods: expected,
        observed_generation: budget.metadata.generation,
    }
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Evicted pods that are still there and not known to go: the API server took a disruption for each.
fn disrupted(before: &PodDisruptionBudgetStatus, pods: &[&Pod], now: Timestamp) -> BTreeMap<String, Time> {
    let waits = |name: &String, since: &Time| {
        let there = pods.iter().any(|pod| pod.name_any() == *name && pod.metadata.deletion_timestamp.is_none());
        there && now.duration_since(since.0) < DISRUPTION_TIMEOUT
    };
    let all = before.disrupted_pods.iter().flatten();
    all.filter(|(name, since)| waits(name, since)).map(|(name, since)| (name.clone(), since.clone())).collect()
}

/// How many must stay healthy. There is no kind here that says how many pods it wants, so what is there is what is expected.
fn desired(budget: &PodDisruptionBudget, expected: i32) -> i32 {
    let spec = budget.spec.clone().unwrap_or_default();
    match (spec.max_unavailable, spec.min_available) {
        (Some(most), _) => (expected - scaled(&most, expected)).max(0),
        (None, Some(least)) => scaled(&least, expected),
        (None, None) => 0,
    }
}

/// A number, or a share rounded up.
fn scaled(value: &IntOrString, whole: i32) -> i32 {
    match value {
        IntOrString::Int(number) => *number,
        IntOrString::String(percent) => {
            let percent: i64 = percent.trim_end_matches('%').parse().unwrap_or_default();
            let share = (i64::from(whole) * percent + 99) / 100;
            i32::try_from(share).unwrap_or(i32::MAX)
        }
    }
}

fn conditions(
    budget: &PodDisruptionBudget,
    before: &PodDisruptionBudgetStatus,
    allowed: i32,
    now: Timestamp,
) -> Vec<Condition> {
    let mut conditions = before.conditions.clone().unwrap_or_default();
    let (status, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let known = conditions.iter().find(|known| known.type_ == ALLOWED && known.status == status);
    let since = known.map_or(Time(now), |known| known.last_transition_time.clone());
    conditions.retain(|known| known.type_ != ALLOWED);
    conditions.push(Condition {
        type_: ALLOWED.into(),
        status: status.into(),
        reason: reason.into(),
        message: String::new(),
        last_transition_time: since,
        observed_generation: budget.metadata.generation,
    });
    conditions
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
        let value = json!({"metadata": {"name": "b", "generation": 3}, "spec": spec, "status": status});
        serde_json::from_value(value).unwrap()
    }

    fn pods(ready: usize, unready: usize) -> Vec<Pod> {
        let pod = |n: usize, status: &str| {
            serde_json::from_value(json!({"metadata": {"name": format!("p{n}")}, "status": {"phase": "Running",
                "conditions": [{"type": "Ready", "status": status}]}}))
            .unwrap()
        };
        (0..ready).map(|n| pod(n, "True")).chain((ready..ready + unready).map(|n| pod(n, "False"))).collect()
    }

    fn allowed(spec: Value, pods: &[Pod]) -> (i32, i32) {
        let all: Vec<&Pod> = pods.iter().collect();
        let status = status(&budget(spec, none()), &all, Timestamp::UNIX_EPOCH);
        (status.desired_healthy, status.disruptions_allowed)
    }

    fn none() -> Value {
        json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0})
    }

    #[test]
    fn what_is_healthy_beyond_what_must_stay_may_be_disrupted() {
        assert_eq!(allowed(json!({"minAvailable": 2}), &pods(3, 1)), (2, 1));
        assert_eq!(allowed(json!({"minAvailable": 1}), &pods(0, 1)), (1, 0));
        assert_eq!(allowed(json!({"minAvailable": "50%"}), &pods(3, 0)), (2, 1), "rounded up");
        assert_eq!(allowed(json!({"maxUnavailable": 1}), &pods(3, 0)), (2, 1));
        assert_eq!(allowed(json!({"maxUnavailable": 1}), &pods(2, 1)), (2, 0), "one is unavailable already");
        assert_eq!(allowed(json!({"maxUnavailable": 1}), &[]), (0, 0), "nothing to disrupt");
    }

    #[test]
    fn an_evicted_pod_counts_as_gone_until_it_is_or_should_have_been() {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1000);
        let of = |seconds: i64| {
            let at = now - SignedDuration::from_secs(seconds);
            let mut before = none();
            before["disruptedPods"] = json!({"p0": at.to_string(), "other": at.to_string()});
            let all = pods(2, 0);
            status(&budget(json!({"minAvailable": 1}), before), &all.iter().collect::<Vec<_>>(), now)
        };
        let fresh = of(5);
        assert_eq!((fresh.current_healthy, fresh.disruptions_allowed), (1, 0));
        assert_eq!(fresh.disrupted_pods.unwrap().into_keys().collect::<Vec<_>>(), ["p0"]);
        let late = of(500);
        assert_eq!((late.current_healthy, late.disrupted_pods), (2, None));
    }

    #[test]
    fn the_condition_keeps_its_time_while_it_holds() {
        let old = json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0,
            "conditions": [{"type": ALLOWED, "status": "True", "reason": "x", "message": "",
                "lastTransitionTime": "2020-01-01T00:00:00Z"}]});
        let since = |ready: usize| {
            let all = pods(ready, 0);
            let budget = budget(json!({"minAvailable": 1}), old.clone());
            let status = status(&budget, &all.iter().collect::<Vec<_>>(), Timestamp::UNIX_EPOCH);
            let condition = status.conditions.unwrap().remove(0);
            (condition.status, condition.last_transition_time.0.to_string())
        };
        assert_eq!(since(2), ("True".into(), "2020-01-01T00:00:00Z".into()));
        assert_eq!(since(1), ("False".into(), "1970-01-01T00:00:00Z".into()));
    }
}
