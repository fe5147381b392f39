//! Annotation keys.
/// Name of the VMI, on its launcher pod.
pub const DOMAIN: &str = "kubevirt.io/domain";
pub const MIGRATION_TRANSPORT_UNIX: &str = "kubevirt.io/migrationTransportUnix";
pub const MEMORY_OVERHEAD_BYTES: &str = "kubevirt.io/memory-overhead-bytes";
pub const VM_GENERATION: &str = "kubevirt.io/vm-generation";
pub const PCI_TOPOLOGY_VERSION: &str = "kubevirt.io/pci-topology-version";
pub const HEARTBEAT: &str = "kubevirt.io/heartbeat";
pub const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
pub const DESCHEDULER_EVICT_ONLY: &str = "descheduler.alpha.kubernetes.io/request-evict-only";
/// Hook sidecars of a VMI.
pub const HOOK_SIDECARS: &str = "hooks.kubevirt.io/hookSidecars";
/// Ignition configuration of a VMI.
pub const IGNITION: &str = "kubevirt.io/ignitiondata";
/// Annotations of a VMI that change what runs, which we do not implement, and what each is about.
pub const UNSUPPORTED: &[(&str, &str)] = &[(HOOK_SIDECARS, "hook sidecars"), (IGNITION, "Ignition")];
/// Hash of the VM template a VMI was made from; a difference means a restart is needed. Ours, not upstream's.
pub const TEMPLATE_HASH: &str = "ferrovirt.io/template-hash";
