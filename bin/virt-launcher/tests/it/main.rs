//! The launcher as a process, in real network namespaces, with the networks that `fv_netplan` plans and `fv_host` makes.
//! Needs root, nft and busybox.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests fail by panicking")]

mod lifecycle;
mod network;
mod world;
