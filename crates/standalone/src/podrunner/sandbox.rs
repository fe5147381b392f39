//! A pod's place on the machine: directories, network namespace.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use fv_host::netns::NetNs;
use fv_host::safe_path::SafeDir;

use super::cni::{Attachment, CniError, PodNetwork};
use super::volumes::{self, VolumeError};
use crate::instance::Instance;

/// Why a sandbox could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SandboxFailure {
    #[error("{step} {path}")]
    Io {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Cni(#[from] CniError),
    #[error(transparent)]
    Volume(#[from] VolumeError),
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SandboxFailure {
    let path = path.to_owned();
    move |source| SandboxFailure::Io { step, path, source }
}

/// Where the things of one pod are.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    /// Everything of the pod that outlives a reboot: volumes, logs, container records.
    pub(super) dir: PathBuf,
    /// The namespace, bind-mounted; in the run directory, so that a reboot ends it.
    pub(super) netns: PathBuf,
    /// What the CNI plugins gave; beside the namespace, written last: where it is, the sandbox is complete.
    pub(super) record: PathBuf,
    /// Mount points of container roots.
    pub(super) roots: PathBuf,
}

impl Paths {
    pub(super) fn of(instance: &Instance, uid: &str) -> Self {
        let netns = instance.netns_dir().join(uid);
        Self {
            dir: instance.pods_dir().join(uid),
            record: instance.run_dir.join("sandboxes").join(format!("{uid}.json")),
            roots: instance.run_dir.join("roots").join(uid),
            netns,
        }
    }

    pub(super) fn volume(&self, name: &str) -> PathBuf {
        self.dir.join("volumes").join(name)
    }

    pub(super) fn log(&self, container: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{container}.log"))
    }
}

fn make_dir(path: &Path, mode: u32) -> Result<(), SandboxFailure> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(failed("make directory", path))
}

/// Makes the pod's directories.
pub(super) fn make_dirs(paths: &Paths) -> Result<(), SandboxFailure> {
    make_dir(&paths.dir, 0o700)?;
    make_dir(&paths.dir.join("logs"), 0o700)?;
    make_dir(&paths.dir.join("volumes"), 0o711)
}

/// Makes the pod's network or finds the one that is there.
pub(super) async fn ensure(paths: &Paths, uid: &str, network: &PodNetwork) -> Result<Attachment, SandboxFailure> {
    if let Some(attachment) = complete(paths) {
        return Ok(attachment);
    }
    for path in [&paths.netns, &paths.record] {
        if let Some(parent) = path.parent() {
            make_dir(parent, 0o700)?;
        }
    }
    NetNs::ensure_at(&paths.netns).map_err(failed("make network namespace", &paths.netns))?;
    // A first try that died half-way, or the time before a reboot, may have left an address behind.
    network.del(uid, &paths.netns).await?;
    let attachment = network.add(uid, &paths.netns).await?;
    let text = serde_json::to_vec(&attachment).map_err(|e| failed("write", &paths.record)(e.into()))?;
    let temporary = paths.record.with_extension("tmp");
    fs::write(&temporary, text).map_err(failed("write", &temporary))?;
    fs::rename(&temporary, &paths.record).map_err(failed("write", &paths.record))?;
    Ok(attachment)
}

/// The attachment of a complete sandbox.
pub(super) fn complete(paths: &Paths) -> Option<Attachment> {
    let text = fs::read(&paths.record).ok()?;
    NetNs::open(&paths.netns).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Gives the network back. Repeating it is fine.
pub(super) async fn release_network(paths: &Paths, uid: &str, network: &PodNetwork) -> Result<(), SandboxFailure> {
    match fs::remove_file(&paths.record) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &paths.record)(error)),
        _ => {}
    }
    network.del(uid, &paths.netns).await?;
    remove_netns(paths)
}

/// Removes the network namespace, if there is one.
pub(super) fn remove_netns(paths: &Paths) -> Result<(), SandboxFailure> {
    NetNs::remove_at(&paths.netns).map_err(failed("remove network namespace", &paths.netns))
}

/// Removes what is left of the pod, last.
pub(super) fn remove_dirs(paths: &Paths) -> Result<(), SandboxFailure> {
    volumes::unmount(paths)?;
    for path in [&paths.roots, &paths.dir] {
        remove_tree(path).map_err(failed("remove", path))?;
    }
    Ok(())
}

/// Removes a directory of ours. What is mounted in it is never gone through: it belongs to others.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    match SafeDir::open_trusted(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        parent => parent?.remove_tree(name),
    }
}
