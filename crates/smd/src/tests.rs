//! Tables and laws.

mod laws;
mod managing;
mod schema;
mod sets;
mod walks;

use crate::path::Element;

/// A path from its steps as `fieldsV1` writes them.
fn path(steps: &[&str]) -> Vec<Element> {
    steps.iter().map(|step| Element::parse(step).unwrap().unwrap()).collect()
}
