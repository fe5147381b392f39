//! Disks of VMs whose images a kubelet pulled: the content of a containerDisk is in the root directory of its container.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};

use fv_disk::{UnpackedImage, no_progress};
use fv_render::container_disk_container;
use k8s_openapi::api::core::v1::Pod;

use super::containers::running;
use super::processes::of_pod;
use crate::cluster::{Cluster, names};
use crate::disks::{LocalDisks, PrepareError};
use crate::ports::{DiskRequest, NodeDisks, PreparedDisks};

/// [`LocalDisks`] that never pull.
pub struct KubeletDisks {
    local: LocalDisks,
    cluster: Cluster,
}

impl KubeletDisks {
    /// `cluster` tells which containers a launcher pod has.
    pub fn new(local: LocalDisks, cluster: Cluster) -> Self {
        Self { local, cluster }
    }

    async fn images(&self, request: &DiskRequest) -> Result<BTreeMap<String, fv_disk::ImageHandle>, PrepareError> {
        let mut images = BTreeMap::new();
        let (namespace, _) = names(&request.vmi);
        let disks = request.vmi.spec.volumes.iter().filter_map(|v| Some((&v.name, v.container_disk.as_ref()?)));
        let disks: Vec<_> = disks.collect();
        if disks.is_empty() {
            return Ok(images);
        }
        let pod_uid = request.pod_uid.as_deref().ok_or(PrepareError::LauncherMissing)?;
        let pod = self.cluster.launcher_pod(namespace, &request.uid, pod_uid).await?;
        let pod = pod.ok_or(PrepareError::LauncherMissing)?;
        for (volume, disk) in disks {
            let not = |problem: String| PrepareError::ContainerDisk {
                volume: volume.clone(),
                image: disk.image.clone(),
                problem,
            };
            let container = ImageContainer::of(&pod, &container_disk_container(volume)).map_err(not)?;
            let root = container_root(pod_uid, &container.id).await?;
            let root = root.ok_or_else(|| not(format!("container {} has no process on this node", container.id)))?;
            let image = UnpackedImage {
                image: disk.image.clone(),
                digest: container.image_id,
                scope: namespace.to_owned(),
                path: disk.path.clone(),
            };
            let handle = self.local.images().ensure_unpacked(&image, root, &request.uid, no_progress()).await;
            let handle = handle.map_err(|source| PrepareError::Pull {
                volume: volume.clone(),
                image: disk.image.clone(),
                source,
            })?;
            images.insert(volume.clone(), handle);
        }
        Ok(images)
    }
}

#[async_trait::async_trait]
impl NodeDisks for KubeletDisks {
    async fn prepare(&self, request: &DiskRequest) -> Result<PreparedDisks, PrepareError> {
        let images = self.images(request).await?;
        self.local.make(request, images).await
    }

    async fn release(&self, vmi_uid: &str) -> Result<(), PrepareError> {
        self.local.release(vmi_uid).await
    }

    async fn holders(&self) -> Result<BTreeSet<String>, PrepareError> {
        self.local.holders().await
    }
}

/// What the kubelet says of a container that runs.
#[derive(Debug, PartialEq, Eq)]
struct ImageContainer {
    id: String,
    /// The image's digest, in the runtime's spelling.
    image_id: String,
}

impl ImageContainer {
    fn of(pod: &Pod, name: &str) -> Result<Self, String> {
        let (id, found) = running(pod, name)?;
        if !found.image_id.contains("sha256:") {
            return Err(format!("image id {:?} of container {name:?} has no sha256 digest", found.image_id));
        }
        Ok(Self { id, image_id: found.image_id.clone() })
    }
}

/// The root directory of a container's first process.
async fn container_root(pod_uid: &str, container: &str) -> Result<Option<OwnedFd>, PrepareError> {
    let (pod_uid, container) = (pod_uid.to_owned(), container.to_owned());
    let look = move || {
        let process = of_pod(&pod_uid)?.into_iter().find(|process| process.container() == container);
        match process {
            Some(process) => process.root()?.map(|root| root.as_fd().try_clone_to_owned()).transpose(),
            None => Ok(None),
        }
    };
    tokio::task::spawn_blocking(look).await.map_err(PrepareError::Aborted)?.map_err(PrepareError::Processes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn container_is_taken_once_it_runs_and_is_known_by_digest() {
        let pod = |change: Value| -> Pod {
            let mut status = json!({
                "name": "volumeroot", "image": "demo:1", "imageID": "registry.example/demo@sha256:aa", "ready": true,
                "restartCount": 0, "containerID": "containerd://0b6e9f1c2d3a", "state": {"running": {}},
            });
            status.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            serde_json::from_value(json!({"status": {"containerStatuses": [status]}})).unwrap()
        };
        let good = ImageContainer::of(&pod(json!({})), "volumeroot").unwrap();
        assert_eq!((good.id.as_str(), good.image_id.as_str()), ("0b6e9f1c2d3a", "registry.example/demo@sha256:aa"));
        for (change, expected) in [
            (json!({"name": "volumeother"}), "no container"),
            (json!({"state": {"waiting": {"reason": "ContainerCreating"}}}), "does not run"),
            (json!({"state": {}}), "does not run"),
            (json!({"containerID": null}), "no id"),
            (json!({"containerID": "containerd://"}), "no id"),
            (json!({"imageID": "demo:1"}), "no sha256 digest"),
        ] {
            let told = ImageContainer::of(&pod(change.clone()), "volumeroot").unwrap_err();
            assert!(told.contains(expected), "{change}: {told}");
        }
    }
}
