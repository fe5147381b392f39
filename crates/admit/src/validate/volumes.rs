//! Volumes and their sources.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fv_api::config::ClusterConfig;
use fv_api::{
    CloudInitConfigDriveSource, CloudInitNoCloudSource, ContainerDiskSource, Quantity, VirtualMachineInstanceSpec,
    Volume,
};
use k8s_openapi::api::core::v1::LocalObjectReference;

use crate::causes::{Causes, Field};

mod data;
mod images;

/// Longest inline user or network data, in bytes; longer ones belong into a Secret.
const LONGEST_DATA: usize = 2048;
const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];

pub(super) fn check(spec: &VirtualMachineInstanceSpec, field: &Field, config: &ClusterConfig, causes: &mut Causes) {
    let list = field.child("volumes");
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, volume) in spec.volumes.iter().enumerate() {
        let at = list.index(index);
        match seen.get(volume.name.as_str()) {
            Some(other) => {
                causes.invalid(
                    &at.child("name"),
                    format!("{at} and {} must not have the same Name.", list.index(*other)),
                );
            }
            None => {
                seen.insert(&volume.name, index);
            }
        }
        if sources(volume) != 1 {
            causes.invalid(&at, format!("{at} must have exactly one source type set"));
        }
        if let Some(disk) = &volume.container_disk {
            container_disk(disk, &at.child("containerDisk"), causes);
        }
        if let Some(disk) = volume.empty_disk.as_ref().filter(|disk| disk.capacity <= Quantity::ZERO) {
            let at = at.child("emptyDisk.capacity");
            causes.invalid(&at, format!("{at} '{}': must be greater than 0.", disk.capacity));
        }
        if let Some(source) = &volume.cloud_init_no_cloud {
            cloud_init(&Data::from(source), &at.child("cloudInitNoCloud"), causes);
        } else if let Some(source) = &volume.cloud_init_config_drive {
            cloud_init(&Data::from(source), &at.child("cloudInitConfigDrive"), causes);
        }
        data::check(volume, &at, config, causes);
        images::check(volume, &at, config, causes);
    }
    data::one_account(&spec.volumes, &list, causes);
    images::read_only_claims(spec, field, causes);
}

/// How many sources a volume has.
fn sources(volume: &Volume) -> usize {
    let Volume {
        name: _,
        cloud_init_config_drive,
        cloud_init_no_cloud,
        config_map,
        container_disk,
        container_path,
        data_volume,
        downward_api,
        downward_metrics,
        empty_disk,
        ephemeral,
        host_disk,
        memory_dump,
        persistent_volume_claim,
        secret,
        service_account,
        sysprep,
    } = volume;
    [
        cloud_init_config_drive.is_some(),
        cloud_init_no_cloud.is_some(),
        config_map.is_some(),
        container_disk.is_some(),
        container_path.is_some(),
        data_volume.is_some(),
        downward_api.is_some(),
        downward_metrics.is_some(),
        empty_disk.is_some(),
        ephemeral.is_some(),
        host_disk.is_some(),
        memory_dump.is_some(),
        persistent_volume_claim.is_some(),
        secret.is_some(),
        service_account.is_some(),
        sysprep.is_some(),
    ]
    .into_iter()
    .filter(|set| *set)
    .count()
}

fn container_disk(disk: &ContainerDiskSource, at: &Field, causes: &mut Causes) {
    let image_at = at.child("image");
    if disk.image.is_empty() {
        causes.required(&image_at, format!("{image_at} is a required field"));
    } else if disk.image.chars().any(|c| c.is_whitespace() || c.is_control()) {
        causes.invalid(&image_at, format!("{image_at} {:?} is no image reference", disk.image));
    }
    if let Some(policy) = disk.image_pull_policy.as_deref().filter(|p| !p.is_empty() && !PULL_POLICIES.contains(p)) {
        let at = at.child("imagePullPolicy");
        causes.not_supported(&at, format!("{at} '{policy}' is not supported: use one of {}", PULL_POLICIES.join(", ")));
    }
    let Some(path) = disk.path.as_deref().filter(|path| !path.is_empty()) else { return };
    if path == "/" {
        causes.invalid(at, format!("{at} must not point to root"));
    } else if !is_clean_path(path) {
        causes.invalid(at, format!("{at} must be an absolute path to a file without relative components"));
    }
}

