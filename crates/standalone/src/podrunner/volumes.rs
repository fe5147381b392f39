//! The volumes of a pod, as kubelet makes them: each is `<pod directory>/volumes/<name>`, there before the containers start and
//! gone after the pod. Files of the API's objects are written, everything else is mounted; nothing mounted is ever removed.

mod claim;
mod directory;
mod downward;
mod host_path;
mod payload;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use fv_api::Quantity;
use fv_host::mount::{self, Access};
use fv_host::safe_path::SafeDir;
use k8s_openapi::api::core::v1::{
    ConfigMap, EmptyDirVolumeSource, Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Volume,
};
use kube::api::Api;
use kube::{Client, ResourceExt};
use rustix::fs::OFlags;

use self::claim::{Backing, Usage};
use self::payload::{Objects, Reference};
use super::sandbox::Paths;

/// Mode of what something is to be mounted over, and nothing else: so is seen what has lost its mount, as in a reboot.
const BARE: u32 = 0;

/// Why a volume is not there yet; the text is the message of kubelet's event.
#[derive(Debug, thiserror::Error)]
pub(super) enum VolumeError {
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {reason}")]
    SetUp { volume: String, reason: String },
    #[error("MountVolume.NewMounter initialization failed for volume \"{volume}\" : path \"{path}\" does not exist")]
    NoPath { volume: String, path: String },
    #[error(
        "Unable to attach or mount volumes: unmounted volumes=[{volume}], unattached volumes=[], failed to process \
         volumes=[{volume}]: error processing PVC {claim}: {reason}"
    )]
    Claim { volume: String, claim: String, reason: String },
    #[error("MapVolume.MapPodDevice failed for volume \"{volume}\" : {reason}")]
    Map { volume: String, reason: String },
    #[error("{step} {path}")]
    Directory {
        step: &'static str,
        path: std::path::PathBuf,
        #[source]
        source: io::Error,
    },
}

impl VolumeError {
    /// Reason of kubelet's event.
    pub(super) fn event_reason(&self) -> &'static str {
        match self {
            Self::Map { .. } => "FailedMapVolume",
            Self::SetUp { .. } | Self::NoPath { .. } | Self::Claim { .. } | Self::Directory { .. } => "FailedMount",
        }
    }
}

/// Why the runner will never give a pod this volume; `None` when it does.
pub(super) fn refusal(volume: &Volume) -> Option<String> {
    let name = &volume.name;
    if let Some(medium) = volume.empty_dir.as_ref().and_then(|e| e.medium.as_deref())
        && !matches!(medium, "" | "Memory")
    {
        return Some(format!(
            "volume \"{name}\": emptyDir.medium \"{medium}\" is not supported; use \"\" or \"Memory\""
        ));
    }
    for projection in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
        if projection.config_map.is_none() && projection.secret.is_none() && projection.downward_api.is_none() {
            return Some(format!(
                "volume \"{name}\": of projected sources the embedded pod runner has configMap, secret and downwardAPI; \
                 its API server issues no tokens"
            ));
        }
    }
    let mounted = volume.empty_dir.is_some() || volume.host_path.is_some() || volume.persistent_volume_claim.is_some();
    (!mounted && !payload::is_payload(volume)).then(|| {
        format!(
            "volume \"{name}\" is of a kind that the embedded pod runner does not have: it has emptyDir, hostPath, configMap, \
             secret, downwardAPI, projected and persistentVolumeClaim"
        )
    })
}

/// Whether containers may only read it, whatever their mounts say.
pub(super) fn is_read_only(volume: &Volume) -> bool {
    payload::is_payload(volume) || volume.persistent_volume_claim.as_ref().is_some_and(|c| c.read_only == Some(true))
}

/// Whether what it shows can change while the pod runs.
pub(super) fn is_live(volume: &Volume) -> bool {
    payload::is_payload(volume)
}

