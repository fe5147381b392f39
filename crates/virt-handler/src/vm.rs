//! One virtual machine on this node.
//!
//! ```text
//!            record written            domain created paused     stage written, resumed
//!  (nothing) ──────────────► Preparing ────────────► Starting ────────────► Resuming ──► Running
//!                               │ no guest code has run: may be repeated      │ guest may have run: never repeated
//!                               ▼                                             ▼
//!                            released ◄─────────────────────────────── outcome recorded
//! ```
//!
//! [`decide()`](decide::decide) is pure: facts in, ordered steps out. [`gate`] says which user request is legal. Everything with an
//! effect lives in [`crate::engine`], driven by one task a VM ([`crate::task`]).
//!
//! Invariants (each has a test):
//! - a domain is destroyed, and disks of one that ran are released, only on the VMI's deletion, a recorded final phase, a recorded
//!   stop request, or because the guest ended itself;
//! - what is not known (API, libvirt, pod) never leads to such a step;
//! - a guest that may have run is never started a second time;
//! - from every point at which the process can be killed, the same end is reached.

pub mod decide;
pub mod facts;
pub mod gate;
pub mod record;
pub mod status;
