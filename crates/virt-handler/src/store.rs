//! The handler's directory on the node: one directory a VM, holding its record, its network plan and its console log.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use fv_netplan::NetPlan;
use parking_lot::Mutex;

use crate::vm::record::{Record, RecordError};

const RECORD: &str = "record.json";
const NETWORK: &str = "network.json";
/// Host users of QEMU processes begin here.
const FIRST_QEMU_UID: u32 = 1_000_000_000;
/// Users an instance has for itself; instances with different ids rarely share a range, and never care if they do.
const UIDS_PER_INSTANCE: u32 = 100_000;

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{step} {}", path.display())]
    Io {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("record {} is not usable; its VM is left as it is. Mend the file, or remove its directory once the guest is stopped", path.display())]
    Record {
        path: PathBuf,
        #[source]
        source: RecordError,
    },
    #[error("all {UIDS_PER_INSTANCE} host users for guests are taken")]
    NoUid,
    #[error("VMI uid {uid:?} is no UUID")]
    Uid { uid: String },
}

/// What was found at the start.
#[derive(Debug, Default)]
pub struct Found {
    pub records: Vec<Record>,
    /// VMs whose record is not usable: nothing is done for or to them.
    pub damaged: Vec<(String, StoreError)>,
}

/// The directory `D/node/vmis`.
#[derive(Debug)]
pub struct RecordStore {
    root: PathBuf,
    first_uid: u32,
    /// Users given out by this process, which may not be on disk yet.
    given: Mutex<BTreeSet<u32>>,
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Io { step, path: path.to_owned(), source }
}

impl RecordStore {
    /// Opens the directory, making it where it is missing.
    pub fn open(root: PathBuf, instance_id: &str) -> Result<Self, StoreError> {
        make_dir(&root, 0o711)?;
        let slot = u32::from_str_radix(instance_id.get(..8).unwrap_or("0"), 16).unwrap_or(0) % 10_000;
        Ok(Self { root, first_uid: FIRST_QEMU_UID + slot * UIDS_PER_INSTANCE, given: Mutex::new(BTreeSet::new()) })
    }

    /// The directory of one VM, made where it is missing.
    pub fn dir(&self, uid: &str) -> Result<PathBuf, StoreError> {
        let dir = self.path(uid)?;
        make_dir(&dir, 0o700)?;
        Ok(dir)
    }

    fn path(&self, uid: &str) -> Result<PathBuf, StoreError> {
        // A uid becomes a directory name: nothing in it may lead elsewhere.
        uuid::Uuid::parse_str(uid).map_err(|_| StoreError::Uid { uid: uid.chars().take(64).collect() })?;
        Ok(self.root.join(uid))
    }

    /// Reads all records.
    pub fn load(&self) -> Result<Found, StoreError> {
        let mut found = Found::default();
        for entry in std::fs::read_dir(&self.root).map_err(failed("read", &self.root))? {
            let entry = entry.map_err(failed("read", &self.root))?;
            let uid = entry.file_name().to_string_lossy().into_owned();
            if uuid::Uuid::parse_str(&uid).is_err() {
                continue;
            }
            match self.read(&uid) {
                Ok(Some(record)) => {
                    self.given.lock().insert(record.qemu_uid);
                    found.records.push(record);
                }
                // A directory without a record: killed right after making it, or right before removing it.
                Ok(None) => {}
                Err(error) => found.damaged.push((uid, error)),
            }
        }
        Ok(found)
    }

    /// The record of one VM.
    pub fn read(&self, uid: &str) -> Result<Option<Record>, StoreError> {
        let path = self.path(uid)?.join(RECORD);
        match std::fs::read(&path) {
            Ok(bytes) => Record::parse(uid, &bytes).map(Some).map_err(|source| StoreError::Record { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::Io { step: "read", path, source }),
        }
    }

    /// Writes a record; once this returns it survives a power failure.
    pub fn write(&self, record: &Record) -> Result<(), StoreError> {
        self.put(&record.uid, RECORD, &serde_json::to_vec_pretty(record).unwrap_or_default())
    }

    /// The network plan the guest was started with.
    pub fn network(&self, uid: &str) -> Result<Option<NetPlan>, StoreError> {
        let path = self.path(uid)?.join(NETWORK);
        match std::fs::read(&path) {
            // A plan of another version is only lost comfort: it is made again from the pod.
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::Io { step: "read", path, source }),
        }
    }

