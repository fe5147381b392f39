//! The machine's own daemon.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use super::{DaemonKind, LibvirtEndpoint};

/// The modular daemon first: where both sockets exist, libvirtd's is a proxy for it.
const SOCKETS: [(&str, DaemonKind); 2] = [
    ("/run/libvirt/virtqemud-sock", DaemonKind::SystemVirtqemud),
    ("/run/libvirt/libvirt-sock", DaemonKind::SystemLibvirtd),
];

/// Why the machine's own daemon cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SystemDaemonError {
    #[error("no libvirt daemon listens on {} or {}", SOCKETS[0].0, SOCKETS[1].0)]
    Absent,
    #[error("the libvirt daemon at {} does not serve QEMU: {problem}", socket.display())]
    Silent { socket: PathBuf, problem: String },
}

/// A system daemon that answers. (Connecting starts a socket-activated one; nothing else is ever started.) Blocking.
pub fn find_system_daemon(patience: Duration) -> Result<LibvirtEndpoint, SystemDaemonError> {
    let mut why = SystemDaemonError::Absent;
    for (socket, kind) in SOCKETS {
        let socket = PathBuf::from(socket);
        if std::os::unix::net::UnixStream::connect(&socket).is_err() {
            continue;
        }
        let uri = LibvirtEndpoint::uri_of(&socket);
        if let Err(problem) = answers(&uri, patience) {
            why = SystemDaemonError::Silent { socket, problem };
            continue;
        }
        let pid_file = match kind {
            DaemonKind::SystemVirtqemud => Path::new("/run/virtqemud.pid"),
            DaemonKind::SystemLibvirtd | DaemonKind::Private => Path::new("/run/libvirtd.pid"),
        };
        return Ok(LibvirtEndpoint {
            uri,
            socket,
            kind,
            started: false,
            pid: std::fs::read_to_string(pid_file).ok().and_then(|text| text.trim().parse().ok()),
            state_dir: "/run/libvirt/qemu".into(),
            log_dir: "/var/log/libvirt/qemu".into(),
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
