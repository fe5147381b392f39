//! Where a launcher pod may run.

use std::collections::BTreeMap;

use fv_api::config::{ClusterConfig, Engine};
use fv_api::meta::labels;
use fv_api::{CPUFeature, VirtualMachineInstanceSpec};
use k8s_openapi::api::core::v1::{Affinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};

use super::LauncherPodOptions;

const ARCH: &str = "kubernetes.io/arch";

/// The user's selector, and: the node has a working node agent and the guest's architecture, and on a cluster what [`abilities`] says.
///
/// Not by asking for `devices.kubevirt.io/kvm`, as upstream does: a kubelet (1.35) that starts again sees its own Node without the labels
/// others gave it; finding that a selector does not hold it looks again, and forgets which devices running pods have. It then ends every
/// pod that has both a selector and a device.
pub(super) fn node_selector(
    spec: &VirtualMachineInstanceSpec,
    config: &ClusterConfig,
    options: &LauncherPodOptions,
) -> BTreeMap<String, String> {
    let mut selector = spec.node_selector.clone();
    let mut require = |label: String| selector.insert(label, "true".to_owned());
    require(labels::NODE_SCHEDULABLE.to_owned());
    if config.engine == Engine::Kubernetes {
        if is_in_hardware(config) {
            require(labels::NODE_KVM.to_owned());
        }
        // A guest that runs has all of it where it is, whatever its node's labels say by now.
        if options.pinned_node.is_none() {
            abilities(spec, config).for_each(|label| {
                require(label);
            });
        }
    }
    let arch = spec
        .architecture
        .clone()
        .filter(|arch| !arch.is_empty())
        .unwrap_or_else(|| config.default_architecture.clone());
    selector.insert(ARCH.to_owned(), arch);
    selector
}

/// Whether guests run in hardware, and may be told from what a node's processor has. In software a model and its features are wishes: the
/// guest starts without those that the emulator lacks.
fn is_in_hardware(config: &ClusterConfig) -> bool {
    !config.use_emulation
}

/// Labels, as upstream's, of nodes that can run the guest: its machine type, and in hardware its CPU model and the features it requires. A model
/// whose features the guest changes is none that a node was asked about.
fn abilities(spec: &VirtualMachineInstanceSpec, config: &ClusterConfig) -> impl Iterator<Item = String> {
    let machine =
        spec.domain.machine.as_ref().and_then(|machine| machine.type_.as_deref()).filter(|name| !name.is_empty());
    let cpu = spec.domain.cpu.as_ref().filter(|_| is_in_hardware(config));
    let of_host = ["", "host-model", "host-passthrough"];
    let features = cpu.into_iter().flat_map(|cpu| &cpu.features);
    let is_required = |feature: &&CPUFeature| matches!(feature.policy.as_deref(), None | Some("" | "require"));
    let is_changed = features.clone().any(|feature| !is_required(&feature));
    let model = cpu.and_then(|cpu| cpu.model.as_deref()).filter(|model| !is_changed && !of_host.contains(model));
    let required = features.filter(is_required);
    let machine = machine.map(|name| format!("{}/{name}", labels::NODE_MACHINE_TYPE));
    let model = model.map(|name| format!("{}/{name}", labels::NODE_CPU_MODEL));
    let required: Vec<String> =
        required.map(|feature| format!("{}/{}", labels::NODE_CPU_FEATURE, feature.name)).collect();
    machine.into_iter().chain(model).chain(required)
}

/// The user's affinity, and in every alternative of it: for a replacement the node that holds the guest, otherwise that the node's
/// processor does not have the features that the guest forbids.
pub(super) fn affinity(
    spec: &VirtualMachineInstanceSpec,
    config: &ClusterConfig,
    options: &LauncherPodOptions,
) -> Option<Affinity> {
    let requirement = |key: &str, operator: &str, values: Option<Vec<String>>| NodeSelectorRequirement {
        key: key.to_owned(),
        operator: operator.to_owned(),
        values,
    };
    let (mut fields, mut expressions) = (Vec::new(), Vec::new());
    if let Some(node) = &options.pinned_node {
        fields.push(requirement("metadata.name", "In", Some(vec![node.clone()])));
    } else if config.engine == Engine::Kubernetes && is_in_hardware(config) {
        let features = spec.domain.cpu.iter().flat_map(|cpu| &cpu.features);
        let forbidden = features.filter(|feature| feature.policy.as_deref() == Some("forbid"));
        expressions.extend(forbidden.map(|feature| {
            requirement(&format!("{}/{}", labels::NODE_CPU_FEATURE, feature.name), "DoesNotExist", None)
        }));
    }
    if fields.is_empty() && expressions.is_empty() {
        return spec.affinity.clone();
    }
    let mut affinity = spec.affinity.clone().unwrap_or_default();
    let node_affinity = affinity.node_affinity.get_or_insert_default();
    let required = node_affinity
        .required_during_scheduling_ignored_during_execution
        .get_or_insert_with(|| NodeSelector { node_selector_terms: Vec::new() });
    let is_only = required.node_selector_terms.is_empty();
    if is_only {
        required.node_selector_terms.push(NodeSelectorTerm::default());
    }
    let is_empty = |term: &NodeSelectorTerm| term.match_fields.is_none() && term.match_expressions.is_none();
    // An empty term matches no node, and shall not begin to.
    for term in required.node_selector_terms.iter_mut().filter(|term| is_only || !is_empty(term)) {
        term.match_fields.get_or_insert_default().extend(fields.iter().cloned());
        term.match_expressions.get_or_insert_default().extend(expressions.iter().cloned());
    }
    Some(affinity)
}
