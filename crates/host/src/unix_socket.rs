//! Unix sockets in directories that others can write to, and who is at the other end.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::safe_path::SafeDir;

/// Connects to a socket beneath `dir`. The socket is pinned by a descriptor first, so no link can redirect the call; the length of the
/// directory's path does not matter either.
pub fn connect(dir: &SafeDir, path: impl AsRef<Path>) -> io::Result<UnixStream> {
    let socket = dir.reference(path)?;
    UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd()))
}

/// The process at the other end of a connection, as the kernel noted it when it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerCredentials {
    /// Process id (in our pid namespace).
    pub pid: i32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Who is at the other end.
pub fn peer_credentials(socket: impl AsFd) -> io::Result<PeerCredentials> {
    let credentials = rustix::net::sockopt::socket_peercred(socket)?;
    Ok(PeerCredentials {
        pid: credentials.pid.as_raw_nonzero().get(),
        uid: credentials.uid.as_raw(),
        gid: credentials.gid.as_raw(),
    })
}
