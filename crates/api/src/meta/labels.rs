//! Label keys and values.
pub const APP: &str = "kubevirt.io";
/// On the KubeVirt CRD and what belongs to the operator itself.
pub const OPERATOR: &str = "operator.kubevirt.io";
pub const APP_LAUNCHER: &str = "virt-launcher";
pub const APP_HANDLER: &str = "virt-handler";
/// UID of the VMI a launcher pod was made for.
pub const CREATED_BY: &str = "kubevirt.io/created-by";
/// Name of the node a VMI runs on.
pub const NODE_NAME: &str = "kubevirt.io/nodeName";
/// Name of the VMI, or its hash when longer than 63 characters; services select on it.
pub const VMI_ID: &str = "vmi.kubevirt.io/id";
/// Host name of the VMI (deprecated upstream, still set).
pub const VM_NAME: &str = "vm.kubevirt.io/name";
pub const NODE_SCHEDULABLE: &str = "kubevirt.io/schedulable";
/// Whether guests of the node get hardware virtualisation.
pub const NODE_KVM: &str = "ferrovirt.io/kvm";
/// Prefix of a node's labels that name the CPU models its guests may have.
pub const NODE_CPU_MODEL: &str = "cpu-model.node.kubevirt.io";
/// Prefix of a node's labels that name the CPU features its guests may have.
pub const NODE_CPU_FEATURE: &str = "cpu-feature.node.kubevirt.io";
/// Prefix of a node's labels that name the machine types its guests may have.
pub const NODE_MACHINE_TYPE: &str = "machine-type.node.kubevirt.io";
/// On a VMI whose launcher pod has another image than one that would be made now.
pub const OUTDATED_LAUNCHER_IMAGE: &str = "kubevirt.io/outdatedLauncherImage";
/// UID of the migration a target pod belongs to.
pub const MIGRATION_JOB: &str = "kubevirt.io/migrationJobUID";
/// Node a VMI is being migrated to.
pub const MIGRATION_TARGET_NODE_NAME: &str = "kubevirt.io/migrationTargetNodeName";
/// On definitions: the level of the KubeVirt API; on what an operator installed: `spec.productVersion`, where it is given.
pub const VERSION: &str = "app.kubernetes.io/version";
pub const INSTALL_STRATEGY: &str = "kubevirt.io/install-strategy";
/// Labels of a VMI that only our components write.
pub const RESERVED: &[&str] =
    &[CREATED_BY, MIGRATION_JOB, NODE_NAME, MIGRATION_TARGET_NODE_NAME, NODE_SCHEDULABLE, INSTALL_STRATEGY];
