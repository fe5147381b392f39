//! Files beneath a directory that someone else can write to: nothing they put there leads out of it.
//!
//! Every path is relative to an open directory and resolved by `openat2` with RESOLVE_BENEATH, NO_SYMLINKS and NO_MAGICLINKS. A
//! kernel without openat2 (before 5.6) gets an error, not a weaker check.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// Levels that [`SafeDir::remove_tree`] holds open at once.
const DEPTH: usize = 64;

/// An open directory, the bottom of every path resolved through it.
#[derive(Debug)]
pub struct SafeDir(OwnedFd);

impl SafeDir {
    /// Opens a directory by a path that only trusted users can change.
    pub fn open_trusted(path: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Takes an open directory (for example a cloned mount).
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let is_directory = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) == FileType::Directory;
        if is_directory { Ok(Self(fd)) } else { Err(io::ErrorKind::NotADirectory.into()) }
    }

    fn resolve(&self, path: &Path, flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
        self.resolve_by(ResolveFlags::empty(), path, flags, mode)
    }

    /// NO_SYMLINKS also refuses a link as the last component, unless `O_PATH | O_NOFOLLOW` asks for the link itself.
    fn resolve_by(&self, more: ResolveFlags, path: &Path, flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
        let rules = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | more;
        let mode = if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(mode) } else { Mode::empty() };
        for _ in 0..16 {
            match rustix::fs::openat2(&self.0, path, flags | OFlags::CLOEXEC, mode, rules) {
                // A rename somewhere made the kernel unsure; it asks to be asked again.
                Err(Errno::AGAIN) => {}
                Err(Errno::NOSYS) => {
                    let text = "this kernel has no openat2 (Linux 5.6 or later is needed)";
                    return Err(io::Error::new(io::ErrorKind::Unsupported, text));
                }
                other => return Ok(other?),
            }
        }
        Err(io::ErrorKind::ResourceBusy.into())
    }

    /// Opens a file for reading. Waits for nobody: a FIFO in a file's place opens at once.
    pub fn open_file(&self, path: impl AsRef<Path>) -> io::Result<File> {
        Ok(self.resolve(path.as_ref(), OFlags::RDONLY | OFlags::NONBLOCK, 0)?.into())
    }

    /// Opens a *regular* file, for writing as well if asked.
    pub fn open_regular(&self, path: impl AsRef<Path>, writable: bool) -> io::Result<File> {
        let mode = if writable { OFlags::RDWR } else { OFlags::RDONLY };
        let fd = self.resolve(path.as_ref(), mode | OFlags::NONBLOCK, 0)?;
        match FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) {
            FileType::RegularFile => Ok(fd.into()),
            other => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("a {other:?}, not a regular file"))),
        }
    }

    /// Opens for appending, made when missing.
    pub fn append(&self, path: impl AsRef<Path>, mode: u32) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NONBLOCK;
        Ok(self.resolve(path.as_ref(), flags, mode)?.into())
    }

    /// Makes a file that must not exist yet.
    pub fn create_new(&self, path: impl AsRef<Path>, mode: u32) -> io::Result<File> {
        Ok(self.resolve(path.as_ref(), OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, mode)?.into())
    }

    /// Any kind of file but a link as a mere reference (`O_PATH`): for `/proc/self/fd` paths.
    pub fn reference(&self, path: impl AsRef<Path>) -> io::Result<OwnedFd> {
        self.resolve(path.as_ref(), OFlags::PATH, 0)
    }

    /// A directory beneath.
    pub fn open_dir(&self, path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self(self.resolve(path.as_ref(), OFlags::DIRECTORY | OFlags::RDONLY, 0)?))
    }

    /// What a path is; a link as the last component is described itself.
    pub fn stat(&self, path: impl AsRef<Path>) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(self.resolve(path.as_ref(), OFlags::PATH | OFlags::NOFOLLOW, 0)?)?)
    }

    /// Where the symbolic link at a path points; `None` when nothing is there.
    pub fn read_link(&self, path: impl AsRef<Path>) -> io::Result<Option<OsString>> {
        match self.resolve(path.as_ref(), OFlags::PATH | OFlags::NOFOLLOW, 0) {
            Ok(link) => Ok(Some(OsString::from_vec(rustix::fs::readlinkat(&link, "", Vec::new())?.into_bytes()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the node of a block device in this very directory, which nobody else may write to.
    pub fn make_block_device(&self, name: &str, number: u64, mode: u32, owner: (u32, u32)) -> io::Result<()> {
        let (parent, name) = self.parent(Path::new(name))?;
        rustix::fs::mknodat(&parent.0, &name, FileType::BlockDevice, Mode::from_raw_mode(mode), number)?;
        let (uid, gid) = (rustix::fs::Uid::from_raw(owner.0), rustix::fs::Gid::from_raw(owner.1));
        Ok(rustix::fs::chownat(&parent.0, &name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Makes a directory; an existing *directory* is fine.
    pub fn mkdir(&self, path: impl AsRef<Path>, mode: u32) -> io::Result<Self> {
        let (parent, name) = self.parent(path.as_ref())?;
        match rustix::fs::mkdirat(&parent.0, &name, Mode::from_raw_mode(mode)) {
            Ok(()) | Err(Errno::EXIST) => parent.open_dir(Path::new(&name)),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a directory and those above it.
    pub fn mkdir_all(&self, path: impl AsRef<Path>, mode: u32) -> io::Result<Self> {
        let mut here = Self(self.0.try_clone()?);
        for component in path.as_ref().components() {
            match component {
                Component::Normal(name) => here = here.mkdir(Path::new(name), mode)?,
                Component::CurDir => {}
                _ => return Err(leads_out(path.as_ref())),
            }
        }
        Ok(here)
    }

    /// Replaces the content of a file at once: readers see the old or the new one, also after a power cut.
    pub fn write_atomic(&self, path: impl AsRef<Path>, content: &[u8], mode: u32) -> io::Result<()> {
        self.write_atomic_for(path, content, mode, None)
    }

    /// [`SafeDir::write_atomic`] of a file that belongs to `group`.
    pub fn write_atomic_for(
        &self,
        path: impl AsRef<Path>,
        content: &[u8],
        mode: u32,
        group: Option<u32>,
    ) -> io::Result<()> {
        let (parent, name) = self.parent(path.as_ref())?;
        let mut draft = OsString::from(".");
        draft.push(&name);
        draft.push(format!(".{}", unique()));
        let mut file: File = parent.create_new(Path::new(&draft), mode)?;
        let result = file.write_all(content).and_then(|()| {
            std::os::unix::fs::fchown(&file, None, group)?;
            // The umask does not count here: the caller says who reads it.
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
            file.sync_all()?;
            rustix::fs::renameat(&parent.0, &draft, &parent.0, &name)?;
            rustix::fs::fsync(&parent.0)?;
            Ok(())
        });
        if result.is_err() {
            let _ = rustix::fs::unlinkat(&parent.0, &draft, AtFlags::empty());
        }
        result
    }

    /// Removes a file (a symbolic link is removed itself). Nothing there is fine.
    pub fn remove_file(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let (parent, name) = match self.parent(path.as_ref()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        match rustix::fs::unlinkat(&parent.0, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The names in this directory.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        // Opened anew: what it was taken from may be a mere reference.
        for entry in Dir::read_from(self.open_dir(".")?)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsString::from_vec(name.to_vec()));
            }
        }
        Ok(names)
    }

    /// Removes a file or a whole directory without ever following a link or crossing into another directory that took a name's place.
    /// Nothing there is fine. A mount point, or one inside, is an error; what is mounted there is not touched.
    pub fn remove_tree(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let (parent, name) = match self.parent(path.as_ref()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        loop {
            match rustix::fs::unlinkat(&parent.0, &name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(error) => return Err(error.into()),
            }
            let top = match parent.descend(Path::new(&name)) {
                Ok(top) => top,
                // Swapped for something else between the two looks: look again.
                Err(error) if error.kind() == io::ErrorKind::NotADirectory || is_loop(&error) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            };
            while !top.empty(&top, DEPTH)? {}
            match rustix::fs::unlinkat(&parent.0, &name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                Err(Errno::NOTEMPTY | Errno::NOTDIR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Empties this directory. What lies too deep is moved up to `top` for a later round (then the answer is `false`): a
    /// tenant's ten thousand levels cost neither stack nor descriptors.
    fn empty(&self, top: &Self, depth: usize) -> io::Result<bool> {
        let mut done = true;
        for name in self.names()? {
            match rustix::fs::unlinkat(&self.0, &name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                Err(Errno::ISDIR | Errno::PERM) => {}
                Err(error) => return Err(error.into()),
            }
            if depth == 0 {
                rustix::fs::renameat(&self.0, &name, &top.0, format!(".remove-{}", unique()))?;
                done = false;
                continue;
            }
            done &= self.descend(Path::new(&name))?.empty(top, depth - 1)?;
            match rustix::fs::unlinkat(&self.0, &name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::NOTEMPTY) => done = false,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(done)
    }

    /// A directory beneath, on the same mount.
    fn descend(&self, name: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY;
        match self.resolve_by(ResolveFlags::NO_XDEV, name, flags, 0) {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                let text = format!("{} is a mount point: unmount it first", name.display());
                Err(io::Error::new(io::ErrorKind::ResourceBusy, text))
            }
            other => other.map(Self),
        }
    }

    /// The directory a path's last component is in, and that component.
    fn parent(&self, path: &Path) -> io::Result<(Self, OsString)> {
        let Some(Component::Normal(name)) = path.components().next_back() else { return Err(leads_out(path)) };
        let above: PathBuf = path.parent().unwrap_or(Path::new("")).to_owned();
        let parent = if above.as_os_str().is_empty() { Self(self.0.try_clone()?) } else { self.open_dir(above)? };
        Ok((parent, name.to_owned()))
    }
}

impl AsFd for SafeDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn is_loop(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ELOOP)
}

fn leads_out(path: &Path) -> io::Error {
    let shown = OsStr::from_bytes(path.as_os_str().as_bytes()).to_string_lossy().into_owned();
    io::Error::new(io::ErrorKind::InvalidInput, format!("path {shown:?} must stay beneath its directory"))
}

fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
