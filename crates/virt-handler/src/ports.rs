//! The node as the engine sees it: network and disks behind small ports, so that tests can script them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fv_api::VirtualMachineInstance;
use fv_domain::{DiskSource, EfiFiles};
use fv_guestdata::Secrets;
use fv_host::link::LinkStats;
use fv_host::mount;
use fv_host::network::{NetworkError, NetworkSetup};
use fv_host::safe_path::SafeDir;
use fv_netplan::{NetPlan, PodNetworkFacts};
use tokio::net::TcpStream;

use crate::disks::PrepareError;
use crate::probe::Dial;

/// The network of VMs; see [`NetworkSetup`] for the order of calls.
#[async_trait::async_trait]
pub trait NodeNetwork: Dial + Send + Sync + 'static {
    async fn pod_facts(&self, vmi_uid: &str, pod: BorrowedFd<'_>) -> Result<PodNetworkFacts, NetworkError>;
    async fn ensure(&self, plan: &NetPlan, pod: BorrowedFd<'_>) -> Result<(), NetworkError>;
    /// Only while no domain of the VM exists.
    async fn create_taps(&self, plan: &NetPlan) -> Result<(), NetworkError>;
    async fn attach_taps(&self, plan: &NetPlan) -> Result<(), NetworkError>;
    /// Only once the domain is gone.
    async fn release(&self, vmi_uid: &str) -> Result<(), NetworkError>;
    /// What passed a tap, as the guest sees it. `None`: there is no such tap.
    async fn counters(&self, vmi_uid: &str, tap: &str) -> Result<Option<LinkStats>, NetworkError>;
}

#[async_trait::async_trait]
impl NodeNetwork for NetworkSetup {
    async fn pod_facts(&self, vmi_uid: &str, pod: BorrowedFd<'_>) -> Result<PodNetworkFacts, NetworkError> {
        NetworkSetup::pod_facts(self, vmi_uid, pod).await
    }

    async fn ensure(&self, plan: &NetPlan, pod: BorrowedFd<'_>) -> Result<(), NetworkError> {
        let changes = NetworkSetup::ensure(self, plan, pod).await?;
        if !changes.made.is_empty() {
            tracing::debug!(uid = %plan.vmi_uid, changes = ?changes.made, "network made");
        }
        Ok(())
    }

    async fn create_taps(&self, plan: &NetPlan) -> Result<(), NetworkError> {
        NetworkSetup::create_taps(self, plan).await
    }

    async fn attach_taps(&self, plan: &NetPlan) -> Result<(), NetworkError> {
        NetworkSetup::attach_taps(self, plan).await.map(drop)
    }

    async fn release(&self, vmi_uid: &str) -> Result<(), NetworkError> {
        NetworkSetup::release(self, vmi_uid).await
    }

    async fn counters(&self, vmi_uid: &str, tap: &str) -> Result<Option<LinkStats>, NetworkError> {
        self.guest_stats(vmi_uid, tap).await
    }
}

/// From where a kubelet would: the node itself.
#[async_trait::async_trait]
impl Dial for NetworkSetup {
    async fn dial(&self, address: SocketAddr) -> std::io::Result<TcpStream> {
        NetworkSetup::dial(self, address).await
    }
}

/// The control groups of VMs, where libvirt's own do not do.
#[async_trait::async_trait]
pub trait NodeCgroups: Send + Sync + 'static {
    /// Puts a domain's QEMU beside its pod's group, with the pod's shares and limits. Repeating it takes changed limits over.
    async fn confine(&self, qemu: &QemuProcess) -> Result<(), CgroupError>;
    /// Removes the VM's group. Only once the domain is gone.
    async fn release(&self, vmi_uid: &str) -> Result<(), CgroupError>;
}

/// A QEMU and the pod that stands for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QemuProcess {
    pub vmi_uid: String,
    /// Name of its domain.
    pub domain: String,
    pub pid: u32,
    pub pod_uid: String,
}

/// Why QEMU's control group is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("pod {pod_uid} has no process on this node")]
    PodMissing { pod_uid: String },
    #[error("control group {} of the pod is not below /sys/fs/cgroup: the node's /sys/fs/cgroup has to be mounted there", path.display())]
    NotVisible { path: PathBuf },
    #[error("{step} control group {}", path.display())]
    Group {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("control group work did not finish")]
    Aborted(#[source] tokio::task::JoinError),
}

/// What the disks of a VM are made from.
#[derive(Clone, Debug)]
pub struct DiskRequest {
    pub vmi: Arc<VirtualMachineInstance>,
    pub uid: String,
    /// The launcher pod on this node, once it is there.
    pub pod_uid: Option<String>,
    /// The host user QEMU of this VM runs as.
    pub qemu_uid: u32,
    /// Secrets the cloud-init volumes name.
    pub secrets: Secrets,
    /// Pull secret of each containerDisk volume that names one.
    pub pull_secrets: BTreeMap<String, Vec<u8>>,
    /// UEFI code and variable template, when the VMI boots by EFI.
    pub efi: Option<fv_hypervisor::EfiFirmware>,
}

/// The disks of a VM, ready.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PreparedDisks {
    pub sources: BTreeMap<String, DiskSource>,
    pub efi: Option<EfiFiles>,
}

/// The disks of VMs.
#[async_trait::async_trait]
pub trait NodeDisks: Send + Sync + 'static {
    /// Makes what is missing; what exists is kept. Dropping the future stops a pull.
    async fn prepare(&self, request: &DiskRequest) -> Result<PreparedDisks, PrepareError>;
    /// Removes the VM's disks and its claims on images. Only once the domain is gone.
    async fn release(&self, vmi_uid: &str) -> Result<(), PrepareError>;
    /// UIDs of VMs with disks or claims on images. Others' claims may be among them, under names that are no UIDs.
    async fn holders(&self) -> Result<BTreeSet<String>, PrepareError>;
}

/// The pod that stands for a VM on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LauncherPod {
    pub namespace: String,
    pub uid: String,
    pub vmi_uid: String,
}

/// What a launcher pod has for a volume.
#[derive(Debug)]
pub enum PodVolume {
    /// A directory.
    Directory(PodDirectory),
    /// The number of a block device.
    Device(u64),
}

/// A directory of a pod. It is in the pod's own mount, so hold it for a moment only: what is to stay is copied.
#[derive(Debug)]
pub struct PodDirectory {
    pub dir: SafeDir,
    /// The mount namespace it is mounted in; `None`: ours.
    pub mounts: Option<OwnedFd>,
}

impl PodDirectory {
    /// A private copy of the mount that shows one open file of this directory, whatever becomes of the pod. Blocking.
    pub fn copy(&self, file: &File) -> std::io::Result<OwnedFd> {
        match &self.mounts {
            Some(mounts) => mount::clone_open_in(mounts.as_fd(), file.as_fd()),
            None => mount::clone_tree(file, Path::new("")),
        }
    }
}

/// The volumes of launcher pods on this node.
#[async_trait::async_trait]
pub trait PodVolumes: Send + Sync + 'static {
    /// What the pod has for these volumes of its VMI; an error when it lacks one.
    async fn open(&self, pod: &LauncherPod, volumes: &[String]) -> Result<BTreeMap<String, PodVolume>, PrepareError>;
}
