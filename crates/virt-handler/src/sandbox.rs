//! The port through which the handler finds what the node holds of a launcher pod.
//!
//! Embedded, the pod runner implements it; on Kubernetes the kubelet's directories and the container's process do.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// The node's side of one running launcher pod.
#[derive(Debug)]
pub struct PodSandbox {
    /// The pod's network namespace.
    pub netns: OwnedFd,
    /// Host directory behind the launcher's share directory (`/var/run/kubevirt-private` in the pod).
    pub share_dir: PathBuf,
    /// The resolver configuration of the pod, where it has one of its own.
    pub resolv_conf: Option<String>,
}

/// Why a sandbox could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("read the sandbox of pod {pod_uid}")]
    Read {
        pod_uid: String,
        #[source]
        source: std::io::Error,
    },
}

/// The sandboxes of this node.
#[async_trait::async_trait]
pub trait PodSandboxes: Send + Sync + 'static {
    /// The sandbox of a pod, or `None` while it has none. Absence is never a reason to touch a domain.
    async fn locate(&self, pod_uid: &str) -> Result<Option<PodSandbox>, SandboxError>;
}
