//! `status` of a VMI, as far as the controller writes it.

use fv_api::meta::{conditions as types, phases::VmiPhase};
use fv_api::{MemoryStatus, Quantity, VirtualMachineInstancePhaseTransitionTimestamp, VirtualMachineInstanceStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::claims;
use super::observe::{ImageFailure, Observed, PodFacts};
use crate::conditions::{self, FALSE};
use crate::plan::failures;

/// Moves to `phase` and notes when.
pub(super) fn enter(status: &mut VirtualMachineInstanceStatus, phase: VmiPhase, now: Timestamp) {
    status.phase = Some(phase.as_str().to_owned());
    status.phase_transition_timestamps.push(VirtualMachineInstancePhaseTransitionTimestamp {
        phase: Some(phase.as_str().to_owned()),
        phase_transition_timestamp: Some(Time(now)),
    });
}

/// Ready, PodScheduled and, while no node holds the VMI, Synchronized.
pub(super) fn fill_conditions(
    observed: &Observed,
    owned: &[&PodFacts],
    status: &mut VirtualMachineInstanceStatus,
    now: Timestamp,
) {
    let all = &mut status.conditions;
    let pod = owned.iter().find(|pod| !pod.is_terminal());
    conditions::set(all, ready(observed, pod.copied()), now);

    match pod.and_then(|pod| pod.scheduled.as_ref()).filter(|scheduled| scheduled.status == FALSE) {
        Some(scheduled) => {
            let mirrored = conditions::new(types::POD_SCHEDULED, FALSE, &scheduled.reason, &scheduled.message);
            conditions::set(all, mirrored, now);
        }
        None => conditions::remove(all, types::POD_SCHEDULED),
    }

    if observed.node().is_none()
        && pod.is_none()
        && !observed.phase().is_final()
        && let Some(missing) = observed.missing_claim()
    {
        conditions::set(all, conditions::new(types::SYNCHRONIZED, FALSE, claims::NOT_FOUND, &missing), now);
        return;
    }
    let image_failure = pod.and_then(|pod| pod.image_failure.as_ref());
    match (&observed.last_failure, image_failure) {
        (Some(failure), _) if observed.node().is_none() => {
            conditions::set(all, conditions::new(types::SYNCHRONIZED, FALSE, failure.reason, &failure.message), now);
        }
        (None, Some(failure)) if observed.node().is_none() => {
            conditions::set(all, conditions::new(types::SYNCHRONIZED, FALSE, &failure.reason, &failure.message), now);
        }
        // Only what was put there above: the rest of this condition is the node agent's.
        (None, _) if pod.is_some() => {
            let ours = [failures::CREATE, failures::DELETE, failures::UPDATE, claims::NOT_FOUND];
            let of_images = if observed.node().is_none() { &ImageFailure::REASONS[..] } else { &[] };
            if conditions::false_reason(all, types::SYNCHRONIZED)
                .is_some_and(|reason| ours.contains(&reason) || of_images.contains(&reason))
            {
                conditions::remove(all, types::SYNCHRONIZED);
            }
        }
        _ => {}
    }
}

fn ready(observed: &Observed, pod: Option<&PodFacts>) -> fv_api::Condition {
    let not = |reason, message| conditions::new(types::READY, FALSE, reason, message);
    let Some(pod) = pod.filter(|_| !observed.phase().is_final()) else {
        return not("PodNotExists", "virt-launcher pod has not yet been scheduled");
    };
    if pod.deleting {
        return not("PodTerminating", "virt-launcher pod is terminating");
    }
    if observed.phase() != VmiPhase::Running {
        return not("GuestNotRunning", "Guest VM is not reported as running");
    }
    match &pod.ready {
        None => not("PodConditionMissing", "virt-launcher pod is missing the Ready condition"),
        Some(ready) if ready.is_true() => {
            conditions::new(types::READY, conditions::TRUE, &ready.reason, &ready.message)
        }
        Some(ready) => conditions::new(types::READY, &ready.status, &ready.reason, &ready.message),
    }
}

/// Which pods stand for the VMI, and what is known from the best of them. Until a node has the VMI, what the pod learns on its
/// way (its node, its class) waits for the write that hands over.
pub(super) fn fill_pods(observed: &Observed, owned: &[&PodFacts], status: &mut VirtualMachineInstanceStatus) {
    let handed_over = status.node_name.is_some();
    let node = |pod: &PodFacts| pod.node.clone().filter(|_| handed_over).unwrap_or_default();
    let present = owned.iter().filter(|pod| !pod.is_terminal());
    status.active_pods = present.map(|pod| (pod.uid.clone(), node(pod))).collect();
    let Some(pod) = owned.first().filter(|pod| pod.is_live()) else { return };
    if handed_over && pod.qos_class.is_some() {
        status.qos_class.clone_from(&pod.qos_class);
    }
    if pod.image.is_some() {
        status.launcher_container_image_version.clone_from(&pod.image);
    }
    let overhead = pod.memory_overhead.as_ref().and_then(|text| text.parse::<i64>().ok());
    if let (None, Some(bytes)) = (observed.node(), overhead) {
        let memory = status.memory.get_or_insert_with(MemoryStatus::default);
        memory.memory_overhead = serde_json::from_value::<Quantity>(bytes.to_string().into()).ok();
    }
}
