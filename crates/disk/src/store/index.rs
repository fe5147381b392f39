//! What the store knows about its files, and the lock around it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};

use rustix::fs::OFlags;

use super::{Digest, ImageStore, StoreError, now};
use crate::copy::disk_usage;
use crate::qemu_img::{self, ImageFormat};
use crate::safe_fs::{fs_error, lock};

const INDEX: &str = "index.json";
/// Far beyond any real index.
const MAX_INDEX_BYTES: u64 = 64 << 20;
const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Index {
    version: u32,
    pub(crate) images: BTreeMap<Digest, Image>,
    /// Names given by an operator.
    pub(crate) imported: BTreeMap<String, Digest>,
    /// What was pulled, by [`PulledFrom::key`].
    pub(crate) pulled: BTreeMap<String, Pulled>,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Image {
    pub(crate) format: ImageFormat,
    pub(crate) virtual_size: u64,
    pub(crate) length: u64,
    pub(crate) disk_usage: u64,
    pub(crate) created: u64,
    pub(crate) last_used: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Pulled {
    pub(crate) image: String,
    pub(crate) path: String,
    /// Digest of the manifest the disk came from, `sha256:…`.
    pub(crate) manifest: String,
    pub(crate) disk: Digest,
}

/// Where a pulled disk came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PulledFrom<'a> {
    /// Full reference.
    pub(crate) image: &'a str,
    /// The path asked for, or nothing.
    pub(crate) path: &'a str,
    pub(crate) manifest: &'a str,
}

impl PulledFrom<'_> {
    pub(crate) fn key(image: &str, path: &str) -> String {
        format!("{image} {path}")
    }
}

impl Default for Index {
    fn default() -> Self {
        Self { version: VERSION, images: BTreeMap::new(), imported: BTreeMap::new(), pulled: BTreeMap::new() }
    }
}

impl Index {
    pub(crate) fn is_imported(&self, digest: &Digest) -> bool {
        self.imported.values().any(|named| named == digest)
    }

    /// Names of an image: imported ones, then references it was pulled by.
    pub(crate) fn names_of(&self, digest: &Digest) -> Vec<String> {
        let imported = self.imported.iter().filter(|(_, named)| *named == digest).map(|(name, _)| name.clone());
        let pulled: BTreeSet<_> =
            self.pulled.values().filter(|pulled| pulled.disk == *digest).map(|pulled| pulled.image.clone()).collect();
        imported.chain(pulled).collect()
    }

    /// The image an operator means by `name`: a digest, an imported name, a pulled reference.
    pub(crate) fn find(&self, name: &str) -> Option<Digest> {
        if let Ok(digest) = name.parse::<Digest>() {
            return self.images.contains_key(&digest).then_some(digest);
        }
        let tagged = with_tag(name);
        self.imported
            .get(&tagged)
            .or_else(|| self.pulled.values().find(|p| p.image == name || p.image == tagged).map(|p| &p.disk))
            .cloned()
    }

    pub(crate) fn forget_name(&mut self, name: &str) {
        let tagged = with_tag(name);
        if self.imported.remove(&tagged).is_none() {
            self.pulled.retain(|_, pulled| pulled.image != name && pulled.image != tagged);
        }
    }

    pub(crate) fn forget(&mut self, digest: &Digest) {
        self.images.remove(digest);
        self.imported.retain(|_, named| named != digest);
        self.pulled.retain(|_, pulled| pulled.disk != *digest);
    }

    pub(crate) fn touch(&mut self, digest: &Digest) {
        if let Some(image) = self.images.get_mut(digest) {
            image.last_used = now();
        }
    }

    /// The disk in a manifest that was pulled before, under whatever name.
    pub(crate) fn by_manifest(&self, manifest: &str, path: &str) -> Option<&Digest> {
        self.pulled
            .values()
            .find(|pulled| pulled.manifest == manifest && pulled.path == path)
            .map(|pulled| &pulled.disk)
    }

