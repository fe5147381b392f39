//! A Kubernetes node as the handler finds it: launcher pods run by a kubelet and a container runtime that know nothing of us.
//!
//! What belongs to a pod is found by what the kubelet and the runtime themselves made: the pod's uid in the names of its cgroups, its
//! directory below the kubelet's. What is in a container is only reached through descriptors of a process of it that was checked
//! after it was opened; nothing there is trusted.

pub mod cgroup_path;
pub mod cgroups;
mod containers;
pub mod contract;
pub mod disks;
mod libvirt;
pub mod node;
pub mod processes;
pub mod program;
mod replacement;
pub mod sandboxes;
pub mod secrets;
pub mod volumes;

pub use cgroups::KubeletCgroups;
pub use disks::KubeletDisks;
pub use sandboxes::KubeletSandboxes;
pub use volumes::ContainerVolumes;
