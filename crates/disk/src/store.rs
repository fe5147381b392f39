//! The image store of a node.
//!
//! ```text
//! <root>/blobs/<64 hex digits>   disk images by the SHA-256 of their bytes, mode 0440 root:<gid>, never written to again
//! <root>/index.json              names, formats, times (replaced atomically, under the lock)
//! <root>/leases/<holder>         which digests a VMI uses
//! <root>/tmp/                    imports and pulls under way, each file locked by its writer
//! <root>/lock                    one flock for all of the above
//! ```

mod gc;
mod import;
mod index;
mod lease;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::copy::Limits;
use crate::oci::{PullPolicy, RegistryConfig};
use crate::qemu_img::{ImageFormat, QemuImgError};
use crate::safe_fs::{Dir, FsError};

pub use gc::{GcPolicy, GcReport};
pub(crate) use index::{PulledFrom, with_tag};

/// `sha256:<64 hex digits>` of a disk image's bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    pub(crate) fn from_hex(hex: &str) -> Option<Self> {
        let good = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        good.then(|| Self(format!("sha256:{hex}")))
    }

    /// The hex digits.
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }

    /// `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.strip_prefix("sha256:").and_then(Self::from_hex).ok_or_else(|| format!("{text:?} is not a sha256 digest"))
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

/// A name in the store: an image reference with its tag.
pub type ImageName = String;

/// Where the store is and how large things may be.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The directory, e.g. `/var/lib/ferrovirt/images`. QEMU's user must be able to pass through its parents.
    pub root: PathBuf,
    /// Group that QEMU runs in: stored images are readable by it.
    pub gid: u32,
    /// Largest image file taken, and largest disk an image may claim to be.
    pub max_image_bytes: u64,
    /// Bytes of free space an import or pull leaves alone.
    pub reserve_bytes: u64,
    /// Registries.
    pub registry: RegistryConfig,
}

impl StoreConfig {
    /// The defaults for a store at `root`: QEMU's group 107, images up to 2 TiB, 256 MiB left free.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            gid: 107,
            max_image_bytes: 2 << 40,
            reserve_bytes: 256 << 20,
            registry: RegistryConfig::default(),
        }
    }
}

/// What a containerDisk volume asks for.
#[derive(Clone)]
pub struct ImageRequest {
    /// As written in the volume.
    pub image: String,
    pub policy: PullPolicy,
    /// `containerDisk.path`: the disk inside the image; else the only file under `/disk`.
    pub path: Option<String>,
    /// `.dockerconfigjson` of each pull secret, tried in turn.
    pub pull_secrets: Vec<Vec<u8>>,
}

/// A stored image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageHandle {
    pub digest: Digest,
    /// Absolute path of the image file; never written to again.
    pub path: PathBuf,
    pub format: ImageFormat,
    /// Size of the disk the guest sees.
    pub virtual_size: u64,
}

/// One line of `ferrovirt image ls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSummary {
    /// Names that stand for this image; imported ones first.
    pub names: Vec<ImageName>,
    pub digest: Digest,
    pub format: ImageFormat,
    pub virtual_size: u64,
    /// Bytes on the disk.
    pub disk_usage: u64,
    /// Seconds since the epoch.
    pub created: u64,
    pub last_used: u64,
    /// Imported by an operator rather than pulled; garbage collection leaves it alone.
    pub imported: bool,
    /// VMIs (uids) that use it.
    pub in_use_by: Vec<String>,
}

/// What can go wrong with the store itself.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot {step} {}", path.display())]
    Io {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("image index {} is damaged: {reason}; move it away and it is rebuilt from the stored files (names are lost)", path.display())]
    Index { path: PathBuf, reason: String },
    #[error("image name {name:?} is not valid: {reason}")]
    Name { name: String, reason: String },
    #[error("no image named {name:?} in the store; `ferrovirt image ls` lists them")]
    NotFound { name: String },
    #[error("image {name:?} is in use by {}; stop those first", users.join(", "))]
    InUse { name: String, users: Vec<String> },
    #[error("lease holder {0:?} is not a plain file name")]
    Holder(String),
    #[error("{} is not a regular file", path.display())]
    NotRegular { path: PathBuf },
    #[error("image is larger than the {max} bytes that are allowed")]
    TooLarge { max: u64 },
    #[error("no space for the image: {available} bytes are free under {}, {reserve} of them are kept in reserve; free some space or remove images (`ferrovirt image rm`)", root.display())]
    NoSpace { available: u64, reserve: u64, root: PathBuf },
    #[error("{name:?} is not usable as a disk image")]
    Image {
        name: String,
        #[source]
        source: QemuImgError,
    },
}

