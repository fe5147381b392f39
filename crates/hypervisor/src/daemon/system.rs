//! The machine's own daemon.

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

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

/// Whether a QEMU connection can be opened and answers. In a thread of its own: libvirt's calls have no deadline. A call that
/// never returns keeps its thread, and nothing else.
pub(crate) fn answers(uri: &str, patience: Duration) -> Result<(), String> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let uri = uri.to_owned();
    std::thread::Builder::new()
        .name("libvirt-probe".into())
        .spawn(move || {
            let _ = sender.send(crate::libvirt::probe(&uri));
        })
        .map_err(|error| error.to_string())?;
    receiver.recv_timeout(patience).unwrap_or_else(|_| Err(format!("no answer within {patience:?}")))
}
