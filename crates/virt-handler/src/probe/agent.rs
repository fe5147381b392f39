//! Probes through the guest agent.

use std::time::Duration;

use fv_api::Probe;
use fv_hypervisor::{Hypervisor, HypervisorError};
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::Timing;
use crate::guest_agent::bounded_fault;

/// A libvirt that has just started takes up the agents' channels one after the other, and calls agents "not connected" meanwhile.
const SETTLING: Duration = Duration::from_secs(60);
/// Between two questions whether a command has ended.
const LOOK: Duration = Duration::from_millis(200);

/// One kind of check.
#[derive(Clone, Debug, PartialEq)]
pub enum AgentCheck {
    /// The agent answers.
    Ping,
    /// A command in the guest ends with code 0. Its output is not read.
    Exec(Vec<String>),
}

impl AgentCheck {
    /// The check of a probe, `None` for one that has none of these.
    pub fn of(probe: &Probe) -> Option<Self> {
        let exec = probe.exec.as_ref().map(|action| Self::Exec(action.command.clone().unwrap_or_default()));
        exec.or_else(|| probe.guest_agent_ping.as_ref().map(|_| Self::Ping))
    }

    /// Makes the check until something is learned of the guest.
    ///
    /// # Errors
    /// What went wrong with the guest, in words for an event.
    pub async fn until_told(&self, hypervisor: &dyn Hypervisor, uuid: Uuid, timing: &Timing) -> Result<(), String> {
        loop {
            if let Some(result) = self.run(hypervisor, uuid, timing.timeout).await {
                return result;
            }
            tokio::time::sleep(timing.period).await;
        }
    }

    /// Makes the check once. `None`: nothing was learned, because it was not the guest that did not answer but libvirt; the error is
    /// what went wrong, in words for an event.
    pub async fn run(&self, hypervisor: &dyn Hypervisor, uuid: Uuid, timeout: Duration) -> Option<Result<(), String>> {
        let result = match self {
            Self::Ping => {
                hypervisor.agent_command(uuid, &json!({"execute": "guest-ping"}), timeout).await.map(|_| Ok(()))
            }
            Self::Exec(command) => exec(command, hypervisor, uuid, timeout).await,
        };
        match result {
            Ok(verdict) => Some(verdict),
            // What the guest says is bounded: it becomes a text in the API.
            Err(HypervisorError::AgentUnavailable { message, .. }) if can_tell(hypervisor, uuid).await => {
                Some(Err(bounded_fault(&message)))
            }
            // An agent that refuses is there. But libvirt's own troubles may come under this name, too.
            Err(HypervisorError::Agent { message, .. })
                if matches!(self, Self::Exec(_)) && hypervisor.is_connected() =>
            {
                Some(Err(bounded_fault(&message)))
            }
            Err(error) => {
                tracing::debug!(%uuid, %error, "a probe told nothing");
                None
            }
        }
    }
}

/// Whether libvirt, which said that it does not reach an agent, would reach one that is well: not soon after its start, and not when it
/// is about to end, as its other answers then show.
async fn can_tell(hypervisor: &dyn Hypervisor, uuid: Uuid) -> bool {
    let settled = || hypervisor.connected_for().is_some_and(|age| age >= SETTLING);
    settled() && hypervisor.get(uuid).await.is_ok() && settled()
}

async fn exec(
    command: &[String],
    hypervisor: &dyn Hypervisor,
    uuid: Uuid,
    timeout: Duration,
) -> Result<Result<(), String>, HypervisorError> {
    let deadline = Instant::now() + timeout;
    let left = || deadline.saturating_duration_since(Instant::now());
    let Some((path, arguments)) = command.split_first() else { return Ok(Err("there is no command".to_owned())) };
    let start =
        json!({"execute": "guest-exec", "arguments": {"path": path, "arg": arguments, "capture-output": false}});
    let started = hypervisor.agent_command(uuid, &start, timeout).await?;
    let Some(pid) = started["pid"].as_i64() else { return Ok(Err("the guest agent named no process".to_owned())) };
    let ask = json!({"execute": "guest-exec-status", "arguments": {"pid": pid}});
    loop {
        let status = hypervisor.agent_command(uuid, &ask, left()).await?;
        if status["exited"] == true {
            return Ok(ended(&status));
        }
        if left().is_zero() {
            return Ok(Err(format!("command did not end within {} s", timeout.as_secs())));
        }
        tokio::time::sleep(LOOK.min(left())).await;
    }
}

/// The verdict on a command that has ended, by the agent's answer.
fn ended(status: &Value) -> Result<(), String> {
    match (status["exitcode"].as_i64(), status["signal"].as_i64()) {
        (Some(0), None) => Ok(()),
        (Some(code), None) => Err(format!("command ended with exit code {code}")),
        (_, Some(signal)) => Err(format!("command was ended by signal {signal}")),
        (None, None) => Err("the guest agent did not say how the command ended".to_owned()),
    }
}
