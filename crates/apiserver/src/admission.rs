//! The admission port: what the embedder decides about every write, before it is stored.
//!
//! All steps are pure and synchronous. `inspect` sees what was sent, `mutate` may change the object, `validate` sees the final
//! one. A write is stored only if the object it was admitted against is still the current one; patches are then applied and admitted again.

use serde_json::Value;

use crate::identity::UserInfo;
use crate::status::Status;

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A new object.
    Create,
    /// Update or patch of the object or a subresource.
    Update,
    /// Deletion.
    Delete,
}

/// One write under admission.
#[derive(Debug, Clone)]
pub struct AdmissionRequest<'a> {
    /// What it does.
    pub operation: Operation,
    /// API group; empty for core.
    pub group: &'a str,
    /// Version of the request (and of `object` and `old_object`).
    pub version: &'a str,
    /// Plural resource name.
    pub resource: &'a str,
    /// Kind.
    pub kind: &'a str,
    /// Subresource, empty for the object itself.
    pub subresource: &'a str,
    /// Namespace, empty for cluster-scoped objects.
    pub namespace: &'a str,
    /// Name of the object (generated names are already made).
    pub name: &'a str,
    /// Who asks.
    pub user: &'a UserInfo,
    /// The new object; `None` on deletion. In `mutate` the value before the step, in `validate` the final value.
    pub object: Option<&'a Value>,
    /// The stored object; `None` on creation.
    pub old_object: Option<&'a Value>,
    /// Nothing will be stored.
    pub dry_run: bool,
}

/// Texts for `Warning:` headers.
pub type Warnings = Vec<String>;

/// A refusal with the full status the client gets.
#[derive(Debug, Clone)]
pub struct Rejection(pub Box<Status>);

impl From<Status> for Rejection {
    fn from(status: Status) -> Self {
        Rejection(Box::new(status))
    }
}

/// The port.
pub trait Admission: Send + Sync {
    /// Refuses an object (`request.object`) as it was sent, or as a patch would make it: before fields which the schema does not
    /// know are dropped or complained of. Its name may still be missing.
    fn inspect(&self, _request: &AdmissionRequest<'_>) -> Result<(), Rejection> {
        Ok(())
    }

    /// May change the object of a create or update.
    fn mutate(&self, request: &AdmissionRequest<'_>, object: &mut Value) -> Result<Warnings, Rejection>;

    /// Accepts or refuses the final object.
    fn validate(&self, request: &AdmissionRequest<'_>) -> Result<Warnings, Rejection>;
}

/// Admits everything unchanged.
#[derive(Debug, Default, Clone, Copy)]
pub struct AdmitAll;

impl Admission for AdmitAll {
    fn mutate(&self, _: &AdmissionRequest<'_>, _: &mut Value) -> Result<Warnings, Rejection> {
        Ok(Warnings::new())
    }

    fn validate(&self, _: &AdmissionRequest<'_>) -> Result<Warnings, Rejection> {
        Ok(Warnings::new())
    }
}
