//! Why a domain stopped, from QEMU's log: libvirt forgets a transient domain at once, its log stays.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::StopReason;

/// Only the end is read: the reason is the last thing libvirt writes.
const TAIL: u64 = 64 * 1024;

/// Where libvirt logs about a domain.
pub(super) fn path(dir: &Path, domain: &str) -> PathBuf {
    dir.join(format!("{domain}.log"))
}

/// Removes the log of a domain that is gone, with what virtlogd (`.log.0`) or logrotate (`.log.1`, `.log-20260101`) made of its
/// older parts.
pub(super) fn remove(dir: &Path, domain: &str) {
    let current = path(dir, domain);
    let Some(name) = current.file_name().and_then(|name| name.to_str()) else { return };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries.flatten(),
        Err(error) if error.kind() == ErrorKind::NotFound => return,
        Err(error) => return tracing::warn!(path = %dir.display(), %error, "cannot look for a domain's logs"),
    };
    for entry in entries {
        let is_of_it = |rest: &str| rest.is_empty() || rest.starts_with(['.', '-']);
        if !entry.file_name().to_str().and_then(|found| found.strip_prefix(name)).is_some_and(is_of_it) {
            continue;
        }
        match std::fs::remove_file(entry.path()) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(path = %entry.path().display(), %error, "a log of a domain that is gone stays");
            }
            _ => {}
        }
    }
}

/// The reason in the log at `path`; `None` when there is no log, or the domain did not stop since its last start.
pub(super) fn last_stop(path: &Path) -> Option<StopReason> {
    match read_tail(path) {
        Ok(text) => parse(&text),
        Err(error) => {
            if error.kind() != ErrorKind::NotFound {
                tracing::warn!(path = %path.display(), %error, "cannot read a domain's log");
            }
            None
        }
    }
}

fn read_tail(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Libvirt's own lines carry its time stamp; what QEMU prints (perhaps moved by the guest) has another form or counts for nothing.
fn parse(text: &str) -> Option<StopReason> {
    let mut reason = None;
    let mut signalled = false;
    for line in text.lines() {
        if let Some(message) = after_time_stamp(line) {
            if message.starts_with("starting up") {
                (reason, signalled) = (None, false);
            } else if let Some(word) = message.strip_prefix("shutting down, reason=") {
                reason = Some(match word.trim() {
                    "shutdown" => StopReason::Shutdown,
                    "destroyed" => StopReason::Destroyed,
                    "crashed" => StopReason::Crashed,
                    "migrated" => StopReason::Migrated,
                    "saved" => StopReason::Saved,
                    "failed" | "daemon" => StopReason::Failed,
                    "from snapshot" => StopReason::FromSnapshot,
                    _ => StopReason::Unknown,
                });
            }
        }
        // libvirt itself ends QEMU by a signal once the guest is down.
        if let Some((_, sender)) = line.split_once("terminating on signal ") {
            signalled |= !(sender.contains("libvirtd)") || sender.contains("virtqemud)"));
        }
    }
    match reason {
        Some(StopReason::Shutdown) if signalled => Some(StopReason::HostShutdown),
        other => other,
    }
}

/// `2026-11-21 10:00:00.123+0000: message` → `message`.
fn after_time_stamp(line: &str) -> Option<&str> {
    let (stamp, message) = line.split_at_checked(30)?;
    let stamp = stamp.strip_suffix(": ")?;
    let shape = stamp.bytes().zip(*b"dddd-dd-dd dd:dd:dd.ddd+dddd");
    let fits = stamp.len() == 28 && { shape }
        .all(|(byte, form)| if form == b'd' { byte.is_ascii_digit() } else { byte == form });
    fits.then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &str = "2026-11-21 10:00:00.123+0000: starting up libvirt version: 9.0.0\n";

    fn stopped(reason: &str) -> String {
        format!("2026-11-21 10:00:09.000+0000: shutting down, reason={reason}\n")
    }

    #[test]
    fn the_reason_of_the_last_run_counts() {
        for (text, expected) in [
            (format!("{START}{}", stopped("shutdown")), Some(StopReason::Shutdown)),
            (format!("{START}{}", stopped("destroyed")), Some(StopReason::Destroyed)),
            (format!("{START}{}", stopped("crashed")), Some(StopReason::Crashed)),
            (format!("{START}{}{START}", stopped("crashed")), None),
            (START.to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(parse(&text), expected, "{text}");
        }
    }

    #[test]
    fn a_signal_of_a_stranger_is_a_host_shutdown() {
        let by = |who: &str| {
            format!(
                "{START}2026-11-21T10:00:09.000000Z qemu-system-x86_64: terminating on signal 15 from pid 7 ({who})\n{}",
                stopped("shutdown")
            )
        };
        assert_eq!(parse(&by("/usr/sbin/libvirtd")), Some(StopReason::Shutdown));
        assert_eq!(parse(&by("/sbin/init")), Some(StopReason::HostShutdown));
        assert_eq!(parse(&by("<unknown process>")), Some(StopReason::HostShutdown));
    }

    #[test]
    fn a_domains_logs_go_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let others = ["fv-1.log2", "fv-12.log", "other.log"];
        for name in ["fv-1.log", "fv-1.log.0", "fv-1.log.2.gz", "fv-1.log-20260101"].iter().chain(&others) {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        // What is in the way of one does not keep the others.
        std::fs::create_dir(dir.path().join("fv-1.log.1")).unwrap();
        remove(dir.path(), "fv-1");
        std::fs::remove_dir(dir.path().join("fv-1.log.1")).unwrap();
        remove(dir.path(), "fv-1");
        let left = std::fs::read_dir(dir.path()).unwrap().flatten();
        let mut left: Vec<_> = left.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        left.sort();
        let mut others = others.to_vec();
        others.sort_unstable();
        assert_eq!(left, others);
        remove(Path::new("/nonexistent"), "fv-1");
    }

    #[test]
    fn lines_that_are_not_libvirts_count_for_nothing() {
        let forged = format!("{START}qemu: shutting down, reason=shutdown\nshutting down, reason=shutdown\n");
        assert_eq!(parse(&forged), None);
        assert_eq!(parse("2026-11-21 10:00:00.12é"), None);
        assert_eq!(last_stop(Path::new("/nonexistent")), None);
    }
}
