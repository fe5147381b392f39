//! The operator: makes the cluster what the KubeVirt resource says, and takes everything away when that goes.
//!
//! ```text
//!            everything ready             deleted                 nothing of ours left
//! Deploying ─────────────────► Deployed ─────────► Deleting ─────────────────────────► Deleted, finalizer removed
//!                 ▲               │ other images or settings
//!                 └── (Updating) ─┘
//! ```
//!
//! Inputs: the resource, what its installation consists of (rendered), what the cluster has, the certificates, the machines.
//! Outputs: objects created, replaced and deleted, certificates renewed, the status, the finalizer.
//!
//! Invariants: an object that does not carry our label is never touched, and nothing is installed while there is one where ours
//! would be, or another installation: it is named in the conditions. A resource that another operator follows is that one's. Every write names the version or UID of what it was decided
//! on. What secures connections is kept up first, whatever else is in the way. Each effect may be the last before a crash: what is left to do is always read from the cluster again. Machines are not
//! the installation's: only a removal that may take them along deletes them.

pub mod certificates;
mod decide;
mod drift;
pub mod objects;
mod observe;
mod removal;
mod rollout;
mod status;
mod upkeep;

#[cfg(test)]
mod tests;

pub use decide::decide;
pub use observe::{Observed, Target, Workload, in_order};

use std::time::Duration;

use fv_api::KubeVirtStatus;
use fv_render::install::ObjectId;
use serde_json::Value;

use crate::plan::Requeue;
use certificates::CertificateStep;

/// Finalizer of the KubeVirt resource.
pub const FINALIZER: &str = "kubevirt.io/foregroundDeleteKubeVirt";
/// Its name in old releases; removed wherever it is found.
pub const FINALIZER_OLD: &str = "foregroundDeleteKubeVirt";

/// Between two looks at something no watch tells of.
const POLL: Duration = Duration::from_secs(10);

/// What the operator does next: effects in this order, stopping at the first failure, then the status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub effects: Vec<Effect>,
    /// The whole new status; the write names the resource's version.
    pub status: Option<KubeVirtStatus>,
    pub requeue: Requeue,
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Puts these finalizers onto the KubeVirt resource, if it is still of this version.
    SetFinalizers { finalizers: Vec<String>, resource_version: String },
    /// Makes an object; that it is there already is a failure.
    Create(Value),
    /// Puts an object in the place of the one whose UID and version it carries.
    Replace(Value),
    /// Deletes the object of this UID.
    Delete { id: ObjectId, uid: String },
    /// Renews what secures connections.
    Certificates(CertificateStep),
    /// Deletes a machine of a user, whose guest then shuts down.
    DeleteWorkload(Workload),
}
