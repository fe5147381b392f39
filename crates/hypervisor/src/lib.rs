//! The port to the hypervisor: what a node agent may do with domains ([`Hypervisor`]), its libvirt implementation
//! ([`libvirt::LibvirtHypervisor`]), the libvirt daemon behind it ([`daemon`]), and a scripted fake ([`fake::FakeHypervisor`]).
//!
//! The one promise everything above relies on: **a lost connection is never reported as an absent domain.** `NoDomain` means that
//! a living libvirtd said so.

pub mod daemon;
pub mod error;
pub mod fake;
pub mod kvm;
pub mod libvirt;
pub mod port;
pub mod stats;

pub use crate::error::HypervisorError;
pub use crate::libvirt::{LibvirtConfig, LibvirtHypervisor};
pub use crate::port::{
    Capabilities, CpuModel, DomainEvent, DomainEventKind, DomainInfo, EfiFirmware, Hypervisor, HypervisorEvent,
    MachineType, StartMode,
};
pub use crate::stats::DomainStats;
pub use fv_domain::state::{DomainState, PauseReason, StopReason};
