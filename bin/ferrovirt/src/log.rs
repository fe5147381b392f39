//! Where the log goes: standard error, or two capped files when the process is in the background.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tracing_subscriber::EnvFilter;

/// A log file that would grow larger than this is put aside; one such is kept.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

fn filter() -> EnvFilter {
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,kube_runtime=warn,kube_client=warn"))
}

pub(crate) fn to_stderr() {
    tracing_subscriber::fmt().with_env_filter(filter()).with_writer(io::stderr).with_ansi(false).init();
}

/// Logs to the file at `path`, where standard error, and with it the text of a panic, goes as well.
///
/// # Errors
/// The file cannot be opened.
pub(crate) fn to_file(path: &Path) -> io::Result<()> {
    let stderr_follows = |file: &File| rustix::stdio::dup2_stderr(file).map_err(io::Error::from);
    let log = CappedLog::open(path, MAX_BYTES, stderr_follows)?;
    #[expect(clippy::disallowed_types, reason = "tracing-subscriber writes through no other")]
    let log = std::sync::Mutex::new(log);
    tracing_subscriber::fmt().with_env_filter(filter()).with_writer(log).with_ansi(false).init();
    Ok(())
}

/// Opens the log for appending.
///
/// # Errors
/// The file cannot be opened.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// A log of at most two files: `path`, and the one before it with `.1` behind its name.
struct CappedLog<F> {
    path: PathBuf,
    max_bytes: u64,
    file: File,
    written: u64,
    /// Told of each file that takes the place of the one before.
    opened: F,
}

impl<F: Fn(&File) -> io::Result<()>> CappedLog<F> {
    fn open(path: &Path, max_bytes: u64, opened: F) -> io::Result<Self> {
        let file = open(path)?;
        opened(&file)?;
        let written = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), max_bytes, file, written, opened })
    }

    fn rotate(&mut self) -> io::Result<()> {
        let mut old = self.path.clone().into_os_string();
        old.push(".1");
        std::fs::rename(&self.path, old)?;
        self.file = open(&self.path)?;
        self.written = 0;
        (self.opened)(&self.file)
    }
}

impl<F: Fn(&File) -> io::Result<()>> Write for CappedLog<F> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Where there can be no new file, the old one grows on: a long log is better than none.
        if self.written > 0
            && self.written + line.len() as u64 > self.max_bytes
            && let Err(error) = self.rotate()
        {
            writeln!(self.file, "cannot begin a new log file: {error}")?;
            self.written = 0;
        }
        let count = self.file.write(line)?;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_log_stays_within_two_files_and_loses_no_new_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ferrovirt.log");
        std::fs::write(&path, "from an earlier run\n").unwrap();
        let files = Cell::new(0);
        let mut log = CappedLog::open(&path, 100, |_| {
            files.set(files.get() + 1);
            Ok(())
        })
        .unwrap();
        for number in 0..50 {
            log.write_all(format!("line {number:02}\n").as_bytes()).unwrap();
        }
        let now = std::fs::read_to_string(&path).unwrap();
        let before = std::fs::read_to_string(dir.path().join("ferrovirt.log.1")).unwrap();
        assert!(now.len() <= 100 && before.len() <= 100, "{} and {} bytes", now.len(), before.len());
        let newest: Vec<String> =
            (50 - now.lines().count() - before.lines().count()..50).map(|n| format!("line {n:02}")).collect();
        assert_eq!(before.lines().chain(now.lines()).collect::<Vec<_>>(), newest);
        assert!(files.get() > 2, "standard error did not follow: {}", files.get());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_log_that_cannot_be_put_aside_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ferrovirt.log");
        // A directory in the way of the older file.
        std::fs::create_dir_all(dir.path().join("ferrovirt.log.1/x")).unwrap();
        let mut log = CappedLog::open(&path, 40, |_| Ok(())).unwrap();
        for _ in 0..20 {
            log.write_all(b"a line of text\n").unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches("a line of text").count(), 20);
        assert!(text.contains("cannot begin a new log file"), "{text}");
    }
}
