//! The handler as virt-api sees it.

use std::time::Duration;

use fv_hypervisor::HypervisorError;
use fv_stream::agent::{AgentError, AgentQuery, DomainVerb, DuplexStream, NodeAgent, StreamTarget, VmiRef};
use tokio::sync::oneshot;

use super::{Handler, TaskHandle};
use crate::engine::{SERIAL_SOCKET, VNC_SOCKET};
use crate::guest_agent;
use crate::share::ShareDir;
use crate::task::Message;

/// virt-api gives up after ten seconds.
const DEADLINE: Duration = Duration::from_secs(9);

impl Handler {
    fn find(&self, node: &str, vmi: &VmiRef) -> Result<TaskHandle, AgentError> {
        if node != self.inner.node.config.node_name {
            return Err(AgentError::Unreachable(node.to_owned()));
        }
        let task = self.inner.tasks.lock().get(&vmi.uid).cloned();
        let matches = |task: &TaskHandle| task.shared.namespace == vmi.namespace && task.shared.name == vmi.name;
        task.filter(matches).ok_or_else(|| AgentError::NotFound(format!("{}/{}", vmi.namespace, vmi.name)))
    }
}

fn refused(error: HypervisorError) -> AgentError {
    match error {
        HypervisorError::NoDomain { .. } => AgentError::Conflict("VMI is not running".into()),
        HypervisorError::AgentUnavailable { .. } => {
            AgentError::Conflict("VMI does not have guest agent connected".into())
        }
        error @ (HypervisorError::InvalidState { .. } | HypervisorError::Agent { .. }) => {
            AgentError::Conflict(error.to_string())
        }
        error => AgentError::Internal(error.to_string()),
    }
}

#[async_trait::async_trait]
impl NodeAgent for Handler {
    async fn act(&self, node: &str, vmi: &VmiRef, verb: DomainVerb) -> Result<(), AgentError> {
        let task = self.find(node, vmi)?;
        let (reply, answer) = oneshot::channel();
        let gone = || AgentError::Conflict("VMI is not running".into());
        task.messages.send(Message::Act { verb, reply }).map_err(|_| gone())?;
        match tokio::time::timeout(DEADLINE, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(gone()),
            Err(_) => {
                Err(AgentError::Internal(format!("the hypervisor did not answer within {} s", DEADLINE.as_secs())))
            }
        }
    }

    async fn query(&self, node: &str, vmi: &VmiRef, query: AgentQuery) -> Result<serde_json::Value, AgentError> {
        let task = self.find(node, vmi)?;
        task.shared.gate.lock().admit_stream().map_err(|denied| AgentError::Conflict(denied.to_string()))?;
        let hypervisor = &*self.inner.node.hypervisor;
        match tokio::time::timeout(DEADLINE, guest_agent::answer(hypervisor, task.shared.uuid, query)).await {
            Ok(answer) => answer.map_err(refused),
            Err(_) => {
                Err(AgentError::Conflict(format!("the guest agent did not answer within {} s", DEADLINE.as_secs())))
            }
        }
    }

    async fn domain_xml(&self, node: &str, vmi: &VmiRef) -> Result<String, AgentError> {
        let task = self.find(node, vmi)?;
        self.inner.node.hypervisor.xml(task.shared.uuid).await.map_err(refused)
    }

    async fn open(&self, node: &str, vmi: &VmiRef, target: StreamTarget) -> Result<Box<dyn DuplexStream>, AgentError> {
        let task = self.find(node, vmi)?;
        task.shared.gate.lock().admit_stream().map_err(|denied| AgentError::Conflict(denied.to_string()))?;
        let failed = |name: &str, error: std::io::Error| {
            AgentError::Internal(format!("connect to {name} of the guest: {error}"))
        };
        match target {
            StreamTarget::Console => {
                let console = task.shared.console.lock().clone();
                let console = console.ok_or_else(|| AgentError::Conflict("No serial consoles are present.".into()))?;
                let stream = console.attach().await.map_err(|error| failed(SERIAL_SOCKET, error))?;
                Ok(Box::new(stream))
            }
            StreamTarget::Vnc { preserve_session } => {
                if preserve_session && task.vnc.is_open() {
                    return Err(AgentError::Busy("Active VNC connection. Request denied.".into()));
                }
                let dir = self.inner.node.socket_dir(&vmi.uid);
                let dir = ShareDir::open(&dir).map_err(|error| failed(VNC_SOCKET, error))?;
                let stream = dir.connect(VNC_SOCKET).await.map_err(|error| failed(VNC_SOCKET, error))?;
                let session = task.vnc.open(stream, preserve_session);
                Ok(Box::new(session.map_err(|_| AgentError::Busy("Active VNC connection. Request denied.".into()))?))
            }
        }
    }
}
