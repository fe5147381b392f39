//! Volumes in directories of this machine, one a pod, made by the pod runner.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fv_host::safe_path::SafeDir;
use fv_render::pod_volume_name;

use super::VolumeError;
use crate::disks::PrepareError;
use crate::ports::{LauncherPod, PodDirectory, PodVolume, PodVolumes};

/// The volumes of a pod are in `<pods_dir>/<pod uid>/volumes`, where only root makes or removes any.
pub struct DirectoryVolumes {
    pods_dir: PathBuf,
}

impl DirectoryVolumes {
    /// Of the pods in this directory.
    pub fn new(pods_dir: PathBuf) -> Self {
        Self { pods_dir }
    }
}

#[async_trait::async_trait]
impl PodVolumes for DirectoryVolumes {
    async fn open(&self, pod: &LauncherPod, volumes: &[String]) -> Result<BTreeMap<String, PodVolume>, PrepareError> {
        uuid::Uuid::parse_str(&pod.uid).map_err(|_| PrepareError::LauncherMissing)?;
        let (dir, names) = (self.pods_dir.join(&pod.uid).join("volumes"), volumes.to_vec());
        let open = move || names.into_iter().map(|name| Ok((name.clone(), open_in(&dir, &name)?))).collect();
        tokio::task::spawn_blocking(open).await.map_err(PrepareError::Aborted)?
    }
}

fn open_in(dir: &Path, volume: &str) -> Result<PodVolume, PrepareError> {
    let open = || SafeDir::open_trusted(dir)?.open_dir(pod_volume_name(volume));
    let dir = open().map_err(VolumeError::open("open its directory")).map_err(|error| error.of(volume))?;
    Ok(PodVolume::Directory(PodDirectory { dir, mounts: None }))
}
