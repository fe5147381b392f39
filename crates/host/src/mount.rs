//! Mounts.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::CWD;
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::netns::on_new_thread;

/// What may be done through a mount. Set-uid bits never count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read, with everything mounted below it.
    ReadOnly,
    /// Read and write.
    ReadWrite,
    /// Open as a device.
    Device,
}

/// A private copy of the mount (and those below it) at `path` relative to `dir`: it stays when the original is unmounted, and
/// does not keep the original from being unmounted. Attach it with [`attach`], or open files beneath the descriptor.
pub fn clone_tree(dir: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let flags = if path.as_os_str().is_empty() { flags | OpenTreeFlags::AT_EMPTY_PATH } else { flags };
    Ok(rustix::mount::open_tree(dir, path, flags)?)
}

/// A private copy of the mount of an open file or directory that is mounted in another mount namespace (an open `/proc/<pid>/ns/mnt`). The
/// copy belongs to no namespace and can be attached here. Blocking.
pub fn clone_open_in(namespace: BorrowedFd<'_>, file: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let (namespace, file) = (namespace.try_clone_to_owned()?, file.try_clone_to_owned()?);
    // The kernel copies mounts of the caller's own namespace only.
    on_new_thread("mount-clone", move || {
        // SAFETY: the thread was made for this and ends right after; root and working directory are all that is unshared.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS)? };
        rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))?;
        clone_tree(file, Path::new(""))
    })
}

/// Mounts a tree taken by [`clone_tree`] over `target`.
pub fn attach(tree: &OwnedFd, target: &Path) -> io::Result<()> {
    Ok(rustix::mount::move_mount(tree, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// Restricts a tree taken by [`clone_tree`] and cuts it off from mount events elsewhere.
pub fn restrict(tree: &OwnedFd, access: Access) -> io::Result<()> {
    let set = libc::MOUNT_ATTR_NOSUID
        | match access {
            Access::ReadOnly => libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NODEV,
            Access::ReadWrite => libc::MOUNT_ATTR_NODEV,
            Access::Device => 0,
        };
    set_attributes(tree, set, libc::MS_PRIVATE)
}

fn set_attributes(tree: &OwnedFd, set: u64, propagation: u64) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation, userns_fd: 0 };
    // SAFETY: an empty C string, and a pointer to and the size of one mount_attr.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A small file system in memory that is mounted nowhere yet. Only its owner and root get in; device nodes in it work. Fill it, then
/// [`seal`] and [`attach`] it.
pub fn memory_dir(owner: (u32, u32), files: usize) -> io::Result<OwnedFd> {
    use rustix::mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
    };
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in [
        ("mode", "0500".to_owned()),
        ("uid", owner.0.to_string()),
        ("gid", owner.1.to_string()),
        ("size", "64k".to_owned()),
        // Its own directory counts as well.
        ("nr_inodes", (files + 2).to_string()),
    ] {
        fsconfig_set_string(context.as_fd(), key, value.as_str())?;
    }
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Nobody changes anything in it any more. Mounting over what is in it goes on working.
pub fn seal(tree: &OwnedFd) -> io::Result<()> {
    set_attributes(tree, libc::MOUNT_ATTR_RDONLY, 0)
}

/// Makes a directory a mount of its own, so that what is mounted in it shows in every namespace copied from this one later on. Repeating it is
/// fine.
pub fn share(path: &Path) -> io::Result<()> {
    if !is_mount_point(path)? {
        rustix::mount::mount_bind(path, path)?;
    }
    Ok(rustix::mount::mount_change(path, MountPropagationFlags::SHARED)?)
}

/// Makes `source`, with what is mounted below it, visible at `target` as well. Both exist and are of the same kind.
pub fn bind(source: &Path, target: &Path, access: Access) -> io::Result<()> {
    let tree = clone_tree(CWD, source)?;
    restrict(&tree, access)?;
    attach(&tree, target)
}

/// Makes an open file or directory (`O_PATH` will do), with what is mounted below it, visible at `target` as well.
pub fn bind_open(source: impl AsFd, target: &Path, access: Access) -> io::Result<()> {
    let tree = clone_tree(source, Path::new(""))?;
    restrict(&tree, access)?;
    attach(&tree, target)
}

/// A file system in memory at `target`: of at most `size` bytes, else half the machine's memory.
pub fn tmpfs(target: &Path, size: Option<u64>, mode: u32, group: Option<u32>) -> io::Result<()> {
    let mut options = format!("mode={mode:o}");
    for (name, value) in [("size", size), ("gid", group.map(u64::from))] {
        if let Some(value) = value {
            options.push_str(&format!(",{name}={value}"));
        }
    }
    let options = CString::new(options).map_err(io::Error::other)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    Ok(rustix::mount::mount("tmpfs", target, "tmpfs", flags, options.as_c_str())?)
}

/// Unmounts everything that is mounted exactly here, one upon the other. Nothing there: fine.
pub fn unmount_all(path: &Path) -> io::Result<()> {
    loop {
        match is_mount_point(path) {
            Ok(true) => unmount_lazily(path)?,
            Ok(false) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Unmounts now, lets go of it when its last user is gone. Not mounted, or not there: fine.
pub fn unmount_lazily(path: &Path) -> io::Result<()> {
    match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether something is mounted exactly here.
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    let stat = rustix::fs::statx(CWD, path, flags, rustix::fs::StatxFlags::empty())?;
    Ok(stat.stx_attributes.contains(rustix::fs::StatxAttributes::MOUNT_ROOT))
}

/// `source` covers `target`, in the child's mount namespace only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cover {
    /// A file or directory.
    pub source: PathBuf,
    /// One of the same kind.
    pub target: PathBuf,
}

/// The child gets a mount namespace of its own (it sees later mounts of ours, we none of its) with these covers: so is an
/// unusable /dev/kvm hidden from a private libvirtd.
pub fn private_namespace_on_exec(command: &mut Command, covers: &[Cover]) -> io::Result<()> {
    let c_string = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other);
    // Prepared here: between fork and exec nothing may be allocated.
    let covers: Vec<(CString, CString)> =
        covers.iter().map(|c| Ok((c_string(&c.source)?, c_string(&c.target)?))).collect::<io::Result<_>>()?;
    // SAFETY: the closure makes system calls only, on memory prepared above; FILES is not unshared.
    unsafe {
        command.pre_exec(move || {
            rustix::thread::unshare_unsafe(UnshareFlags::NEWNS)?;
            rustix::mount::mount_change(c"/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
            for (source, target) in &covers {
                rustix::mount::mount_bind(source.as_c_str(), target.as_c_str())?;
            }
            Ok(())
        });
    }
    Ok(())
}
