//! Processes named so that a pid used again is never mistaken for them.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Timespec;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::{Value, json};

use super::DaemonError;

/// A process: its pid and when it started (clock ticks since boot).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessId {
    pub(crate) pid: u32,
    pub(crate) start: u64,
}

/// How to end a process.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Term,
    Kill,
}

impl ProcessId {
    /// The process that has `pid` now.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, start) = parse_stat(&stat)?;
        (state != 'Z' && state != 'X').then_some(Self { pid, start })
    }

    pub(crate) fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    pub(crate) fn to_json(self) -> Value {
        json!({"pid": self.pid, "start": self.start})
    }

    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        Some(Self { pid: u32::try_from(value.get("pid")?.as_u64()?).ok()?, start: value.get("start")?.as_u64()? })
    }

    /// Sends each signal in turn until the process is gone, waiting as long as given after each.
    pub(crate) fn end(self, ways: &[(End, Duration)]) -> Result<(), DaemonError> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
        // First the descriptor, then the comparison: from here on the signal cannot reach another process.
        let Ok(fd) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
        for (way, patience) in ways {
            if !self.is_alive() {
                return Ok(());
            }
            let signal = match way {
                End::Term => Signal::TERM,
                End::Kill => Signal::KILL,
            };
            if pidfd_send_signal(&fd, signal).is_err() {
                return Ok(());
            }
            let deadline = Instant::now() + *patience;
            loop {
                let left = deadline.saturating_duration_since(Instant::now());
                let timeout = Timespec::try_from(left).ok();
                let mut fds = [PollFd::new(&fd, PollFlags::IN)];
                match poll(&mut fds, timeout.as_ref()) {
                    Ok(0) => break,
                    Ok(_) => return Ok(()),
                    Err(rustix::io::Errno::INTR) => {}
                    Err(_) => break,
                }
            }
        }
        if self.is_alive() { Err(DaemonError::DoesNotEnd { pid: self.pid }) } else { Ok(()) }
    }
}

/// State letter and start time of `/proc/<pid>/stat`. The name in it may contain anything, also parentheses and blanks.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let start = fields.nth(18)?.parse().ok()?;
    Some((state, start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_of_a_process_with_a_hostile_name_is_read() {
        let stat = "42 (a) R 1 (b) S 1 42 42 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 1 0 98765 1 2";
        assert_eq!(parse_stat(stat), Some(('S', 98765)));
        assert_eq!(parse_stat("42 (x) S 1"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn another_start_time_is_another_process() {
        let me = ProcessId::of(std::process::id()).unwrap();
        assert!(me.is_alive());
        let other = ProcessId { start: me.start + 1, ..me };
        assert!(!other.is_alive());
        // Never reaches us: the identity does not match.
        other.end(&[(End::Kill, Duration::from_secs(1))]).unwrap();
    }

    #[test]
    fn a_child_is_ended_by_the_first_signal_it_obeys() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let id = ProcessId::of(child.id()).unwrap();
        id.end(&[(End::Term, Duration::from_secs(10)), (End::Kill, Duration::from_secs(10))]).unwrap();
        assert!(!id.is_alive());
        child.wait().unwrap();
        assert_eq!(ProcessId::from_json(&id.to_json()), Some(id));
    }
}
