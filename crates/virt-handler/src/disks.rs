//! The disks of a VM, from images in the store, in a directory of the node keyed by the VMI's uid.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fv_api::VirtualMachineInstance;
use fv_disk::{
    DiskError, ImageFormat, ImageRequest, ImageStore, IsoFile, Owner, PullError, PullPolicy, StoreError, VmDir, VmDisk,
    no_progress,
};
use fv_domain::{DiskFormat, DiskSource, EfiFiles, SourceKind};
use fv_guestdata::{Guest, GuestDataError, build_cloud_inits};

use crate::cluster::ClusterError;
use crate::ports::{DiskRequest, NodeDisks, PodVolume, PodVolumes, PreparedDisks};
use crate::volumes::place::Place;
use crate::volumes::{self, VolumeError, data};

/// Group of every QEMU: images written by upstream as 107:107 stay usable.
pub const QEMU_GID: u32 = 107;

/// Why the disks of a VM cannot be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error("volume {volume:?}: imagePullPolicy {policy:?} is not one of Always, IfNotPresent, Never")]
    Policy { volume: String, policy: String },
    #[error("volume {volume:?}: image {image:?}")]
    Pull {
        volume: String,
        image: String,
        #[source]
        source: PullError,
    },
    #[error("volume {volume:?}: image {image:?}: {problem}")]
    ContainerDisk { volume: String, image: String, problem: String },
    #[error("the launcher pod is not on this node")]
    LauncherMissing,
    #[error("the launcher pod cannot be looked into: {0}")]
    Launcher(String),
    #[error("volume {volume:?}")]
    Volume {
        volume: String,
        #[source]
        source: VolumeError,
    },
    #[error("find the containers of the launcher pod")]
    Cluster(#[from] ClusterError),
    #[error("look for processes of the launcher pod")]
    Processes(#[source] std::io::Error),
    #[error("read the secret in {}", path.display())]
    Secret {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    GuestData(#[from] GuestDataError),
    #[error("volume {volume:?} has a source that is not supported yet by Ferrovirt")]
    Unsupported { volume: String },
    #[error("release the images of VMI {uid}")]
    Release {
        uid: String,
        #[source]
        source: StoreError,
    },
    #[error("list who uses images")]
    Holders {
        #[source]
        source: StoreError,
    },
    #[error("list the disks in {}", path.display())]
    Disks {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("make the EFI variable store {}", path.display())]
    Efi {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{step} the directory {} of images in the launcher pod's volumes", path.display())]
    Place {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("disk work did not finish")]
    Aborted(#[source] tokio::task::JoinError),
}

impl PrepareError {
    /// Stable reason word for events and conditions.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Pull { source, .. } => source.reason(),
            Self::Policy { .. } => "InvalidImagePullPolicy",
            Self::GuestData(_) => "InvalidCloudInit",
            Self::Unsupported { .. } => "UnsupportedVolume",
            Self::ContainerDisk { .. } | Self::LauncherMissing => "ContainerDiskNotReady",
            Self::Volume { .. } => "FailedVolume",
            Self::Cluster(_) => "FailedApiRequest",
            Self::Launcher(_) | Self::Processes(_) => "FailedPodSandbox",
            Self::Secret { .. } => "FailedSecret",
            Self::Disk(_)
            | Self::Release { .. }
            | Self::Holders { .. }
            | Self::Disks { .. }
            | Self::Efi { .. }
            | Self::Place { .. }
            | Self::Aborted(_) => "FailedDiskSetup",
        }
    }
}

/// Disks on the node's own file system.
#[derive(Clone)]
pub struct LocalDisks {
    images: Arc<ImageStore>,
    root: PathBuf,
    pods: Arc<dyn PodVolumes>,
    places: PathBuf,
}

impl LocalDisks {
    /// `root` is a directory only root can write to; each VM gets a directory in it. Volumes of launcher pods are those of `pods`; images in
    /// them are mounted below `places`, also root's alone, and a mount that libvirt sees.
    pub fn new(images: Arc<ImageStore>, root: PathBuf, pods: Arc<dyn PodVolumes>, places: PathBuf) -> Self {
        Self { images, root, pods, places }
    }

    pub(crate) fn images(&self) -> &ImageStore {
        &self.images
    }

    /// Makes the disks of a VM whose images are in the store, by volume; what else they are made of its launcher pod has.
    pub(crate) async fn make(
        &self,
        request: &DiskRequest,
        images: BTreeMap<String, fv_disk::ImageHandle>,
    ) -> Result<PreparedDisks, PrepareError> {
        let volumes = volumes::open(&*self.pods, request).await?;
        let (root, place, request) = (self.root.clone(), Place::of(&self.places, &request.uid), request.clone());
        blocking(move || make(&root, &place, &request, &images, &volumes)).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PrepareError> + Send + 'static,
) -> Result<T, PrepareError> {
    tokio::task::spawn_blocking(work).await.map_err(PrepareError::Aborted)?
}

/// A disk of the VM's own directory.
pub(crate) fn source_of(disk: VmDisk, read_only: bool) -> DiskSource {
    DiskSource {
        kind: SourceKind::File,
        path: disk.path.to_string_lossy().into_owned(),
        format: match disk.format {
            ImageFormat::Raw => DiskFormat::Raw,
            ImageFormat::Qcow2 => DiskFormat::Qcow2,
        },
        read_only,
        direct_io: false,
        preallocated: false,
    }
}

#[async_trait::async_trait]
impl NodeDisks for LocalDisks {
    async fn prepare(&self, request: &DiskRequest) -> Result<PreparedDisks, PrepareError> {
        let vmi = Arc::clone(&request.vmi);
        let mut images = BTreeMap::new();
        for volume in &vmi.spec.volumes {
            let Some(source) = &volume.container_disk else { continue };
            let policy = PullPolicy::of(source.image_pull_policy.as_deref(), &source.image).ok_or_else(|| {
                PrepareError::Policy {
                    volume: volume.name.clone(),
                    policy: source.image_pull_policy.clone().unwrap_or_default(),
                }
            })?;
            let wanted = ImageRequest {
                image: source.image.clone(),
                policy,
                path: source.path.clone(),
                pull_secrets: request.pull_secrets.get(&volume.name).cloned().into_iter().collect(),
            };
            let image = self.images.ensure(&wanted, &request.uid, no_progress()).await.map_err(|source| {
                PrepareError::Pull { volume: volume.name.clone(), image: wanted.image.clone(), source }
            })?;
            images.insert(volume.name.clone(), image);
        }
        self.make(request, images).await
    }

    async fn holders(&self) -> Result<BTreeSet<String>, PrepareError> {
        let (dirs, images) = ([self.root.clone(), self.places.clone()], Arc::clone(&self.images));
        blocking(move || {
            let mut holders = BTreeSet::from_iter(images.holders().map_err(|source| PrepareError::Holders { source })?);
            for dir in dirs {
                let listed = || {
                    std::fs::read_dir(&dir)?.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<Vec<_>>>()
                };
                let names = match listed() {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
                    other => other.map_err(|source| PrepareError::Disks { path: dir.clone(), source })?,
                };
                holders.extend(names.into_iter().filter_map(|name| name.into_string().ok()));
            }
            Ok(holders)
        })
        .await
    }

    async fn release(&self, vmi_uid: &str) -> Result<(), PrepareError> {
        let (root, images, uid) = (self.root.clone(), Arc::clone(&self.images), vmi_uid.to_owned());
        let place = Place::of(&self.places, vmi_uid);
        blocking(move || {
            place.remove()?;
            VmDir::remove(&root, &uid)?;
            images.release(&uid).map_err(|source| PrepareError::Release { uid, source })
        })
        .await
    }
}

/// Whether the volume is a disk on a sata bus (which is also what a disk without a bus is): such disks cannot be read-only.
fn on_sata_disk(vmi: &VirtualMachineInstance, volume: &str) -> bool {
    let bus = |disk: &fv_api::Disk| disk.disk.as_ref().and_then(|target| target.bus.clone());
    let mut disks = vmi.spec.domain.devices.disks.iter().filter(|disk| disk.name == volume);
    disks.any(|disk| disk.cdrom.is_none() && matches!(bus(disk).as_deref(), None | Some("" | "sata")))
}

fn make(
    root: &Path,
    place: &Place,
    request: &DiskRequest,
    images: &BTreeMap<String, fv_disk::ImageHandle>,
    volumes: &BTreeMap<String, PodVolume>,
) -> Result<PreparedDisks, PrepareError> {
    let vmi = &request.vmi;
    let owner = Owner { uid: request.qemu_uid, gid: QEMU_GID };
    let dir = VmDir::open(root, &request.uid, owner)?;
    let mut prepared = PreparedDisks::default();
    let firmware_uuid = vmi.spec.domain.firmware.as_ref().and_then(|f| f.uuid.as_deref()).unwrap_or(&request.uid);
    let guest = Guest {
        name: vmi.metadata.name.as_deref().unwrap_or_default(),
        namespace: vmi.metadata.namespace.as_deref().unwrap_or_default(),
        firmware_uuid,
        hostname: vmi.spec.hostname.as_deref(),
        instance_type: None,
    };
    for cloud_init in build_cloud_inits(&vmi.spec.volumes, guest, &request.secrets)? {
        let files: Vec<IsoFile<'_>> =
            cloud_init.tree.files.iter().map(|file| IsoFile { path: &file.path, bytes: &file.bytes }).collect();
        let disk = dir.ensure_iso(&cloud_init.volume, cloud_init.tree.label, &files)?;
        let read_only = !on_sata_disk(vmi, &cloud_init.volume);
        prepared.sources.insert(cloud_init.volume, source_of(disk, read_only));
    }
    prepared.sources.extend(volumes::make(vmi, volumes, place, owner, &dir)?);
    for volume in &vmi.spec.volumes {
        let name = &volume.name;
        if let Some(image) = images.get(name) {
            prepared.sources.insert(name.clone(), source_of(dir.ensure_overlay(name, image)?, false));
        } else if let Some(empty) = &volume.empty_disk {
            let disk = dir.ensure_empty_disk(name, empty.capacity.bytes())?;
            prepared.sources.insert(name.clone(), source_of(disk, false));
        } else if let (Some(label), Some(PodVolume::Directory(files))) = (data::label(volume), volumes.get(name)) {
            let files = data::read(&files.dir).map_err(|error| error.of(name))?;
            let files: Vec<IsoFile<'_>> = files.iter().map(data::DataFile::as_iso).collect();
            let disk = dir.ensure_iso(name, label, &files)?;
            prepared.sources.insert(name.clone(), source_of(disk, !on_sata_disk(vmi, name)));
        } else if !prepared.sources.contains_key(name) {
            return Err(PrepareError::Unsupported { volume: name.clone() });
        }
    }
    if let Some(firmware) = &request.efi {
        let vars = dir.path().join("efi-vars.fd");
        copy_vars(Path::new(&firmware.vars_template), &vars, request.qemu_uid)
            .map_err(|source| PrepareError::Efi { path: vars.clone(), source })?;
        prepared.efi = Some(EfiFiles {
            code: firmware.code.clone(),
            vars_template: firmware.vars_template.clone(),
            vars: vars.to_string_lossy().into_owned(),
            secure: firmware.secure_boot,
        });
    }
    Ok(prepared)
}

/// Libvirt would make the copy as root and, with its relabelling off, leave it unwritable for QEMU. The directory is root's.
fn copy_vars(template: &Path, vars: &Path, qemu_uid: u32) -> std::io::Result<()> {
    if vars.symlink_metadata().is_ok() {
        return Ok(());
    }
    let temporary = vars.with_extension("new");
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut from = std::fs::File::open(template)?;
    let mut to = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    std::io::copy(&mut from, &mut to)?;
    to.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    std::os::unix::fs::fchown(&to, Some(qemu_uid), Some(QEMU_GID))?;
    to.sync_all()?;
    std::fs::rename(&temporary, vars)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_without_a_bus_are_on_sata() {
        let vmi: VirtualMachineInstance = serde_json::from_value(serde_json::json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {},
            "spec": {"domain": {"devices": {"disks": [
                {"name": "bare"}, {"name": "default", "disk": {}}, {"name": "sata", "disk": {"bus": "sata"}},
                {"name": "virtio", "disk": {"bus": "virtio"}}, {"name": "cd", "cdrom": {"bus": "sata"}},
            ]}}},
        }))
        .unwrap();
        let on_sata = ["bare", "default", "sata", "virtio", "cd", "absent"].map(|name| on_sata_disk(&vmi, name));
        assert_eq!(on_sata, [true, true, true, false, false, false]);
    }
}
