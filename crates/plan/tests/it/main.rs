//! Both deciders against a model of the world: users, a scheduler, a node agent and lost pods act in any order.
#![allow(clippy::expect_used, clippy::panic)] // helpers of tests fail by panicking, like the tests themselves

mod props;
mod world;
