//! Domains as a whole: golden files checked by libvirt itself, refusals, and properties.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_types, clippy::disallowed_methods)]

mod golden;
mod properties;
mod refusals;
mod states;
mod support;
