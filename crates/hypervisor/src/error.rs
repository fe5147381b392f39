//! What can go wrong between us and the hypervisor.

use std::time::Duration;

use uuid::Uuid;

/// Why a call failed. What a caller does next depends on the variant, never on the text.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HypervisorError {
    /// A living libvirtd says that it has no such domain (or that it is not ours).
    #[error("no domain {uuid}")]
    NoDomain { uuid: Uuid },
    /// A domain with this uuid runs already.
    #[error("domain {uuid} exists already")]
    DomainExists { uuid: Uuid },
    /// The document to start is not one of ours: no uuid, no metadata element, or another instance's.
    #[error("refusing to start a domain that is not ours: {problem}")]
    NotOurs { problem: &'static str },
    /// The call took longer than its deadline. It may still take effect; the domain accepts no other call until it returned.
    #[error("{step} did not finish within {after:?}")]
    Timeout { step: &'static str, after: Duration },
    /// An earlier question of this kind about the domain has not been answered yet, and this one does not wait.
    #[error("{step} is not possible while an earlier call hangs")]
    Busy { step: &'static str },
    /// There is no connection to libvirtd now; it is being re-established. Says nothing about any domain.
    #[error("no connection to libvirtd at {uri} ({step})")]
    Disconnected { step: &'static str, uri: String },
    /// The guest agent is not connected or does not answer.
    #[error("guest agent of domain {uuid} does not answer: {message}")]
    AgentUnavailable { uuid: Uuid, message: String },
    /// The guest agent answered with an error, or with something that is no JSON.
    #[error("guest agent of domain {uuid} refused the command: {message}")]
    Agent { uuid: Uuid, message: String },
    /// The domain is in a state that does not allow this.
    #[error("{step} is not possible now: {message}")]
    InvalidState { step: &'static str, message: String },
    /// Any other error libvirt reports.
    #[error("{step} failed: {message} (libvirt error {code})")]
    Libvirt { step: &'static str, code: u32, message: String },
}

impl HypervisorError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Timeout { .. } | Self::Busy { .. } | Self::Disconnected { .. } | Self::AgentUnavailable { .. }
        )
    }

    /// Stable reason word for events, conditions and metric labels.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoDomain { .. } => "NoDomain",
            Self::DomainExists { .. } => "DomainExists",
            Self::NotOurs { .. } => "NotOurs",
            Self::Timeout { .. } => "HypervisorTimeout",
            Self::Busy { .. } => "HypervisorBusy",
            Self::Disconnected { .. } => "HypervisorDisconnected",
            Self::AgentUnavailable { .. } => "GuestAgentUnavailable",
            Self::Agent { .. } => "GuestAgentError",
            Self::InvalidState { .. } => "InvalidDomainState",
            Self::Libvirt { .. } => "HypervisorError",
        }
    }
}
