//! containerDisks on Kubernetes: one small container per disk, of the disk's image, so that the kubelet pulls it with its own credentials,
//! mirrors and policies. The image need not hold a program: an init container brings the launcher's.

use fv_api::VirtualMachineInstanceSpec;
use fv_api::config::{ClusterConfig, Engine};
use k8s_openapi::api::core::v1::{Container, VolumeMount};
use sha2::{Digest, Sha256};

use super::{LAUNCHER_BINARY, fixed_resources, security};
use crate::CONTAINER_DISK_BINARY_CONTAINER;
use crate::names::MAX_LABEL;

/// The pod volume that carries the program from the launcher's image into the disks' containers.
pub(super) const BINARY_VOLUME: &str = "virt-bin-share-dir";
/// Where the init container writes it.
const INSTALL_DIR: &str = "/init/usr/bin";
/// Where the disks' containers find it.
const BINARY_DIR: &str = "/usr/bin";
const PREFIX: &str = "volume";

/// Name of the container that holds the image of a containerDisk volume: `volume<name>`, as upstream; volume names that leave no room or
/// are no host name labels are cut and told apart by a hash.
pub fn container_name(volume: &str) -> String {
    let room = MAX_LABEL - PREFIX.len();
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if volume.len() <= room && volume.chars().all(fits) {
        return format!("{PREFIX}{volume}");
    }
    let digest = hex::encode(Sha256::digest(volume.as_bytes()));
    let stem: String = volume.chars().filter(|c| fits(*c)).take(room - 9).collect();
    format!("{PREFIX}{stem}-{}", &digest[..8])
}

/// The containers of a VMI's containerDisks. Embedded there are none: the node agent pulls.
pub(super) fn containers(spec: &VirtualMachineInstanceSpec, config: &ClusterConfig) -> Vec<Container> {
    if config.engine == Engine::Embedded {
        return Vec::new();
    }
    let disks = spec.volumes.iter().filter_map(|volume| Some((&volume.name, volume.container_disk.as_ref()?)));
    disks
        .map(|(name, disk)| Container {
            name: container_name(name),
            image: Some(disk.image.clone()),
            // Without one Kubernetes decides by the tag.
            image_pull_policy: disk.image_pull_policy.clone().filter(|policy| !policy.is_empty()),
            command: Some(vec![LAUNCHER_BINARY.to_owned(), "container-disk".to_owned()]),
            resources: Some(fixed_resources(
                &[("cpu", "1m"), ("memory", "1M"), ("ephemeral-storage", "50M")],
                &[("cpu", "10m"), ("memory", "40M")],
            )),
            security_context: Some(security::container_context()),
            volume_mounts: Some(vec![VolumeMount {
                name: BINARY_VOLUME.to_owned(),
                mount_path: BINARY_DIR.to_owned(),
                read_only: Some(true),
                ..Default::default()
            }]),
            ..Default::default()
        })
        .collect()
}

/// The init container that copies the launcher's program for them.
pub(super) fn installer(disks: &[Container], config: &ClusterConfig) -> Option<Container> {
    (!disks.is_empty()).then(|| Container {
        name: CONTAINER_DISK_BINARY_CONTAINER.to_owned(),
        image: Some(config.launcher_image.clone()),
        image_pull_policy: Some(config.launcher_pull_policy.clone()),
        command: Some([LAUNCHER_BINARY, "install", "--to", INSTALL_DIR].map(str::to_owned).to_vec()),
        resources: Some(fixed_resources(&[("cpu", "10m"), ("memory", "1M")], &[("cpu", "100m"), ("memory", "40M")])),
        security_context: Some(security::container_context()),
        volume_mounts: Some(vec![VolumeMount {
            name: BINARY_VOLUME.to_owned(),
            mount_path: INSTALL_DIR.to_owned(),
            ..Default::default()
        }]),
        ..Default::default()
    })
}
