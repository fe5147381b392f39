//! Finding the disk in the layers of an image: bottom to top, later layers win, nothing is ever unpacked to a path an archive names.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};
use tar::EntryType;

use super::PullError;
use super::blob::BlobReader;
use crate::copy::{Copied, CopyError, copy_stream};
use crate::safe_fs::TempFile;
use crate::store::ImageStore;

/// Files under /disk that are kept while the layers are read; an image has one.
const MAX_CANDIDATES: usize = 16;
/// Entries of all layers together.
const MAX_ENTRIES: u64 = 2_000_000;

/// The search for one disk through all layers.
pub(super) struct DiskSearch<'a> {
    store: &'a ImageStore,
    image: String,
    /// Wanted path without leading slash; `None`: the only disk file under `disk/`.
    path: Option<String>,
    found: BTreeMap<String, Found<'a>>,
    layer: usize,
    entries: u64,
    /// Unpacked bytes the remaining layers may have.
    budget: u64,
}

struct Found<'a> {
    layer: usize,
    what: What<'a>,
}

enum What<'a> {
    File(TempFile<'a>, Copied),
    Other(&'static str),
}

impl<'a> DiskSearch<'a> {
    pub(super) fn new(store: &'a ImageStore, image: &str, path: Option<&str>) -> Result<Self, PullError> {
        let path = match path.filter(|path| !path.is_empty()) {
            None => None,
            Some(path) => Some(normalise(path).filter(|path| !path.is_empty()).ok_or_else(|| PullError::NoDisk {
                image: image.into(),
                reason: format!("containerDisk.path {path:?} is not a plain absolute path"),
            })?),
        };
        // Layers may hold more than the disk, but not arbitrarily more.
        let budget = store.limits().max_bytes.saturating_add(16 << 30);
        Ok(Self { store, image: image.into(), path, found: BTreeMap::new(), layer: 0, entries: 0, budget })
    }

    /// Reads one layer to its end, checking blob digest and diff id.
    pub(super) fn read_layer(&mut self, blob: BlobReader, digest: &str, diff_id: &str) -> Result<(), PullError> {
        let bad = |reason: String| PullError::Layer { digest: digest.into(), reason };
        let mut packed = BufReader::with_capacity(64 << 10, blob);
        let kind = compression(&mut packed);
        let result = match kind {
            Ok(Compression::None) => self.read_tar(&mut packed),
            Ok(Compression::Gzip) => self.read_tar(&mut flate2::bufread::MultiGzDecoder::new(&mut packed)),
            Ok(Compression::Zstd) => zstd::stream::read::Decoder::with_buffer(&mut packed)
                .and_then(|mut decoder| decoder.window_log_max(27).map(|()| decoder))
                .map_err(TarError::from)
                .and_then(|mut decoder| self.read_tar(&mut decoder)),
            Err(error) => Err(error.into()),
        };
        // What the network did comes before what that did to the archive.
        let mut blob = packed.into_inner();
        if let Some(failure) = blob.take_failure() {
            return Err(failure);
        }
        let actual = match result {
            Ok(actual) => actual,
            // A changed blob shows as a broken archive first; its digest is the better story.
            Err(TarError::Pull(error)) => return Err(error),
            Err(TarError::Io(error)) => {
                blob.finish()?;
                return Err(bad(error.to_string()));
            }
        };
        blob.finish()?;
        if actual != diff_id {
            return Err(PullError::WrongDigest { what: "unpacked layer", expected: diff_id.into(), actual });
        }
        self.layer += 1;
        Ok(())
    }

    fn read_tar(&mut self, input: &mut dyn Read) -> Result<String, TarError> {
        let mut input = Hashing { input, hash: Sha256::new(), budget: &mut 0 };
        let mut budget = self.budget;
        input.budget = &mut budget;
        {
            let mut archive = tar::Archive::new(&mut input);
            for entry in archive.entries()? {
                self.entries += 1;
                if self.entries > MAX_ENTRIES {
                    return Err(io::Error::other(format!("more than {MAX_ENTRIES} files")).into());
                }
                self.read_entry(&mut entry?)?;
            }
        }
        // Padding behind the archive belongs to the diff id.
        io::copy(&mut input, &mut io::sink())?;
        let digest = format!("sha256:{}", hex::encode(input.hash.finalize()));
        self.budget = budget;
        Ok(digest)
    }

    fn read_entry(&mut self, entry: &mut tar::Entry<'_, impl Read>) -> Result<(), TarError> {
        let raw = entry.path_bytes().into_owned();
        // Names that are not text cannot be the disk nor hide it.
        let Ok(raw) = std::str::from_utf8(&raw) else { return Ok(()) };
        let Some(path) = normalise(raw) else {
            return Err(io::Error::other(format!("unsafe path {:?}", raw.chars().take(200).collect::<String>())).into());
        };
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
        if let Some(hidden) = name.strip_prefix(".wh.") {
            if hidden == ".wh..opq" {
                self.hide_below(parent);
            } else {
                self.hide(&if parent.is_empty() { hidden.to_owned() } else { format!("{parent}/{hidden}") });
            }
            return Ok(());
        }
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            self.found.remove(&path);
            return Ok(());
        }
        // Whatever stands here now hides what was here, or below it when it was a directory.
        self.hide(&path);
        if !self.is_wanted(&path) {
            return Ok(());
        }
        if self.found.len() >= MAX_CANDIDATES {
            return Err(io::Error::other(format!("more than {MAX_CANDIDATES} disks")).into());
        }
        let what = match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let temp = self.store.stage_file().map_err(PullError::from)?;
                let copied = copy_stream(entry, &temp.file, &self.store.inner.tmp, self.store.limits(), |_| ());
                match copied {
                    Ok(copied) => What::File(temp, copied),
                    Err(CopyError::Read(error)) => return Err(error.into()),
                    Err(error) => {
                        let error = self.store.copy_error(error, &PathBuf::from(&path), &temp.path());
                        return Err(TarError::Pull(error.into()));
                    }
                }
            }
            EntryType::Symlink => What::Other("symbolic link"),
            EntryType::Link => What::Other("hard link"),
            EntryType::Block | EntryType::Char => What::Other("device"),
            EntryType::Fifo => What::Other("named pipe"),
            _ => What::Other("special file"),
        };
        self.found.insert(path, Found { layer: self.layer, what });
        Ok(())
    }

    fn is_wanted(&self, path: &str) -> bool {
        match &self.path {
            // A parent that is a link would be followed by a container runtime; here it is an error below.
            Some(wanted) => path == wanted || wanted.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')),
            None => {
                path == "disk"
                    || path.strip_prefix("disk/").is_some_and(|name| !name.contains('/') && is_disk_name(name))
            }
        }
    }

    /// Forgets `path` and what is below it.
    fn hide(&mut self, path: &str) {
        let below = format!("{path}/");
        self.found.retain(|found, _| found != path && !found.starts_with(&below));
    }

    /// An opaque directory hides what *lower* layers put there.
    fn hide_below(&mut self, directory: &str) {
        let below = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let layer = self.layer;
        self.found.retain(|path, found| found.layer == layer || !path.starts_with(&below));
    }

    /// The one disk.
    pub(super) fn finish(self) -> Result<(String, TempFile<'a>, Copied), PullError> {
        let Self { image, path, mut found, .. } = self;
        let mut paths: Vec<String> = found.keys().cloned().collect();
        let (Some(only), true) = (paths.pop(), paths.is_empty()) else {
            if paths.is_empty() {
                let reason = match path {
                    Some(path) => format!("there is no file {:?} in it", format!("/{path}")),
                    None => {
                        "there is no *.img, *.qcow2 or *.raw under /disk; name the file in containerDisk.path".into()
                    }
                };
                return Err(PullError::NoDisk { image, reason });
            }
            let all = found.into_keys().map(|path| format!("/{path}")).collect();
            return Err(PullError::SeveralDisks { image, paths: all });
        };
        let shown = format!("/{only}");
        match found.remove(&only).map(|found| found.what) {
            Some(What::File(temp, copied)) if path.as_ref().is_none_or(|path| *path == only) && only != "disk" => {
                Ok((shown, temp, copied))
            }
            Some(What::Other(kind)) => Err(PullError::NotRegular { image, path: shown, kind }),
            _ => Err(PullError::NoDisk { image, reason: format!("{shown:?} is not a directory") }),
        }
    }
}

