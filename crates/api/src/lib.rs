//! The words of Ferrovirt: the `kubevirt.io` objects as Rust types, quantities, and every label, annotation, condition and
//! reason the components share. No IO, no async, nothing of ours below it.
//!
//! Field names and types are upstream's (`kubevirt.io/api`); the CRDs are generated from these types (`crd`).

pub mod config;
pub mod core;
pub mod crd;
pub mod meta;
pub mod quantity;
pub mod schema;

pub use crate::core::v1::*;
pub use crate::quantity::{Quantity, QuantityError, QuantityFormat};
