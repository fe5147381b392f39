//! Facts about a VMI in, what to do out.

use fv_api::config::ClusterConfig;
use fv_api::meta::{conditions as types, finalizers, labels, phases::VmiPhase};
use fv_api::{VirtualMachineInstance, VirtualMachineInstanceStatus};
use jiff::Timestamp;

use super::observe::{Observed, PodFacts};
use super::{claims, status};
use crate::conditions;
use crate::node::{Fencing, OUT_OF_SERVICE};
use crate::patch::{at_version, typed_merge_patch};
use crate::plan::{EventKind, EventSpec, Guard, Plan, Requeue, StatusKind, StatusWrite};

mod gate;
mod pods;

/// Why a guest ended whose node is off: reason of phase, condition and event.
const NODE_OUT_OF_SERVICE: &str = "NodeOutOfService";

/// Decides about one VMI.
pub fn decide(observed: &Observed, config: &ClusterConfig, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if observed.uid().is_empty() {
        return plan;
    }
    let owned = observed.owned_pods();
    let mut next = Next { vmi: (*observed.vmi).clone(), status: observed.status(), guard: None };
    let phase = observed.phase();
    let fencing = observed.fencing(now);
    if let Fencing::Doubtful(left) = fencing {
        plan.requeue = Requeue::After(left);
    }

    if fencing == Fencing::Proven {
        end_with_node(observed, &mut plan, &mut next, now);
    } else if observed.deleting() || phase.is_final() {
        if observed.is_released() {
            release(observed, &owned, &mut plan, &mut next, now);
            if !owned.is_empty() {
                // The last write tells it all; nobody waits for how the pod is going.
                return plan;
            }
        }
    } else if observed.node().is_none() && matches!(phase, VmiPhase::Unset | VmiPhase::Pending | VmiPhase::Scheduling) {
        place(observed, &owned, config, &mut plan, &mut next, now);
    } else if observed.node().is_some() {
        keep_represented(observed, &owned, config, &mut plan, &mut next);
    }

    status::fill_conditions(observed, &owned, &mut next.status, now);
    status::fill_pods(observed, &owned, &mut next.status);
    mark_outdated(&mut next, config);
    plan.effects.extend(gate::steps(observed, &owned, now));
    let creating = plan.effects.iter().any(|step| matches!(step.effect, crate::Effect::CreatePod(_)));
    if !creating || observed.last_failure.is_some() {
        // While a pod is being made its watch event comes next, and with it a status worth writing.
        write(observed, next, &mut plan);
    }
    plan
}

/// The VMI as it should be, with what to check before writing it.
struct Next {
    vmi: VirtualMachineInstance,
    status: VirtualMachineInstanceStatus,
    guard: Option<Guard>,
}

impl Next {
    fn enter(&mut self, phase: VmiPhase, now: Timestamp) {
        status::enter(&mut self.status, phase, now);
    }
}

/// Before a node has it: make the pod, follow it until its containers are ready, hand over.
fn place(
    observed: &Observed,
    owned: &[&PodFacts],
    config: &ClusterConfig,
    plan: &mut Plan,
    next: &mut Next,
    now: Timestamp,
) {
    let Some(pod) = owned.first() else {
        if observed.phase() == VmiPhase::Scheduling {
            fail(next, "LauncherPodGone", now);
            // A cache that lags behind must not end a VMI.
            next.guard = Some(Guard::NoPodOf { vmi_uid: observed.uid().to_owned() });
        } else if let Some(missing) = observed.missing_claim() {
            plan.events.extend(pods::waits(observed, missing));
        } else {
            plan.effects.push(pods::create(observed, config, None));
        }
        return;
    };
    if pod.is_terminal() {
        fail(next, "LauncherPodEnded", now);
        return;
    }
    ensure_finalizer(&mut next.vmi);
    claims::fill(observed, &mut next.status);
    match &pod.node {
        Some(node) if pod.is_live() && pod.containers_ready && observed.claims_are_bound() => {
            next.enter(VmiPhase::Scheduled, now);
            next.status.node_name = Some(node.clone());
            next.status.migration_transport = Some("Unix".to_owned());
            next.vmi.metadata.labels.get_or_insert_default().insert(labels::NODE_NAME.to_owned(), node.clone());
        }
        _ if observed.phase() != VmiPhase::Scheduling => next.enter(VmiPhase::Scheduling, now),
        _ => {}
    }
    for surplus in owned.iter().skip(1).filter(|pod| pod.is_live()) {
        plan.effects.push(pods::delete(observed, surplus));
    }
}

fn fail(next: &mut Next, reason: &str, now: Timestamp) {
    next.enter(VmiPhase::Failed, now);
    next.status.reason = Some(reason.to_owned());
}

