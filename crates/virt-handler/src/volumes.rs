//! Volumes that a launcher pod brings to the node: what its VMI's disks are made of, or are.

use std::collections::BTreeMap;
use std::io;

use fv_api::VirtualMachineInstance;
use fv_disk::{Owner, VmDir};
use fv_domain::{DiskFormat, DiskSource, SourceKind};

use crate::disks::{PrepareError, source_of};
use crate::ports::{DiskRequest, LauncherPod, PodVolume, PodVolumes};

pub(crate) mod data;
mod directories;
mod image;
pub(crate) mod place;

pub use directories::DirectoryVolumes;
use image::{Image, Wanted};
use place::{Item, Place};

/// Why a volume of a launcher pod cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("the launcher pod does not have it on this node")]
    Missing,
    #[error("{step}")]
    Open {
        step: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("{step} {path:?} in it")]
    Io {
        step: &'static str,
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("{path:?} in it is no {wanted}")]
    Kind { path: String, wanted: &'static str },
    #[error("it has more than {most} {what}: take some out of it; such a disk is for settings")]
    TooMuch { most: u64, what: &'static str },
    #[error("it has no image {file:?}: put one there")]
    NoImage { file: String },
    #[error("{file:?} in it is a symbolic link, which may lead anywhere: put the image itself there")]
    Link { file: String },
    #[error(
        "{file:?} in it has {names} names, and by another it may be somebody else's disk: put a copy of the image there"
    )]
    HardLink { file: String, names: u64 },
    #[error("{file:?} in it is empty: write an image into it, or remove it")]
    Empty { file: String },
    #[error("it is read-only: say so in the volume (readOnly) and attach it by a cdrom or a read-only virtio disk")]
    ReadOnly,
    #[error(
        "unable to create {file:?}, not enough space, demanded size {wanted} B is bigger than available space {available} B, \
         also after taking {} % toleration into account",
        image::TOLERATION
    )]
    TooSmall { file: String, wanted: u64, available: u64 },
    #[error(
        "{file:?} in it belongs to {uid}:{gid} with mode {mode:03o}, so QEMU may not {verb} it: let group 107 {verb} it, with \
         chgrp 107 and chmod g+rw"
    )]
    Denied { file: String, uid: u32, gid: u32, mode: u32, verb: &'static str },
    #[error(
        "{path:?} of the node belongs to {uid}:{gid} with mode {mode:03o}: it was not made for a guest and is given to none; if it is \
         the image of one, say so with chown 107:107"
    )]
    Foreign { path: String, uid: u32, gid: u32, mode: u32 },
}

impl VolumeError {
    /// Says which volume it is about.
    pub(crate) fn of(self, volume: &str) -> PrepareError {
        PrepareError::Volume { volume: volume.to_owned(), source: self }
    }

    pub(crate) fn open(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            _ => Self::Open { step, source },
        }
    }

    pub(crate) fn io(step: &'static str, path: &str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { step, path, source }
    }
}

/// What the launcher pod brings for all volumes that are its own, too, by name.
pub(crate) async fn open(
    pods: &dyn PodVolumes,
    request: &DiskRequest,
) -> Result<BTreeMap<String, PodVolume>, PrepareError> {
    let volumes = request.vmi.spec.volumes.iter();
    let is_of_pod = |volume: &&fv_api::Volume| data::label(volume).is_some() || image::wanted(volume, None).is_some();
    let names: Vec<String> = volumes.filter(is_of_pod).map(|volume| volume.name.clone()).collect();
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let pod = LauncherPod {
        namespace: request.vmi.metadata.namespace.clone().unwrap_or_default(),
        vmi_uid: request.uid.clone(),
        uid: request.pod_uid.clone().ok_or(PrepareError::LauncherMissing)?,
    };
    pods.open(&pod, &names).await
}

/// An image that was found, and what is handed to QEMU of it.
struct Found<'a> {
    name: &'a str,
    wanted: Wanted,
    image: Image,
}

/// Makes the disks that are images in volumes of the pod. Blocking.
pub(crate) fn make(
    vmi: &VirtualMachineInstance,
    volumes: &BTreeMap<String, PodVolume>,
    place: &Place,
    owner: Owner,
    dir: &VmDir,
) -> Result<BTreeMap<String, DiskSource>, PrepareError> {
    let mut found = Vec::new();
    let mut items = Vec::new();
    for volume in &vmi.spec.volumes {
        let name = volume.name.as_str();
        let (Some(wanted), Some(opened)) = (image::wanted(volume, capacity(vmi, name)), volumes.get(name)) else {
            continue;
        };
        let (image, source) = image::ensure(opened, &wanted, owner).map_err(|error| error.of(name))?;
        items.push(Item { name: name.to_owned(), source, read_only: wanted.read_only });
        found.push(Found { name, wanted, image });
    }
    if found.is_empty() {
        return Ok(BTreeMap::new());
    }
    let paths = place.make(owner, items)?;
    let mut sources = BTreeMap::new();
    for Found { name, wanted, image } in found {
        let path = &paths[name];
        let source = if wanted.overlay {
            source_of(dir.ensure_overlay_of(name, path, image.size)?, false)
        } else {
            DiskSource {
                kind: if image.is_device { SourceKind::Block } else { SourceKind::File },
                path: path.to_string_lossy().into_owned(),
                // Always, as upstream: what a guest writes at the beginning of its disk makes it nothing else.
                format: DiskFormat::Raw,
                read_only: wanted.read_only,
                direct_io: image.direct_io,
                preallocated: image.preallocated,
            }
        };
        sources.insert(name.to_owned(), source);
    }
    Ok(sources)
}

/// The size of a claim, as the controller found it.
fn capacity(vmi: &VirtualMachineInstance, volume: &str) -> Option<u64> {
    let status = vmi.status.iter().flat_map(|status| &status.volume_status).find(|status| status.name == volume)?;
    let capacity = status.persistent_volume_claim_info.as_ref()?.capacity.get("storage")?;
    Some(capacity.bytes())
}
