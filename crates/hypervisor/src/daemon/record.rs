//! What a private daemon leaves for whoever comes next: its processes, and a lock that its supervisor holds.

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

use super::files::Layout;
use super::process::ProcessId;

/// How long a lock that is held may be that of somebody who looks; a supervisor holds it for life.
const OTHERS_LOOK: Duration = Duration::from_millis(500);

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
        let begin = Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(file)),
                // Whoever only looks whether a supervisor lives holds it for a moment.
                Err(rustix::io::Errno::WOULDBLOCK) if begin.elapsed() < OTHERS_LOOK => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether a supervisor lives. A shared lock, held for a moment: lookers do not hinder each other.
    pub(crate) fn supervisor_lives(layout: &Layout) -> bool {
        let Ok(file) = File::open(layout.lock()) else { return false };
        matches!(flock(&file, FlockOperation::NonBlockingLockShared), Err(rustix::io::Errno::WOULDBLOCK))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_look_whether_a_supervisor_lives_keeps_none_from_starting() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(&dir.path().join("d"), &dir.path().join("r"));
        std::fs::create_dir_all(layout.lock().parent().unwrap()).unwrap();
        let (looks, done) = (AtomicUsize::new(0), AtomicBool::new(false));
        let refused = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    DaemonRecord::supervisor_lives(&layout);
                    looks.fetch_add(1, Ordering::Relaxed);
                }
            });
            let mut refused = 0;
            while looks.load(Ordering::Relaxed) < 3000 {
                refused += usize::from(DaemonRecord::lock(&layout).unwrap().is_none());
            }
            done.store(true, Ordering::Relaxed);
            refused
        });
        assert_eq!(refused, 0);
    }

    #[test]
    fn a_second_supervisor_finds_that_one_lives() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(&dir.path().join("d"), &dir.path().join("r"));
        std::fs::create_dir_all(layout.lock().parent().unwrap()).unwrap();
        assert!(!DaemonRecord::supervisor_lives(&layout));
        let lock = DaemonRecord::lock(&layout).unwrap();
        assert!(DaemonRecord::supervisor_lives(&layout) && DaemonRecord::lock(&layout).unwrap().is_none());
        drop(lock);
        assert!(!DaemonRecord::supervisor_lives(&layout));
    }
}