    pub fn write_network(&self, plan: &NetPlan) -> Result<(), StoreError> {
        self.put(&plan.vmi_uid, NETWORK, &serde_json::to_vec_pretty(plan).unwrap_or_default())
    }

    fn put(&self, uid: &str, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let dir = self.dir(uid)?;
        let (path, temporary) = (dir.join(name), dir.join(format!(".{name}.new")));
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(failed("create", &temporary))?;
        file.write_all(bytes).map_err(failed("write", &temporary))?;
        file.sync_all().map_err(failed("sync", &temporary))?;
        std::fs::rename(&temporary, &path).map_err(failed("rename", &path))?;
        sync_dir(&dir)
    }

    /// Removes all that is kept of a VM, the record first. Nothing there is success.
    pub fn remove(&self, record: &Record) -> Result<(), StoreError> {
        let dir = self.path(&record.uid)?;
        match std::fs::remove_file(dir.join(RECORD)) {
            Ok(()) => sync_dir(&dir)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(StoreError::Io { step: "remove", path: dir.join(RECORD), source }),
        }
        match std::fs::remove_dir_all(&dir) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::Io { step: "remove", path: dir, source });
            }
            _ => {}
        }
        self.given.lock().remove(&record.qemu_uid);
        Ok(())
    }

    /// A host user that no other VM of this node has, and under which nothing runs (`in_use` asks the kernel).
    pub fn allocate_uid(&self, in_use: impl Fn(u32) -> bool) -> Result<u32, StoreError> {
        let mut given = self.given.lock();
        let free =
            (self.first_uid..self.first_uid + UIDS_PER_INSTANCE).find(|uid| !given.contains(uid) && !in_use(*uid));
        let uid = free.ok_or(StoreError::NoUid)?;
        given.insert(uid);
        Ok(uid)
    }

    /// Takes note of a user found in use.
    pub fn claim_uid(&self, uid: u32) {
        self.given.lock().insert(uid);
    }
}

/// Makes a directory with exactly this mode, whatever the umask is.
pub(crate) fn make_dir(path: &Path, mode: u32) -> Result<(), StoreError> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(path).map_err(failed("create", path))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed("set the mode of", path))
}

fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(failed("sync", dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "3f1c9f3e-0c1d-4a51-9a30-0d3c0c1f7f01";

    fn store(dir: &tempfile::TempDir) -> RecordStore {
        RecordStore::open(dir.path().join("vmis"), "0000002a").unwrap()
    }

    #[test]
    fn records_are_found_again_and_removed_without_a_trace() {
        let dir = tempfile::tempdir().unwrap();
        let record = Record::new(UID, "ns", "vm", store(&dir).allocate_uid(|_| false).unwrap());
        store(&dir).write(&record).unwrap();
        let reopened = store(&dir);
        assert_eq!(reopened.load().unwrap().records, std::slice::from_ref(&record));
        assert_ne!(reopened.allocate_uid(|_| false).unwrap(), record.qemu_uid);
        reopened.remove(&record).unwrap();
        reopened.remove(&record).unwrap();
        assert_eq!(std::fs::read_dir(dir.path().join("vmis")).unwrap().count(), 0);
    }

    #[test]
    fn damaged_record_is_reported_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let vm = store.dir(UID).unwrap();
        std::fs::write(vm.join(RECORD), "{ half").unwrap();
        let found = store.load().unwrap();
        assert!(found.records.is_empty());
        assert_eq!(found.damaged.len(), 1);
        assert!(vm.join(RECORD).exists());
    }

    #[test]
    fn users_are_unique_and_skip_those_with_processes() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let first = store.allocate_uid(|_| false).unwrap();
        assert_eq!(first, 1_000_000_000 + 42 * 100_000);
        assert_eq!(store.allocate_uid(|uid| uid == first + 1).unwrap(), first + 2);
    }

    #[test]
    fn uid_that_is_no_uuid_names_no_directory() {
        let dir = tempfile::tempdir().unwrap();
        assert!(store(&dir).dir("../../etc").is_err());
    }
}
