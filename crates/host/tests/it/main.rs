//! The wrappers against the running kernel. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod cgroup;
mod container;
mod mount;
mod netns;
mod process;
mod safe_path;
