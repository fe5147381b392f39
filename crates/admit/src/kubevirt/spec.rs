//! The values of a KubeVirt resource's spec.

use fv_api::{ComponentConfig, CustomizeComponents, KubeVirtConfiguration, KubeVirtSpec, VirtualMachineInstanceSpec};
use serde_json::Value;

use super::gates;
use crate::causes::{Causes, Field};
use crate::names;
use crate::validate::placement;

pub(super) const BLOCK_UNINSTALL: &str = "BlockUninstallIfWorkloadsExist";
const UNINSTALL: [&str; 2] = ["RemoveWorkloads", BLOCK_UNINSTALL];
const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
/// Kinds of an installation that are not Kubernetes' own: their lists have no merge keys.
const CUSTOM_KINDS: [&str; 2] = ["ServiceMonitor", "PrometheusRule"];
const PATCH_TYPES: [&str; 3] = ["json", "merge", "strategic"];

pub(super) fn check(spec: &KubeVirtSpec, field: &Field, causes: &mut Causes) {
    one_of(&spec.uninstall_strategy, &UNINSTALL, &field.child("uninstallStrategy"), causes);
    one_of(&spec.image_pull_policy, &PULL_POLICIES, &field.child("imagePullPolicy"), causes);
    images(spec, field, causes);
    if let Some(infra) = &spec.infra {
        let field = field.child("infra");
        placed(infra, &field, causes);
        if infra.replicas == Some(0) {
            causes.invalid(&field.child("replicas"), "infra replica count can't be 0");
        }
    }
    if let Some(workloads) = &spec.workloads {
        placed(workloads, &field.child("workloads"), causes);
    }
    if let Some(strategy) = &spec.workload_update_strategy {
        for (index, method) in strategy.workload_update_methods.iter().enumerate() {
            let at = field.child("workloadUpdateStrategy.workloadUpdateMethods").index(index);
            causes.unimplemented(
                &at,
                method,
                "leave it empty; guests are not part of launcher pods and outlive upgrades",
            );
        }
    }
    if let Some(customized) = &spec.customize_components {
        customizations(customized, &field.child("customizeComponents"), causes);
    }
    for (name, value) in [
        ("productName", &spec.product_name),
        ("productVersion", &spec.product_version),
        ("productComponent", &spec.product_component),
    ] {
        let at = field.child(name);
        for fault in names::label_value(value.as_deref().unwrap_or_default()) {
            causes.invalid(&at, format!("{at}: {fault}"));
        }
    }
    monitoring(spec, field, causes);
    if let Some(configuration) = &spec.configuration {
        settings(configuration, &field.child("configuration"), causes);
    }
}

/// Where a Prometheus is, and as whom it runs.
fn monitoring(spec: &KubeVirtSpec, field: &Field, causes: &mut Causes) {
    type Rule = fn(&str) -> Vec<String>;
    let rows: [(&str, &Option<String>, Rule); 3] = [
        ("monitorNamespace", &spec.monitor_namespace, names::dns_label),
        ("serviceMonitorNamespace", &spec.service_monitor_namespace, names::dns_label),
        ("monitorAccount", &spec.monitor_account, names::dns_subdomain),
    ];
    for (name, value, faults) in rows {
        let at = field.child(name);
        for fault in value.as_deref().filter(|value| !value.is_empty()).map(faults).unwrap_or_default() {
            causes.invalid(&at, format!("{at}: {fault}"));
        }
    }
}

/// The settings that are implemented in part; [`fv_api::config::ClusterConfig`] reads the others.
fn settings(configuration: &KubeVirtConfiguration, field: &Field, causes: &mut Causes) {
    for (name, value, only, way_out) in [
        ("evictionStrategy", &configuration.eviction_strategy, "None", "use None; machines are not migrated"),
        (
            "vmRolloutStrategy",
            &configuration.vm_rollout_strategy,
            "Stage",
            "use Stage; changes take effect at the next start",
        ),
    ] {
        match value.as_deref().unwrap_or_default() {
            "" => {}
            value if value == only => {}
            value => causes.unimplemented(&field.child(name), value, way_out),
        }
    }
    let gates = configuration.developer_configuration.as_ref().map(|developer| developer.feature_gates.as_slice());
    for (index, gate) in gates.unwrap_or_default().iter().enumerate() {
        if let Some(way_out) = gates::fault(gate) {
            causes.unimplemented(&field.child("developerConfiguration.featureGates").index(index), gate, way_out);
        }
    }
}

