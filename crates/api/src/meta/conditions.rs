//! Condition types and reasons.
pub const READY: &str = "Ready";
pub const SYNCHRONIZED: &str = "Synchronized";
pub const PAUSED: &str = "Paused";
pub const PROVISIONING: &str = "Provisioning";
pub const FAILURE: &str = "Failure";
pub const RESTART_REQUIRED: &str = "RestartRequired";
pub const AGENT_CONNECTED: &str = "AgentConnected";
pub const LIVE_MIGRATABLE: &str = "LiveMigratable";
pub const STORAGE_LIVE_MIGRATABLE: &str = "StorageLiveMigratable";
pub const POD_SCHEDULED: &str = "PodScheduled";
pub const SOFTWARE_EMULATION: &str = "SoftwareEmulation";
/// Set by the node agent on a VMI being deleted once the domain is gone from the node and all it used is released.
/// The controller removes pod and finalizer only after it (or when no node ever held the VMI).
pub const DOMAIN_DELETED: &str = "DomainDeleted";
/// Pod readiness gate: whether the guest is not paused.
pub const POD_VM_UNPAUSED: &str = "kubevirt.io/virtual-machine-unpaused";
