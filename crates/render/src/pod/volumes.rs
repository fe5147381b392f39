//! Volumes of a VMI that are volumes of its pod, too: mounted into container `compute`, where the node agent takes them from. The container
//! itself looks at none of them.

use std::collections::BTreeSet;

use fv_api::{VirtualMachineInstanceSpec, Volume};
use k8s_openapi::api::core::v1::{
    ConfigMapProjection, ConfigMapVolumeSource, DownwardAPIProjection, DownwardAPIVolumeFile, DownwardAPIVolumeSource,
    HostPathVolumeSource, KeyToPath, ObjectFieldSelector, PersistentVolumeClaimVolumeSource as ClaimSource,
    ProjectedVolumeSource, SecretVolumeSource, ServiceAccountTokenProjection, Volume as PodVolume, VolumeDevice,
    VolumeMount, VolumeProjection,
};

use super::container_disk::BINARY_VOLUME;
use super::secrets;
use crate::SHARE_VOLUME;
use crate::names::{MAX_LABEL, short_hash};

/// Where they are in the container: out of what the container itself writes to.
const DIR: &str = "/var/run/kubevirt-volumes";
/// Where it has block devices: out of the way of its other devices.
const DEVICE_DIR: &str = "/dev/kubevirt-volumes";
/// What a kubelet asks for when it mounts a token by itself: such a token is valid for longer than it says, as old programs never look
/// for a new one. The guest's copy is never renewed either.
const TOKEN_SECONDS: i64 = 3607;
const ROOT_CA: &str = "kube-root-ca.crt";

/// Name of the pod volume that carries a volume of the VMI: the same, unless the pod uses that name for something else.
pub fn volume_name(volume: &str) -> String {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_taken = [SHARE_VOLUME, BINARY_VOLUME].contains(&volume) || volume.starts_with(secrets::PREFIX);
    if volume.len() <= MAX_LABEL && volume.chars().all(fits) && !is_taken {
        return volume.to_owned();
    }
    format!("volume-{}", short_hash(volume))
}

/// Where a volume of the VMI is mounted in container `compute`.
pub fn mount_path(volume: &str) -> String {
    format!("{DIR}/{}", volume_name(volume))
}

/// Where container `compute` has a volume of the VMI that is a block device.
pub fn device_path(volume: &str) -> String {
    format!("{DEVICE_DIR}/{}", volume_name(volume))
}

/// How container `compute` has a volume.
pub(super) enum Use {
    Mount(VolumeMount),
    Device(VolumeDevice),
}

/// The pod's volumes and what `compute` has of them; the claims of volumes in `blocks` are block devices.
pub(super) fn volumes(spec: &VirtualMachineInstanceSpec, blocks: &BTreeSet<String>) -> Vec<(PodVolume, Use)> {
    let used = |volume: &Volume| match blocks.contains(&volume.name) {
        true => Use::Device(VolumeDevice { name: volume_name(&volume.name), device_path: device_path(&volume.name) }),
        false => Use::Mount(mount(volume)),
    };
    spec.volumes.iter().filter_map(|volume| Some((source(volume)?, used(volume)))).collect()
}

/// The account the pod runs as: that of a serviceAccount volume, for its token is the pod's.
pub(super) fn service_account(spec: &VirtualMachineInstanceSpec) -> Option<String> {
    let volumes = spec.volumes.iter().filter_map(|volume| volume.service_account.as_ref());
    volumes.filter_map(|account| account.service_account_name.clone()).next()
}

fn mount(volume: &Volume) -> VolumeMount {
    VolumeMount {
        name: volume_name(&volume.name),
        mount_path: mount_path(&volume.name),
        read_only: (!is_written(volume)).then_some(true),
        ..Default::default()
    }
}

/// Whether it has an image that the guest writes to.
fn is_written(volume: &Volume) -> bool {
    let is_claim = volume.persistent_volume_claim.as_ref().is_some_and(|claim| claim.read_only != Some(true));
    volume.host_disk.is_some() || is_claim
}

