//! A node agent without a node.

use fv_stream::agent::{AgentError, AgentQuery, DomainVerb, DuplexStream, NodeAgent, StreamTarget, VmiRef};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::DuplexStream as Pipe;
use tokio::sync::mpsc;

/// Room for bytes that a side has not read.
pub(crate) const ROOM: usize = 1024;

pub(crate) fn demo() -> VmiRef {
    VmiRef { namespace: "default".into(), name: "demo".into(), uid: "0b6f4d5e".into() }
}

/// Answers what it is told to, and hands out the guest's side of each stream.
pub(crate) struct FakeAgent {
    pub(crate) asked: Mutex<Vec<String>>,
    pub(crate) refusal: Mutex<Option<AgentError>>,
    guests: mpsc::UnboundedSender<Pipe>,
    vnc: Mutex<Option<Pipe>>,
}

impl FakeAgent {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Pipe>) {
        let (guests, opened) = mpsc::unbounded_channel();
        (Self { asked: Mutex::default(), refusal: Mutex::default(), guests, vnc: Mutex::default() }, opened)
    }

    fn note(&self, node: &str, vmi: &VmiRef, what: String) -> Result<(), AgentError> {
        self.asked.lock().push(format!("{node} {}/{} {} {what}", vmi.namespace, vmi.name, vmi.uid));
        self.refusal.lock().take().map_or(Ok(()), Err)
    }
}

#[async_trait::async_trait]
impl NodeAgent for FakeAgent {
    async fn act(&self, node: &str, vmi: &VmiRef, verb: DomainVerb) -> Result<(), AgentError> {
        self.note(node, vmi, format!("{verb:?}"))
    }

    async fn query(&self, node: &str, vmi: &VmiRef, query: AgentQuery) -> Result<Value, AgentError> {
        self.note(node, vmi, format!("{query:?}"))?;
        Ok(json!({"answer": format!("{query:?}")}))
    }

    async fn domain_xml(&self, node: &str, vmi: &VmiRef) -> Result<String, AgentError> {
        self.note(node, vmi, "xml".into())?;
        Ok("<domain/>".into())
    }

    async fn open(&self, node: &str, vmi: &VmiRef, target: StreamTarget) -> Result<Box<dyn DuplexStream>, AgentError> {
        self.note(node, vmi, format!("{target:?}"))?;
        let (ours, guest) = tokio::io::duplex(ROOM);
        match target {
            StreamTarget::Console => self.guests.send(guest).unwrap(),
            StreamTarget::Vnc { preserve_session } => {
                let mut session = self.vnc.lock();
                if preserve_session && session.is_some() {
                    return Err(AgentError::Busy("Active VNC connection. Request denied.".into()));
                }
                // The one before is dropped: taken over.
                *session = Some(guest);
            }
        }
        Ok(Box::new(ours))
    }
}
