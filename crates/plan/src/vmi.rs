//! The controller of VirtualMachineInstance: keeps the launcher pod that represents it, and hands it to a node.
//!
//! ```text
//!            pod made            pod's containers ready, bound         (node agent)
//!   Pending ─────────► Scheduling ───────────────────────────► Scheduled ─────────► Running ──► Succeeded
//!                          │ pod gone or ended                                         │
//!                          └───────────────────────────► Failed ◄──────────────────────┘
//! ```
//!
//! Inputs: the VirtualMachineInstance, its launcher pods, the claims of its volumes, quotas and LimitRanges of its namespace, its Node, the failure of the last attempt to act.
//! Outputs: launcher pods, the pods' readiness gate, phase up to Scheduled, conditions Ready and PodScheduled, activePods,
//! finalizers, the label of an outdated launcher.
//!
//! Invariants: with `status.nodeName` set the instance belongs to that node's agent. From then on a vanished or ended pod
//! never ends the instance (a deliberate difference from upstream): a replacement is made, on that node. Pods and finalizers of
//! such an instance go only after the agent's word (condition DomainDeleted) that nothing of the guest is left. In one case the controller
//! gives it in the agent's place: the node is off by an administrator's word ([`crate::node::Fencing`]).
//!
//! Every status write names the version of the object it was decided on; in the phases that the node agent owns it touches
//! only the controller's own fields.

mod claims;
pub mod decide;
mod observe;
mod status;

pub use claims::{ClaimFacts, claims_of};
pub use decide::decide;
pub use observe::{Observed, PodCondition, PodFacts, QuotaFacts, RangeFacts};

#[cfg(test)]
mod tests;
