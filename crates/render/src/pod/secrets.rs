//! Secrets that the node agent needs, on Kubernetes: mounted into the pod by the kubelet, so that the agent needs no right to read secrets
//! and a VM gets at none that its pod could not.

use std::collections::BTreeMap;

use fv_api::VirtualMachineInstanceSpec;
use fv_api::config::{ClusterConfig, Engine};
use k8s_openapi::api::core::v1::{SecretVolumeSource, Volume, VolumeMount};

use crate::names::short_hash;

/// Where they are in the container: out of the way of everything else. The agent reads them in the kubelet's directory.
const DIR: &str = "/var/run/kubevirt-secrets";

/// What the names of these volumes begin with.
pub(super) const PREFIX: &str = "cloud-init-";

/// Name of the pod volume that carries a secret.
pub fn volume_name(secret: &str) -> String {
    format!("{PREFIX}{}", short_hash(secret))
}

/// The volumes of the secrets that cloud-init volumes name, and their mounts: a kubelet mounts only what a container uses.
pub(super) fn volumes(spec: &VirtualMachineInstanceSpec, config: &ClusterConfig) -> Vec<(Volume, VolumeMount)> {
    if config.engine == Engine::Embedded {
        return Vec::new();
    }
    let mut secrets = BTreeMap::new();
    for volume in &spec.volumes {
        let no_cloud = volume.cloud_init_no_cloud.iter().flat_map(|s| [&s.secret_ref, &s.network_data_secret_ref]);
        let drive = volume.cloud_init_config_drive.iter().flat_map(|s| [&s.secret_ref, &s.network_data_secret_ref]);
        secrets.extend(no_cloud.chain(drive).flatten().map(|secret| (volume_name(&secret.name), &secret.name)));
    }
    secrets
        .into_iter()
        .map(|(name, secret)| {
            let source = SecretVolumeSource { secret_name: Some(secret.clone()), ..Default::default() };
            let mount = VolumeMount {
                name: name.clone(),
                mount_path: format!("{DIR}/{name}"),
                read_only: Some(true),
                ..Default::default()
            };
            (Volume { name, secret: Some(source), ..Default::default() }, mount)
        })
        .collect()
}
