//! The subresources as clients meet them: over TLS, through the embedded API server, with a node agent that the tests play.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests fail by panicking, like the tests themselves

mod requests;
mod streams;
mod support;
