//! Volumes in directories of this machine, one a pod, made by the pod runner: directories, and devices mounted over files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fv_host::safe_path::SafeDir;
use fv_render::pod_volume_name;
use rustix::fs::FileType;

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
    let name = pod_volume_name(volume);
    let open = || {
        let pod = SafeDir::open_trusted(dir)?;
        let stat = pod.stat(&name)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice {
            return Ok(PodVolume::Device(stat.st_rdev));
        }
        Ok(PodVolume::Directory(PodDirectory { dir: pod.open_dir(&name)?, mounts: None }))
    };
    open().map_err(VolumeError::open("open its directory")).map_err(|error| error.of(volume))
}
