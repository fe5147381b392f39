//! What the loops wait for: signals, changes in a directory, links coming and going, time.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use fv_host::signal::SignalFd;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, netlink};

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// How often to look around without file events.
const UNWATCHED: Duration = Duration::from_millis(500);

/// `RTMGRP_LINK`: links of this network namespace.
const LINK_GROUP: u32 = 1;

/// What is watched besides signals and the coming, going and closing of files in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Also {
    /// Links of this network namespace.
    Links,
    /// Every write to a file in the directory.
    Writes,
}

/// Event sources.
pub(crate) struct Watch {
    signals: SignalFd,
    /// Absent where the user's inotify instances are used up (all launchers of a node have one user, and 128 is a common limit): then
    /// the loops look around often instead.
    directory: Option<OwnedFd>,
    links: Option<OwnedFd>,
}

impl Watch {
    /// Watches a directory.
    pub(crate) fn new(directory: &Path, also: Also) -> io::Result<Self> {
        let signals = SignalFd::block(&[SIGTERM, SIGINT])?;
        let named = |e: io::Error| io::Error::new(e.kind(), format!("share directory {}: {e}", directory.display()));
        std::fs::read_dir(directory).map_err(named)?;
        let links = if also == Also::Links { link_events().ok() } else { None };
        Ok(Self { signals, directory: file_events(directory, also).ok(), links })
    }

    /// Waits until something happens on a source or on one of `sockets`, at most `timeout`. Returns whether a termination signal came.
    pub(crate) fn wait(&self, sockets: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<bool> {
        let mut polled: Vec<PollFd<'_>> = Vec::with_capacity(sockets.len() + 3);
        polled.push(PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN));
        polled.extend(
            self.directory.iter().chain(&self.links).map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)),
        );
        polled.extend(sockets.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
        let timeout =
            if self.directory.is_some() { timeout } else { Some(timeout.map_or(UNWATCHED, |t| t.min(UNWATCHED))) };
        let timeout = timeout.map(|t| Timespec {
            tv_sec: i64::try_from(t.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(t.subsec_nanos()),
        });
        match rustix::event::poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        // What happened is looked up from the state of the world; the events only wake us.
        if let Some(directory) = &self.directory {
            drain(|buffer| rustix::io::read(directory, buffer));
        }
        if let Some(links) = &self.links {
            drain(|buffer| rustix::net::recv(links, buffer, RecvFlags::DONTWAIT).map(|(n, _)| n));
        }
        let mut terminated = false;
        while let Some(signal) = self.signals.next()? {
            terminated |= signal == SIGTERM || signal == SIGINT;
        }
        Ok(terminated)
    }
}

/// A termination signal and nothing else.
pub(crate) struct Termination(SignalFd);

impl Termination {
    pub(crate) fn new() -> io::Result<Self> {
        SignalFd::block(&[SIGTERM, SIGINT]).map(Self)
    }

    /// Waits for it.
    pub(crate) fn wait(&self) -> io::Result<()> {
        while self.0.next()?.is_none() {
            match rustix::event::poll(&mut [PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN)], None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

fn file_events(directory: &Path, also: Also) -> io::Result<OwnedFd> {
    let notify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let mut flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE | WatchFlags::DELETE;
    if also == Also::Writes {
        flags |= WatchFlags::MODIFY;
    }
    inotify::add_watch(&notify, directory, flags)?;
    Ok(notify)
}

fn link_events() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // Protocol 0 of this family is NETLINK_ROUTE.
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    rustix::net::bind(&socket, &netlink::SocketAddrNetlink::new(0, LINK_GROUP))?;
    Ok(socket)
}

fn drain(mut read: impl FnMut(&mut [u8; 4096]) -> rustix::io::Result<usize>) {
    let mut buffer = [0u8; 4096];
    // Bounded: whoever floods a source gets its turn again in the next round.
    for _ in 0..64 {
        match read(&mut buffer) {
            Ok(0) => return,
            // An overrun only means lost wake-ups; the next read goes on.
            Ok(_) | Err(rustix::io::Errno::NOBUFS | rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_file_events_the_loop_still_comes_round() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(dir.path(), Also::Writes).unwrap();
        watch.directory = None;
        let start = std::time::Instant::now();
        assert!(!watch.wait(&[], Some(Duration::from_secs(60))).unwrap());
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn file_event_wakes_the_loop() {
        let dir = tempfile::tempdir().unwrap();
        let watch = Watch::new(dir.path(), Also::Links).unwrap();
        std::fs::write(dir.path().join("released"), "").unwrap();
        let start = std::time::Instant::now();
        assert!(!watch.wait(&[], Some(Duration::from_secs(60))).unwrap());
        assert!(start.elapsed() < Duration::from_secs(30));
    }
}
