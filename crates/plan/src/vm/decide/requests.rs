//! The queue of start and stop requests in the VM's status. Only its head is acted on.

use fv_api::VirtualMachineStateChangeRequest;

use crate::vm::observe::{Instance, RunStrategy};

pub(super) const START: &str = "Start";
pub(super) const STOP: &str = "Stop";

/// The queue without the requests at its head that have come true: a stop whose instance is gone or another one, a start
/// when a live instance exists. Unknown actions are dropped, or nothing behind them would ever be seen.
///
/// A halted VM is only ever asked for a paused start. Any other was queued before it was halted and would turn it on
/// again: it is dropped.
pub(super) fn pending(
    queue: &[VirtualMachineStateChangeRequest],
    strategy: RunStrategy,
    instance: Option<&Instance<'_>>,
) -> Vec<VirtualMachineStateChangeRequest> {
    let is_leftover = |request: &VirtualMachineStateChangeRequest| {
        strategy == RunStrategy::Halted && request.action == START && !is_paused_start(request)
    };
    let is_done = |request: &VirtualMachineStateChangeRequest| match request.action.as_str() {
        STOP => instance.is_none_or(|instance| request.uid.as_deref() != Some(instance.uid)),
        START => instance.is_some_and(Instance::is_live),
        _ => true,
    };
    queue.iter().filter(|request| !is_leftover(request)).skip_while(|request| is_done(request)).cloned().collect()
}

/// Whether the head asks for a start, and if so whether for a paused one.
pub(super) fn start_at_head(queue: &[VirtualMachineStateChangeRequest]) -> Option<&VirtualMachineStateChangeRequest> {
    queue.first().filter(|request| request.action == START)
}

/// Whether a start waits anywhere in the queue.
pub(super) fn has_start(queue: &[VirtualMachineStateChangeRequest]) -> bool {
    queue.iter().any(|request| request.action == START)
}

/// Whether the head asks to stop this instance.
pub(super) fn stops(queue: &[VirtualMachineStateChangeRequest], instance: &Instance<'_>) -> bool {
    queue.first().is_some_and(|request| request.action == STOP && request.uid.as_deref() == Some(instance.uid))
}

/// Whether `request` asks for a guest whose CPUs wait.
pub(super) fn is_paused_start(request: &VirtualMachineStateChangeRequest) -> bool {
    request.data.get("paused").is_some_and(|value| value == "true")
}
