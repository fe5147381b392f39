//! Architecture, machine type, PCI layout.

use fv_api::config::ClusterConfig;
use fv_api::meta::annotations;
use serde_json::Value;

use crate::json;

/// Version of the layout of PCI devices that new guests get.
const PCI_TOPOLOGY: &str = "v3";

pub(super) fn architecture(spec: &mut Value, config: &ClusterConfig) {
    json::default(spec, "architecture", config.default_architecture.as_str());
}

pub(super) fn machine_type(spec: &mut Value, config: &ClusterConfig) {
    let architecture = json::text(spec, "architecture").unwrap_or(&config.default_architecture);
    let machine = match architecture {
        own if own == config.default_architecture => config.machine_type.as_str(),
        "arm64" => "virt",
        "s390x" => "s390-ccw-virtio",
        _ => "q35",
    };
    let machine = machine.to_owned();
    json::default(spec, "domain.machine.type", machine);
}

pub(super) fn pci_topology(object: &mut Value, annotations: &str) {
    if let Some(annotations) = json::object(object, annotations) {
        annotations.entry(annotations::PCI_TOPOLOGY_VERSION).or_insert_with(|| PCI_TOPOLOGY.into());
    }
}
