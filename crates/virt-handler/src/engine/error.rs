//! Why a step failed.

use fv_domain::DomainError;
use fv_host::network::NetworkError;
use fv_hypervisor::HypervisorError;
use fv_netplan::NetPlanError;

use crate::cluster::ClusterError;
use crate::disks::PrepareError;
use crate::ports::CgroupError;
use crate::sandbox::SandboxError;
use crate::store::StoreError;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    /// A long step was given up because something more important came.
    #[error("interrupted")]
    Interrupted,
    /// The facts the step was decided on no longer hold: decide again.
    #[error("the facts changed")]
    Stale,
    #[error("keep the node's record")]
    Store(#[from] StoreError),
    #[error("prepare the disks")]
    Prepare(#[from] PrepareError),
    #[error("set up the network")]
    Network(#[from] NetworkError),
    #[error("plan the network")]
    NetPlan(#[from] NetPlanError),
    #[error("write the domain")]
    Domain(#[from] DomainError),
    #[error("the hypervisor refused")]
    Hypervisor(#[from] HypervisorError),
    #[error("reach the API")]
    Cluster(#[from] ClusterError),
    #[error("find the launcher pod on this node")]
    Sandbox(#[from] SandboxError),
    #[error("put QEMU beside its pod")]
    Cgroup(#[from] CgroupError),
    #[error("the process of domain {domain} is not known: libvirt's /run/libvirt/qemu has to be readable")]
    QemuProcess { domain: String },
    #[error("write {name} for the launcher")]
    Share {
        name: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("make the socket directory {path}")]
    SocketDir {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("socket path {path} has {length} bytes, at most 107 are possible: choose a shorter run directory")]
    SocketPath { path: String, length: usize },
    #[error(
        "this node has no usable hardware virtualisation, and software emulation is not allowed; allow it with useEmulation"
    )]
    NoAcceleration,
    #[error("machine type {machine:?} is not known to QEMU on this node")]
    Machine { machine: String },
    #[error("UEFI firmware{} is not installed on this node: install the package ovmf", if *secure_boot { " with Secure Boot" } else { "" })]
    NoFirmware { secure_boot: bool },
    #[error("volume {volume:?}: pull secret {secret:?} {problem} in namespace {namespace:?}")]
    PullSecret { volume: String, secret: String, namespace: String, problem: &'static str },
    #[error("work on the node did not finish")]
    Aborted(#[source] tokio::task::JoinError),
}

impl StepError {
    /// Stable reason word for conditions and events.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Interrupted | Self::Stale => "Retry",
            Self::Store(_) => "FailedNodeRecord",
            Self::Prepare(error) => error.reason(),
            Self::Network(_) => "FailedNetworkSetup",
            Self::NetPlan(_) => "InvalidNetwork",
            Self::Domain(_) => "InvalidDomain",
            Self::Hypervisor(error) => error.reason(),
            Self::Cluster(_) => "FailedApiRequest",
            Self::Cgroup(_) | Self::QemuProcess { .. } => "FailedCgroupSetup",
            Self::Sandbox(_) => "FailedPodSandbox",
            Self::Share { .. } | Self::SocketDir { .. } | Self::SocketPath { .. } => "FailedNodeFiles",
            Self::NoAcceleration => "NoHardwareVirtualization",
            Self::Machine { .. } => "UnknownMachineType",
            Self::NoFirmware { .. } => "FirmwareMissing",
            // What kubelet says of a pod in this state.
            Self::PullSecret { .. } => "FailedToRetrieveImagePullSecret",
            Self::Aborted(_) => "InternalError",
        }
    }

    /// Whether a registry is what failed.
    pub(crate) fn is_pull(&self) -> bool {
        matches!(self, Self::Prepare(PrepareError::Pull { .. }))
    }

    /// Whether only the API failed: there is no point in telling it so.
    pub(crate) fn is_only_the_api(&self) -> bool {
        matches!(self, Self::Cluster(_) | Self::Prepare(PrepareError::Cluster(_)))
    }

    /// The error with all its causes.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            let next = error.to_string();
            if !text.ends_with(&next) {
                text.push_str(": ");
                text.push_str(&next);
            }
            source = error.source();
        }
        text
    }
}
