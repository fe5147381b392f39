//! start, stop and restart of a VirtualMachine: pure decisions from what the API holds to patches. The order of the tests and
//! the texts are upstream's, typing errors included: clients match them.

mod request;
#[cfg(test)]
mod tests;

use fv_api::meta::phases::VmiPhase;
use fv_api::{RestartOptions, StartOptions, StopOptions, VirtualMachine, VirtualMachineInstance};
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::error::{ApiError, VM};
use request::{Action, change_requests};

/// One write to the API: the fields of the spec or status to merge in. Whoever carries it out adds the UID and resource version of
/// the object that was decided on, so that it takes effect on that state or not at all.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    VmSpec(Value),
    VmStatus(Value),
    VmiSpec(Value),
}

/// The run strategy in force: `running` is the old way to say it.
pub fn run_strategy(vm: &VirtualMachine) -> &str {
    match (vm.spec.run_strategy.as_deref(), vm.spec.running) {
        (Some(strategy), _) => strategy,
        (None, Some(true)) => "Always",
        (None, Some(false) | None) => "Halted",
    }
}

fn phase(vmi: &VirtualMachineInstance) -> VmiPhase {
    VmiPhase::parse(vmi.status.as_ref().and_then(|s| s.phase.as_deref()))
}

fn live(vmi: Option<&VirtualMachineInstance>) -> Option<&VirtualMachineInstance> {
    vmi.filter(|v| !phase(v).is_final())
}

fn refuse<T>(vm: &VirtualMachine, why: &str) -> Result<T, ApiError> {
    Err(ApiError::conflict(VM, &vm.name_any(), why))
}

/// Changes `running` or `runStrategy`, whichever the VM uses.
fn set_running(vm: &VirtualMachine, running: bool) -> Change {
    let strategy = if running { "Always" } else { "Halted" };
    Change::VmSpec(match &vm.spec.run_strategy {
        Some(_) => json!({"runStrategy": strategy}),
        None => json!({"running": running}),
    })
}

/// What `start` changes.
///
/// # Errors
/// 409 when the VM is running already or its run strategy does not take start requests.
pub fn start(
    vm: &VirtualMachine,
    vmi: Option<&VirtualMachineInstance>,
    options: &StartOptions,
) -> Result<Vec<Change>, ApiError> {
    if live(vmi).is_some_and(|v| !matches!(phase(v), VmiPhase::Unknown | VmiPhase::Unset)) {
        return refuse(vm, "VM is already running");
    }
    let conditions = vm.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    if conditions.iter().any(|c| c.type_ == "ManualRecoveryRequired" && c.status == "True") {
        return refuse(vm, "VM recovery required: condition ManualRecoveryRequired is True");
    }
    let strategy = run_strategy(vm);
    let paused = options.paused == Some(true);
    let begin = Action::Start { paused };
    let mut changes = match (strategy, vmi.map(phase)) {
        ("Halted", _) if paused => vec![change_requests(vm, &[begin])?],
        ("Halted", _) => vec![set_running(vm, true)],
        ("RerunOnFailure", Some(VmiPhase::Failed)) => {
            return refuse(vm, "RerunOnFailure does not support starting VM from failed state");
        }
        ("RerunOnFailure" | "Manual", Some(_)) => {
            let uid = vmi.and_then(ResourceExt::uid).unwrap_or_default();
            vec![change_requests(vm, &[Action::Stop { uid }, begin])?]
        }
        ("RerunOnFailure" | "Manual", None) => vec![change_requests(vm, &[begin])?],
        _ => return refuse(vm, &format!("{strategy} does not support manual start requests")),
    };
    if vm.status.as_ref().is_some_and(|s| s.start_failure.is_some()) {
        changes.push(Change::VmStatus(json!({"startFailure": null})));
    }
    Ok(changes)
}

/// What `stop` changes.
///
/// # Errors
/// 409 when nothing runs, or a halted VM is not asked for a shorter grace period.
pub fn stop(
    vm: &VirtualMachine,
    vmi: Option<&VirtualMachineInstance>,
    options: &StopOptions,
) -> Result<Vec<Change>, ApiError> {
    if let Some(seconds) = options.grace_period
        && seconds < 0
    {
        return Err(ApiError::bad_request(format!("gracePeriod has to be greater or equal to 0, not {seconds}")));
    }
    let mut changes = Vec::new();
    if let (Some(seconds), Some(_)) = (options.grace_period, live(vmi)) {
        changes.push(shorten_grace_period(seconds));
    }
    let request =
        |vmi: &VirtualMachineInstance| change_requests(vm, &[Action::Stop { uid: vmi.uid().unwrap_or_default() }]);
    match run_strategy(vm) {
        "Halted" => {
            let Some(vmi) = live(vmi) else { return refuse(vm, "VM is not running") };
            let current = vmi.spec.termination_grace_period_seconds;
            if options.grace_period.is_none_or(|wanted| current.is_some_and(|now| wanted >= now)) {
                return refuse(vm, "Halted only supports manual stop requests with a shorter graceperiod");
            }
            changes.push(request(vmi)?);
        }
        "RerunOnFailure" | "Manual" => {
            let Some(vmi) = live(vmi) else { return refuse(vm, "VM is not running") };
            changes.push(request(vmi)?);
        }
        _ => changes.push(set_running(vm, false)),
    }
    Ok(changes)
}

/// What `restart` changes.
///
/// # Errors
/// 400 for a grace period other than 0, 409 when the VM is not in a state to be restarted, 500 (as upstream) while another
/// stop or start is under way.
pub fn restart(
    vm: &VirtualMachine,
    vmi: Option<&VirtualMachineInstance>,
    options: &RestartOptions,
) -> Result<Vec<Change>, ApiError> {
    match options.grace_period_seconds {
        Some(seconds) if seconds > 0 => {
            return Err(ApiError::bad_request("For force restart, only gracePeriod=0 is supported for now"));
        }
        Some(seconds) if seconds < 0 => {
            return Err(ApiError::bad_request("gracePeriod has to be greater or equal to 0"));
        }
        Some(_) | None => {}
    }
    let strategy = run_strategy(vm);
    if matches!(strategy, "Halted" | "Once") {
        return refuse(vm, &format!("RunStategy {strategy} does not support manual restart requests"));
    }
    let Some(vmi) = vmi else { return refuse(vm, "VM is not running: Halted") };
    let stop = Action::Stop { uid: vmi.uid().unwrap_or_default() };
    let mut changes = Vec::new();
    if options.grace_period_seconds == Some(0) {
        changes.push(shorten_grace_period(1));
    }
    changes.push(change_requests(vm, &[stop, Action::Start { paused: false }])?);
    Ok(changes)
}

fn shorten_grace_period(seconds: i64) -> Change {
    Change::VmiSpec(json!({"terminationGracePeriodSeconds": seconds}))
}
