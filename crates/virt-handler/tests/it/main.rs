//! The handler against an API server in process: with a scripted hypervisor, and with real guests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "helpers of tests fail by panicking"
)]

mod guest;
mod kubelet;
mod lifecycle;
mod metrics;
mod outages;
mod requests;
mod support;
mod volumes;
