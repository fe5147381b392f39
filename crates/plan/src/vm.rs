//! The controller of VirtualMachine: keeps a VirtualMachineInstance of the same name as the run strategy says.
//!
//! ```text
//!                    create (strategy, start request)
//!   no instance ────────────────────────────────────────► instance ""/Pending/Scheduling/Scheduled/Running
//!        ▲                                                        │ deleted: Halted, stop request
//!        │ gone                                                   ▼
//!        └──────────── deleted and ended ◄──── ended (Succeeded, Failed): deleted by Always, RerunOnFailure
//! ```
//!
//! Inputs: VirtualMachine, the VirtualMachineInstance of the same name, the failure of the last attempt to act.
//! Outputs: that instance, the VM's finalizer, status, run strategy (only Halted → Always, on a request for a paused start).
//!
//! Invariants: an instance is deleted only for a reason that stands in the VM itself (deletion, run strategy, a stop request
//! with the instance's uid) or because it has ended; at most one instance exists for a VM, because it carries the VM's name;
//! what must not be forgotten (a failed start, the wish to run again) is written before what would make it forgotten.

mod backoff;
mod build;
pub mod decide;
mod observe;
mod status;
mod template;

pub use decide::decide;
pub use observe::{Observed, RunStrategy};
pub use template::legacy_firmware_uuid;

#[cfg(test)]
mod tests;
