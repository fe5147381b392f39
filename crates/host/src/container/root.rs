//! The container's root file system.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use super::{ContainerError, ContainerSpec, step};
use crate::mount::{self, Access};

/// Directories of the host's system that a dynamically linked program needs.
const SYSTEM: [&str; 7] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "etc"];
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

/// Builds the root in the (new) mount namespace and makes it `/`.
pub(super) fn build(spec: &ContainerSpec, program: &Path) -> Result<(), ContainerError> {
    let root = &spec.root_dir;
    // Nothing mounted from here on may reach the host.
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(step("make mounts private below", "/"))?;
    fs::create_dir_all(root).map_err(step("make directory", root))?;
    tmpfs(root, "mode=0755,size=16m")?;

    system(root)?;
    devices(&root.join("dev"))?;
    for (name, mode) in [("run", 0o755), ("tmp", 0o1777), ("var", 0o755), ("var/tmp", 0o1777), ("ferrovirt", 0o755)] {
        directory(&root.join(name), mode)?;
    }
    symlink("/run", root.join("var/run")).map_err(step("make link", "/var/run"))?;
    if spec.proc {
        directory(&root.join("proc"), 0o555)?;
        mount::bind(Path::new("/proc"), &root.join("proc"), Access::ReadOnly).map_err(step("mount", "/proc"))?;
    }
    let inner = root.join(program.strip_prefix("/").unwrap_or(program));
    file(&inner)?;
    mount::bind(&spec.executable, &inner, Access::ReadOnly).map_err(step("mount program", &spec.executable))?;

    let mut mounts: Vec<_> = spec.mounts.iter().collect();
    // Outer before inner, whatever the order given.
    mounts.sort_by_key(|m| m.target.components().count());
    for volume in mounts {
        let inner = target(root, &volume.target)?;
        let meta = fs::metadata(&volume.source).map_err(step("find volume", &volume.source))?;
        if meta.is_dir() {
            directories(&inner)?
        } else {
            file(&inner)?
        }
        let access = if volume.read_only { Access::ReadOnly } else { Access::ReadWrite };
        mount::bind(&volume.source, &inner, access).map_err(step("mount volume", &volume.source))?;
    }
    pivot(root)?;
    if spec.read_only_root {
        let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::BIND;
        rustix::mount::mount_remount("/", flags, "").map_err(step("make read-only", "/"))?;
    }
    Ok(())
}

fn tmpfs(path: &Path, options: &str) -> Result<(), ContainerError> {
    let options = std::ffi::CString::new(options).map_err(|e| step("mount tmpfs at", path)(io::Error::other(e)))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("tmpfs", path, "tmpfs", flags, options.as_c_str()).map_err(step("mount tmpfs at", path))
}

fn system(root: &Path) -> Result<(), ContainerError> {
    for name in SYSTEM {
        let (source, inner) = (Path::new("/").join(name), root.join(name));
        let Ok(meta) = fs::symlink_metadata(&source) else { continue };
        if meta.is_symlink() {
            // A merged /usr: /bin is a link to usr/bin.
            let to = fs::read_link(&source).map_err(step("read link", &source))?;
            symlink(to, &inner).map_err(step("make link", &inner))?;
        } else if meta.is_dir() {
            directory(&inner, 0o755)?;
            mount::bind(&source, &inner, Access::ReadOnly).map_err(step("mount", &source))?;
        }
    }
    Ok(())
}

fn devices(dev: &Path) -> Result<(), ContainerError> {
    directory(dev, 0o755)?;
    for name in DEVICES {
        let (source, inner) = (Path::new("/dev").join(name), dev.join(name));
        file(&inner)?;
        mount::bind(&source, &inner, Access::Device).map_err(step("mount", &source))?;
    }
    Ok(())
}

/// Where a path of the container is while the root is being built. Links inside the new root (only ours) are followed by hand:
/// the host's root is still `/`.
fn target(root: &Path, inside: &Path) -> Result<PathBuf, ContainerError> {
    let invalid =
        |allowed| ContainerError::Invalid { field: "mounts[].target", value: inside.display().to_string(), allowed };
    if !inside.is_absolute() || inside == Path::new("/") {
        return Err(invalid("must be an absolute path other than /"));
    }
    let inside =
        inside.strip_prefix("/var/run").map_or_else(|_| inside.to_owned(), |rest| Path::new("/run").join(rest));
    let mut path = root.to_owned();
    for component in inside.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => {
                path.push(name);
                if fs::symlink_metadata(&path).is_ok_and(|m| m.is_symlink()) {
                    return Err(invalid("must not lead through a symbolic link"));
                }
            }
            Component::ParentDir | Component::Prefix(_) => return Err(invalid("must not contain ..")),
        }
    }
    Ok(path)
}

fn directory(path: &Path, mode: u32) -> Result<(), ContainerError> {
    fs::create_dir(path).map_err(step("make directory", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(step("make directory", path))
}

fn directories(path: &Path) -> Result<(), ContainerError> {
    fs::create_dir_all(path).map_err(step("make mount point", path))
}

fn file(path: &Path) -> Result<(), ContainerError> {
    if let Some(parent) = path.parent() {
        directories(parent)?;
    }
    let made = fs::OpenOptions::new().create(true).append(true).open(path);
    made.map(drop).map_err(step("make mount point", path))
}

fn pivot(root: &Path) -> Result<(), ContainerError> {
    std::env::set_current_dir(root).map_err(step("change to directory", root))?;
    // The old root lands on top of the new one and is then dropped: no directory for it is needed.
    rustix::process::pivot_root(".", ".").map_err(step("change root to", root))?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(step("leave the host's root for", root))?;
    std::env::set_current_dir("/").map_err(step("change to directory", "/"))
}
