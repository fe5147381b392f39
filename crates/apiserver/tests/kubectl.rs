//! The API server, driven by the real `kubectl` over TLS.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "kubectl/harness.rs"]
mod harness;

#[path = "kubectl/access.rs"]
mod access;
#[path = "kubectl/apply.rs"]
mod apply;
#[path = "kubectl/discover.rs"]
mod discover;
#[path = "kubectl/kubevirt.rs"]
mod kubevirt;
#[path = "kubectl/pods.rs"]
mod pods;
#[path = "kubectl/policy.rs"]
mod policy;
#[path = "kubectl/read.rs"]
mod read;
#[path = "kubectl/write.rs"]
mod write;
