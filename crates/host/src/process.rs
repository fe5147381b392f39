//! Processes by descriptor: a pid alone may by now belong to someone else.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, PidfdFlags, WaitIdOptions};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub use rustix::process::Signal;

/// Names one process for as long as the machine runs. To be written down, and opened again after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessId {
    /// Process id.
    pub pid: i32,
    /// When it started, in clock ticks since boot (field 22 of /proc/pid/stat).
    pub start_time: u64,
}

/// An open process.
#[derive(Debug)]
pub struct Process {
    id: ProcessId,
    fd: OwnedFd,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Exited with this code.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
}

impl ProcessId {
    /// The identity of the running process `pid`.
    pub fn of(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(Self { pid, start_time: start_time(pid)?.0 })
    }
}

/// Start time and state letter of a process.
fn start_time(pid: i32) -> io::Result<(u64, u8)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in brackets, may hold anything, also brackets and blanks.
    let fields = stat.rfind(')').and_then(|end| stat.get(end + 1..)).unwrap_or_default();
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next().and_then(|s| s.bytes().next());
    let start = fields.nth(18).and_then(|s| s.parse().ok());
    state.zip(start).map(|(s, t)| (t, s)).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/pid/stat"))
}

impl Process {
    /// Opens the process with this identity; `None` when it is gone. One that has ended and is not collected yet still opens.
    pub fn open(id: ProcessId) -> io::Result<Option<Self>> {
        let Some(pid) = Pid::from_raw(id.pid) else { return Ok(None) };
        let fd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // The descriptor is for whoever has the pid now; only if that one started then, it is ours.
        match start_time(id.pid) {
            Ok((start, _)) if start == id.start_time => Ok(Some(Self { id, fd })),
            Ok(_) => Ok(None),
            // ESRCH: it ended between opening and reading.
            Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Its identity.
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> io::Result<bool> {
        let mut poll = [rustix::event::PollFd::new(&self.fd, rustix::event::PollFlags::IN)];
        Ok(rustix::event::poll(&mut poll, Some(&rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 }))? == 0)
    }

    /// Sends a signal; `false` when it has ended.
    pub fn signal(&self, signal: Signal) -> io::Result<bool> {
        match rustix::process::pidfd_send_signal(&self.fd, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for its end. Dropping the future leaves it alone.
    pub async fn wait(&self) -> io::Result<()> {
        let clone = self.fd.try_clone()?;
        // SAFETY: an OwnedFd always answers with the one descriptor it owns, and AsyncFd keeps it until it has deregistered.
        let fd = unsafe { AsyncFd::register_with_interest(clone, Interest::READABLE)? };
        fd.readable().await.map(drop)
    }

    /// Collects the exit status of an ended child; `None` while it runs. Of a process that is not our child (any more, or ever) the
    /// status cannot be known: `ECHILD`.
    pub fn reap(&self) -> io::Result<Option<Exit>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status = rustix::process::waitid(rustix::process::WaitId::PidFd(self.fd.as_fd()), options)?;
        Ok(status.map(|s| match s.exit_status() {
            Some(code) => Exit::Code(code),
            None => Exit::Signal(s.terminating_signal().unwrap_or_default()),
        }))
    }
}

/// Orphaned descendants of this process become its children instead of those of pid 1.
pub fn set_subreaper(on: bool) -> io::Result<()> {
    let pid = on.then(rustix::process::getpid);
    Ok(rustix::process::set_child_subreaper(pid)?)
}

/// Collects ended children whose pids `is_ours` refuses: adopted orphans nobody waits for. Returns how many.
pub fn reap_adopted(is_ours: impl Fn(u32) -> bool) -> io::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir("/proc/self/task")?.flatten() {
        let children = fs::read_to_string(entry.path().join("children")).unwrap_or_default();
        for pid in children.split_ascii_whitespace().filter_map(|p| p.parse::<i32>().ok()) {
            let zombie = start_time(pid).is_ok_and(|(_, state)| state == b'Z');
            if !zombie || u32::try_from(pid).is_ok_and(&is_ours) {
                continue;
            }
            if let Some(pid) = Pid::from_raw(pid) {
                let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
                count += usize::from(rustix::process::waitid(rustix::process::WaitId::Pid(pid), options)?.is_some());
            }
        }
    }
    Ok(count)
}

/// The child leads a session of its own: no terminal's hang-up or ^C reaches it, and it outlives us.
pub fn own_session_on_exec(command: &mut Command) -> &mut Command {
    // SAFETY: setsid is a system call and touches no memory.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            Ok(())
        })
    }
}

/// Starts a program that outlives us: own session, standard streams as `command` sets them.
pub fn spawn_detached(command: &mut Command) -> io::Result<(std::process::Child, ProcessId)> {
    let child = own_session_on_exec(command).spawn()?;
    let id = ProcessId::of(child.id())?;
    Ok((child, id))
}
