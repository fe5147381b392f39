//! Label and field selectors.

pub(crate) mod field;
pub(crate) mod label;

pub(crate) use field::FieldSelector;
pub(crate) use label::LabelSelector;
