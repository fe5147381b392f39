//! Facts about a VM in, what to do out.

use std::time::Duration;

use fv_api::config::ClusterConfig;
use fv_api::meta::finalizers;
use fv_api::{VirtualMachineStateChangeRequest, VirtualMachineStatus};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::build::{self, StartPaused};
use super::observe::{Instance, Observed, RunStrategy};
use super::{backoff, status};
use crate::patch::{at_version, typed_merge_patch};
use crate::plan::{
    DeleteIntent, Effect, EventKind, EventSpec, ObjectKey, Plan, Requeue, StatusKind, StatusWrite, Step, failures,
};

mod requests;
mod strategy;

use requests::START;
use strategy::Action;

/// How long changes that only concern mirrored conditions of a starting instance may wait, to be written together with the
/// next change that matters.
const MIRROR_DELAY: Duration = Duration::from_secs(2);

/// Decides about one VM.
pub fn decide(observed: &Observed, _config: &ClusterConfig, now: Timestamp) -> Plan {
    let instance = observed.instance();
    if observed.deleting() {
        return decide_deletion(observed, instance.as_ref(), now);
    }
    if let Some(adopt) = ensure_finalizer(observed) {
        return Plan { effects: vec![adopt], ..Plan::default() };
    }

    let strategy = RunStrategy::of(&observed.vm);
    let mut new_status = observed.status();
    new_status.state_change_requests =
        requests::pending(&new_status.state_change_requests, strategy, instance.as_ref());
    new_status.start_failure = backoff::start_failure(observed, strategy, instance.as_ref(), now);

    let action = strategy::choose(strategy, &new_status, instance.as_ref(), now);
    let mut plan = Plan::default();
    // What must not be forgotten goes first: these facts vanish with the instance.
    let mut must_write_first = failure_is_news(observed, &new_status);
    match action {
        Action::Nothing => {}
        Action::Wait(left) => plan.requeue = Requeue::After(left),
        Action::Create { paused } if observed.foreign_instance().is_none() => {
            plan.effects.push(create_step(observed, paused));
        }
        // Somebody else's instance has the name; the Failure condition says so.
        Action::Create { .. } => {}
        Action::Delete => {
            if let Some(instance) = &instance {
                plan.effects.push(delete_step(observed, instance));
            }
        }
        Action::QueueStart => {
            new_status
                .state_change_requests
                .push(VirtualMachineStateChangeRequest { action: START.to_owned(), ..Default::default() });
            must_write_first = true;
        }
        Action::BecomeAlways => plan.effects.push(become_always(observed)),
    }

    let start_pending = matches!(action, Action::Create { .. } | Action::Wait(_));
    status::fill(observed, strategy, instance.as_ref(), start_pending, !plan.effects.is_empty(), &mut new_status, now);
    if must_write_first {
        plan.effects.clear();
    } else if !plan.effects.is_empty() && observed.last_failure.is_none() {
        // The effect's own watch event comes next, and with it a status worth writing.
        return plan;
    }
    write_status(observed, instance.as_ref(), new_status, now, &mut plan);
    plan
}

/// A VM being deleted takes its instance with it, waits until it is gone and lets go.
fn decide_deletion(observed: &Observed, instance: Option<&Instance<'_>>, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let held = observed.vm.metadata.finalizers.as_deref().unwrap_or_default();
    let orphan = held.iter().any(|finalizer| finalizer == "orphan");
    if let Some(instance) = instance.filter(|_| !orphan) {
        if !instance.deleting {
            plan.effects.push(delete_step(observed, instance));
            if observed.last_failure.is_none() {
                return plan;
            }
        }
        let mut new_status = observed.status();
        let strategy = RunStrategy::of(&observed.vm);
        status::fill(observed, strategy, Some(instance), false, true, &mut new_status, now);
        write_status(observed, Some(instance), new_status, now, &mut plan);
        return plan;
    }
    if held.iter().any(|finalizer| finalizer == finalizers::VIRTUAL_MACHINE) {
        let kept: Vec<&String> = held.iter().filter(|finalizer| *finalizer != finalizers::VIRTUAL_MACHINE).collect();
        plan.effects.push(patch_vm(
            observed,
            json!({"metadata": {"finalizers": kept}}),
            "Error removing the finalizer",
        ));
    }
    plan
}

