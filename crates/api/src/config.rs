//! The cluster-wide settings that admission, planning and rendering read: the implemented part of upstream's
//! `KubeVirtConfiguration`, resolved (every field has its value).

use crate::quantity::Quantity;

mod kubevirt;
mod rotation;

pub use kubevirt::ConfigError;
pub use rotation::{CertificateRotation, Lifetime};

/// The feature gate of hostDisk volumes.
pub const HOST_DISK: &str = "HostDisk";

/// Resolved cluster configuration. [`ClusterConfig::default`] is upstream's default.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterConfig {
    /// Software emulation (TCG) may be used where the node has no usable KVM (`developerConfiguration.useEmulation`).
    pub use_emulation: bool,
    /// `cpuModel`: the model of VMIs that name none; `None` means `host-model`.
    pub cpu_model: Option<String>,
    /// `cpuRequest` of VMIs that name none.
    pub cpu_request: Option<Quantity>,
    /// vCPUs per requested host CPU (`developerConfiguration.cpuAllocationRatio`).
    pub cpu_allocation_ratio: u32,
    /// Guest memory in per cent of requested memory (`developerConfiguration.memoryOvercommit`).
    pub memory_overcommit: u32,
    /// Go's name of the nodes' architecture: `amd64`, `arm64`, `s390x`.
    pub default_architecture: String,
    /// Machine type of VMIs that name none.
    pub machine_type: String,
    /// Globs of allowed machine types.
    pub emulated_machines: Vec<String>,
    /// Binding of the default interface (`network.defaultNetworkInterface`).
    pub default_network_interface: DefaultBinding,
    /// Whether the bridge binding may be used on the pod network.
    pub permit_bridge_on_pod_network: bool,
    /// The image of launcher pods, e.g. `quay.io/ferrovirt/virt-launcher:v0.1.0`.
    pub launcher_image: String,
    /// `imagePullPolicy` of that image.
    pub launcher_pull_policy: String,
    /// Who runs launcher pods.
    pub engine: Engine,
    /// `virtualMachineOptions.disableSerialConsoleLog`.
    pub disable_serial_console_log: bool,
    /// hostDisk volumes are allowed (feature gate `HostDisk`).
    pub host_disk: bool,
}

/// Who runs launcher pods, and so what a launcher pod has to bring along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// The pod runner of the embedded mode: images and devices are the node agent's business.
    #[default]
    Embedded,
    /// A kubelet: it pulls the images of containerDisks and mounts secrets.
    Kubernetes,
}

/// Binding of an interface nobody asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultBinding {
    Bridge,
    Masquerade,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            use_emulation: false,
            cpu_model: None,
            cpu_request: None,
            cpu_allocation_ratio: 10,
            memory_overcommit: 100,
            default_architecture: "amd64".into(),
            machine_type: "q35".into(),
            emulated_machines: vec!["q35*".into(), "pc-q35*".into()],
            default_network_interface: DefaultBinding::Bridge,
            permit_bridge_on_pod_network: true,
            launcher_image: "quay.io/ferrovirt/virt-launcher:v0.1.0".into(),
            launcher_pull_policy: "IfNotPresent".into(),
            engine: Engine::default(),
            disable_serial_console_log: false,
            host_disk: false,
        }
    }
}
