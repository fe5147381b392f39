//! The disks of one VM, in a directory of its own, keyed by the VMI's uid. They survive guest reboots, launcher
//! replacement and restarts of the handler, and go with the VMI.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::iso::{self, IsoError, IsoFile};
use crate::qemu_img::{self, Backing, ImageFormat, QemuImgError};
use crate::safe_fs::{Dir, FsError, TEMP_PREFIX, TempFile, fs_error, is_plain_name};
use crate::store::ImageHandle;

/// Who may open a disk file: QEMU of this VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

/// A disk file that exists and belongs to the VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmDisk {
    /// Absolute path for the domain definition.
    pub path: PathBuf,
    pub format: ImageFormat,
    /// Size the guest sees.
    pub virtual_size: u64,
}

/// Largest empty disk: what qcow2 with its usual clusters can map without a huge table.
pub const MAX_CAPACITY: u64 = 64 << 40;
const MIB: u64 = 1 << 20;

/// Why a VM's disk cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("disk name {0:?} is not a plain file name")]
    Name(String),
    #[error("cannot {step} {}", path.display())]
    Io {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is not a regular file with one link; refusing to use it", path.display())]
    NotRegular { path: PathBuf },
    #[error("capacity of disk {name:?} is {bytes} bytes; it must be between 1 and {max} bytes")]
    Capacity { name: String, bytes: u64, max: u64 },
    #[error("cannot create disk {name:?}")]
    Create {
        name: String,
        #[source]
        source: QemuImgError,
    },
    #[error("cannot build iso for disk {name:?}")]
    Iso {
        name: String,
        #[source]
        source: IsoError,
    },
}

impl From<FsError> for DiskError {
    fn from(error: FsError) -> Self {
        Self::Io { step: error.step, path: error.path, source: error.source }
    }
}

/// The open directory of one VM's disks.
#[derive(Debug)]
pub struct VmDir {
    dir: Dir,
    owner: Owner,
}

impl VmDir {
    /// Opens `<root>/<vmi uid>`, making it (mode 0710, root:`owner.gid`) where it is missing. `root` must be a directory that only
    /// root can write to.
    pub fn open(root: &Path, vmi_uid: &str, owner: Owner) -> Result<Self, DiskError> {
        check_name(vmi_uid)?;
        // The VM's user gets through by its group but can neither list nor create.
        let dir = Dir::ensure(&root.join(vmi_uid), 0o710)?;
        dir.set_group(owner.gid)?;
        for name in dir.names()? {
            // One handler owns a VM: a half-made file is a crash's, not somebody's work.
            if name.starts_with(TEMP_PREFIX) {
                dir.unlink(&name)?;
            }
        }
        Ok(Self { dir, owner })
    }

