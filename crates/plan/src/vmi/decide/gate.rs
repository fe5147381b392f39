//! The pod's readiness gate: a pod is ready while its guest runs and is not paused.

use fv_api::meta::{conditions as types, phases::VmiPhase};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::is_paused;
use crate::conditions::{FALSE, TRUE};
use crate::plan::{Effect, Step, failures};
use crate::vmi::observe::{Observed, PodFacts};

/// Brings the gate of the pod that stands for the VMI in line. Nothing is said before the guest runs: no gate, not ready.
pub(super) fn steps(observed: &Observed, owned: &[&PodFacts], now: Timestamp) -> Vec<Step> {
    if observed.phase() != VmiPhase::Running || observed.deleting() {
        return Vec::new();
    }
    let (status, reason, message) = if is_paused(observed) {
        (FALSE, "Paused", "the virtual machine is paused")
    } else {
        (TRUE, "NotPaused", "the virtual machine is not paused")
    };
    let stale = |pod: &&&PodFacts| pod.is_live() && pod.gate.as_ref().is_none_or(|(_, word)| word != status);
    let value = json!({
        "type": types::POD_VM_UNPAUSED, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": Time(now),
    });
    owned
        .first()
        .into_iter()
        .filter(stale)
        .map(|pod| {
            let change = match &pod.gate {
                Some((index, _)) => {
                    json!({"op": "replace", "path": format!("/status/conditions/{index}"), "value": value})
                }
                None if pod.has_conditions => json!({"op": "add", "path": "/status/conditions/-", "value": value}),
                None => json!({"op": "add", "path": "/status/conditions", "value": [value]}),
            };
            let same = json!({"op": "test", "path": "/metadata/resourceVersion", "value": pod.resource_version});
            Step {
                effect: Effect::PatchPodStatus { key: pod.key.clone(), patch: json!([same, change]) },
                done: Vec::new(),
                failed: failures::UPDATE,
                failed_text: format!("Error updating the readiness gate of pod {}", pod.key.name),
                about: observed.about(),
            }
        })
        .collect()
}
