//! Why a domain stopped, from QEMU's log: libvirt forgets a transient domain at once, its log stays.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use crate::StopReason;

/// Only the end is read: the reason is the last thing libvirt writes.
const TAIL: u64 = 64 * 1024;

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
    fn lines_that_are_not_libvirts_count_for_nothing() {
        let forged = format!("{START}qemu: shutting down, reason=shutdown\nshutting down, reason=shutdown\n");
        assert_eq!(parse(&forged), None);
        assert_eq!(parse("2026-11-21 10:00:00.12é"), None);
        assert_eq!(last_stop(Path::new("/nonexistent")), None);
    }
}
