//! The interface of a VMI that names none.

use fv_api::config::{ClusterConfig, DefaultBinding};
use serde_json::{Value, json};

use crate::json;

const NAME: &str = "default";

/// A VMI with neither networks nor interfaces gets one of each, on the pod network, unless it asks for none.
pub(super) fn default_interface(spec: &mut Value, config: &ClusterConfig) {
    let asks_for_none = json::get(spec, "domain.devices.autoattachPodInterface") == Some(&Value::Bool(false));
    let is_given = ["networks", "domain.devices.interfaces"].iter().any(|path| {
        json::get(spec, path).is_some_and(|list| !list.is_null() && list.as_array().is_none_or(|l| !l.is_empty()))
    });
    if asks_for_none || is_given {
        return;
    }
    let binding = match config.default_network_interface {
        DefaultBinding::Bridge => "bridge",
        DefaultBinding::Masquerade => "masquerade",
    };
    let Some(devices) = json::object(spec, "domain.devices") else { return };
    devices.insert("interfaces".into(), json!([{"name": NAME, binding: {}}]));
    if let Some(spec) = spec.as_object_mut() {
        spec.insert("networks".into(), json!([{"name": NAME, "pod": {}}]));
    }
}
