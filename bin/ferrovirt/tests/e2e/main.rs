//! End to end: the built programs, real libvirt, real guests; driven from outside by `kubectl`, `virtctl` and what a guest shows of
//! itself on its console and its web page. Needs root. One suite for both engines: see `harness/engine.rs`.
//!
//! Tests that disturb nothing but their own machines share one instance and take a namespace each; those that kill or stop the
//! control plane or libvirtd have an instance of their own. Either way the instance is purged in the end and must leave nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test says what went wrong by panicking"
)]

mod harness;

mod access;
mod bad_input;
mod basics;
mod images;
mod lifecycle;
mod metrics;
mod network;
mod probes;
mod refused;
mod run_strategy;
mod storage;
mod streams;
mod survival;
mod volumes;
