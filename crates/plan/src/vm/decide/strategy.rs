//! The table of run strategies: what each does with no instance, an ended one, and a request to stop.

use std::time::Duration;

use fv_api::VirtualMachineStatus;
use fv_api::meta::phases::VmiPhase;
use jiff::Timestamp;

use super::requests;
use crate::vm::backoff;
use crate::vm::build::StartPaused;
use crate::vm::observe::{Instance, RunStrategy};

/// What to do about the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Nothing,
    /// A start is due, but not yet.
    Wait(Duration),
    Create {
        paused: StartPaused,
    },
    Delete,
    /// Remember that the VM wants to run again, before the ended instance is deleted.
    QueueStart,
    BecomeAlways,
}

/// Reads the table. `status` holds the requests not yet done and the up-to-date start failure.
pub(super) fn choose(
    strategy: RunStrategy,
    status: &VirtualMachineStatus,
    instance: Option<&Instance<'_>>,
    now: Timestamp,
) -> Action {
    let queue = &status.state_change_requests;
    if let Some(instance) = instance {
        if instance.deleting {
            return Action::Nothing;
        }
        let stop = requests::stops(queue, instance);
        let ended = instance.phase.is_final();
        return match strategy {
            RunStrategy::Always if stop || ended => Action::Delete,
            RunStrategy::RerunOnFailure if stop => Action::Delete,
            RunStrategy::RerunOnFailure if instance.phase == VmiPhase::Failed && !requests::has_start(queue) => {
                Action::QueueStart
            }
            RunStrategy::RerunOnFailure if ended => Action::Delete,
            RunStrategy::Manual if stop => Action::Delete,
            RunStrategy::Halted => Action::Delete,
            _ => Action::Nothing,
        };
    }

    let start = requests::start_at_head(queue);
    let due = match strategy {
        RunStrategy::Always | RunStrategy::Once => true,
        // Without a request it runs only once: when this strategy has just been chosen.
        RunStrategy::RerunOnFailure => start.is_some() || status.run_strategy.as_deref() != strategy.as_str(),
        RunStrategy::Manual => start.is_some(),
        RunStrategy::Halted if start.is_some() => return Action::BecomeAlways,
        RunStrategy::Halted | RunStrategy::Unknown => false,
    };
    if !due {
        return Action::Nothing;
    }
    match backoff::time_left(status.start_failure.as_ref(), now) {
        Some(left) => Action::Wait(left),
        None => {
            let paused = start.is_some_and(requests::is_paused_start);
            Action::Create { paused: if paused { StartPaused::Yes } else { StartPaused::No } }
        }
    }
}
