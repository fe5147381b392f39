//! What to do while the libvirt daemon that is used is away. Pure.

use std::path::PathBuf;
use std::time::Duration;

use fv_hypervisor::daemon::{DaemonKind, LibvirtEndpoint, SystemDaemonError};

use super::contract::{self, Problem};

/// A daemon that is away for longer is looked for anew. One that is only restarted, or upgraded, is back before.
pub(super) const AWAY: Duration = Duration::from_secs(30);

/// A daemon, as far as one is told from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Daemon {
    pub(super) socket: PathBuf,
    pub(super) kind: DaemonKind,
}

impl From<LibvirtEndpoint> for Daemon {
    fn from(LibvirtEndpoint { socket, kind, .. }: LibvirtEndpoint) -> Self {
        Self { socket, kind }
    }
}

impl std::fmt::Display for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self.kind {
            DaemonKind::SystemLibvirtd => "libvirtd",
            DaemonKind::SystemVirtqemud => "virtqemud",
            DaemonKind::Private => "a private libvirtd",
        };
        write!(f, "{name} at {}", self.socket.display())
    }
}

/// What the node turned out to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// One answers.
    Daemon(Daemon),
    None(SystemDaemonError),
    /// The directory of the sockets that we see was removed: what takes its place can only be seen by a new process.
    Removed,
}

/// Connections are made at the start: these end the process, and the next one finds what there is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Replaced {
    #[error("{used} is gone, {found} answers instead")]
    Daemon { used: String, found: String },
    #[error("the directory of {used} was removed")]
    Directory { used: String },
}

/// Decides on a daemon that was `used` and is `gone` for so long; `sight`: what was found since, once it was looked. `Ok`: go on, and
/// say so.
pub(super) fn judge(used: &Daemon, sight: Option<&Sight>, gone: Duration, os_image: &str) -> Result<Problem, Replaced> {
    let disconnected = || Problem {
        reason: "LibvirtDisconnected",
        message: "the libvirt daemon of the node does not answer at the moment; guests go on".into(),
    };
    match sight.filter(|_| gone >= AWAY) {
        Some(Sight::Daemon(found)) if found != used => {
            Err(Replaced::Daemon { used: used.to_string(), found: found.to_string() })
        }
        Some(Sight::Removed) => Err(Replaced::Directory { used: used.to_string() }),
        Some(Sight::None(error)) => {
            let problem = contract::without_daemon(error, os_image);
            Ok(Problem { message: format!("{}; {used} was used, and guests go on", problem.message), ..problem })
        }
        // Being connected to is a matter of a moment.
        Some(Sight::Daemon(_)) | None => Ok(disconnected()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn libvirtd() -> Daemon {
        Daemon { socket: "/run/libvirt/libvirt-sock".into(), kind: DaemonKind::SystemLibvirtd }
    }

    fn virtqemud() -> Daemon {
        Daemon { socket: "/run/libvirt/virtqemud-sock".into(), kind: DaemonKind::SystemVirtqemud }
    }

    #[test]
    fn daemon_that_is_away_is_waited_for_and_another_one_ends_the_process() {
        let absent = Sight::None(SystemDaemonError::Absent { sockets: [virtqemud().socket, libvirtd().socket] });
        let silent = Sight::None(SystemDaemonError::Silent { socket: libvirtd().socket, problem: "no driver".into() });
        let elsewhere = Daemon { socket: "/run/other/libvirt-sock".into(), ..libvirtd() };
        let (short, long) = (AWAY - Duration::from_secs(1), AWAY);
        for (used, sight, gone, expected) in [
            (libvirtd(), None, short, Some("LibvirtDisconnected")),
            (libvirtd(), None, long, Some("LibvirtDisconnected")),
            (libvirtd(), Some(absent.clone()), short, Some("LibvirtDisconnected")),
            (libvirtd(), Some(absent.clone()), long, Some("LibvirtMissing")),
            (virtqemud(), Some(absent), long * 100, Some("LibvirtMissing")),
            (libvirtd(), Some(silent), long, Some("LibvirtNotUsable")),
            (libvirtd(), Some(Sight::Daemon(libvirtd())), long, Some("LibvirtDisconnected")),
            (libvirtd(), Some(Sight::Daemon(virtqemud())), short, Some("LibvirtDisconnected")),
            (libvirtd(), Some(Sight::Daemon(virtqemud())), long, None),
            (virtqemud(), Some(Sight::Daemon(libvirtd())), long, None),
            (libvirtd(), Some(Sight::Daemon(elsewhere)), long, None),
            (libvirtd(), Some(Sight::Removed), short, Some("LibvirtDisconnected")),
            (libvirtd(), Some(Sight::Removed), long, None),
        ] {
            let found = judge(&used, sight.as_ref(), gone, "Debian GNU/Linux 12 (bookworm)").ok();
            assert_eq!(found.map(|problem| problem.reason), expected, "{used}, {sight:?} after {gone:?}");
        }
    }

    #[test]
    fn what_was_used_and_what_is_there_now_are_named() {
        let error = judge(&libvirtd(), Some(&Sight::Daemon(virtqemud())), AWAY, "").unwrap_err().to_string();
        assert_eq!(
            error,
            "libvirtd at /run/libvirt/libvirt-sock is gone, virtqemud at /run/libvirt/virtqemud-sock answers instead"
        );
        let absent = Sight::None(SystemDaemonError::Absent { sockets: [virtqemud().socket, libvirtd().socket] });
        let problem = judge(&libvirtd(), Some(&absent), AWAY, "Ubuntu 24.04").unwrap();
        assert!(problem.message.contains("libvirt-daemon-system"), "{}", problem.message);
        assert!(problem.message.contains("libvirtd at /run/libvirt/libvirt-sock was used"), "{}", problem.message);
    }
}
