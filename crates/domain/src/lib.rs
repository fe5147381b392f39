//! The libvirt domain of a VirtualMachineInstance, as a pure function: VMI + what the node knows ([`DomainFacts`]) →
//! domain XML ([`build`]); domain state → VMI phase and conditions ([`state`]).
//!
//! Nothing here talks to libvirt. Two rules hold for every document this crate writes: name and `<uuid>` come from the VMI's
//! UID and from nothing a user chose, and every text a user chose is escaped or refused.

mod build;
mod cpu;
mod devices;
mod disks;
pub mod error;
pub mod facts;
mod features;
mod firmware;
mod interfaces;
pub mod metadata;
mod pci;
pub mod state;
mod unsupported;
mod xml;

pub use crate::error::DomainError;
pub use crate::facts::{
    Accelerator, BuiltDisk, BuiltDomain, DiskFormat, DiskSource, DomainFacts, EfiFiles, InterfaceFacts, Note, Owner,
    SocketPaths, SourceKind,
};
pub use crate::features::has_acpi;
pub use crate::metadata::{DomainMetadata, METADATA_URI};

use fv_api::VirtualMachineInstance;

/// Writes the domain of `vmi` on this node.
///
/// The VMI is the admitted, defaulted object (`metadata.uid` set); a field this crate cannot honour is an error that names it.
pub fn build(vmi: &VirtualMachineInstance, facts: &DomainFacts) -> Result<BuiltDomain, DomainError> {
    build::build(vmi, facts)
}

/// libvirt's name of the domain of a VMI: nothing in it is chosen by a user, so names of two tenants cannot clash.
pub fn domain_name(vmi_uid: uuid::Uuid) -> String {
    format!("fv-{vmi_uid}")
}