fn source(volume: &Volume) -> Option<PodVolume> {
    let name = volume_name(&volume.name);
    if let Some(map) = &volume.config_map {
        let source = ConfigMapVolumeSource {
            name: map.name.clone().unwrap_or_default(),
            optional: map.optional,
            ..Default::default()
        };
        Some(PodVolume { name, config_map: Some(source), ..Default::default() })
    } else if let Some(secret) = &volume.secret {
        let source = SecretVolumeSource {
            secret_name: secret.secret_name.clone(),
            optional: secret.optional,
            ..Default::default()
        };
        Some(PodVolume { name, secret: Some(source), ..Default::default() })
    } else if let Some(downward) = &volume.downward_api {
        let source = DownwardAPIVolumeSource { items: Some(downward.fields.clone()), ..Default::default() };
        Some(PodVolume { name, downward_api: Some(source), ..Default::default() })
    } else if let Some(disk) = &volume.host_disk {
        let directory = disk.path.rsplit_once('/').map(|(directory, _)| directory).unwrap_or_default();
        let path = if directory.is_empty() { "/" } else { directory };
        let source = HostPathVolumeSource { path: path.to_owned(), type_: Some("DirectoryOrCreate".to_owned()) };
        Some(PodVolume { name, host_path: Some(source), ..Default::default() })
    } else if let Some(claim) = &volume.persistent_volume_claim {
        let source = ClaimSource { claim_name: claim.claim_name.clone(), read_only: claim.read_only };
        Some(PodVolume { name, persistent_volume_claim: Some(source), ..Default::default() })
    } else if let Some(claim) = volume.ephemeral.as_ref().and_then(|disk| disk.persistent_volume_claim.as_ref()) {
        Some(PodVolume { name, persistent_volume_claim: Some(claim.clone()), ..Default::default() })
    } else if volume.service_account.is_some() {
        Some(PodVolume { name, projected: Some(service_account_files()), ..Default::default() })
    } else {
        None
    }
}

/// What a kubelet puts where programs look for their account. Not by `automountServiceAccountToken`: that gives it to every container.
fn service_account_files() -> ProjectedVolumeSource {
    let token = ServiceAccountTokenProjection {
        path: "token".to_owned(),
        expiration_seconds: Some(TOKEN_SECONDS),
        audience: None,
    };
    let ca = ConfigMapProjection {
        name: ROOT_CA.to_owned(),
        items: Some(vec![KeyToPath { key: "ca.crt".to_owned(), path: "ca.crt".to_owned(), mode: None }]),
        optional: None,
    };
    let namespace = DownwardAPIVolumeFile {
        path: "namespace".to_owned(),
        field_ref: Some(ObjectFieldSelector {
            field_path: "metadata.namespace".to_owned(),
            api_version: Some("v1".to_owned()),
        }),
        ..Default::default()
    };
    let sources = vec![
        VolumeProjection { service_account_token: Some(token), ..Default::default() },
        VolumeProjection { config_map: Some(ca), ..Default::default() },
        VolumeProjection {
            downward_api: Some(DownwardAPIProjection { items: Some(vec![namespace]) }),
            ..Default::default()
        },
    ];
    ProjectedVolumeSource { sources: Some(sources), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SHARE_DIR;

    #[test]
    fn the_pods_own_names_are_not_taken() {
        assert_eq!(volume_name("data"), "data");
        for name in [SHARE_VOLUME, BINARY_VOLUME, "cloud-init-0123456789abcdef", "With.Dots", &"x".repeat(64)] {
            let used = volume_name(name);
            assert!(used.starts_with("volume-") && used.len() <= MAX_LABEL, "{name}: {used}");
        }
        assert!(!mount_path("data").starts_with(SHARE_DIR));
    }
}
