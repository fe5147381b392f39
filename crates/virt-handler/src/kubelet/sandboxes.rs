//! Launcher pods on a kubelet's node.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fv_render::SHARE_VOLUME;
use parking_lot::Mutex;

use super::processes::{PodProcess, of_pod};
use crate::sandbox::{PodSandbox, PodSandboxes, SandboxError};

/// A resolver configuration is a few lines.
const MAX_RESOLV_CONF: u64 = 64 * 1024;

/// The directory in which a kubelet keeps a pod's volumes of one kind; `None` for what is no uid. Its parents are root's alone.
pub(super) fn volume_dir(kubelet_dir: &Path, pod_uid: &str, plugin: &str, volume: &str) -> Option<PathBuf> {
    uuid::Uuid::parse_str(pod_uid).ok()?;
    Some(kubelet_dir.join("pods").join(pod_uid).join("volumes").join(plugin).join(volume))
}

/// Finds pods by their processes and the kubelet's directory.
pub struct KubeletSandboxes {
    kubelet_dir: PathBuf,
    /// The process through which each pod's namespace was found last: looking through all of /proc again takes its end.
    known: Arc<Mutex<HashMap<String, PodProcess>>>,
}

impl KubeletSandboxes {
    /// `kubelet_dir` is the kubelet's root directory, as this program sees it: `/var/lib/kubelet`.
    pub fn new(kubelet_dir: impl Into<PathBuf>) -> Self {
        Self { kubelet_dir: kubelet_dir.into(), known: Arc::default() }
    }
}

#[async_trait::async_trait]
impl PodSandboxes for KubeletSandboxes {
    async fn locate(&self, pod_uid: &str) -> Result<Option<PodSandbox>, SandboxError> {
        let read = |source| SandboxError::Read { pod_uid: pod_uid.to_owned(), source };
        let share = volume_dir(&self.kubelet_dir, pod_uid, "kubernetes.io~empty-dir", SHARE_VOLUME);
        let Some(share_dir) = share.filter(|dir| dir.is_dir()) else { return Ok(None) };
        let (known, uid) = (Arc::clone(&self.known), pod_uid.to_owned());
        let found = tokio::task::spawn_blocking(move || {
            let mut known = known.lock();
            known.retain(|_, process| process.is_alive());
            let process = match known.remove(&uid) {
                Some(process) => process,
                // The oldest is the sandbox's own, which nobody in the pod can move to another namespace.
                None => match of_pod(&uid)?.into_iter().next() {
                    Some(process) => process,
                    None => return Ok(None),
                },
            };
            let Some(netns) = process.netns()? else { return Ok(None) };
            let found = (OwnedFd::from(netns), resolv_conf(&process));
            known.insert(uid, process);
            Ok(Some(found))
        })
        .await
        .map_err(|error| read(io::Error::other(error)))?;
        Ok(found.map_err(read)?.map(|(netns, resolv_conf)| PodSandbox { netns, share_dir, resolv_conf }))
    }
}

/// The resolver configuration the kubelet gave the pod.
fn resolv_conf(process: &PodProcess) -> Option<String> {
    let file: File = process.root().ok()??.open_regular("etc/resolv.conf", false).ok()?;
    let mut text = Vec::new();
    file.take(MAX_RESOLV_CONF).read_to_end(&mut text).ok()?;
    String::from_utf8(text).ok()
}
