//! `cloudInitNoCloud` and `cloudInitConfigDrive`.

use base64::Engine as _;
use fv_api::Volume;
use k8s_openapi::api::core::v1::LocalObjectReference;
use serde_json::{Map, Value};

use crate::{Field, FileTree, GuestDataError, Secrets, TreeFile};

/// Longest inline user or network data, before base64 decoding, as upstream.
pub const INLINE_LIMIT: usize = 2048;
/// Longest data from a secret: what a Kubernetes object can hold at all.
pub const SECRET_LIMIT: usize = 1 << 20;

const USER_DATA_KEYS: &[&str] = &["userdata", "userData"];
const NETWORK_DATA_KEYS: &[&str] = &["networkdata", "networkData"];

/// What the datasources say about the guest itself.
#[derive(Clone, Copy, Debug)]
pub struct Guest<'a> {
    /// The VMI's name and namespace.
    pub name: &'a str,
    pub namespace: &'a str,
    /// The firmware uuid the guest sees; NoCloud's instance id, so that a clone with a new uuid is a new instance.
    pub firmware_uuid: &'a str,
    /// `spec.hostname`; the VMI's name where there is none.
    pub hostname: Option<&'a str>,
    /// Name of the instance type, if one was used.
    pub instance_type: Option<&'a str>,
}

impl Guest<'_> {
    /// The name the guest shall give itself: one label, so of a dotted VMI name the part before the first dot.
    fn hostname(&self) -> &str {
        let name = self.hostname.filter(|name| !name.is_empty()).unwrap_or(self.name);
        name.split('.').next().unwrap_or(name)
    }
}

/// A volume and the disk for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloudInitDisk {
    /// Name of the volume.
    pub volume: String,
    pub tree: FileTree,
}

/// The datasource a volume is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Datasource {
    NoCloud,
    ConfigDrive,
}

/// The two cloud-init volume sources, which have the same fields.
pub(crate) struct Source<'a> {
    datasource: Datasource,
    user_data: Option<&'a str>,
    user_data_base64: Option<&'a str>,
    pub(crate) secret_ref: Option<&'a LocalObjectReference>,
    network_data: Option<&'a str>,
    network_data_base64: Option<&'a str>,
    pub(crate) network_data_secret_ref: Option<&'a LocalObjectReference>,
}

macro_rules! source {
    ($datasource:expr, $source:expr) => {{
        let source = $source;
        // Go's clients write empty strings for fields nobody set.
        let text = |value: &'a Option<String>| value.as_deref().filter(|value| !value.is_empty());
        Self {
            datasource: $datasource,
            user_data: text(&source.user_data),
            user_data_base64: text(&source.user_data_base64),
            secret_ref: source.secret_ref.as_ref(),
            network_data: text(&source.network_data),
            network_data_base64: text(&source.network_data_base64),
            network_data_secret_ref: source.network_data_secret_ref.as_ref(),
        }
    }};
}

impl<'a> Source<'a> {
    pub(crate) fn of(volume: &'a Volume) -> Option<Self> {
        if let Some(source) = &volume.cloud_init_no_cloud {
            Some(source!(Datasource::NoCloud, source))
        } else {
            volume.cloud_init_config_drive.as_ref().map(|source| source!(Datasource::ConfigDrive, source))
        }
    }
}

/// The disk of one volume; `None` when the volume is not a cloud-init volume.
pub fn build_cloud_init(
    volume: &Volume,
    guest: Guest<'_>,
    secrets: &Secrets,
) -> Result<Option<FileTree>, GuestDataError> {
    let Some(source) = Source::of(volume) else { return Ok(None) };
    let reader = Reader { volume: &volume.name, guest, secrets };
    let user_data = reader.read(
        [(Field::UserData, source.user_data), (Field::UserDataBase64, source.user_data_base64)],
        (Field::SecretRef, source.secret_ref),
        USER_DATA_KEYS,
    )?;
    let network_data = reader.network_data(&source)?;
    Ok(Some(match source.datasource {
        Datasource::NoCloud => no_cloud(guest, user_data, network_data),
        Datasource::ConfigDrive => config_drive(guest, user_data, network_data),
    }))
}

/// The disks of all cloud-init volumes of a VMI, in their order.
pub fn build_cloud_inits(
    volumes: &[Volume],
    guest: Guest<'_>,
    secrets: &Secrets,
) -> Result<Vec<CloudInitDisk>, GuestDataError> {
    let mut disks = Vec::new();
    for volume in volumes {
        if let Some(tree) = build_cloud_init(volume, guest, secrets)? {
            disks.push(CloudInitDisk { volume: volume.name.clone(), tree });
        }
    }
    Ok(disks)
}

fn no_cloud(guest: Guest<'_>, user_data: Option<Vec<u8>>, network_data: Option<Vec<u8>>) -> FileTree {
    let mut meta = Map::new();
    meta.insert("instance-id".into(), guest.firmware_uuid.into());
    meta.insert("local-hostname".into(), guest.hostname().into());
    if let Some(kind) = guest.instance_type {
        meta.insert("instance-type".into(), kind.into());
    }
    let mut files = vec![
        TreeFile::new("meta-data", Value::Object(meta).to_string()),
        // cloud-init takes the disk for a datasource only when both files are there.
        TreeFile::new("user-data", user_data.unwrap_or_default()),
    ];
    if let Some(data) = network_data {
        files.push(TreeFile::new("network-config", data));
    }
    FileTree::new("cidata", files)
}

