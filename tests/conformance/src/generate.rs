//! Random objects and patches: the same on both servers, shrunk when the answers differ.

mod case;
mod directive;
mod operations;
mod strategy;

pub use case::{APPLY, Case, Patch, run};
pub use strategy::cases;
