//! Volumes that a kubelet mounted for a launcher pod, taken from where its container `compute` has them: whatever plugin they are of, and
//! whatever the kubelet does to its own mounts of them.

use std::collections::BTreeMap;
use std::io;

use fv_render::{COMPUTE_CONTAINER, volume_device_path, volume_mount_path};
use rustix::fs::FileType;

use super::containers::running;
use super::processes::{PodProcess, of_pod};
use crate::cluster::Cluster;
use crate::disks::PrepareError;
use crate::ports::{LauncherPod, PodDirectory, PodVolume, PodVolumes};
use crate::volumes::VolumeError;

/// Volumes of running launcher pods.
pub struct ContainerVolumes {
    cluster: Cluster,
}

impl ContainerVolumes {
    /// `cluster` tells which container of a pod is which.
    pub fn new(cluster: Cluster) -> Self {
        Self { cluster }
    }
}

#[async_trait::async_trait]
impl PodVolumes for ContainerVolumes {
    async fn open(&self, pod: &LauncherPod, volumes: &[String]) -> Result<BTreeMap<String, PodVolume>, PrepareError> {
        let found = self.cluster.launcher_pod(&pod.namespace, &pod.vmi_uid, &pod.uid).await?;
        let found = found.ok_or(PrepareError::LauncherMissing)?;
        let (container, _) = running(&found, COMPUTE_CONTAINER).map_err(PrepareError::Launcher)?;
        let (pod_uid, names) = (pod.uid.clone(), volumes.to_vec());
        let open = move || {
            let processes = of_pod(&pod_uid).map_err(PrepareError::Processes)?;
            let compute = processes.into_iter().find(|process| process.container() == container);
            let compute = compute
                .ok_or_else(|| PrepareError::Launcher(format!("container {container} has no process on this node")))?;
            names.into_iter().map(|name| Ok((name.clone(), open_in(&compute, &name)?))).collect()
        };
        tokio::task::spawn_blocking(open).await.map_err(PrepareError::Aborted)?
    }
}

fn open_in(compute: &PodProcess, volume: &str) -> Result<PodVolume, PrepareError> {
    let open = || {
        let (Some(root), Some(mounts)) = (compute.root()?, compute.mounts()?) else { return Ok(None) };
        match root.open_dir(beneath(&volume_mount_path(volume))) {
            Ok(dir) => Ok(Some(PodVolume::Directory(PodDirectory { dir, mounts: Some(mounts.into()) }))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let stat = root.stat(beneath(&volume_device_path(volume)))?;
                let is_block = FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice;
                Ok(is_block.then_some(PodVolume::Device(stat.st_rdev)))
            }
            Err(error) => Err(error),
        }
    };
    let opened = open().map_err(VolumeError::open("open it in the launcher pod")).map_err(|error| error.of(volume))?;
    opened.ok_or_else(|| VolumeError::Missing.of(volume))
}

/// A path of the container, beneath its root.
fn beneath(path: &str) -> &str {
    path.trim_start_matches('/')
}