/// Makes the pod's volumes, or brings them up to date. Repeating it is fine.
pub(super) async fn ensure(client: &Client, paths: &Paths, pod: &Pod, node: &str) -> Result<(), VolumeError> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    let group = fs_group(pod);
    for volume in volumes {
        let target = paths.volume(&volume.name);
        if let Some(source) = &volume.persistent_volume_claim {
            let read_only = source.read_only == Some(true);
            mount_claim(client, &target, &volume.name, pod, &source.claim_name, read_only).await?;
            continue;
        }
        let outcome = if let Some(empty) = &volume.empty_dir {
            empty_dir(&target, empty, group).map_err(|e| e.to_string())
        } else if let Some(host) = &volume.host_path {
            mount_host_path(&target, &host.path, host.type_.as_deref().unwrap_or_default(), false)
        } else {
            write_payload(client, &target, volume, pod, node).await
        };
        outcome.map_err(|reason| VolumeError::SetUp { volume: volume.name.clone(), reason })?;
    }
    Ok(())
}

fn fs_group(pod: &Pod) -> Option<u32> {
    let context = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    context.and_then(|c| c.fs_group).and_then(|g| u32::try_from(g).ok())
}

/// Kubelet's emptyDir: open to the pod's users, its files in the pod's group.
fn empty_dir(target: &Path, empty: &EmptyDirVolumeSource, group: Option<u32>) -> io::Result<()> {
    let memory = empty.medium.as_deref() == Some("Memory");
    match fs::DirBuilder::new().mode(if memory { BARE } else { 0o700 }).create(target) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Err(_) if !memory || mount::is_mount_point(target)? => return Ok(()),
        _ => {}
    }
    if memory {
        let limit = empty.size_limit.as_ref().and_then(|q| q.0.parse::<Quantity>().ok()).map(|q| q.bytes());
        return mount::tmpfs(target, limit.filter(|bytes| *bytes > 0), 0o2777, group);
    }
    let directory = fs::File::open(target)?;
    std::os::unix::fs::fchown(&directory, None, group)?;
    directory.set_permissions(fs::Permissions::from_mode(0o2777))
}

fn mount_host_path(target: &Path, path: &str, type_: &str, read_only: bool) -> Result<(), String> {
    if mount::is_mount_point(target).unwrap_or(false) {
        return Ok(());
    }
    let (source, access) = host_path::open(path, type_)?;
    let access = if read_only { Access::ReadOnly } else { access };
    bind(&source, target, access).map_err(|error| format!("mount {path}: {error}"))
}

/// Mounts what the claim is bound to: a directory, or a device over a file.
async fn mount_claim(
    client: &Client,
    target: &Path,
    name: &str,
    pod: &Pod,
    claim: &str,
    read_only: bool,
) -> Result<(), VolumeError> {
    if mount::is_mount_point(target).unwrap_or(false) {
        return Ok(());
    }
    let namespace = pod.namespace().unwrap_or_default();
    let usage = Usage::of(pod, name);
    let (volume, backing) = backing(client, &namespace, claim, usage).await.map_err(|reason| VolumeError::Claim {
        volume: name.into(),
        claim: format!("{namespace}/{claim}"),
        reason,
    })?;
    let set_up = |reason| VolumeError::SetUp { volume: volume.clone(), reason };
    match backing {
        Backing::Device(path) => {
            let map = || {
                let flags = OFlags::PATH;
                let source = fs::OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(&path)?;
                if !source.metadata()?.file_type().is_block_device() {
                    return Err(io::Error::other("is not a block device"));
                }
                // Whoever is given it makes a node of its own by the number.
                let access = if read_only { Access::ReadOnly } else { Access::ReadWrite };
                bind(&source.into(), target, access)
            };
            map().map_err(|error| VolumeError::Map { volume, reason: format!("{}: {error}", path.display()) })
        }
        Backing::HostPath(path, type_) => mount_host_path(target, &path, &type_, read_only).map_err(set_up),
        Backing::Local(path) => {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let source = match fs::OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(VolumeError::NoPath { volume, path: path.display().to_string() });
                }
                other => other.map_err(|error| set_up(format!("{}: {error}", path.display())))?,
            };
            let access = if read_only { Access::ReadOnly } else { Access::ReadWrite };
            bind(&source.into(), target, access).map_err(|error| set_up(format!("mount {}: {error}", path.display())))
        }
    }
}