    pub(crate) fn record_pull(&mut self, from: PulledFrom<'_>, disk: &Digest) {
        let pulled = Pulled {
            image: from.image.into(),
            path: from.path.into(),
            manifest: from.manifest.into(),
            disk: disk.clone(),
        };
        self.pulled.insert(PulledFrom::key(from.image, from.path), pulled);
    }
}

/// `name`, with the tag that no tag stands for.
pub(crate) fn with_tag(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains(':') || last.contains('@') { name.into() } else { format!("{name}:latest") }
}

impl ImageStore {
    /// Reads the index under the shared lock.
    pub(crate) fn locked<T>(&self, read: impl FnOnce(&Index) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let _lock = self.lock(false)?;
        read(&self.load()?)
    }

    /// Changes the index under the exclusive lock; it is written if it changed and `change` succeeds.
    pub(crate) fn locked_mut<T>(
        &self,
        change: impl FnOnce(&mut Index) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let _lock = self.lock(true)?;
        let before = self.load()?;
        let mut index = before.clone();
        let result = change(&mut index)?;
        if index != before {
            let mut bytes = serde_json::to_vec_pretty(&index)
                .map_err(|error| StoreError::Index { path: self.inner.root.join(INDEX), reason: error.to_string() })?;
            let _ = bytes.write_all(b"\n");
            self.inner.root.write_atomically(INDEX, &bytes, 0o600)?;
        }
        Ok(result)
    }

    fn lock(&self, exclusive: bool) -> Result<std::fs::File, StoreError> {
        let file = self.inner.root.open_file("lock", OFlags::RDWR | OFlags::CREATE, 0o600)?;
        lock(&file, exclusive).map_err(fs_error("lock", &self.inner.root.join("lock")))?;
        Ok(file)
    }

    fn load(&self) -> Result<Index, StoreError> {
        let path = self.inner.root.join(INDEX);
        let Some(file) = self.inner.root.open_existing(INDEX)? else { return Ok(Index::default()) };
        let mut bytes = Vec::new();
        file.take(MAX_INDEX_BYTES).read_to_end(&mut bytes).map_err(fs_error("read", &path))?;
        let damaged = |reason: String| StoreError::Index { path: path.clone(), reason };
        let index: Index = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if index.version != VERSION {
            return Err(damaged(format!("it has version {}, this program knows {VERSION}", index.version)));
        }
        Ok(index)
    }

    /// Makes index and files agree: entries without a file go, files without an entry (a crash between the two, or a lost
    /// index) get one without a name. No file is deleted here.
    pub(crate) fn reconcile(&self, index: &mut Index) -> Result<(), StoreError> {
        let present: BTreeSet<Digest> =
            self.inner.blobs.names()?.iter().filter_map(|name| Digest::from_hex(name)).collect();
        let gone: Vec<Digest> = index.images.keys().filter(|digest| !present.contains(digest)).cloned().collect();
        for digest in gone {
            tracing::warn!(%digest, "image file is gone");
            index.forget(&digest);
        }
        for digest in present {
            if index.images.contains_key(&digest) {
                continue;
            }
            let Some(file) = self.inner.blobs.open_existing(digest.hex())? else { continue };
            match qemu_img::inspect(&file, self.inner.config.max_image_bytes) {
                Ok(info) => {
                    let length = file.metadata().map_err(fs_error("stat", &self.inner.blobs.join(digest.hex())))?.len();
                    index.images.insert(
                        digest,
                        Image {
                            format: info.format,
                            virtual_size: info.virtual_size,
                            length,
                            disk_usage: disk_usage(&file),
                            created: now(),
                            last_used: now(),
                        },
                    );
                }
                Err(error) => tracing::warn!(%digest, %error, "stored file is not an image; leaving it alone"),
            }
        }
        Ok(())
    }
}
