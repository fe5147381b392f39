//! Keeping a daemon there.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::files::Layout;
use super::process::End;
use super::record::DaemonRecord;
use super::{DaemonConfig, DaemonError, DaemonKind, LibvirtEndpoint, ensure_libvirtd};

/// How often the daemon is looked at.
const INTERVAL: Duration = Duration::from_secs(2);
/// Every so many looks it has to answer a question; the others only see whether it is there.
const QUESTION_EVERY: u32 = 5;
/// A log longer than this is emptied: nobody rotates them, and QEMU may write what the guest makes it write.
const MAX_LOG: u64 = 4 << 20;

/// Runs until dropped: sees to it that a daemon is there, whatever becomes of it, and hands every endpoint that differs from the
/// last one to `changed`.
///
/// The supervisor already restarts a libvirtd that ends. This is for the end of both, and for a private libvirtd that is there and does
/// not answer within the start timeout: that one is killed, its guests do not notice.
pub async fn keep_libvirtd(config: DaemonConfig, mut last: LibvirtEndpoint, changed: impl Fn(&LibvirtEndpoint) + Send) {
    for look in 1.. {
        tokio::time::sleep(INTERVAL).await;
        let config = config.clone();
        let kind = last.kind;
        let ask = look % QUESTION_EVERY == 0;
        match tokio::task::spawn_blocking(move || check(&config, kind, ask)).await {
            Ok(Ok(Some(endpoint))) => {
                if (&endpoint.uri, endpoint.pid) != (&last.uri, last.pid) {
                    tracing::warn!(uri = %endpoint.uri, pid = endpoint.pid, started = endpoint.started, "libvirtd changed");
                    changed(&endpoint);
                    last = endpoint;
                }
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => tracing::error!(error = &error as &dyn std::error::Error, "no libvirtd"),
            Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "looking for libvirtd panicked"),
        }
    }
}

/// One look; `None`: all is as it was, as far as can be seen without asking.
fn check(config: &DaemonConfig, kind: DaemonKind, ask: bool) -> Result<Option<LibvirtEndpoint>, DaemonError> {
    let layout = config.layout();
    if kind == DaemonKind::Private {
        trim_logs(&layout);
        let lives = DaemonRecord::read(&layout).and_then(|record| record.libvirtd).is_some_and(|id| id.is_alive());
        if !ask && lives && DaemonRecord::supervisor_lives(&layout) && UnixStream::connect(layout.socket()).is_ok() {
            return Ok(None);
        }
    } else if !ask {
        return Ok(None);
    }
    match ensure_libvirtd(config) {
        Err(DaemonError::NoAnswer { after, .. }) if kind == DaemonKind::Private => {
            if let Some(id) = DaemonRecord::read(&layout).and_then(|record| record.libvirtd) {
                tracing::error!(pid = id.pid, ?after, "libvirtd does not answer, killing it");
                id.end(&[(End::Kill, Duration::from_secs(5))])?;
            }
            ensure_libvirtd(config).map(Some)
        }
        other => other.map(Some),
    }
}

/// Empties logs that grew too long. Their writers append, so they go on at the new end.
fn trim_logs(layout: &Layout) {
    let trim = |path: &Path| {
        let is_long = path.symlink_metadata().is_ok_and(|meta| meta.is_file() && meta.len() > MAX_LOG);
        if is_long
            && let Err(error) = std::fs::OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(0))
        {
            tracing::warn!(path = %path.display(), %error, "cannot empty a log");
        }
    };
    trim(&layout.log());
    for entry in std::fs::read_dir(layout.log_dir.join("qemu")).into_iter().flatten().flatten() {
        trim(&entry.path());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_logs_are_emptied() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path(), dir.path());
        std::fs::create_dir_all(layout.log_dir.join("qemu")).unwrap();
        let (long, short) = (layout.log_dir.join("qemu/long.log"), layout.log());
        std::fs::File::create(&long).unwrap().set_len(MAX_LOG + 1).unwrap();
        std::fs::write(&short, "x").unwrap();
        trim_logs(&layout);
        assert_eq!((long.metadata().unwrap().len(), short.metadata().unwrap().len()), (0, 1));
    }
}