fn config_drive(guest: Guest<'_>, user_data: Option<Vec<u8>>, network_data: Option<Vec<u8>>) -> FileTree {
    let mut meta = Map::new();
    meta.insert("instance_id".into(), format!("{}.{}", guest.name, guest.namespace).into());
    meta.insert("uuid".into(), guest.firmware_uuid.into());
    meta.insert("hostname".into(), guest.hostname().into());
    meta.insert("local-hostname".into(), guest.hostname().into());
    if let Some(kind) = guest.instance_type {
        meta.insert("instance_type".into(), kind.into());
    }
    let mut files = vec![TreeFile::new("openstack/latest/meta_data.json", Value::Object(meta).to_string())];
    if let Some(data) = user_data {
        files.push(TreeFile::new("openstack/latest/user_data", data));
    }
    if let Some(data) = network_data {
        files.push(TreeFile::new("openstack/latest/network_data.json", data));
    }
    FileTree::new("config-2", files)
}

/// Finds the data of one volume in its fields and secrets.
struct Reader<'a> {
    volume: &'a str,
    guest: Guest<'a>,
    secrets: &'a Secrets,
}

impl Reader<'_> {
    fn network_data(&self, source: &Source<'_>) -> Result<Option<Vec<u8>>, GuestDataError> {
        let inline =
            [(Field::NetworkData, source.network_data), (Field::NetworkDataBase64, source.network_data_base64)];
        let reference = (Field::NetworkDataSecretRef, source.network_data_secret_ref);
        if let Some(data) = self.read(inline, reference, NETWORK_DATA_KEYS)? {
            return Ok(Some(data));
        }
        // Upstream also takes both kinds from the one secret that `secretRef` names.
        let both = source.secret_ref.and_then(|reference| self.secrets.get(&reference.name));
        let data = both.and_then(|secret| NETWORK_DATA_KEYS.iter().find_map(|key| secret.get(*key)));
        data.map(|data| self.bounded(Field::SecretRef, data.clone(), SECRET_LIMIT)).transpose()
    }

    /// The data of exactly one of the fields; `None` when no field is set.
    fn read(
        &self,
        [(plain, text), (base64, encoded)]: [(Field, Option<&str>); 2],
        (field, reference): (Field, Option<&LocalObjectReference>),
        keys: &'static [&'static str],
    ) -> Result<Option<Vec<u8>>, GuestDataError> {
        let set: Vec<Field> = [(plain, text.is_some()), (base64, encoded.is_some()), (field, reference.is_some())]
            .into_iter()
            .filter_map(|(field, set)| set.then_some(field))
            .collect();
        if let [first, second, ..] = set[..] {
            return Err(GuestDataError::TwoSources { volume: self.volume.into(), first, second });
        }
        if let Some(text) = text {
            return self.bounded(plain, text.as_bytes().to_vec(), INLINE_LIMIT).map(Some);
        }
        if let Some(encoded) = encoded {
            return self.decode(base64, encoded).map(Some);
        }
        let Some(reference) = reference else { return Ok(None) };
        let secret = self.secrets.get(&reference.name).ok_or_else(|| GuestDataError::SecretMissing {
            volume: self.volume.into(),
            field,
            secret: reference.name.clone(),
            namespace: self.guest.namespace.into(),
        })?;
        match keys.iter().find_map(|key| secret.get(*key)) {
            Some(data) => self.bounded(field, data.clone(), SECRET_LIMIT).map(Some),
            // A secret for the other kind alone is fine as long as it is one.
            None if field == Field::SecretRef && NETWORK_DATA_KEYS.iter().any(|key| secret.contains_key(*key)) => {
                Ok(None)
            }
            None => Err(GuestDataError::SecretKeyMissing {
                volume: self.volume.into(),
                field,
                secret: reference.name.clone(),
                keys,
            }),
        }
    }

    fn decode(&self, field: Field, encoded: &str) -> Result<Vec<u8>, GuestDataError> {
        self.check(field, encoded.len(), INLINE_LIMIT)?;
        // Line breaks, as `base64` without -w0 writes them, are harmless.
        let dense: String = encoded.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        base64::engine::general_purpose::STANDARD.decode(dense).map_err(|error| GuestDataError::Base64 {
            volume: self.volume.into(),
            field,
            reason: error.to_string(),
        })
    }

    fn bounded(&self, field: Field, data: Vec<u8>, limit: usize) -> Result<Vec<u8>, GuestDataError> {
        self.check(field, data.len(), limit)?;
        Ok(data)
    }

    fn check(&self, field: Field, size: usize, limit: usize) -> Result<(), GuestDataError> {
        if size > limit {
            return Err(GuestDataError::TooLong { volume: self.volume.into(), field, size, limit });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
