//! `status` of a VM.

use std::time::Duration;

use fv_api::meta::{annotations, conditions as types, phases::VmiPhase};
use fv_api::{Condition, VirtualMachineInstanceStatus, VirtualMachineStatus};
use jiff::Timestamp;

use super::observe::{Instance, Observed, RunStrategy};
use super::template;
use crate::conditions::{self, FALSE, TRUE};
use crate::plan::failures;

/// Conditions of the VM itself; all others are the instance's, copied.
const OWN: [&str; 4] = [types::READY, types::FAILURE, types::RESTART_REQUIRED, "ManualRecoveryRequired"];
/// Conditions of the instance that mean nothing on the VM: the instance is about to vanish.
const NOT_MIRRORED: [&str; 1] = [types::DOMAIN_DELETED];

/// Fills in everything but the requests and the start failure, which the caller has decided already.
pub(super) fn fill(
    observed: &Observed,
    strategy: RunStrategy,
    instance: Option<&Instance<'_>>,
    start_pending: bool,
    acting: bool,
    status: &mut VirtualMachineStatus,
    now: Timestamp,
) {
    let flag = |set: bool| set.then_some(true);
    status.created = flag(instance.is_some());
    let vmi_status = instance.and_then(|instance| instance.vmi.status.as_ref());
    status.ready = flag(vmi_status.is_some_and(|status| conditions::is_true(&status.conditions, types::READY)));

    // RerunOnFailure starts when it has just been chosen. That stays "just" until the instance is there.
    let keep = strategy == RunStrategy::RerunOnFailure && start_pending;
    if let (false, Some(word)) = (keep, strategy.as_str()) {
        status.run_strategy = Some(word.to_owned());
    }
    fill_generations(observed, instance, status);
    fill_conditions(observed, instance, start_pending, acting, status, now);
    status.printable_status = Some(printable(observed, strategy, instance, start_pending, status).to_owned());
}

/// `desiredGeneration` is the VM's; `observedGeneration` the one the instance runs: the VM's own when the template has not
/// changed since the instance was made, or when there is no instance that could be behind.
fn fill_generations(observed: &Observed, instance: Option<&Instance<'_>>, status: &mut VirtualMachineStatus) {
    let generation = observed.vm.metadata.generation;
    status.desired_generation = generation;
    let Some(instance) = instance else {
        status.observed_generation = generation;
        return;
    };
    let notes = instance.vmi.metadata.annotations.as_ref();
    let started = notes.and_then(|notes| notes.get(annotations::VM_GENERATION)).and_then(|text| text.parse().ok());
    status.observed_generation = match template_differs(observed, instance) {
        Some(false) => generation,
        _ => started.or(status.observed_generation),
    };
}

fn template_differs(observed: &Observed, instance: &Instance<'_>) -> Option<bool> {
    let notes = instance.vmi.metadata.annotations.as_ref();
    let started = notes.and_then(|notes| notes.get(annotations::TEMPLATE_HASH)).map(String::as_str);
    template::differs(started, &template::hash(&observed.vm))
}

fn fill_conditions(
    observed: &Observed,
    instance: Option<&Instance<'_>>,
    start_pending: bool,
    acting: bool,
    status: &mut VirtualMachineStatus,
    now: Timestamp,
) {
    let theirs: &[Condition] = instance.and_then(|i| i.vmi.status.as_ref()).map_or(&[], |status| &status.conditions);
    let mirrored = |type_: &str| !OWN.contains(&type_) && !NOT_MIRRORED.contains(&type_);
    let all = &mut status.conditions;
    all.retain(|held| !mirrored(&held.type_) || theirs.iter().any(|theirs| theirs.type_ == held.type_));
    for condition in theirs.iter().filter(|condition| mirrored(&condition.type_)) {
        match all.iter_mut().find(|held| held.type_ == condition.type_) {
            Some(held) => held.clone_from(condition),
            None => all.push(condition.clone()),
        }
    }

    match (instance, conditions::find(theirs, types::READY)) {
        (None, _) => {
            conditions::set(all, conditions::new(types::READY, FALSE, "VMINotExists", "VMI does not exist"), now)
        }
        (Some(_), None) => {
            let missing =
                conditions::new(types::READY, FALSE, "VMIConditionMissing", "VMI is missing the Ready condition");
            conditions::set(all, missing, now);
        }
        (Some(_), Some(ready)) => match all.iter_mut().find(|held| held.type_ == types::READY) {
            Some(held) => held.clone_from(ready),
            None => all.push(ready.clone()),
        },
    }

    if let Some(failure) = &observed.last_failure {
        conditions::set(all, conditions::new(types::FAILURE, TRUE, failure.reason, &failure.message), now);
    } else if let Some(foreign) = observed.foreign_instance().filter(|_| start_pending) {
        let name = foreign.metadata.name.as_deref().unwrap_or_default();
        let text = format!(
            "virtual machine instance {name} exists and does not belong to this virtual machine; delete or rename one of them"
        );
        conditions::set(all, conditions::new(types::FAILURE, TRUE, failures::CREATE, &text), now);
    } else if !acting {
        conditions::remove(all, types::FAILURE);
    }

    match instance.filter(|instance| instance.is_live()).map(|instance| template_differs(observed, instance)) {
        Some(Some(true)) => {
            let text = "a non-live-updatable field was changed in the template spec";
            conditions::set(all, conditions::new(types::RESTART_REQUIRED, TRUE, "RestartRequired", text), now);
        }
        Some(None) => {}
        Some(Some(false)) | None => conditions::remove(all, types::RESTART_REQUIRED),
    }
}

