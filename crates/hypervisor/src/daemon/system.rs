//! The machine's own daemon.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Weak, mpsc};
use std::time::Duration;

use parking_lot::Mutex;

use super::{DaemonKind, LibvirtEndpoint};

/// Where the machine's own daemon keeps its things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemPlaces {
    /// Sockets and the state of domains are in `libvirt` below it, the daemons' pid files beside that.
    pub run_dir: PathBuf,
    /// QEMU's logs of domains.
    pub log_dir: PathBuf,
}

impl Default for SystemPlaces {
    /// As distributions configure it.
    fn default() -> Self {
        Self { run_dir: "/run".into(), log_dir: "/var/log/libvirt/qemu".into() }
    }
}

impl SystemPlaces {
    /// Whether the directory of the sockets was removed and we only see what it was: a mount made before shows it empty for ever,
    /// whatever takes its place.
    pub fn is_removed(&self) -> bool {
        std::fs::metadata(self.run_dir.join("libvirt")).is_ok_and(|found| found.nlink() == 0)
    }

    /// Each daemon's socket and pid file. The modular daemon first: where both sockets exist, libvirtd's is a proxy for it.
    fn daemons(&self) -> [(PathBuf, PathBuf, DaemonKind); 2] {
        let place =
            |socket: &str, pid: &str, kind| (self.run_dir.join("libvirt").join(socket), self.run_dir.join(pid), kind);
        [
            place("virtqemud-sock", "virtqemud.pid", DaemonKind::SystemVirtqemud),
            place("libvirt-sock", "libvirtd.pid", DaemonKind::SystemLibvirtd),
        ]
    }
}

/// Why the machine's own daemon cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SystemDaemonError {
    #[error("no libvirt daemon listens on {} or {}", sockets[0].display(), sockets[1].display())]
    Absent { sockets: [PathBuf; 2] },
    #[error("the libvirt daemon at {} does not serve QEMU: {problem}", socket.display())]
    Silent { socket: PathBuf, problem: String },
}

/// A system daemon that answers. (Connecting starts a socket-activated one; nothing else is ever started.) Blocking.
pub fn find_system_daemon(places: &SystemPlaces, patience: Duration) -> Result<LibvirtEndpoint, SystemDaemonError> {
    let daemons = places.daemons();
    let mut why = SystemDaemonError::Absent { sockets: daemons.clone().map(|(socket, ..)| socket) };
    for (socket, pid_file, kind) in daemons {
        if std::os::unix::net::UnixStream::connect(&socket).is_err() {
            continue;
        }
        let uri = LibvirtEndpoint::uri_of(&socket);
        if let Err(problem) = answers(&uri, patience) {
            why = SystemDaemonError::Silent { socket, problem };
            continue;
        }
        return Ok(LibvirtEndpoint {
            uri,
            socket,
            kind,
            started: false,
            pid: std::fs::read_to_string(pid_file).ok().and_then(|text| text.trim().parse().ok()),
            state_dir: places.run_dir.join("libvirt/qemu"),
            log_dir: places.log_dir.clone(),
            partition: None,
        });
    }
    Err(why)
}

/// Questions nobody waits for any more, by URI. Each lives as long as its thread.
static GIVEN_UP: LazyLock<Mutex<HashMap<String, Weak<()>>>> = LazyLock::new(Mutex::default);

/// Whether a QEMU connection can be opened and answers. In a thread of its own: libvirt's calls have no deadline. A call that
/// never returns keeps its thread, and nothing else: until it does, that daemon is not asked again.
pub(crate) fn answers(uri: &str, patience: Duration) -> Result<(), String> {
    let silent = || Err(format!("no answer within {patience:?}"));
    if GIVEN_UP.lock().get(uri).is_some_and(|asked| asked.strong_count() > 0) {
        return silent();
    }
    let (sender, receiver) = mpsc::sync_channel(1);
    let asking = Arc::new(());
    let asked = Arc::downgrade(&asking);
    let to = uri.to_owned();
    std::thread::Builder::new()
        .name("libvirt-probe".into())
        .spawn(move || {
            let _ = sender.send(crate::libvirt::probe(&to));
            drop(asking);
        })
        .map_err(|error| error.to_string())?;
    receiver.recv_timeout(patience).unwrap_or_else(|_| {
        let mut given_up = GIVEN_UP.lock();
        given_up.retain(|_, asked| asked.strong_count() > 0);
        given_up.insert(uri.to_owned(), asked);
        drop(given_up);
        silent()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixListener;
    use std::time::Instant;

    #[test]
    fn directory_of_sockets_that_was_removed_is_known() {
        let run = tempfile::tempdir().unwrap();
        let places = SystemPlaces { run_dir: run.path().into(), log_dir: run.path().into() };
        assert!(!places.is_removed(), "none was there");
        let directory = run.path().join("before");
        std::fs::create_dir(&directory).unwrap();
        let held = std::fs::File::open(&directory).unwrap();
        // As a mount of it, this leads to the directory itself and not to its name.
        std::os::unix::fs::symlink(format!("/proc/self/fd/{}", held.as_raw_fd()), run.path().join("libvirt")).unwrap();
        assert!(!places.is_removed());
        std::fs::remove_dir(&directory).unwrap();
        std::fs::create_dir(&directory).unwrap();
        assert!(places.is_removed());
    }

    #[test]
    fn daemon_that_hangs_holds_one_question() {
        let run = tempfile::tempdir().unwrap();
        let places = SystemPlaces { run_dir: run.path().into(), log_dir: run.path().into() };
        std::fs::create_dir(run.path().join("libvirt")).unwrap();
        // Connections are accepted by the kernel, and never answered.
        let hung = UnixListener::bind(run.path().join("libvirt/libvirt-sock")).unwrap();
        let patience = Duration::from_millis(1500);
        let first = find_system_daemon(&places, patience).unwrap_err();
        assert!(
            matches!(&first, SystemDaemonError::Silent { problem, .. } if problem.contains("no answer")),
            "{first:?}"
        );
        let began = Instant::now();
        assert_eq!(find_system_daemon(&places, patience).unwrap_err(), first);
        assert!(began.elapsed() < patience, "it was asked again");
        // Once it is gone the question has an answer, and the next daemon is asked.
        drop(hung);
        let asked = || GIVEN_UP.lock().values().any(|asked| asked.strong_count() > 0);
        while asked() && began.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(super::super::POLL);
        }
        assert!(!asked(), "the question hangs although the daemon is gone");
    }
}
