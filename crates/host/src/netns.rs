//! Network namespaces: opened, created, kept by a bind mount, entered on threads made for it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::UnmountFlags;
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

/// `f_type` of the file system that namespace files live in.
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// An open network namespace; it lives as long as anything holds it.
#[derive(Debug)]
pub struct NetNs(OwnedFd);

/// Identifies a namespace while it exists (numbers may be used again after its end).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct NetNsId {
    /// Device of the namespace file system.
    pub device: u64,
    /// Inode of the namespace.
    pub inode: u64,
}

impl NetNs {
    /// Opens the namespace behind a path (`/run/netns/x`, `/proc/1/ns/net`); a file that is no namespace is `InvalidData`.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::from_fd(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// The calling thread's namespace.
    pub fn current() -> io::Result<Self> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// The namespace of the process that listens on a unix socket (or, socket-activated, of the one that made it listen). It has to be
    /// visible in our pid namespace.
    pub fn of_listener(socket: &Path) -> io::Result<Self> {
        // Held until the namespace is open: its other end keeps the listener from being forgotten.
        let stream = std::os::unix::net::UnixStream::connect(socket)?;
        let peer = rustix::net::sockopt::socket_peercred(&stream)?;
        Self::open(Path::new(&format!("/proc/{}/ns/net", peer.pid.as_raw_nonzero())))
    }

    /// Takes a descriptor after checking that it is a namespace.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        if rustix::fs::fstatfs(&fd)?.f_type as u64 != NSFS_MAGIC {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a namespace file"));
        }
        Ok(Self(fd))
    }

    /// Another handle on a borrowed namespace.
    pub fn from_borrowed(fd: BorrowedFd<'_>) -> io::Result<Self> {
        Self::from_fd(fd.try_clone_to_owned()?)
    }

    /// Which namespace this is.
    pub fn id(&self) -> io::Result<NetNsId> {
        let stat = rustix::fs::fstat(&self.0)?;
        Ok(NetNsId { device: stat.st_dev, inode: stat.st_ino })
    }

    /// Another handle on the same namespace.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// The namespace kept at `path`, made when there is none. Half-made leftovers (an empty file) are completed.
    pub fn ensure_at(path: &Path) -> io::Result<Self> {
        match Self::open(path) {
            Ok(netns) => return Ok(netns),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {}
            Err(error) => return Err(error),
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::OpenOptions::new().create(true).append(true).open(path)?;
        let target = path.to_owned();
        on_new_thread("netns-new", move || {
            // SAFETY: the thread was made for this and ends right after; no other thread shares what is unshared.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET)? };
            rustix::mount::mount_bind("/proc/thread-self/ns/net", &target)?;
            Ok(())
        })?;
        Self::open(path)
    }

    /// Ends the keeping of the namespace at `path`. Nothing there is fine.
    pub fn remove_at(path: &Path) -> io::Result<()> {
        // Twice mounted after a race of two creators: unmount until nothing is left.
        loop {
            match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
                Ok(()) => {}
                Err(rustix::io::Errno::NOENT) => return Ok(()),
                Err(rustix::io::Errno::INVAL) => break,
                Err(error) => return Err(error.into()),
            }
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The namespaces kept in a directory, by path; other files are left out. No directory: none.
    pub fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if Self::open(&path).is_ok() {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    /// Runs `work` on a new thread inside the namespace and waits for it. Blocking: from async code use [`NetNs::run_async`].
    pub fn run<T, F>(&self, work: F) -> io::Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> io::Result<T> + Send + 'static,
    {
        let netns = self.try_clone()?;
        on_new_thread("netns-run", move || {
            netns.enter()?;
            work()
        })
    }

    /// Runs `work` on a new thread inside the namespace.
    pub async fn run_async<T, F>(&self, work: F) -> io::Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> io::Result<T> + Send + 'static,
    {
        let netns = self.try_clone()?;
        let (sender, receiver) = tokio::sync::oneshot::channel();
        std::thread::Builder::new().name("netns-run".to_owned()).spawn(move || {
            let result = netns.enter().and_then(|()| work());
            drop(sender.send(result));
        })?;
        receiver.await.map_err(|_| io::Error::other("the namespace thread panicked"))?
    }

    /// Moves the calling thread for good: only for a thread of our own, or a child about to exec.
    pub(crate) fn enter(&self) -> io::Result<()> {
        rustix::thread::move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(())
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Runs `work` on a thread of its own, which may leave namespaces behind.
pub(crate) fn on_new_thread<T, F>(name: &str, work: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work)?;
    thread.join().map_err(|_| io::Error::other("the namespace thread panicked"))?
}
