//! The hypervisor against a real libvirtd and QEMU: a private daemon per test, in its own directories.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr)]

mod daemon;
mod guest;
mod lifecycle;
mod support;
