//! Tap devices.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use fv_netplan::TapSpec;
use rustix::fs::{Mode, OFlags};

/// Makes a persistent tap in the calling thread's network namespace, owned as `spec` says. It carries virtio-net headers;
/// several queues need the multi-queue kind, which whoever opens it has to ask for as well. MTU and state are set elsewhere.
pub fn create(spec: &TapSpec) -> io::Result<()> {
    let tun = open()?;
    let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_TUN_EXCL;
    if spec.queues > 1 {
        flags |= libc::IFF_MULTI_QUEUE;
    }
    attach(&tun, &spec.name, flags)?;
    // SAFETY: these three requests take their argument by value.
    unsafe {
        check(libc::ioctl(tun.as_raw_fd(), libc::TUNSETOWNER as _, libc::c_ulong::from(spec.owner_uid)))?;
        check(libc::ioctl(tun.as_raw_fd(), libc::TUNSETGROUP as _, libc::c_ulong::from(spec.owner_gid)))?;
        check(libc::ioctl(tun.as_raw_fd(), libc::TUNSETPERSIST as _, 1 as libc::c_ulong))
    }
}

/// Opens one queue of an existing tap of the calling thread's namespace, as QEMU would, without packet headers of any kind. The kind
/// (one queue or several) must be the one it was made with.
pub fn open_queue(name: &str, multi_queue: bool) -> io::Result<OwnedFd> {
    let tun = open()?;
    let several = if multi_queue { libc::IFF_MULTI_QUEUE } else { 0 };
    attach(&tun, name, libc::IFF_TAP | libc::IFF_NO_PI | several)?;
    Ok(tun)
}

fn open() -> io::Result<OwnedFd> {
    let opened = rustix::fs::open("/dev/net/tun", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    opened.map_err(|e| {
        let e = io::Error::from(e);
        io::Error::new(e.kind(), format!("/dev/net/tun: {e} (is the tun driver loaded?)"))
    })
}

fn attach(tun: &OwnedFd, name: &str, flags: i32) -> io::Result<()> {
    // SAFETY: all zeros is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.is_empty() || name.len() >= request.ifr_name.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("device name {name:?} has not 1 to 15 bytes")));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which `request` is.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF as _, &mut request) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