/// Name and backing of a claim's volume, as the API says now.
async fn backing(client: &Client, namespace: &str, claim: &str, usage: Usage) -> Result<(String, Backing), String> {
    let failed = |error: kube::Error| match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    };
    let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), namespace);
    let claim =
        claims.get(claim).await.map_err(|error| format!("failed to fetch PVC from API server: {}", failed(error)))?;
    let name = claim::volume_of(&claim)?;
    let volumes = Api::<PersistentVolume>::all(client.clone());
    let volume = volumes
        .get(name)
        .await
        .map_err(|error| format!("failed to fetch PV {name} from API server: {}", failed(error)))?;
    Ok((name.to_owned(), claim::backing(&claim, &volume, usage)?))
}

/// Mounts what is open over a mount point of its kind.
fn bind(source: &OwnedFd, target: &Path, access: Access) -> io::Result<()> {
    let directory = fs::File::from(source.try_clone()?).metadata()?.is_dir();
    match fs::symlink_metadata(target) {
        Ok(meta) if meta.is_dir() == directory => {}
        Ok(meta) if meta.is_dir() => fs::remove_dir(target)?,
        Ok(_) => fs::remove_file(target)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if directory {
        fs::DirBuilder::new().recursive(true).mode(BARE).create(target)?;
    } else {
        fs::OpenOptions::new().create(true).append(true).mode(BARE).open(target)?;
    }
    mount::bind_open(source, target, access)
}

async fn write_payload(client: &Client, target: &Path, volume: &Volume, pod: &Pod, node: &str) -> Result<(), String> {
    let namespace = pod.namespace().unwrap_or_default();
    let objects = fetch(client, &namespace, &payload::references(volume), node).await?;
    let files = payload::files(volume, pod, &objects)?;
    let write = || {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(target)?;
        directory::sync(&SafeDir::open_trusted(target)?, &files, fs_group(pod))
    };
    write().map_err(|error| error.to_string())
}

async fn fetch(client: &Client, namespace: &str, wanted: &[Reference], node: &str) -> Result<Objects, String> {
    let mut objects = Objects::default();
    let failed = |error: kube::Error| error.to_string();
    for reference in wanted.iter().collect::<BTreeSet<_>>() {
        match reference {
            Reference::ConfigMap(name) => {
                let api = Api::<ConfigMap>::namespaced(client.clone(), namespace);
                objects.config_maps.extend(api.get_opt(name).await.map_err(failed)?.map(|map| (name.clone(), map)));
            }
            Reference::Secret(name) => {
                let api = Api::<Secret>::namespaced(client.clone(), namespace);
                objects.secrets.extend(api.get_opt(name).await.map_err(failed)?.map(|secret| (name.clone(), secret)));
            }
            Reference::Node => objects.node = Api::<Node>::all(client.clone()).get_opt(node).await.map_err(failed)?,
        }
    }
    Ok(objects)
}

/// Whether everything is mounted that once was: a disk made where its volume is missing would be lost under it.
pub(super) fn are_mounted(paths: &Paths) -> io::Result<bool> {
    for entry in fs::read_dir(paths.dir.join("volumes"))? {
        let path = entry?.path();
        if fs::symlink_metadata(&path)?.permissions().mode() & 0o777 == BARE && !mount::is_mount_point(&path)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Unmounts every volume of a pod. What users of clones have stays with them; directories stay, too.
pub(super) fn unmount(paths: &Paths) -> Result<(), VolumeError> {
    let volumes = paths.dir.join("volumes");
    let failed = |step, path: &Path| {
        let path = path.to_owned();
        move |source| VolumeError::Directory { step, path, source }
    };
    let entries = match fs::read_dir(&volumes) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(failed("read", &volumes))?,
    };
    for entry in entries {
        let path = entry.map_err(failed("read", &volumes))?.path();
        mount::unmount_all(&path).map_err(failed("unmount", &path))?;
    }
    Ok(())
}
