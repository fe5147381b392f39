//! What the guest reads at first boot: the file trees of its cloud-init disks, built from the VMI and the secrets its
//! volumes name. Pure: the caller fetches the secrets ([`needed_secrets`]) and writes the ISO (`fv_disk::iso`).
//!
//! The same VMI and the same secrets always give the same bytes, so a disk is rewritten only when something changed.

mod cloud_init;
mod error;
mod secrets;
mod tree;

pub use cloud_init::{CloudInitDisk, Guest, INLINE_LIMIT, SECRET_LIMIT, build_cloud_init, build_cloud_inits};
pub use error::{Field, GuestDataError};
pub use secrets::{SecretNeed, Secrets, needed_secrets};
pub use tree::{FileTree, TreeFile};