/// Whether a path is absolute and goes straight to where it leads; one slash at the end does no harm.
fn is_clean_path(path: &str) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    match path.strip_prefix('/') {
        Some(rest) => rest.split('/').all(|part| !part.is_empty() && part != "." && part != ".."),
        None => false,
    }
}

/// The data of either kind of cloud-init volume.
struct Data<'a> {
    user: Source<'a>,
    network: Source<'a>,
}

/// One document, from one of three places.
struct Source<'a> {
    /// `userData` or `networkData`.
    key: &'static str,
    /// What messages call it.
    noun: &'static str,
    /// What messages call its alternative for long documents.
    reference: &'static str,
    plain: Option<&'a str>,
    base64: Option<&'a str>,
    secret: Option<&'a str>,
}

fn user<'a>(
    plain: &'a Option<String>,
    base64: &'a Option<String>,
    secret: &'a Option<LocalObjectReference>,
) -> Source<'a> {
    source("userData", "userdata", "UserDataSecretRef", plain, base64, secret)
}

fn network<'a>(
    plain: &'a Option<String>,
    base64: &'a Option<String>,
    secret: &'a Option<LocalObjectReference>,
) -> Source<'a> {
    source("networkData", "networkdata", "NetworkDataSecretRef", plain, base64, secret)
}

fn source<'a>(
    key: &'static str,
    noun: &'static str,
    reference: &'static str,
    plain: &'a Option<String>,
    base64: &'a Option<String>,
    secret: &'a Option<LocalObjectReference>,
) -> Source<'a> {
    fn given(text: &Option<String>) -> Option<&str> {
        text.as_deref().filter(|text| !text.is_empty())
    }
    let secret = secret.as_ref().map(|secret| secret.name.as_str()).filter(|name| !name.is_empty());
    Source { key, noun, reference, plain: given(plain), base64: given(base64), secret }
}

impl<'a> From<&'a CloudInitNoCloudSource> for Data<'a> {
    fn from(s: &'a CloudInitNoCloudSource) -> Self {
        Self {
            user: user(&s.user_data, &s.user_data_base64, &s.secret_ref),
            network: network(&s.network_data, &s.network_data_base64, &s.network_data_secret_ref),
        }
    }
}

impl<'a> From<&'a CloudInitConfigDriveSource> for Data<'a> {
    fn from(s: &'a CloudInitConfigDriveSource) -> Self {
        Self {
            user: user(&s.user_data, &s.user_data_base64, &s.secret_ref),
            network: network(&s.network_data, &s.network_data_base64, &s.network_data_secret_ref),
        }
    }
}

fn cloud_init(data: &Data<'_>, at: &Field, causes: &mut Causes) {
    let places = document(&data.user, at, causes) + document(&data.network, at, causes);
    if places == 0 {
        causes.invalid(at, format!("{at} must have at least one userdatasource or one networkdatasource set."));
    }
}

/// Judges one document; tells from how many places it comes.
fn document(source: &Source<'_>, at: &Field, causes: &mut Causes) -> usize {
    let mut length = 0;
    if let Some(text) = source.base64 {
        let key = format!("{}Base64", source.key);
        match STANDARD.decode(text.bytes().filter(|b| !b"\r\n".contains(b)).collect::<Vec<u8>>()) {
            Ok(bytes) => length = bytes.len(),
            Err(_) => causes.invalid(&at.child(&key), format!("{} is not a valid base64 value.", at.child(&key))),
        }
    }
    if let Some(text) = source.plain {
        length = text.len();
    }
    let places = [source.plain, source.base64, source.secret].into_iter().flatten().count();
    if places > 1 {
        let space = if source.key == "userData" { "" } else { " " };
        causes.invalid(at, format!("{at} must have only one {}{space}source set.", source.noun));
    }
    if length > LONGEST_DATA {
        causes.invalid(
            at,
            format!(
                "{at} {} exceeds {LONGEST_DATA} byte limit. Should use {} for larger data.",
                source.noun, source.reference
            ),
        );
    }
    places
}

#[cfg(test)]
mod tests {
    use super::is_clean_path;

    #[test]
    fn paths_in_images_go_straight_to_a_file() {
        for (path, clean) in [
            ("/disk/a.img", true),
            ("/a/", true),
            ("a", false),
            ("/a/../b", false),
            ("/./a", false),
            ("//a", false),
            ("/a//", false),
        ] {
            assert_eq!(is_clean_path(path), clean, "{path}");
        }
    }
}