/// A node has it: there is always one live pod, on that node. Ended ones and surplus ones go once there is. When its pod is evicted
/// the guest has to leave: that is written into the VMI, where it outlives the pod, and the node shuts the guest down.
fn keep_represented(
    observed: &Observed,
    owned: &[&PodFacts],
    config: &ClusterConfig,
    plan: &mut Plan,
    next: &mut Next,
) {
    if observed.is_leaving() {
        return;
    }
    let evicted = owned.iter().find(|pod| pod.evicted && pod.node.as_deref() == observed.node());
    if let Some(pod) = evicted {
        next.status.evacuation_node_name = observed.node().map(str::to_owned);
        plan.events.push(EventSpec {
            about: observed.about(),
            kind: EventKind::Normal,
            reason: "Evicted",
            message: format!("Pod {} was evicted: the guest is shut down to leave its node", pod.key.name),
        });
        return;
    }
    match owned.first() {
        Some(pod) if pod.is_live() => {
            for extra in owned.iter().skip(1).filter(|pod| !pod.deleting) {
                plan.effects.push(pods::delete(observed, extra));
            }
        }
        _ => plan.effects.push(pods::create(observed, config, observed.node())),
    }
}

/// Its node is off, and with it the guest. What the agent would say is said in its place, where it outlives the taint; then the instance goes
/// like any other that has ended, and its VM may start elsewhere.
fn end_with_node(observed: &Observed, plan: &mut Plan, next: &mut Next, now: Timestamp) {
    let node = observed.node().unwrap_or_default();
    let message =
        format!("node {node} is off, as its taint {OUT_OF_SERVICE} says: nothing of the guest runs there any more");
    if !observed.phase().is_final() {
        fail(next, NODE_OUT_OF_SERVICE, now);
    }
    let deleted = conditions::new(types::DOMAIN_DELETED, conditions::TRUE, NODE_OUT_OF_SERVICE, &message);
    conditions::set(&mut next.status.conditions, deleted, now);
    next.guard = Some(Guard::NodeIsOff { name: node.to_owned(), now });
    plan.events.push(EventSpec {
        about: observed.about(),
        kind: EventKind::Warning,
        reason: NODE_OUT_OF_SERVICE,
        message,
    });
}

/// Nothing of the guest is left anywhere: pods first, the finalizer when they are gone.
fn release(observed: &Observed, owned: &[&PodFacts], plan: &mut Plan, next: &mut Next, now: Timestamp) {
    for pod in owned.iter().filter(|pod| !pod.deleting || pods::waits_in_vain(observed, pod)) {
        plan.effects.push(pods::delete(observed, pod));
    }
    if !owned.is_empty() {
        return;
    }
    if !observed.phase().is_final() && observed.node().is_none() {
        next.enter(VmiPhase::Failed, now);
    }
    let ours =
        [finalizers::VIRTUAL_MACHINE_INSTANCE, finalizers::VIRTUAL_MACHINE_INSTANCE_OLD, finalizers::VIRTUAL_MACHINE];
    if let Some(held) = &mut next.vmi.metadata.finalizers {
        let before = held.len();
        held.retain(|finalizer| !ours.contains(&finalizer.as_str()));
        if held.len() != before {
            // Pods may exist that the cache has not seen yet.
            next.guard = Some(Guard::NoPodOf { vmi_uid: observed.uid().to_owned() });
        }
    }
}

fn ensure_finalizer(vmi: &mut VirtualMachineInstance) {
    let held = vmi.metadata.finalizers.get_or_insert_default();
    let known = [finalizers::VIRTUAL_MACHINE_INSTANCE, finalizers::VIRTUAL_MACHINE_INSTANCE_OLD];
    if !held.iter().any(|finalizer| known.contains(&finalizer.as_str())) {
        held.push(finalizers::VIRTUAL_MACHINE_INSTANCE.to_owned());
    }
}

/// Tells those who bring machines up to date which have a launcher of another image than a new one would have. Its guest misses nothing.
fn mark_outdated(next: &mut Next, config: &ClusterConfig) {
    let image = next.status.launcher_container_image_version.as_deref().unwrap_or_default();
    let is_final = VmiPhase::parse(next.status.phase.as_deref()).is_final();
    let all = &mut next.vmi.metadata.labels;
    if !is_final && !image.is_empty() && image != config.launcher_image {
        all.get_or_insert_default().entry(labels::OUTDATED_LAUNCHER_IMAGE.to_owned()).or_default();
    } else if let Some(all) = all {
        all.remove(labels::OUTDATED_LAUNCHER_IMAGE);
    }
}

fn write(observed: &Observed, next: Next, plan: &mut Plan) {
    let old = VirtualMachineInstance { status: Some(observed.status()), ..(*observed.vmi).clone() };
    let new = VirtualMachineInstance { status: Some(next.status), ..next.vmi };
    let Some(patch) = typed_merge_patch(&old, &new) else { return };
    let resource_version = observed.vmi.metadata.resource_version.clone().unwrap_or_default();
    plan.status = Some(StatusWrite {
        kind: StatusKind::Vmi,
        key: observed.key(),
        patch: at_version(patch, &resource_version),
        resource_version,
        guard: next.guard,
    });
}

/// Whether the guest's CPUs stand still.
fn is_paused(observed: &Observed) -> bool {
    observed.condition_true(types::PAUSED)
}
