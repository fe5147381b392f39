//! Where one embedded Ferrovirt keeps its things. Several may run side by side on a machine; the data directory is what tells
//! them apart.

use std::io;
use std::path::{Path, PathBuf};

use fv_host::process::{Process, ProcessId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The places of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// First eight hexadecimal digits of the SHA-256 of the canonical data directory; part of every name we give to things
    /// the whole machine sees (bridges, namespaces, nftables tables, run directory).
    pub id: String,
    /// What outlives a reboot: objects, keys, images, disks.
    pub data_dir: PathBuf,
    /// Sockets, namespaces, process files: short (unix socket paths end at 108 bytes) and gone after a reboot.
    pub run_dir: PathBuf,
}

impl Instance {
    /// Makes the data directory when it is missing and names the instance after it. Others may pass through it and see nothing
    /// (mode 0711): QEMU has a user of its own for every VM, who must get to its disks.
    ///
    /// # Errors
    /// The directory cannot be made or resolved, or an ancestor lets nobody but its owner through.
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        std::fs::DirBuilder::new().recursive(true).mode(0o711).create(data_dir)?;
        let instance = Self::of(data_dir.canonicalize()?);
        for directory in instance.data_dir.ancestors() {
            let mode = std::fs::metadata(directory)?.permissions().mode();
            if mode & 0o001 == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    format!(
                        "the users that QEMU runs as cannot pass through {} (mode {:o}): chmod o+x it, or choose another --data-dir",
                        directory.display(),
                        mode & 0o7777
                    ),
                ));
            }
        }
        Ok(instance)
    }

    /// The instance of an existing data directory; `None` when there is none.
    pub fn find(data_dir: &Path) -> Option<Self> {
        data_dir.canonicalize().ok().map(Self::of)
    }

    fn of(data_dir: PathBuf) -> Self {
        let digest = Sha256::digest(data_dir.as_os_str().as_encoded_bytes());
        let id = hex::encode(&digest[..4]);
        let run_dir = Path::new("/run/ferrovirt").join(&id);
        Self { id, data_dir, run_dir }
    }

    /// The host end of the pod network (15 characters at most).
    pub fn bridge(&self) -> String {
        format!("fv-{}", self.id)
    }

    /// Sub-directories by purpose.
    pub fn store_dir(&self) -> PathBuf {
        self.data_dir.join("store")
    }
    pub fn pki_dir(&self) -> PathBuf {
        self.data_dir.join("pki")
    }
    /// Keys that a restore put aside.
    pub fn replaced_dir(&self) -> PathBuf {
        self.data_dir.join("replaced")
    }
    /// Where a restore unpacks a backup.
    pub fn restore_dir(&self) -> PathBuf {
        self.data_dir.join("restore")
    }
    pub fn images_dir(&self) -> PathBuf {
        self.data_dir.join("images")
    }
    pub fn pods_dir(&self) -> PathBuf {
        self.data_dir.join("pods")
    }
    /// Directories of persistent volumes, by volume name.
    pub fn volumes_dir(&self) -> PathBuf {
        self.data_dir.join("volumes")
    }
    pub fn cni_dir(&self) -> PathBuf {
        self.data_dir.join("cni")
    }
    pub fn libvirt_dir(&self) -> PathBuf {
        self.data_dir.join("libvirt")
    }
    /// Pod network namespaces, bind-mounted by pod UID (those of guests are virt-handler's, in `netns`).
    pub fn netns_dir(&self) -> PathBuf {
        self.run_dir.join("podns")
    }
    /// Who works on this instance (`up`, `down`): its pid, held under a lock while it does.
    pub fn lock_file(&self) -> PathBuf {
        self.run_dir.join("ferrovirt.lock")
    }
    /// What a running instance tells `status` and `down`.
    pub fn state_file(&self) -> PathBuf {
        self.run_dir.join("running.json")
    }
    /// The log of the background process.
    pub fn log_file(&self) -> PathBuf {
        self.data_dir.join("ferrovirt.log")
    }
}

impl Instance {
    /// Makes the run directory, and notes in it whose it is, for whoever cleans the machine up.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make_run_dir(&self) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(0o711).create(&self.run_dir)?;
        std::fs::write(self.run_dir.join("data-dir"), self.data_dir.as_os_str().as_encoded_bytes())
    }

    /// Every instance that left a run directory on this machine.
    pub fn all() -> Vec<Self> {
        let entries = std::fs::read_dir("/run/ferrovirt").into_iter().flatten().flatten();
        entries
            .filter_map(|entry| {
                let data_dir = std::fs::read_to_string(entry.path().join("data-dir")).ok()?;
                let instance = Self::of(PathBuf::from(data_dir));
                (instance.run_dir == entry.path()).then_some(instance)
            })
            .collect()
    }
}

/// The process that runs an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Running {
    pub pid: u32,
    /// When the process started: a pid alone may by now belong to somebody else.
    pub start_time: u64,
    pub server: String,
    pub kubeconfig: PathBuf,
}

impl Running {
    /// What this very process tells.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub fn this_process(server: String, kubeconfig: PathBuf) -> io::Result<Self> {
        let pid = std::process::id();
        Ok(Self { pid, start_time: ProcessId::of(pid)?.start_time, server, kubeconfig })
    }

    /// The process, if it still runs.
    pub fn process(&self) -> Option<Process> {
        let id = ProcessId { pid: i32::try_from(self.pid).ok()?, start_time: self.start_time };
        Process::open(id).ok().flatten().filter(|process| process.is_alive().unwrap_or(false))
    }

    /// Writes the state file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, instance: &Instance) -> io::Result<()> {
        let temporary = instance.state_file().with_extension("tmp");
        std::fs::write(&temporary, serde_json::to_vec(self)?)?;
        std::fs::rename(&temporary, instance.state_file())
    }

    /// Reads the state file; `None` when nothing says that the instance runs.
    pub fn read(instance: &Instance) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(instance.state_file()).ok()?).ok()
    }

    /// Removes the state file.
    pub fn remove(instance: &Instance) {
        let _ = std::fs::remove_file(instance.state_file());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_differ_by_data_dir_and_are_stable() {
        let dir = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir()
            .unwrap();
        let a = Instance::open(&dir.path().join("a")).unwrap();
        let b = Instance::open(&dir.path().join("b")).unwrap();
        assert_ne!(a.id, b.id);
        assert_eq!(a, Instance::open(&dir.path().join("b/../a")).unwrap());
        assert!(a.bridge().len() <= 15);
    }

    #[test]
    fn a_data_dir_that_qemu_cannot_reach_is_refused_with_the_remedy() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let error = Instance::open(&dir.path().join("d")).unwrap_err().to_string();
        assert!(error.contains("chmod o+x") && error.contains(&dir.path().display().to_string()), "{error}");
    }

    #[test]
    fn socket_paths_stay_short() {
        let instance = Instance::of(PathBuf::from("/a/very/long/data/directory".repeat(8)));
        let socket = instance.run_dir.join("vmis/01234567-89ab-cdef-0123-456789abcdef/virt-serial0");
        assert!(socket.as_os_str().len() < 108, "{}", socket.display());
    }
}
