//! The port through which virt-api reaches the node agent of a VMI.
//!
//! Embedded, virt-handler implements it in process; on Kubernetes an HTTPS client to the handler's pod does.

use tokio::io::{AsyncRead, AsyncWrite};

/// One VMI, as its node agent knows it. The UID guards against a namesake that took its place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VmiRef {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// A request that takes effect on the running domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DomainVerb {
    Pause,
    Unpause,
    SoftReboot,
    Reset,
}

/// A question to the guest agent; the answer is the JSON object of upstream's API of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentQuery {
    GuestOsInfo,
    UserList,
    FilesystemList,
}

/// Why the node agent refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("VMI {0} is not on this node")]
    NotFound(String),
    /// The request is not legal in the domain's present state; the text is for the user.
    #[error("{0}")]
    Conflict(String),
    /// A session is open and the caller asked not to take it over.
    #[error("{0}")]
    Busy(String),
    #[error("{0}")]
    Internal(String),
    #[error("node {0} cannot be reached")]
    Unreachable(String),
}

/// A two-way byte stream.
pub trait DuplexStream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> DuplexStream for T {}

/// What a guest stream is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamTarget {
    /// The first serial console. A new client takes it over: the old one's stream ends.
    Console,
    /// The VNC server. With `preserve_session` an open session is kept and the new client refused ([`AgentError::Busy`]).
    Vnc { preserve_session: bool },
}

/// The node agents of the cluster.
#[async_trait::async_trait]
pub trait NodeAgent: Send + Sync + 'static {
    /// Carries out `verb` on the VMI's domain; returns when libvirt has accepted it.
    async fn act(&self, node: &str, vmi: &VmiRef, verb: DomainVerb) -> Result<(), AgentError>;
    /// Asks the guest agent.
    async fn query(&self, node: &str, vmi: &VmiRef, query: AgentQuery) -> Result<serde_json::Value, AgentError>;
    /// The libvirt XML of the running domain.
    async fn domain_xml(&self, node: &str, vmi: &VmiRef) -> Result<String, AgentError>;
    /// Opens a stream to the guest.
    async fn open(&self, node: &str, vmi: &VmiRef, target: StreamTarget) -> Result<Box<dyn DuplexStream>, AgentError>;
}
