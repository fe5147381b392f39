//! Where QEMU finds images that lie in volumes of pods: a directory of its own for each VM, in memory, which nobody but it and root enters
//! and nobody changes. Each image is mounted over an empty file there, so that no path leads through a tenant's directory.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use fv_disk::Owner;
use fv_host::mount::{self, Access};
use fv_host::safe_path::SafeDir;

use crate::disks::PrepareError;

/// What QEMU is handed.
#[derive(Debug)]
pub(crate) enum Source {
    /// A copy of the mount of one file.
    File(OwnedFd),
    /// The number of a block device.
    Device(u64),
}

/// An image under its name.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) name: String,
    pub(crate) source: Source,
    pub(crate) read_only: bool,
}

/// The directory of one VM.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    dir: PathBuf,
}

impl Place {
    /// `root` is a directory only root writes to; what is mounted there has to show where libvirt is.
    pub(crate) fn of(root: &Path, vmi_uid: &str) -> Self {
        Self { dir: root.join(vmi_uid) }
    }

    /// Makes it anew with these images, and says where each is. Only while the VM has no domain.
    pub(crate) fn make(&self, owner: Owner, items: Vec<Item>) -> Result<BTreeMap<String, PathBuf>, PrepareError> {
        self.remove()?;
        self.fill(owner, items).map_err(|source| self.failed("make", source))
    }

    fn fill(&self, owner: Owner, items: Vec<Item>) -> io::Result<BTreeMap<String, PathBuf>> {
        std::fs::create_dir_all(&self.dir)?;
        let tree = mount::memory_dir((owner.uid, owner.gid), items.len())?;
        let inside = SafeDir::from_fd(tree.try_clone()?)?;
        for item in &items {
            match &item.source {
                Source::File(_) => drop(inside.create_new(&item.name, 0o400)?),
                Source::Device(number) => {
                    let mode = if item.read_only { 0o400 } else { 0o600 };
                    inside.make_block_device(&item.name, *number, mode, (owner.uid, owner.gid))?;
                }
            }
        }
        mount::seal(&tree)?;
        mount::attach(&tree, &self.dir)?;
        let mut paths = BTreeMap::new();
        for item in items {
            let path = self.dir.join(&item.name);
            if let Source::File(copy) = &item.source {
                mount::restrict(copy, if item.read_only { Access::ReadOnly } else { Access::ReadWrite })?;
                mount::attach(copy, &path)?;
            }
            paths.insert(item.name, path);
        }
        Ok(paths)
    }

    /// Lets go of all images. Nothing there is fine.
    pub(crate) fn remove(&self) -> Result<(), PrepareError> {
        let remove = || {
            while mount::is_mount_point(&self.dir)? {
                mount::unmount_lazily(&self.dir)?;
            }
            std::fs::remove_dir(&self.dir)
        };
        match remove() {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(self.failed("remove", source)),
            _ => Ok(()),
        }
    }

    fn failed(&self, step: &'static str, source: io::Error) -> PrepareError {
        PrepareError::Place { step, path: self.dir.clone(), source }
    }
}
