//! CPU requests, topology and model.

use fv_api::Quantity;
use fv_api::config::ClusterConfig;
use serde_json::Value;

use crate::json;
use crate::quantity;

/// Upstream's request of a VMI that names none: the configured one counts only when it differs from this.
const UPSTREAM_REQUEST: Quantity = Quantity::from_millis(100);
const DEFAULT_MODEL: &str = "host-model";

/// The request is the limit when only that is given; else the configured one.
pub(super) fn requests(spec: &mut Value, config: &ClusterConfig) {
    let limit = json::get(spec, "domain.resources.limits.cpu").cloned();
    let has_limit = limit.as_ref().and_then(quantity::read).is_some_and(|limit| !limit.is_zero());
    let requested = json::get(spec, "domain.resources.requests.cpu").and_then(quantity::read);
    if let Some(limit) = limit.filter(|_| has_limit && requested.is_none_or(|r| r.is_zero()))
        && let Some(requests) = json::object(spec, "domain.resources.requests")
    {
        requests.insert("cpu".into(), limit);
    }
    let configured = config.cpu_request.filter(|request| *request != UPSTREAM_REQUEST);
    let is_pinned = json::get(spec, "domain.cpu.dedicatedCpuPlacement") == Some(&Value::Bool(true));
    if let Some(configured) = configured.filter(|_| !is_pinned)
        && let Some(requests) = json::object(spec, "domain.resources.requests")
    {
        requests.entry("cpu").or_insert_with(|| configured.to_string().into());
    }
}

/// Without a topology, the guest has as many sockets as its CPU limit, else its request, rounded up.
pub(super) fn topology(spec: &mut Value) {
    let is_given = ["cores", "sockets", "threads"].iter().any(|part| {
        json::get(spec, &format!("domain.cpu.{part}")).is_some_and(|n| !n.is_null() && n.as_i64() != Some(0))
    });
    if is_given {
        return;
    }
    let amount = ["limits", "requests"]
        .iter()
        .find_map(|of| json::get(spec, &format!("domain.resources.{of}.cpu")))
        .and_then(quantity::read)
        .map_or(1, |amount| amount.value());
    let sockets = amount.clamp(1, i128::from(u32::MAX)) as u32;
    json::default(spec, "domain.cpu.sockets", sockets);
    json::default(spec, "domain.cpu.cores", 1);
    json::default(spec, "domain.cpu.threads", 1);
}

pub(super) fn model(spec: &mut Value, config: &ClusterConfig) {
    let model = match (json::text(spec, "architecture"), &config.cpu_model) {
        (Some("arm64"), _) => "host-passthrough",
        (_, Some(model)) => model,
        _ => DEFAULT_MODEL,
    };
    let model = model.to_owned();
    json::default(spec, "domain.cpu.model", model);
}
