//! The node protocol over real sockets and TLS: a fake agent behind the server, the client before it.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // helpers of tests fail by panicking, like the tests themselves

mod agent;
mod cluster;
mod requests;
mod streams;
