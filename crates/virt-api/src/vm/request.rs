//! The queue of state change requests in a VM's status.

use fv_api::{VirtualMachine, VirtualMachineStateChangeRequest};
use serde_json::json;

use super::Change;
use crate::error::ApiError;

/// One request to the VM controller.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// Stop the VMI of this UID, no other.
    Stop {
        uid: String,
    },
    Start {
        paused: bool,
    },
}

impl Action {
    fn to_request(&self) -> VirtualMachineStateChangeRequest {
        let mut request = VirtualMachineStateChangeRequest::default();
        match self {
            Self::Stop { uid } => {
                request.action = "Stop".into();
                request.uid = Some(uid.clone());
            }
            Self::Start { paused } => {
                request.action = "Start".into();
                if *paused {
                    request.data.insert("paused".into(), "true".into());
                }
            }
        }
        request
    }
}

/// Queues `actions`. A lone stop replaces whatever is pending; anything else waits its turn, which is refused.
pub(super) fn change_requests(vm: &VirtualMachine, actions: &[Action]) -> Result<Change, ApiError> {
    let wanted: Vec<_> = actions.iter().map(Action::to_request).collect();
    let pending = vm.status.as_ref().is_some_and(|s| !s.state_change_requests.is_empty());
    if pending && !matches!(actions, [Action::Stop { .. }]) {
        return Err(ApiError::internal("unable to complete request: stop/start already underway"));
    }
    Ok(Change::VmStatus(json!({"stateChangeRequests": wanted})))
}
