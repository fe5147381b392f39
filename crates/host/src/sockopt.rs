//! Socket options that std and rustix do not offer.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Sends and receives only through the device that has this name now; when the device vanishes the socket is dead and a new
/// one is needed.
pub fn bind_to_device(socket: impl AsFd, device: &str) -> io::Result<()> {
    set(socket, libc::SO_BINDTODEVICE, device.as_bytes())
}

/// Sends IPv4 UDP without checksum. A partial checksum, which the virtual device would leave to hardware, looks corrupt to
/// DHCP clients that read raw packets; an absent one is valid everywhere.
pub fn disable_udp_checksum(socket: impl AsFd) -> io::Result<()> {
    set(socket, libc::SO_NO_CHECK, &1i32.to_ne_bytes())
}

fn set(socket: impl AsFd, option: i32, value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: pointer and length describe `value`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(socket.as_fd().as_raw_fd(), libc::SOL_SOCKET, option, value.as_ptr().cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
