//! Why a domain cannot be written.

/// Why [`crate::build`] refused; `field` is the path inside the VMI (`spec.domain…`) a user can look up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DomainError {
    /// The object never went through the API server.
    #[error("metadata.uid is missing: the VMI was not read from the API")]
    MissingUid,
    /// `metadata.uid` is not a UUID, so no domain can be named after it.
    #[error("metadata.uid is {value:?}, which is not a UUID")]
    InvalidUid { value: String },
    /// A value libvirt or the guest cannot take.
    #[error("{field} is {value:?}: {problem}")]
    InvalidValue { field: String, value: String, problem: String },
    /// A field this version does not implement (admission normally refuses it first).
    #[error("{field} is not supported yet by Ferrovirt")]
    Unsupported { field: String },
    /// The node did not say where something the VMI names is.
    #[error("{field} names {name:?}, for which the node prepared no {what}")]
    MissingFact { field: String, name: String, what: &'static str },
    /// A path or name of the node that cannot be written into a domain (the node agent's fault, not the user's).
    #[error("{what} {value:?} cannot be used: {problem}")]
    InvalidFact { what: &'static str, value: String, problem: &'static str },
}
