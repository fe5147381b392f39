//! Feature gates. A gate only permits, so naming one that upstream has on by default asks for nothing and is let through;
//! one that is off by default is wanted for what it opens, and so refused until that works.

/// Gates that upstream has on for everybody.
const ALWAYS_ON: &[&str] = &[
    "LiveMigration",
    "SRIOVLiveMigration",
    "NonRoot",
    "PSA",
    "CPUNodeDiscovery",
    "NUMA",
    "CommonInstancetypesDeploymentGate",
    "GPU",
    "HotplugNICs",
    "BochsDisplayForEFIGuests",
    "VMLiveUpdateFeatures",
    "NetworkBindingPlugins",
    "DynamicPodInterfaceNaming",
    "VolumesUpdateStrategy",
    "VolumeMigration",
    "DisableCustomSELinuxPolicy",
    "AutoResourceLimitsGate",
    "ClusterProfiler",
    "VMPersistentState",
    "VMExport",
    "PersistentReservation",
    "InstancetypeReferencePolicy",
    "EnableVirtioFsConfigVolumes",
    "ExpandDisks",
    "PanicDevices",
    "LiveUpdateNADRef",
    "VideoConfig",
    "SecureExecution",
    "MigrationPriorityQueue",
    "VmiMemoryOverheadReport",
    "LibvirtHooksServerAndClient",
    "ImageVolume",
    "Snapshot",
    "WorkloadEncryptionSEV",
    "KubevirtSeccompProfile",
    "NodeRestriction",
    "GPUsWithDRA",
    "HostDevicesWithDRA",
    "DecentralizedLiveMigration",
    "DeclarativeHotplugVolumes",
    "PasstBinding",
    "PodSecondaryInterfaceNamingUpgrade",
    "ExternalNetResourceInjection",
    "RebootPolicy",
    "Template",
    "OptOutRoleAggregation",
];

/// Gates that are off by default and open something that works.
const IMPLEMENTED: &[&str] = &["HostDisk"];

/// Gates whose feature needs none here.
const NOT_NEEDED: &[&str] = &["PortRangesSpec"];

/// What is wrong with naming a gate.
pub(super) fn fault(gate: &str) -> Option<&'static str> {
    let is_known = [ALWAYS_ON, IMPLEMENTED, NOT_NEEDED].iter().any(|gates| gates.contains(&gate));
    (!is_known).then_some("remove it")
}
