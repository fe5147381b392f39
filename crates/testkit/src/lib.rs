//! What the tests of several crates share. Nothing but tests depends on it, so it may panic.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod certificates;
mod small_disk;

pub use small_disk::SmallDisk;
