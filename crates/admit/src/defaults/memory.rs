//! Guest memory.

use serde_json::Value;

use crate::json;
use crate::quantity;

/// Without guest memory, the guest has what is requested, else the limit, else one huge page.
pub(super) fn guest(spec: &mut Value) {
    if json::get(spec, "domain.memory.guest").is_some_and(|guest| !guest.is_null()) {
        return;
    }
    let sources =
        ["domain.resources.requests.memory", "domain.resources.limits.memory", "domain.memory.hugepages.pageSize"];
    let amount = sources
        .iter()
        .filter_map(|source| json::get(spec, source).and_then(quantity::read))
        .find(|amount| !amount.is_zero());
    if let Some(amount) = amount {
        json::default(spec, "domain.memory.guest", amount.to_string());
    }
}
