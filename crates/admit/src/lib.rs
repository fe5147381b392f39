//! Admission of `kubevirt.io` objects: what is filled in, what is refused. Pure, and the same for both engines: the
//! embedded API server calls it in process, on Kubernetes webhooks do.
//!
//! The two steps of a write, in this order (the engine checks the CRD's schema in between):
//! 1. [`mutate`] fills in defaults in place, adding only what is absent: what a user wrote stays as it was written.
//! 2. [`validate`] gives a [`Verdict`]: causes (any of them refuses the write, [`denial`] words it) and warnings.
//!
//! Three rules hold throughout:
//! - a field of upstream's schema that Ferrovirt does not implement is refused with its path, never ignored;
//! - an update is refused only for what its old object did not already have;
//! - a write to an object that is being deleted is never refused for its spec.

mod causes;
mod defaults;
mod json;
mod kubevirt;
mod names;
mod quantity;
mod ratchet;
mod request;
mod status;
mod supported;
#[cfg(test)]
mod tests;
mod validate;

pub use defaults::mutate;
pub use kubevirt::{KubeVirtRefusal, Workloads, create_kubevirt, delete_kubevirt, kubevirt_causes, update_kubevirt};
pub use request::{Cause, CauseReason, Kind, Operation, Request, Verdict};
pub use status::{denial, refusal};
pub use supported::{implemented_fields, renamed_fields};
pub use validate::validate;
