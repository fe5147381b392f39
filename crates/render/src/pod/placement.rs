//! Where a launcher pod may run.

use std::collections::BTreeMap;

use fv_api::VirtualMachineInstanceSpec;
use fv_api::config::{ClusterConfig, Engine};
use fv_api::meta::labels;
use k8s_openapi::api::core::v1::{Affinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};

use super::LauncherPodOptions;

const ARCH: &str = "kubernetes.io/arch";

/// The user's selector, and: the node has a working node agent, the guest's architecture, and on a cluster hardware virtualisation unless
/// emulation is allowed.
///
/// Not by asking for `devices.kubevirt.io/kvm`, as upstream does: a kubelet (1.35) that starts again sees its own Node without the labels
/// others gave it; finding that a selector does not hold it looks again, and forgets which devices running pods have. It then ends every
/// pod that has both a selector and a device.
pub(super) fn node_selector(spec: &VirtualMachineInstanceSpec, config: &ClusterConfig) -> BTreeMap<String, String> {
    let mut selector = spec.node_selector.clone();
    selector.insert(labels::NODE_SCHEDULABLE.to_owned(), "true".to_owned());
    let arch = spec
        .architecture
        .clone()
        .filter(|arch| !arch.is_empty())
        .unwrap_or_else(|| config.default_architecture.clone());
    selector.insert(ARCH.to_owned(), arch);
    if config.engine == Engine::Kubernetes && !config.use_emulation {
        selector.insert(labels::NODE_KVM.to_owned(), "true".to_owned());
    }
    selector
}

/// The user's affinity; for a replacement also the node that holds the guest, in every alternative.
pub(super) fn affinity(spec: &VirtualMachineInstanceSpec, options: &LauncherPodOptions) -> Option<Affinity> {
    let Some(node) = &options.pinned_node else { return spec.affinity.clone() };
    let on_node = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.clone()]),
    };
    let mut affinity = spec.affinity.clone().unwrap_or_default();
    let node_affinity = affinity.node_affinity.get_or_insert_default();
    let required = node_affinity
        .required_during_scheduling_ignored_during_execution
        .get_or_insert_with(|| NodeSelector { node_selector_terms: Vec::new() });
    if required.node_selector_terms.is_empty() {
        required.node_selector_terms.push(NodeSelectorTerm::default());
    }
    for term in &mut required.node_selector_terms {
        term.match_fields.get_or_insert_default().push(on_node.clone());
    }
    Some(affinity)
}
