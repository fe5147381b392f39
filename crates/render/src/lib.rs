//! Pure rendering: a VirtualMachineInstance in, the Kubernetes object that represents it out.
//!
//! The launcher pod stands for the VM towards Kubernetes (scheduling, quota, network, volumes). It contains nothing of
//! the VM itself: QEMU is a process of the node, so the pod may die and be replaced while the guest runs.

pub mod install;
pub mod names;
pub mod pod;
pub mod resources;

pub use names::{LauncherPodName, launcher_pod_name};
pub use pod::{
    AutoLimits, LauncherPodOptions, container_disk_container, kubernetes_probe, launcher_pod, pod_volume_name,
    secret_volume_name, volume_device_path, volume_mount_path,
};
pub use resources::{memory_overhead, vcpus};

/// Name of the container that stands for the VM.
pub const COMPUTE_CONTAINER: &str = "compute";
/// Name of the container that prints the guest's serial console.
pub const CONSOLE_LOG_CONTAINER: &str = "guest-console-log";
/// Name of the init container that brings the launcher's binary into the containers of containerDisks.
pub const CONTAINER_DISK_BINARY_CONTAINER: &str = "container-disk-binary";
/// Name of the pod volume that node agent and launcher share.
pub const SHARE_VOLUME: &str = "private";
/// Where [`SHARE_VOLUME`] is mounted in both containers.
pub const SHARE_DIR: &str = "/var/run/kubevirt-private";
/// The file in [`SHARE_DIR`] that says whether the guest is ready, where that is asked of its agent: missing while nobody has asked,
/// empty when it is, else what is wrong.
pub const READINESS_FILE: &str = "readiness";
/// User and group of the launcher, and group of all disk files.
pub const LAUNCHER_UID: i64 = 107;
/// Grace period of a VMI that names none.
pub const DEFAULT_GRACE_PERIOD_SECONDS: i64 = 30;
