//! The executor and the recorder against scripted answers, leases on an API server, TLS over sockets.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // helpers of tests fail by panicking, like the tests themselves

mod api;
mod events;
mod execute;
mod leases;
mod settings;
mod tls;
