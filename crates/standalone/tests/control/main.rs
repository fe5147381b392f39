//! Scheduler, garbage collector, the other controllers and node registration against the embedded API server, in process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests fail by panicking, like the tests themselves

mod collector;
mod namespaces;
mod node;
mod policy;
mod scheduler;
mod storage;
mod support;
