//! The controllers against the embedded API server. Scheduler, kubelet and node agent are played by hand.
#![allow(clippy::expect_used, clippy::panic)] // helpers of tests fail by panicking, like the tests themselves

mod cluster;
mod lifecycle;
mod node;
mod survival;
