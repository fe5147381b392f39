//! Getting the disk out of an image that a container runtime has unpacked already.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::PullError;
use super::disk::{is_disk_name, normalise};
use crate::copy::copy_file;
use crate::progress::{Progress, ProgressFn, Stage};
use crate::safe_fs::fs_error;
use crate::store::{ImageHandle, ImageStore, PulledFrom, StoreError};

/// Disks named in an error.
const MAX_NAMED: usize = 16;

/// An image whose root directory is at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnpackedImage {
    /// As written in the volume.
    pub image: String,
    /// What the runtime calls its content: `registry.example/demo@sha256:…`.
    pub digest: String,
    /// Whose word the content rests on (a namespace): another scope does not get to use it without bringing the image itself, for what
    /// runs in the container may have changed the files under the image's name.
    pub scope: String,
    /// The disk inside the image; else the only file under `/disk`.
    pub path: Option<String>,
}

impl UnpackedImage {
    fn scoped(&self, text: &str) -> String {
        format!("{text} in {}", self.scope)
    }
}

impl ImageStore {
    /// The disk of an unpacked image, copied into the store unless the same scope did so before, with a lease for `holder` (the VMI's
    /// uid). `root` is the image's root directory; nothing outside of the image is ever followed, mounts over it included.
    pub async fn ensure_unpacked(
        &self,
        image: &UnpackedImage,
        root: OwnedFd,
        holder: &str,
        progress: ProgressFn,
    ) -> Result<ImageHandle, PullError> {
        let (name, manifest) = (image.scoped(&image.image), image.scoped(&image.digest));
        let path = image.path.clone().unwrap_or_default();
        let key = format!("{manifest} {path}");
        let lock = self.pull_lock(&key);
        let _in_process = lock.lock().await;
        let _between_processes = self.pull_file_lock(&key).await?;
        if let Some(handle) = self.take_by_manifest(&name, &path, &manifest, holder).await? {
            return Ok(handle);
        }
        let (store, image, holder) = (self.clone(), image.clone(), holder.to_owned());
        let work = move || -> Result<ImageHandle, PullError> {
            let (found, file) = find_disk(&image, root.as_fd())?;
            let shown = format!("{}{found}", image.image);
            // Refused before gigabytes are copied; and again below, because the file may change meanwhile.
            store.check_image(&shown, &file)?;
            let temp = store.stage_file()?;
            let total =
                file.metadata().map_err(fs_error("stat", &PathBuf::from(&shown))).map_err(StoreError::from)?.len();
            let copied = copy_file(&file, &temp.file, &store.inner.tmp, store.limits(), |done| {
                progress(Progress { stage: Stage::Copying, done, total: Some(total) });
            })
            .map_err(|error| store.copy_error(error, &PathBuf::from(&shown), &temp.path()))?;
            let info = store.check_image(&shown, &temp.file)?;
            let staged = store.staged(temp, copied, info)?;
            let from = PulledFrom { image: &name, path: &path, manifest: &manifest };
            Ok(store.keep_pulled(staged, from, &holder)?)
        };
        tokio::task::spawn_blocking(work).await.unwrap_or(Err(PullError::Cancelled))
    }
}

/// Opens `path` in the image. No link, no other mount, no waiting for whoever is behind a FIFO.
fn open(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let rules = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    rustix::fs::openat2(root, path, flags | OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty(), rules)
}

/// The one disk, and its path from the image's root on.
fn find_disk(image: &UnpackedImage, root: BorrowedFd<'_>) -> Result<(String, File), PullError> {
    let none = |reason: String| PullError::NoDisk { image: image.image.clone(), reason };
    let path = match image.path.as_deref().filter(|path| !path.is_empty()) {
        Some(path) => normalise(path)
            .filter(|path| !path.is_empty())
            .ok_or_else(|| none(format!("containerDisk.path {path:?} is not a plain absolute path")))?,
        None => format!("disk/{}", only_disk(image, root)?),
    };
    let shown = format!("/{path}");
    let special = |kind| PullError::NotRegular { image: image.image.clone(), path: shown.clone(), kind };
    let file = open(root, &path, OFlags::empty()).map_err(|error| match error {
        Errno::NOENT | Errno::NOTDIR => none(format!("there is no file {shown:?} in it")),
        Errno::LOOP => special("symbolic link"),
        Errno::XDEV => none(format!("{shown:?} is not in the image, something is mounted there")),
        // A socket.
        Errno::NXIO => special("special file"),
        error => none(format!("{shown:?} cannot be opened: {error}")),
    })?;
    let stat = rustix::fs::fstat(&file).map_err(|error| none(format!("{shown:?} cannot be looked at: {error}")))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok((shown, file.into())),
        FileType::Directory => Err(special("directory")),
        FileType::BlockDevice | FileType::CharacterDevice => Err(special("device")),
        FileType::Fifo => Err(special("named pipe")),
        FileType::Symlink | FileType::Socket | FileType::Unknown => Err(special("special file")),
    }
}

/// The name of the only disk under `/disk`.
fn only_disk(image: &UnpackedImage, root: BorrowedFd<'_>) -> Result<String, PullError> {
    let none = |reason: String| PullError::NoDisk { image: image.image.clone(), reason };
    let nothing =
        || none("there is no *.img, *.qcow2 or *.raw under /disk; name the file in containerDisk.path".into());
    let directory = open(root, "disk", OFlags::DIRECTORY).map_err(|error| match error {
        Errno::NOENT => nothing(),
        Errno::LOOP => {
            PullError::NotRegular { image: image.image.clone(), path: "/disk".into(), kind: "symbolic link" }
        }
        error => none(format!("\"/disk\" is not a directory of the image: {error}")),
    })?;
    let listing = |error: Errno| none(format!("\"/disk\" cannot be listed: {error}"));
    let mut found = Vec::new();
    for entry in rustix::fs::Dir::new(directory).map_err(listing)? {
        let entry = entry.map_err(listing)?;
        // Names that are not text cannot be the disk nor hide it.
        let Ok(name) = entry.file_name().to_str() else { continue };
        if is_disk_name(name) {
            found.push(name.to_owned());
        }
        if found.len() > MAX_NAMED {
            break;
        }
    }
    found.sort_unstable();
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => Err(nothing()),
        (Some(last), false) => {
            let paths = found.into_iter().chain([last]).map(|name| format!("/disk/{name}")).collect();
            Err(PullError::SeveralDisks { image: image.image.clone(), paths })
        }
    }
}
