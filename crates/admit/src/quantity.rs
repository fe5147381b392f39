//! Quantities in JSON values.

use fv_api::Quantity;
use serde_json::Value;

/// The quantity a JSON value stands for, if any.
pub(crate) fn read(value: &Value) -> Option<Quantity> {
    serde_json::from_value(value.clone()).ok()
}
