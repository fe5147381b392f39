//! The tables of the KubeVirt resource: change them with the code that acts on a field.

use super::table::Row;

/// Implemented fields, and who acts on each.
pub(super) const IMPLEMENTED: &[Row] = &[
    ("spec.certificateRotateStrategy.selfSigned.ca.**", "operator: certificates"),
    ("spec.certificateRotateStrategy.selfSigned.server.**", "operator: certificates"),
    ("spec.configuration.architectureConfiguration.amd64.emulatedMachines", "api: ClusterConfig"),
    ("spec.configuration.architectureConfiguration.amd64.machineType", "api: ClusterConfig"),
    ("spec.configuration.architectureConfiguration.arm64.emulatedMachines", "api: ClusterConfig"),
    ("spec.configuration.architectureConfiguration.arm64.machineType", "api: ClusterConfig"),
    ("spec.configuration.architectureConfiguration.defaultArchitecture", "api: ClusterConfig"),
    ("spec.configuration.architectureConfiguration.s390x.emulatedMachines", "api: ClusterConfig"),
    ("spec.configuration.architectureConfiguration.s390x.machineType", "api: ClusterConfig"),
    ("spec.configuration.cpuModel", "api: ClusterConfig"),
    ("spec.configuration.cpuRequest", "api: ClusterConfig"),
    ("spec.configuration.developerConfiguration.cpuAllocationRatio", "api: ClusterConfig"),
    ("spec.configuration.developerConfiguration.featureGates", "admit: gates of what is implemented"),
    ("spec.configuration.developerConfiguration.memoryOvercommit", "api: ClusterConfig"),
    ("spec.configuration.developerConfiguration.useEmulation", "api: ClusterConfig"),
    ("spec.configuration.emulatedMachines", "api: ClusterConfig"),
    ("spec.configuration.evictionStrategy", "admit: only None"),
    ("spec.configuration.machineType", "api: ClusterConfig"),
    ("spec.configuration.network.defaultNetworkInterface", "api: ClusterConfig"),
    ("spec.configuration.network.permitBridgeInterfaceOnPodNetwork", "api: ClusterConfig"),
    ("spec.configuration.roleAggregationStrategy", "render: user roles"),
    ("spec.configuration.virtualMachineOptions.disableSerialConsoleLog", "api: ClusterConfig"),
    ("spec.configuration.vmRolloutStrategy", "admit: only Stage"),
    ("spec.customizeComponents.flags.**", "render: customize"),
    ("spec.customizeComponents.patches.**", "render: customize"),
    ("spec.imagePullPolicy", "render: components"),
    ("spec.imagePullSecrets.**", "render: components"),
    ("spec.imageRegistry", "render: components"),
    ("spec.imageTag", "render: components"),
    ("spec.infra.nodePlacement.**", "render: virt-api, virt-controller"),
    ("spec.infra.replicas", "render: virt-api, virt-controller"),
    ("spec.monitorAccount", "render: monitoring"),
    ("spec.monitorNamespace", "render: monitoring"),
    ("spec.productComponent", "render: labels"),
    ("spec.productName", "render: labels"),
    ("spec.productVersion", "render: labels"),
    ("spec.serviceMonitorNamespace", "render: monitoring"),
    ("spec.uninstallStrategy", "operator: removal"),
    ("spec.workloadUpdateStrategy.workloadUpdateMethods", "admit: only none"),
    ("spec.workloads.nodePlacement.**", "render: virt-handler"),
];

/// What to do instead of fields that are not implemented, where "remove it" does not say it all. Paths are below
/// `spec.configuration`, or whole.
pub(super) const WAYS_OUT: &[Row] = &[
    (
        "spec.certificateRotateStrategy.selfSigned.caOverlapInterval",
        "use ca.renewBefore; the old authority stays in the bundle until it ends",
    ),
    ("spec.certificateRotateStrategy.selfSigned.caRotateInterval", "use ca.duration"),
    ("spec.certificateRotateStrategy.selfSigned.certRotateInterval", "use server.duration"),
    ("spec.workloads.replicas", "remove it; virt-handler runs once on every node that nodePlacement allows"),
    ("developerConfiguration.disabledFeatureGates", "leave it empty"),
    ("imagePullPolicy", "use spec.imagePullPolicy"),
    ("instancetype", "remove it; there are no instance types"),
    ("liveUpdateConfiguration", "remove it; CPUs and memory are not hot-plugged"),
    ("migrations", "remove it; machines are not migrated"),
    ("minCPUModel", "use cpuModel"),
    ("ovmfPath", "remove it; the node's firmware is found"),
    ("permittedHostDevices", "remove it; host devices are not passed to guests"),
];