/// The state in one word: the first line of this list that holds.
fn printable(
    observed: &Observed,
    strategy: RunStrategy,
    instance: Option<&Instance<'_>>,
    start_pending: bool,
    status: &VirtualMachineStatus,
) -> &'static str {
    if observed.deleting() {
        return "Terminating";
    }
    let empty = VirtualMachineInstanceStatus::default();
    let vmi = instance.and_then(|instance| instance.vmi.status.as_ref()).unwrap_or(&empty);
    if let Some(instance) = instance.filter(|instance| !instance.phase.is_final()) {
        let unsynchronized = conditions::false_reason(&vmi.conditions, types::SYNCHRONIZED);
        let running = instance.phase == VmiPhase::Running;
        let migrating = vmi.migration_state.as_ref().is_some_and(|migration| {
            migration.start_timestamp.is_some()
                && migration.end_timestamp.is_none()
                && migration.completed != Some(true)
        });
        let mut claims = vmi.volume_status.iter().filter_map(|volume| volume.persistent_volume_claim_info.as_ref());
        let unbound = claims.any(|claim| claim.capacity.is_empty());
        let unschedulable = conditions::false_reason(&vmi.conditions, types::POD_SCHEDULED) == Some("Unschedulable");
        return match instance.phase {
            _ if instance.deleting => "Stopping",
            _ if running && migrating => "Migrating",
            _ if running && conditions::is_true(&vmi.conditions, types::PAUSED) => "Paused",
            _ if running => "Running",
            _ if unsynchronized == Some("FailedPvcNotFound") => "ErrorPvcNotFound",
            _ if unschedulable => "ErrorUnschedulable",
            _ if conditions::is_true(&vmi.conditions, types::PROVISIONING) => "Provisioning",
            _ if unbound => "WaitingForVolumeBinding",
            _ if unsynchronized == Some("ErrImagePull") => "ErrImagePull",
            _ if unsynchronized == Some("ImagePullBackOff") => "ImagePullBackOff",
            VmiPhase::Unset | VmiPhase::Pending | VmiPhase::Scheduling | VmiPhase::Scheduled => "Starting",
            _ => "Unknown",
        };
    }
    let failed_starts = status.start_failure.as_ref().and_then(|failure| failure.consecutive_fail_count).unwrap_or(0);
    if failed_starts > 0 && strategy.backs_off() {
        "CrashLoopBackOff"
    } else if start_pending && instance.is_none() && observed.foreign_instance().is_none() {
        "Starting"
    } else {
        "Stopped"
    }
}

/// How long the change from `old` to `new` may wait: some time when it only concerns copied conditions of an instance that
/// has just moved on and will move on again soon; `None` when it is to be written now.
pub(super) fn mirror_may_wait(
    old: &VirtualMachineStatus,
    new: &VirtualMachineStatus,
    instance: Option<&Instance<'_>>,
    now: Timestamp,
    patience: Duration,
) -> Option<Duration> {
    let instance = instance.filter(|instance| instance.is_live() && instance.phase != VmiPhase::Running)?;
    let essence = |status: &VirtualMachineStatus| VirtualMachineStatus { conditions: Vec::new(), ..status.clone() };
    let urgent = |status: &VirtualMachineStatus| -> Vec<_> {
        let words = |c: &Condition| (c.type_.clone(), c.status.clone());
        status.conditions.iter().filter(|c| OWN.contains(&c.type_.as_str())).map(words).collect()
    };
    if essence(old) != essence(new) || urgent(old) != urgent(new) {
        return None;
    }
    let steps = instance.vmi.status.iter().flat_map(|status| &status.phase_transition_timestamps);
    let moved = steps.filter_map(|step| step.phase_transition_timestamp.as_ref()).map(|time| time.0).max()?;
    // A clock that went backwards must not make this wait long.
    let since = Duration::try_from(now.duration_since(moved)).unwrap_or(patience);
    patience.checked_sub(since).filter(|left| !left.is_zero())
}
