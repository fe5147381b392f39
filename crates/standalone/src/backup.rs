//! `ferrovirt backup` and `ferrovirt restore`: the objects and the keys of an instance in one file.
//!
//! The file is a tar compressed by zstd: `backup.json`, the database, and the files of `pki`. Images and the disks of guests are not in it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail};
use fv_apiserver::store;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::down::remove_tree;
use crate::instance::Instance;
use crate::up::lock;

const DESCRIPTION: &str = "backup.json";
const DATABASE: &str = "objects.db";
const KEYS: &str = "pki";
/// Layout of the archive.
const FORMAT: u32 = 1;
/// Larger files are no part of a backup: the database is bounded far below.
const MAX_FILE: u64 = 64 << 30;

/// What a backup says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Description {
    pub format: u32,
    /// Version of the program that wrote it.
    pub ferrovirt: String,
    pub created: Timestamp,
    /// Newest revision in it.
    pub revision: u64,
    /// Number of objects.
    pub objects: usize,
}

/// Writes a backup of an instance, which may be running, into a new file readable by its owner only.
///
/// # Errors
/// There are no objects yet, the file exists, or it cannot be written.
pub fn backup(instance: &Instance, target: &Path) -> anyhow::Result<Description> {
    if target.exists() {
        bail!("{} exists already: choose another name", target.display());
    }
    let mut name = target.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let work = WorkDir::new(name.into())?;
    let database = work.path.join(DATABASE);
    let copied = store::backup(&instance.store_dir(), &database)?;
    let description = Description {
        format: FORMAT,
        ferrovirt: env!("CARGO_PKG_VERSION").into(),
        created: Timestamp::now(),
        revision: copied.revision,
        objects: copied.objects,
    };
    let archive = work.path.join("archive");
    write_archive(&archive, &description, &database, &instance.pki_dir())
        .with_context(|| format!("write {}", archive.display()))?;
    // Whole or not at all; a file that appeared meanwhile is not overwritten.
    std::fs::hard_link(&archive, target).with_context(|| format!("make {}", target.display()))?;
    Ok(description)
}

fn write_archive(path: &Path, description: &Description, database: &Path, pki: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut archive = tar::Builder::new(zstd::Encoder::new(file, 0)?);
    let json = serde_json::to_vec_pretty(description)?;
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o600);
    header.set_size(json.len() as u64);
    archive.append_data(&mut header, DESCRIPTION, &json[..])?;
    archive.append_path_with_name(database, DATABASE)?;
    let mut keys = std::fs::read_dir(pki)?.collect::<Result<Vec<_>, _>>()?;
    keys.sort_by_key(std::fs::DirEntry::file_name);
    for key in keys {
        if key.file_type()?.is_file() {
            archive.append_path_with_name(key.path(), Path::new(KEYS).join(key.file_name()))?;
        }
    }
    let mut file = archive.into_inner()?.finish()?;
    file.flush()?;
    file.sync_all()
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Number of objects.
    pub objects: usize,
    /// What the backup says about itself; a bare database says nothing.
    pub description: Option<Description>,
    /// Where what was there before is kept now.
    pub replaced: Vec<PathBuf>,
}

/// Puts a backup, or a bare database (one that an earlier restore or upgrade put aside), in the place of an instance's objects.
///
/// # Errors
/// The instance runs, it has objects and `replace` is not set, or the file is no backup. Nothing is changed then.
pub fn restore(instance: &Instance, source: &Path, replace: bool) -> anyhow::Result<Restored> {
    let _lock = lock(instance)?;
    if store::exists(&instance.store_dir()) && !replace {
        bail!(
            "{} has objects already: --replace puts the backup in their place and keeps them beside it",
            instance.data_dir.display()
        );
    }
    if store::is_database(source)? {
        let (copied, old) = store::restore(source, &instance.store_dir())?;
        return Ok(Restored { objects: copied.objects, description: None, replaced: old.into_iter().collect() });
    }
    // Of a restore that was killed; nobody else is here.
    remove_tree(&instance.restore_dir())?;
    let work = WorkDir::new(instance.restore_dir())?;
    let description = unpack(source, &work.path).with_context(|| format!("read the backup {}", source.display()))?;
    let (copied, old) = store::restore(&work.path.join(DATABASE), &instance.store_dir())?;
    let mut replaced: Vec<PathBuf> = old.into_iter().collect();
    let aside = instance.replaced_dir();
    replaced
        .extend(put_keys(&work.path.join(KEYS), &instance.pki_dir(), &aside).context("put the keys in their place")?);
    Ok(Restored { objects: copied.objects, description: Some(description), replaced })
}

/// Unpacks the known files, and no others, into a directory of ours.
fn unpack(source: &Path, into: &Path) -> anyhow::Result<Description> {
    let file = File::open(source)?;
    let mut archive = tar::Archive::new(zstd::Decoder::new(file).context("it is not compressed by zstd")?);
    let mut description = None;
    std::fs::DirBuilder::new().mode(0o700).create(into.join(KEYS))?;
    for entry in archive.entries()? {
        let mut entry = entry.context("it is no tar archive")?;
        let path = entry.path()?.into_owned();
        if !entry.header().entry_type().is_file() || entry.size() > MAX_FILE {
            bail!("{} in it is no ordinary file", path.display());
        }
        let parts: Vec<Component<'_>> = path.components().collect();
        match parts.as_slice() {
            [Component::Normal(name)] if *name == DESCRIPTION => {
                let mut json = Vec::new();
                entry.by_ref().take(1 << 20).read_to_end(&mut json)?;
                let found: Description =
                    serde_json::from_slice(&json).with_context(|| format!("read {DESCRIPTION}"))?;
                if found.format > FORMAT {
                    bail!(
                        "its format {} is newer than this program ({FORMAT}): use Ferrovirt {}",
                        found.format,
                        found.ferrovirt
                    );
                }
                description = Some(found);
            }
            [Component::Normal(name)] if *name == DATABASE => write(&mut entry, &into.join(DATABASE))?,
            [Component::Normal(dir), Component::Normal(name)] if *dir == KEYS => {
                write(&mut entry, &into.join(KEYS).join(name))?;
            }
            _ => bail!("{} in it is no part of a backup", path.display()),
        }
    }
    description.context("it has no backup.json: it is no backup of Ferrovirt")
}

fn write(from: &mut impl Read, path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    io::copy(from, &mut file)?;
    file.sync_all()
}

/// Clients know the instance by its keys. Those that are there already, if others, are put `aside`.
fn put_keys(from: &Path, to: &Path, aside: &Path) -> io::Result<Option<PathBuf>> {
    let mut kept = None;
    if to.exists() {
        if same_files(from, to)? {
            return Ok(None);
        }
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(aside)?;
        let place = aside.join(format!("{KEYS}-{}", Timestamp::now().as_millisecond()));
        std::fs::rename(to, &place)?;
        kept = Some(place);
    }
    std::fs::rename(from, to)?;
    Ok(kept)
}

fn same_files(a: &Path, b: &Path) -> io::Result<bool> {
    let read = |dir: &Path| -> io::Result<Vec<(std::ffi::OsString, Vec<u8>)>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                files.push((entry.file_name(), std::fs::read(entry.path())?));
            }
        }
        files.sort();
        Ok(files)
    };
    Ok(read(a)? == read(b)?)
}

/// A directory for us alone, removed in the end.
struct WorkDir {
    path: PathBuf,
}

impl WorkDir {
    fn new(path: PathBuf) -> anyhow::Result<Self> {
        std::fs::DirBuilder::new().mode(0o700).create(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