enum TarError {
    Io(io::Error),
    Pull(PullError),
}

impl From<io::Error> for TarError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<PullError> for TarError {
    fn from(error: PullError) -> Self {
        Self::Pull(error)
    }
}

/// Hashes and counts what is unpacked.
struct Hashing<'a> {
    input: &'a mut dyn Read,
    hash: Sha256,
    budget: &'a mut u64,
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        *self.budget = self
            .budget
            .checked_sub(count as u64)
            .ok_or_else(|| io::Error::other("it unpacks to more bytes than an image may have"))?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}

enum Compression {
    None,
    Gzip,
    Zstd,
}

/// By content: media types in the wild are not reliable about it.
fn compression(input: &mut BufReader<BlobReader>) -> io::Result<Compression> {
    let start = input.fill_buf()?;
    Ok(if start.starts_with(b"\x1f\x8b") {
        Compression::Gzip
    } else if start.starts_with(b"\x28\xb5\x2f\xfd") {
        Compression::Zstd
    } else {
        Compression::None
    })
}

/// Whether a file under `/disk` is the disk by its name.
pub(super) fn is_disk_name(name: &str) -> bool {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    !name.starts_with('.') && matches!(extension.as_deref(), Some("img" | "qcow2" | "raw"))
}

/// Components of a path joined by single slashes; `None` with `..` in it.
pub(super) fn normalise(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => return None,
            part if part.contains('\0') => return None,
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
