//! Files in directories that only root writes to: opened by descriptor, published atomically, locked between processes.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, ResolveFlags};

/// An open directory and the path it was opened by.
#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

/// What went wrong where; becomes the `Io` variant of a public error.
#[derive(Debug)]
pub(crate) struct FsError {
    pub(crate) step: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) source: io::Error,
}

pub(crate) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

pub(crate) fn fs_error(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FsError {
    let path = path.to_owned();
    move |source| FsError { step, path, source }
}

/// A name without a slash that is not `.` or `..` and leaves room for the suffixes of temporary files.
pub(crate) fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 200 && name != "." && name != ".." && !name.contains(['/', '\0'])
}

impl Dir {
    /// Opens `path`, which is ours and whose parents only root writes to, making it where it is missing.
    pub(crate) fn ensure(path: &Path, mode: u32) -> Result<Self, FsError> {
        let path = std::path::absolute(path).map_err(fs_error("resolve", path))?;
        std::fs::create_dir_all(&path).map_err(fs_error("create directory", &path))?;
        let dir = Self::open(&path)?;
        rustix::fs::fchmod(&dir.fd, Mode::from_raw_mode(mode))
            .map_err(io::Error::from)
            .map_err(fs_error("set mode of", &path))?;
        Ok(dir)
    }

    pub(crate) fn open(path: &Path) -> Result<Self, FsError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd =
            rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from).map_err(fs_error("open", path))?;
        Ok(Self { fd, path: path.to_owned() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn open_file(&self, name: &str, flags: OFlags, mode: u32) -> Result<File, FsError> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(
            &self.fd,
            name,
            flags | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::from_raw_mode(mode),
            resolve,
        )
        .map(File::from)
        .map_err(io::Error::from)
        .map_err(fs_error("open", &self.join(name)))
    }

    /// The file if it is there; `None` if nothing of that name is.
    pub(crate) fn open_existing(&self, name: &str) -> Result<Option<File>, FsError> {
        // Not blocking on a FIFO that should not be there.
        match self.open_file(name, OFlags::RDONLY | OFlags::NONBLOCK, 0) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A new empty file that disappears unless it is published.
    pub(crate) fn temp_file(&self, prefix: &str) -> Result<TempFile<'_>, FsError> {
        for _ in 0..16 {
            let name = format!("{prefix}{:016x}", random_u64());
            match self.open_file(&name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, 0o600) {
                Ok(file) => return Ok(TempFile { dir: self, name, file, published: false }),
                Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(fs_error("create temporary file in", &self.path)(io::ErrorKind::AlreadyExists.into()))
    }

    /// Writes `bytes` as `name`, all or nothing.
    pub(crate) fn write_atomically(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), FsError> {
        use io::Write as _;
        let temp = self.temp_file(TEMP_PREFIX)?;
        (&temp.file).write_all(bytes).map_err(fs_error("write", &temp.path()))?;
        temp.set_mode(mode)?;
        temp.publish(self, name)
    }

    pub(crate) fn unlink(&self, name: &str) -> Result<(), FsError> {
        match rustix::fs::unlinkat(&self.fd, name, rustix::fs::AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(fs_error("remove", &self.join(name))(error.into())),
        }
    }

    pub(crate) fn sync(&self) -> Result<(), FsError> {
        rustix::fs::fsync(&self.fd).map_err(io::Error::from).map_err(fs_error("sync", &self.path))
    }

    /// Names of what is in it.
    pub(crate) fn names(&self) -> Result<Vec<String>, FsError> {
        let entries = std::fs::read_dir(&self.path).map_err(fs_error("list", &self.path))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(fs_error("list", &self.path))?;
            names.extend(entry.file_name().into_string().ok());
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Size and free bytes of the file system.
    pub(crate) fn space(&self) -> Result<Space, FsError> {
        let stat = rustix::fs::fstatvfs(&self.fd).map_err(io::Error::from).map_err(fs_error("stat", &self.path))?;
        Ok(Space {
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
            available: stat.f_bavail.saturating_mul(stat.f_frsize),
        })
    }

    /// Sets the group of the directory by descriptor.
    pub(crate) fn set_group(&self, gid: u32) -> Result<(), FsError> {
        std::os::unix::fs::fchown(&self.fd, Some(0), Some(gid)).map_err(fs_error("set owner of", &self.path))
    }
}

/// Prefix of names that a crash may leave and a restart removes.
pub(crate) const TEMP_PREFIX: &str = ".new-";

#[derive(Clone, Copy, Debug)]
pub(crate) struct Space {
    pub(crate) total: u64,
    pub(crate) available: u64,
}

/// A file under construction.
#[derive(Debug)]
pub(crate) struct TempFile<'a> {
    dir: &'a Dir,
    name: String,
    pub(crate) file: File,
    published: bool,
}

impl TempFile<'_> {
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(&self.name)
    }

    pub(crate) fn set_mode(&self, mode: u32) -> Result<(), FsError> {
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode))
            .map_err(io::Error::from)
            .map_err(fs_error("set mode of", &self.path()))
    }

    pub(crate) fn set_owner(&self, uid: u32, gid: u32) -> Result<(), FsError> {
        std::os::unix::fs::fchown(&self.file, Some(uid), Some(gid)).map_err(fs_error("set owner of", &self.path()))
    }

    /// Makes it `name` in `to`, durably: content first, then the name.
    pub(crate) fn publish(mut self, to: &Dir, name: &str) -> Result<(), FsError> {
        self.file.sync_all().map_err(fs_error("sync", &self.path()))?;
        rustix::fs::renameat(&self.dir.fd, &self.name, &to.fd, name)
            .map_err(io::Error::from)
            .map_err(fs_error("rename into", &to.join(name)))?;
        self.published = true;
        to.sync()
    }
}

impl Drop for TempFile<'_> {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = self.dir.unlink(&self.name)
        {
            tracing::warn!(path = %error.path.display(), error = %error.source, "temporary file stays behind");
        }
    }
}

/// A lock on an open file, gone when the file is closed, however the process ends.
pub(crate) fn lock(file: impl AsFd, exclusive: bool) -> io::Result<()> {
    let operation = if exclusive { FlockOperation::LockExclusive } else { FlockOperation::LockShared };
    loop {
        match rustix::fs::flock(&file, operation) {
            Err(rustix::io::Errno::INTR) => {}
            result => return result.map_err(io::Error::from),
        }
    }
}

/// Whether the lock could be had without waiting.
pub(crate) fn try_lock(file: impl AsFd) -> io::Result<bool> {
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn random_u64() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // Unpredictability is not needed (O_EXCL in a root-only directory), only difference.
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
