//! The built virtctl against the embedded API server over TLS; the node agent is played by the tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests fail by panicking, like the tests themselves

mod flags;
mod grammar;
mod streams;
mod support;
mod verbs;
