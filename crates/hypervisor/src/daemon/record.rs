//! What a private daemon leaves for whoever comes next: its processes, and a lock that its supervisor holds.

use std::fs::File;
use std::io::Write;

use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

use super::files::Layout;
use super::process::ProcessId;

/// The processes of a private daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DaemonRecord {
    pub(crate) supervisor: Option<ProcessId>,
    pub(crate) libvirtd: Option<ProcessId>,
}

impl DaemonRecord {
    pub(crate) fn read(layout: &Layout) -> Option<Self> {
        let text = std::fs::read_to_string(layout.record()).ok()?;
        let value: Value = serde_json::from_str(&text).ok()?;
        let process = |name: &str| value.get(name).and_then(ProcessId::from_json);
        Some(Self { supervisor: process("supervisor"), libvirtd: process("libvirtd") })
    }

    pub(crate) fn write(self, layout: &Layout) -> std::io::Result<()> {
        let value = json!({
            "supervisor": self.supervisor.map(ProcessId::to_json),
            "libvirtd": self.libvirtd.map(ProcessId::to_json),
        });
        let temporary = layout.record().with_extension("json.new");
        let mut file = File::create(&temporary)?;
        file.write_all(value.to_string().as_bytes())?;
        drop(file);
        std::fs::rename(temporary, layout.record())
    }

    /// Takes the supervisor's lock; `None`: another supervisor holds it. Held as long as the file is open.
    pub(crate) fn lock(layout: &Layout) -> std::io::Result<Option<File>> {
        let file = File::options().create(true).truncate(false).write(true).open(layout.lock())?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a supervisor lives. A shared lock, so that looking never keeps a supervisor from starting for long.
    pub(crate) fn supervisor_lives(layout: &Layout) -> bool {
        let Ok(file) = File::open(layout.lock()) else { return false };
        matches!(flock(&file, FlockOperation::NonBlockingLockShared), Err(rustix::io::Errno::WOULDBLOCK))
    }
}
