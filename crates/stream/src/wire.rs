//! What both ends of the node protocol agree on: words of paths, and refusals.

use serde::{Deserialize, Serialize};

use crate::agent::{AgentError, AgentQuery, DomainVerb};

/// Largest answer taken from a node agent.
pub(crate) const MAX_ANSWER: usize = 4 * 1024 * 1024;
pub(crate) const CONSOLE: &str = "console";
pub(crate) const VNC: &str = "vnc";
pub(crate) const DOMAIN_XML: &str = "domainxml";

pub(crate) const VERBS: [(&str, DomainVerb); 4] = [
    ("pause", DomainVerb::Pause),
    ("unpause", DomainVerb::Unpause),
    ("softreboot", DomainVerb::SoftReboot),
    ("reset", DomainVerb::Reset),
];

pub(crate) const QUERIES: [(&str, AgentQuery); 3] = [
    ("guestosinfo", AgentQuery::GuestOsInfo),
    ("userlist", AgentQuery::UserList),
    ("filesystemlist", AgentQuery::FilesystemList),
];

/// The word of `value` in one of the tables above.
pub(crate) fn word<T: PartialEq>(table: &[(&'static str, T)], value: &T) -> &'static str {
    table.iter().find(|(_, known)| known == value).map_or("", |(word, _)| word)
}

/// The query of a request.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Query {
    /// Of the VMI that is meant; guards against a namesake.
    pub(crate) uid: String,
    pub(crate) preserve_session: bool,
}

/// An [`AgentError`] on its way.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", content = "message")]
pub(crate) enum Refusal {
    NotFound(String),
    Conflict(String),
    Busy(String),
    Internal(String),
    Unreachable(String),
}

impl Refusal {
    pub(crate) fn code(&self) -> u16 {
        match self {
            Self::NotFound(_) => 404,
            Self::Conflict(_) => 409,
            Self::Busy(_) => 503,
            Self::Internal(_) => 500,
            Self::Unreachable(_) => 502,
        }
    }
}

impl From<AgentError> for Refusal {
    fn from(error: AgentError) -> Self {
        match error {
            AgentError::NotFound(what) => Self::NotFound(what),
            AgentError::Conflict(why) => Self::Conflict(why),
            AgentError::Busy(why) => Self::Busy(why),
            AgentError::Internal(why) => Self::Internal(why),
            AgentError::Unreachable(node) => Self::Unreachable(node),
        }
    }
}

impl From<Refusal> for AgentError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound(what) => Self::NotFound(what),
            Refusal::Conflict(why) => Self::Conflict(why),
            Refusal::Busy(why) => Self::Busy(why),
            Refusal::Internal(why) => Self::Internal(why),
            Refusal::Unreachable(node) => Self::Unreachable(node),
        }
    }
}
