//! Disk images of a node: the content-addressed image store and the registry puller that fills it, the per-VM disks made
//! from it (overlays, empty disks), and the small ISO images guests read their settings from.
//!
//! Everything here that is not `async` blocks; call it from `tokio::task::spawn_blocking`.
//!
//! What a registry or an image file says is untrusted: sizes are capped before anything is allocated, archives are read
//! entry by entry and never unpacked to a path they name, `qemu-img` looks at images under resource limits, and an image
//! that refers to another file is refused.

pub mod backoff;
pub mod iso;
pub mod oci;
pub mod progress;
pub mod qemu_img;
pub mod store;
pub mod vm_dir;

mod copy;
mod safe_fs;

pub use backoff::PullBackoff;
pub use iso::IsoFile;
pub use oci::{PullError, PullPolicy, RegistryConfig, UnpackedImage};
pub use progress::{Progress, ProgressFn, Stage, no_progress};
pub use qemu_img::{ImageFormat, ImageInfo};
pub use store::{
    Digest, GcPolicy, GcReport, ImageHandle, ImageName, ImageRequest, ImageStore, ImageSummary, StoreConfig, StoreError,
};
pub use vm_dir::{DiskError, Owner, VmDir, VmDisk};
