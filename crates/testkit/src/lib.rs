//! What the tests of several crates share. Nothing but tests depends on it, so it may panic.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod certificates;
#[cfg(feature = "registry")]
pub mod registry;
mod small_disk;

pub use small_disk::SmallDisk;