impl From<FsError> for StoreError {
    fn from(error: FsError) -> Self {
        Self::Io { step: error.step, path: error.path, source: error.source }
    }
}

/// The store. Cheap to clone; any number of processes may use one directory.
#[derive(Clone)]
pub struct ImageStore {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: StoreConfig,
    root: Dir,
    blobs: Dir,
    leases: Dir,
    pub(crate) tmp: Dir,
    /// One pull per manifest and path within this process.
    pulls: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl ImageStore {
    /// Opens the store, making the directory where it is missing, and removes what crashed imports and pulls left.
    pub fn open(config: StoreConfig) -> Result<Self, StoreError> {
        crate::oci::install_tls_provider();
        let inner = Inner {
            // Passable, not listable: QEMU opens images by path.
            root: Dir::ensure(&config.root, 0o711)?,
            blobs: Dir::ensure(&config.root.join("blobs"), 0o711)?,
            leases: Dir::ensure(&config.root.join("leases"), 0o700)?,
            tmp: Dir::ensure(&config.root.join("tmp"), 0o700)?,
            pulls: Mutex::default(),
            config,
        };
        let store = Self { inner: Arc::new(inner) };
        store.remove_leftovers()?;
        store.locked_mut(|index| store.reconcile(index))?;
        Ok(store)
    }

    /// The directory, absolute.
    pub fn root(&self) -> &Path {
        self.inner.root.path()
    }

    /// Everything stored, by name.
    pub fn list(&self) -> Result<Vec<ImageSummary>, StoreError> {
        self.locked(|index| {
            let users = self.users()?;
            let mut list: Vec<ImageSummary> = index
                .images
                .iter()
                .map(|(digest, image)| ImageSummary {
                    names: index.names_of(digest),
                    digest: digest.clone(),
                    format: image.format,
                    virtual_size: image.virtual_size,
                    disk_usage: image.disk_usage,
                    created: image.created,
                    last_used: image.last_used,
                    imported: index.is_imported(digest),
                    in_use_by: users.get(digest).cloned().unwrap_or_default(),
                })
                .collect();
            list.sort_by(|a, b| {
                (a.names.is_empty(), &a.names, &a.digest).cmp(&(b.names.is_empty(), &b.names, &b.digest))
            });
            Ok(list)
        })
    }

    /// Forgets `name` (or `sha256:…` with all its names); the file goes with its last name. Refused while a VM uses the file.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        self.locked_mut(|index| {
            let digest = index.find(name).ok_or_else(|| StoreError::NotFound { name: name.into() })?;
            let users = self.users()?.remove(&digest).unwrap_or_default();
            let last = name.starts_with("sha256:") || index.names_of(&digest).len() <= 1;
            if last && !users.is_empty() {
                return Err(StoreError::InUse { name: name.into(), users });
            }
            if last {
                self.delete(index, &digest)
            } else {
                index.forget_name(name);
                Ok(())
            }
        })
    }

    /// The image by digest, if stored: what a restarted handler asks for a disk it already made.
    pub fn get(&self, digest: &Digest) -> Result<Option<ImageHandle>, StoreError> {
        self.locked(|index| Ok(self.handle(index, digest)))
    }

    /// Unlinks the file and everything the index says of it. The caller has checked the leases under the same lock.
    fn delete(&self, index: &mut index::Index, digest: &Digest) -> Result<(), StoreError> {
        self.inner.blobs.unlink(digest.hex())?;
        index.forget(digest);
        Ok(())
    }

    pub(crate) fn handle(&self, index: &index::Index, digest: &Digest) -> Option<ImageHandle> {
        let image = index.images.get(digest)?;
        let path = self.inner.blobs.join(digest.hex());
        // Somebody may have tidied up by hand; then the image counts as absent and is fetched again.
        path.symlink_metadata().ok().filter(|meta| meta.is_file() && meta.len() == image.length)?;
        Some(ImageHandle { digest: digest.clone(), path, format: image.format, virtual_size: image.virtual_size })
    }

    /// The stored image, leased to `holder`; `index` is locked exclusively.
    pub(crate) fn take(
        &self,
        index: &mut index::Index,
        digest: &Digest,
        holder: &str,
    ) -> Result<Option<ImageHandle>, StoreError> {
        let Some(handle) = self.handle(index, digest) else { return Ok(None) };
        self.add_lease(holder, digest)?;
        index.touch(digest);
        Ok(Some(handle))
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits { max_bytes: self.inner.config.max_image_bytes, reserve_bytes: self.inner.config.reserve_bytes }
    }

    /// The lock for pulling `key` in this process.
    pub(crate) fn pull_lock(&self, key: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut pulls = self.inner.pulls.lock();
        pulls.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = pulls.get(key).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        pulls.insert(key.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