fn images(spec: &KubeVirtSpec, field: &Field, causes: &mut Causes) {
    let registry = spec.image_registry.as_deref().unwrap_or_default();
    if registry.starts_with(['/', ':']) || registry.ends_with('/') || !registry.bytes().all(is_of_reference) {
        let at = field.child("imageRegistry");
        causes.invalid(&at, format!("{at}: {registry:?} is not a registry: use one such as quay.io/ferrovirt"));
    }
    let tag = spec.image_tag.as_deref().unwrap_or_default();
    let is_tag = tag.len() <= 128
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if !is_tag {
        let at = field.child("imageTag");
        causes.invalid(&at, format!("{at}: {tag:?} is not a tag: use one such as v1.0.0"));
    }
}

fn is_of_reference(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._-/:[]".contains(&byte)
}

fn placed(component: &ComponentConfig, field: &Field, causes: &mut Causes) {
    let Some(wanted) = component.node_placement.clone() else { return };
    let as_instance = VirtualMachineInstanceSpec {
        affinity: wanted.affinity,
        node_selector: wanted.node_selector,
        tolerations: wanted.tolerations,
        ..Default::default()
    };
    placement::check(&as_instance, &field.child("nodePlacement"), causes);
}

fn customizations(customized: &CustomizeComponents, field: &Field, causes: &mut Causes) {
    for (index, patch) in customized.patches.iter().enumerate() {
        let field = field.child("patches").index(index);
        for (name, value) in
            [("resourceType", &patch.resource_type), ("resourceName", &patch.resource_name), ("type", &patch.type_)]
        {
            if value.is_empty() {
                causes.required(&field.child(name), format!("{} must be given", field.child(name)));
            }
        }
        one_of(&Some(patch.type_.clone()), &PATCH_TYPES, &field.child("type"), causes);
        let is_custom = CUSTOM_KINDS.iter().any(|kind| patch.resource_type.eq_ignore_ascii_case(kind));
        if is_custom && patch.type_ == "strategic" {
            let at = field.child("type");
            causes.invalid(
                &at,
                format!("{at}: there are no strategic patches of {}: use json or merge", patch.resource_type),
            );
        }
        let at = field.child("patch");
        match serde_json::from_str::<Value>(&patch.patch) {
            Ok(value) if patch.type_ == "json" && !value.is_array() => {
                causes.invalid(&at, format!("{at}: a JSON patch is a list of operations"));
            }
            Ok(value) if patch.type_ != "json" && !value.is_object() => {
                causes.invalid(&at, format!("{at}: a {} patch is an object", patch.type_));
            }
            Ok(_) => {}
            Err(error) => causes.invalid(&at, format!("{at} is not JSON: {error}")),
        }
    }
    for (component, flags) in
        customized.flags.iter().flat_map(|f| [("api", &f.api), ("controller", &f.controller), ("handler", &f.handler)])
    {
        let at = field.child("flags").child(component);
        for name in flags.keys() {
            if name.is_empty() || name.starts_with('-') || name.contains(['=', ' ']) {
                causes.invalid(
                    &at,
                    format!("{at}: {name:?} is not the name of a flag: write it without dashes and value"),
                );
            }
        }
    }
}

/// A word of a list, or none.
fn one_of(value: &Option<String>, words: &[&str], at: &Field, causes: &mut Causes) {
    let value = value.as_deref().unwrap_or_default();
    if !value.is_empty() && !words.contains(&value) {
        causes.not_supported(at, format!("{at} '{value}': use one of {}", words.join(", ")));
    }
}
