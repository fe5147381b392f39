//! Files in directories that somebody else can write to: the launcher's share directory, and QEMU's socket directory.
//!
//! Built on [`SafeDir`], which keeps every name beneath its directory; what is opened is checked before it is used.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use fv_host::safe_path::SafeDir;
use rustix::fs::{FileType, Mode, OFlags};

/// An open directory that is not trusted.
#[derive(Debug)]
pub struct ShareDir(SafeDir);

fn refused(name: &str, what: &str) -> io::Error {
    io::Error::other(format!("{name:?} is {what}; refusing to use it"))
}

impl ShareDir {
    /// Opens `path`, whose parents only root can change, and which must not be a link itself.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self(SafeDir::from_fd(rustix::fs::open(path, flags, Mode::empty())?)?))
    }

    /// Replaces `name` by a file with this content, readable by everybody. Readers see the old or the new content, never a part.
    pub fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.0.write_atomic(name, content, 0o644)
    }

    /// Opens `name` for appending, making it where it is missing. Only a regular file with no second name is taken.
    pub fn append(&self, name: &str) -> io::Result<File> {
        let file = self.0.append(name, 0o644)?;
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(refused(name, "no regular file"));
        }
        if stat.st_nlink > 1 {
            return Err(refused(name, "a file with several names"));
        }
        Ok(file)
    }

    /// Moves `from` over `to`; nothing there is success. Neither is followed if it is a link.
    pub fn rename(&self, from: &'static str, to: &'static str) -> io::Result<()> {
        match rustix::fs::renameat(&self.0, from, &self.0, to) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Connects to the unix socket `name`.
    pub async fn connect(&self, name: &str) -> io::Result<tokio::net::UnixStream> {
        let socket = self.0.reference(name)?;
        if FileType::from_raw_mode(rustix::fs::fstat(&socket)?.st_mode) != FileType::Socket {
            return Err(refused(name, "no socket"));
        }
        // The descriptor names the very socket that was looked at, whatever has its name by now.
        tokio::net::UnixStream::connect(format!("/proc/self/fd/{}", socket.as_fd().as_raw_fd())).await
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn content_is_replaced_and_links_are_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let victim = root.path().join("victim");
        std::fs::write(&victim, "precious").unwrap();
        let share = root.path().join("share");
        std::fs::create_dir(&share).unwrap();
        symlink(&victim, share.join("dhcp.json")).unwrap();
        symlink(&victim, share.join("console.log")).unwrap();
        std::fs::hard_link(&victim, share.join("linked")).unwrap();
        let dir = ShareDir::open(&share).unwrap();
        dir.write("dhcp.json", b"{}").unwrap();
        assert_eq!(std::fs::read_to_string(share.join("dhcp.json")).unwrap(), "{}");
        assert!(!share.join("dhcp.json").is_symlink());
        assert!(dir.append("console.log").is_err());
        assert!(dir.append("linked").is_err());
        assert!(dir.append("../victim").is_err());
        assert!(dir.write("../victim", b"x").is_err());
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    }

    #[test]
    fn linked_directory_is_refused() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("elsewhere")).unwrap();
        symlink(root.path().join("elsewhere"), root.path().join("share")).unwrap();
        assert!(ShareDir::open(&root.path().join("share")).is_err());
    }

    #[test]
    fn fifo_in_place_of_the_log_does_not_block() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("console.log");
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
        assert!(ShareDir::open(root.path()).unwrap().append("console.log").is_err());
    }

    #[tokio::test]
    async fn only_sockets_of_the_directory_are_connected_to() {
        let root = tempfile::tempdir().unwrap();
        let outside = tokio::net::UnixListener::bind(root.path().join("outside")).unwrap();
        let inside = root.path().join("in");
        std::fs::create_dir(&inside).unwrap();
        let listener = tokio::net::UnixListener::bind(inside.join("virt-serial0")).unwrap();
        symlink(root.path().join("outside"), inside.join("virt-vnc")).unwrap();
        std::fs::write(inside.join("file"), "").unwrap();
        let dir = ShareDir::open(&inside).unwrap();
        dir.connect("virt-serial0").await.unwrap();
        listener.accept().await.unwrap();
        assert!(dir.connect("virt-vnc").await.is_err());
        assert!(dir.connect("file").await.is_err());
        assert!(dir.connect("missing").await.is_err());
        drop(outside);
    }
}