    /// Removes `<root>/<vmi uid>` and all disks in it. Nothing there is success.
    pub fn remove(root: &Path, vmi_uid: &str) -> Result<(), DiskError> {
        check_name(vmi_uid)?;
        let path = root.join(vmi_uid);
        let dir = match Dir::open(&path) {
            Ok(dir) => dir,
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for name in dir.names()? {
            dir.unlink(&name)?;
        }
        std::fs::remove_dir(&path).map_err(fs_error("remove", &path))?;
        Ok(())
    }

    /// The directory, absolute.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// `<name>.qcow2`: a copy-on-write overlay of a stored image, made once and kept as it is when it exists. The store must hold a lease on
    /// the image for this VM.
    pub fn ensure_overlay(&self, name: &str, base: &ImageHandle) -> Result<VmDisk, DiskError> {
        let backing = Backing { path: &base.path, format: base.format };
        self.ensure_qcow2(name, base.virtual_size, Some(backing))
    }

    /// `<name>.qcow2`: a copy-on-write overlay of a raw image of `size` bytes that stays at `base`; made once, like [`VmDir::ensure_overlay`].
    pub fn ensure_overlay_of(&self, name: &str, base: &Path, size: u64) -> Result<VmDisk, DiskError> {
        self.ensure_qcow2(name, size, Some(Backing { path: base, format: ImageFormat::Raw }))
    }

    /// `<name>.qcow2`: an empty disk of `capacity` bytes, rounded up to 1 MiB; made once.
    pub fn ensure_empty_disk(&self, name: &str, capacity: u64) -> Result<VmDisk, DiskError> {
        if capacity == 0 || capacity > MAX_CAPACITY {
            return Err(DiskError::Capacity { name: name.into(), bytes: capacity, max: MAX_CAPACITY });
        }
        self.ensure_qcow2(name, capacity.next_multiple_of(MIB), None)
    }

    fn ensure_qcow2(&self, name: &str, size: u64, backing: Option<Backing<'_>>) -> Result<VmDisk, DiskError> {
        check_name(name)?;
        let file_name = format!("{name}.qcow2");
        let disk = VmDisk { path: self.dir.join(&file_name), format: ImageFormat::Qcow2, virtual_size: size };
        // Its content is the guest's by now: checked for being a file of ours, not for what is in it.
        if self.exists(&file_name)? {
            return Ok(disk);
        }
        let temp = self.dir.temp_file(TEMP_PREFIX)?;
        qemu_img::create_qcow2(&temp.path(), size, backing)
            .map_err(|source| DiskError::Create { name: name.into(), source })?;
        self.publish(temp, &file_name, self.owner.uid, 0o600)?;
        Ok(disk)
    }

    /// `<name>.iso`, replaced atomically when the content differs. A running guest keeps the file it opened. It is the VM's own, to be
    /// written to as well: some buses have no read-only disks.
    pub fn ensure_iso(&self, name: &str, label: &str, files: &[IsoFile<'_>]) -> Result<VmDisk, DiskError> {
        check_name(name)?;
        let (file_name, sum_name) = (format!("{name}.iso"), format!("{name}.iso.sum"));
        // The image carries the time it was made; what it was made from decides whether it is made anew.
        let sum = fingerprint(label, files);
        if self.exists(&file_name)? && self.read(&sum_name)?.as_deref() == Some(sum.as_bytes()) {
            let path = self.dir.join(&file_name);
            let meta = std::fs::metadata(&path).map_err(fs_error("stat", &path))?;
            if meta.uid() == self.owner.uid {
                return Ok(VmDisk { path, format: ImageFormat::Raw, virtual_size: meta.len() });
            }
        }
        let image = iso::build_iso(label, files).map_err(|source| DiskError::Iso { name: name.into(), source })?;
        self.dir.unlink(&sum_name)?;
        let temp = self.dir.temp_file(TEMP_PREFIX)?;
        io::Write::write_all(&mut &temp.file, &image).map_err(fs_error("write", &temp.path()))?;
        self.publish(temp, &file_name, self.owner.uid, 0o600)?;
        self.dir.write_atomically(&sum_name, sum.as_bytes(), 0o400)?;
        Ok(VmDisk { path: self.dir.join(&file_name), format: ImageFormat::Raw, virtual_size: image.len() as u64 })
    }

    fn publish(&self, temp: TempFile<'_>, name: &str, uid: u32, mode: u32) -> Result<(), DiskError> {
        temp.set_owner(uid, self.owner.gid)?;
        temp.set_mode(mode)?;
        temp.publish(&self.dir, name)?;
        Ok(())
    }

    fn exists(&self, name: &str) -> Result<bool, DiskError> {
        let path = self.dir.join(name);
        let file = match self.dir.open_existing(name) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(false),
            // ELOOP: a symbolic link stands there.
            Err(error) if error.source.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
                return Err(DiskError::NotRegular { path });
            }
            Err(error) => return Err(error.into()),
        };
        let meta = file.metadata().map_err(fs_error("stat", &path))?;
        if !meta.is_file() || meta.nlink() != 1 {
            return Err(DiskError::NotRegular { path });
        }
        Ok(true)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, DiskError> {
        let Some(file) = self.dir.open_existing(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let path = self.dir.join(name);
        io::Read::read_to_end(&mut io::Read::take(file, 4096), &mut bytes).map_err(fs_error("read", &path))?;
        Ok(Some(bytes))
    }
}

fn check_name(name: &str) -> Result<(), DiskError> {
    if is_plain_name(name) && !name.starts_with('.') { Ok(()) } else { Err(DiskError::Name(name.into())) }
}

fn fingerprint(label: &str, files: &[IsoFile<'_>]) -> String {
    let mut hash = Sha256::new();
    let mut put = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    put(label.as_bytes());
    for file in files {
        put(file.path.as_bytes());
        put(file.bytes);
    }
    hex::encode(hash.finalize())
}