fn ensure_finalizer(observed: &Observed) -> Option<Step> {
    let mut held = observed.vm.metadata.finalizers.clone().unwrap_or_default();
    if held.iter().any(|finalizer| finalizer == finalizers::VIRTUAL_MACHINE) {
        return None;
    }
    held.push(finalizers::VIRTUAL_MACHINE.to_owned());
    Some(patch_vm(observed, json!({"metadata": {"finalizers": held}}), "Error adding the finalizer"))
}

/// A start request on a halted VM (a paused start) turns the VM on for good.
fn become_always(observed: &Observed) -> Step {
    let spec = if observed.vm.spec.run_strategy.is_some() {
        json!({"runStrategy": "Always"})
    } else {
        json!({"running": true})
    };
    patch_vm(observed, json!({"spec": spec}), "Error changing the run strategy")
}

fn patch_vm(observed: &Observed, patch: Value, failed_text: &str) -> Step {
    let resource_version = observed.resource_version().to_owned();
    Step {
        effect: Effect::PatchVm { key: observed.key(), patch: at_version(patch, &resource_version), resource_version },
        done: Vec::new(),
        failed: failures::UPDATE,
        failed_text: failed_text.to_owned(),
        about: observed.about(),
    }
}

fn create_step(observed: &Observed, paused: StartPaused) -> Step {
    let name = observed.key().name;
    Step {
        effect: Effect::CreateVmi(Box::new(build::instance(&observed.vm, paused))),
        done: vec![EventSpec {
            about: observed.about(),
            kind: EventKind::Normal,
            reason: "SuccessfulCreate",
            message: format!("Started the virtual machine by creating the new virtual machine instance {name}"),
        }],
        failed: failures::CREATE,
        failed_text: format!("Error creating virtual machine instance {name}"),
        about: observed.about(),
    }
}

fn delete_step(observed: &Observed, instance: &Instance<'_>) -> Step {
    let name = observed.key().name;
    Step {
        effect: Effect::DeleteVmi {
            key: ObjectKey::of(instance.vmi),
            uid: instance.uid.to_owned(),
            intent: DeleteIntent {
                vm_uid: observed.uid().to_owned(),
                vm_resource_version: observed.resource_version().to_owned(),
            },
        },
        done: vec![EventSpec {
            about: observed.about(),
            kind: EventKind::Normal,
            reason: "SuccessfulDelete",
            message: format!("Stopped the virtual machine by deleting the virtual machine instance {name}"),
        }],
        failed: failures::DELETE,
        failed_text: format!("Error deleting virtual machine instance {name}"),
        about: observed.about(),
    }
}

/// Whether a failed start was counted just now and nobody else knows it yet.
fn failure_is_news(observed: &Observed, new_status: &VirtualMachineStatus) -> bool {
    let old = observed.vm.status.as_ref().and_then(|status| status.start_failure.as_ref());
    new_status.start_failure.is_some() && new_status.start_failure.as_ref() != old
}

fn write_status(
    observed: &Observed,
    instance: Option<&Instance<'_>>,
    new_status: VirtualMachineStatus,
    now: Timestamp,
    plan: &mut Plan,
) {
    let old = observed.status();
    let Some(patch) = typed_merge_patch(&old, &new_status) else { return };
    if let Some(left) = status::mirror_may_wait(&old, &new_status, instance, now, MIRROR_DELAY) {
        if plan.requeue == Requeue::OnChange {
            plan.requeue = Requeue::After(left);
        }
        return;
    }
    let resource_version = observed.resource_version().to_owned();
    plan.status = Some(StatusWrite {
        kind: StatusKind::Vm,
        key: observed.key(),
        patch: at_version(json!({"status": patch}), &resource_version),
        resource_version,
        guard: None,
    });
}
