//! Taking an image into the store.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::index::{Image, Index, PulledFrom, with_tag};
use super::{Digest, ImageHandle, ImageStore, StoreError, now};
use crate::copy::{Copied, CopyError, copy_file, disk_usage};
use crate::progress::{Progress, ProgressFn, Stage};
use crate::qemu_img::{self, ImageInfo};
use crate::safe_fs::{TempFile, fs_error, try_lock};

/// An image in `tmp/`: complete and checked, but not in the store yet. Dropping it removes it.
pub(crate) struct Staged<'a> {
    temp: TempFile<'a>,
    digest: Digest,
    length: u64,
    info: ImageInfo,
}

impl ImageStore {
    /// Copies `file` into the store and makes `name` stand for it (replacing what it stood for).
    pub fn import(&self, name: &str, file: &Path, progress: &ProgressFn) -> Result<ImageHandle, StoreError> {
        let name = check_name(name)?;
        // A FIFO or device must not block or be read for ever.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let source = rustix::fs::open(file, flags, Mode::empty())
            .map(File::from)
            .map_err(std::io::Error::from)
            .map_err(fs_error("open", file))?;
        let meta = source.metadata().map_err(fs_error("stat", file))?;
        if !meta.is_file() {
            return Err(StoreError::NotRegular { path: file.to_owned() });
        }
        // Refused before gigabytes are copied; and again below, because the file may change meanwhile.
        self.check_image(&name, &source)?;
        let (needed, available) = (disk_usage(&source), self.inner.tmp.space()?.available);
        if needed.saturating_add(self.inner.config.reserve_bytes) > available {
            return Err(self.no_space(available));
        }
        let temp = self.stage_file()?;
        let total = Some(meta.len());
        let copied = copy_file(&source, &temp.file, &self.inner.tmp, self.limits(), |done| {
            progress(Progress { stage: Stage::Copying, done, total });
        })
        .map_err(|error| self.copy_error(error, file, &temp.path()))?;
        progress(Progress { stage: Stage::Verifying, done: 0, total: None });
        let info = self.check_image(&name, &temp.file)?;
        let staged = self.staged(temp, copied, info)?;
        self.locked_mut(|index| {
            let handle = self.commit(index, staged)?;
            let replaced = index.imported.insert(name, handle.digest.clone());
            // What the name stood for goes too, unless it has another name or a VM uses it (then garbage collection takes it later).
            let nameless = replaced.filter(|old| *old != handle.digest && index.names_of(old).is_empty());
            if let Some(old) = nameless
                && !self.users()?.contains_key(&old)
            {
                self.delete(index, &old)?;
            }
            Ok(handle)
        })
    }

    /// A new locked file in `tmp/`.
    pub(crate) fn stage_file(&self) -> Result<TempFile<'_>, StoreError> {
        loop {
            let temp = self.inner.tmp.temp_file("")?;
            // Another process's clean-up may have seen the file before the lock was on it; then it is gone.
            let locked = try_lock(&temp.file).map_err(fs_error("lock", &temp.path()))?;
            if locked && temp.path().exists() {
                return Ok(temp);
            }
        }
    }

    /// What `temp` is, if it is an image.
    pub(crate) fn check_image(&self, name: &str, file: &File) -> Result<ImageInfo, StoreError> {
        qemu_img::inspect(file, self.inner.config.max_image_bytes)
            .map_err(|source| StoreError::Image { name: name.into(), source })
    }

    pub(crate) fn staged<'a>(
        &self,
        temp: TempFile<'a>,
        copied: Copied,
        info: ImageInfo,
    ) -> Result<Staged<'a>, StoreError> {
        let digest = Digest::from_hex(&copied.sha256)
            .ok_or_else(|| fs_error("hash", &temp.path())(std::io::ErrorKind::InvalidData.into()))?;
        temp.set_owner(0, self.inner.config.gid)?;
        temp.set_mode(0o440)?;
        // The slow part of making it durable is done before the lock is taken.
        temp.file.sync_all().map_err(fs_error("sync", &temp.path()))?;
        Ok(Staged { temp, digest, length: copied.length, info })
    }

    /// Moves a staged image to its place, with where it came from, for a holder: one step for whoever looks at the index.
    pub(crate) fn keep_pulled(
        &self,
        staged: Staged<'_>,
        from: PulledFrom<'_>,
        holder: &str,
    ) -> Result<ImageHandle, StoreError> {
        self.locked_mut(|index| {
            let handle = self.commit(index, staged)?;
            index.record_pull(from, &handle.digest);
            self.add_lease(holder, &handle.digest)?;
            Ok(handle)
        })
    }

    /// Moves a staged image to its place; `index` is locked. The same image may be there already.
    pub(crate) fn commit(&self, index: &mut Index, staged: Staged<'_>) -> Result<ImageHandle, StoreError> {
        let Staged { temp, digest, length, info } = staged;
        if self.handle(index, &digest).is_none() {
            let image = Image {
                format: info.format,
                virtual_size: info.virtual_size,
                length,
                disk_usage: disk_usage(&temp.file),
                created: now(),
                last_used: now(),
            };
            temp.publish(&self.inner.blobs, digest.hex())?;
            index.images.insert(digest.clone(), image);
        }
        index.touch(&digest);
        Ok(ImageHandle {
            path: self.inner.blobs.join(digest.hex()),
            digest,
            format: info.format,
            virtual_size: info.virtual_size,
        })
    }

    pub(crate) fn copy_error(&self, error: CopyError, from: &Path, to: &Path) -> StoreError {
        let io = |step, path: &Path, source| StoreError::Io { step, path: PathBuf::from(path), source };
        match error {
            CopyError::Read(source) => io("read", from, source),
            CopyError::Write(source) => io("write", to, source),
            CopyError::TooLarge { max } => StoreError::TooLarge { max },
            CopyError::NoSpace { available } => self.no_space(available),
        }
    }

    pub(crate) fn no_space(&self, available: u64) -> StoreError {
        StoreError::NoSpace { available, reserve: self.inner.config.reserve_bytes, root: self.root().to_owned() }
    }

    /// Removes files of writers that are gone.
    pub(crate) fn remove_leftovers(&self) -> Result<(), StoreError> {
        for name in self.inner.tmp.names()? {
            let Some(file) = self.inner.tmp.open_existing(&name)? else { continue };
            if try_lock(&file).map_err(fs_error("lock", &self.inner.tmp.join(&name)))? {
                tracing::info!(%name, "removing what an interrupted import or pull left");
                self.inner.tmp.unlink(&name)?;
            }
        }
        Ok(())
    }
}

/// A name that a containerDisk's `image` can say: an image reference without digest, with its tag.
fn check_name(name: &str) -> Result<String, StoreError> {
    let error = |reason: &str| StoreError::Name { name: name.into(), reason: reason.into() };
    if name.contains('@') {
        return Err(error("a name with a digest is for registries; use name[:tag]"));
    }
    let tagged = with_tag(name);
    tagged.parse::<oci_client::Reference>().map_err(|cause| error(&cause.to_string()))?;
    Ok(tagged)
}
