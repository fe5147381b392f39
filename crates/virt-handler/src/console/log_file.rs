//! Console logs on disk: two files a directory, each capped, the older replaced by the newer.

use std::fs::File;
use std::io::{self, Write};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::share::ShareDir;

/// Name of the log in each directory; the older part has `.1` behind it.
pub const LOG_NAME: &str = "console.log";
const OLD_NAME: &str = "console.log.1";
/// Chunks waiting to be written; more than that are left out of the log.
const QUEUE: usize = 128;
const WRITER_STACK: usize = 256 * 1024;

/// What the log writer is told.
#[derive(Debug)]
enum Entry {
    Output(Bytes),
    /// From now on also log into this directory (in place of the last one given).
    Share(ShareDir),
}

/// The sending side of a log writer. Never blocks.
#[derive(Clone, Debug)]
pub struct LogSink {
    sender: mpsc::Sender<Entry>,
}

impl LogSink {
    /// Starts a writer that logs to `own`, each file at most `max_bytes` long. It ends when the last sink is dropped.
    pub fn start(own: ShareDir, max_bytes: u64) -> Self {
        let (sender, mut receiver) = mpsc::channel::<Entry>(QUEUE);
        let writer = move || {
            let mut own = CappedLog::new(own, max_bytes);
            let mut share: Option<CappedLog> = None;
            while let Some(entry) = receiver.blocking_recv() {
                match entry {
                    Entry::Output(bytes) => {
                        own.write(&bytes);
                        if let Some(share) = &mut share {
                            share.write(&bytes);
                        }
                    }
                    Entry::Share(dir) => share = Some(CappedLog::new(dir, max_bytes)),
                }
            }
        };
        // A disk may be slow or full: the writer blocks on a thread of its own, which tokio's bounded pool need not count.
        if let Err(error) =
            std::thread::Builder::new().name("console-log".into()).stack_size(WRITER_STACK).spawn(writer)
        {
            tracing::error!(error = %error, "console is not logged");
        }
        Self { sender }
    }

    /// Logs `bytes`, or leaves them out when the writer is behind.
    pub fn push(&self, bytes: Bytes) -> bool {
        self.sender.try_send(Entry::Output(bytes)).is_ok()
    }

    /// Also log into `dir`: the share directory of the launcher, whose log container shows it.
    pub async fn share(&self, dir: ShareDir) {
        // Only fails when the writer is gone, and then there is nothing to tell it.
        let _ = self.sender.send(Entry::Share(dir)).await;
    }
}

struct CappedLog {
    dir: ShareDir,
    file: Option<File>,
    written: u64,
    max_bytes: u64,
    /// The last failure was reported already.
    failing: bool,
}

impl CappedLog {
    fn new(dir: ShareDir, max_bytes: u64) -> Self {
        Self { dir, file: None, written: 0, max_bytes, failing: false }
    }

    fn write(&mut self, bytes: &[u8]) {
        match self.try_write(bytes) {
            Ok(()) => self.failing = false,
            Err(error) => {
                self.file = None;
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(error = %error, "console log cannot be written; the console itself goes on");
                }
            }
        }
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.file.is_some() && self.written.saturating_add(bytes.len() as u64) > self.max_bytes {
            self.file = None;
            self.dir.rename(LOG_NAME, OLD_NAME)?;
        }
        if self.file.is_none() {
            let mut file = self.dir.append(LOG_NAME)?;
            let mut length = file.metadata()?.len();
            if length >= self.max_bytes {
                self.dir.rename(LOG_NAME, OLD_NAME)?;
                file = self.dir.append(LOG_NAME)?;
                length = 0;
            }
            self.written = length;
            self.file = Some(file);
        }
        if let Some(file) = &mut self.file {
            file.write_all(bytes)?;
            self.written += bytes.len() as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_stays_within_its_cap() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = CappedLog::new(ShareDir::open(dir.path()).unwrap(), 1000);
        for i in 0..500 {
            log.write(format!("line {i}\n").as_bytes());
        }
        let new = std::fs::read_to_string(dir.path().join(LOG_NAME)).unwrap();
        let old = std::fs::read_to_string(dir.path().join(OLD_NAME)).unwrap();
        assert!(new.len() <= 1000 && old.len() <= 1000, "{} {}", new.len(), old.len());
        assert!(new.ends_with("line 499\n"));
        let joined = old + &new;
        let first: u32 = joined.lines().next().unwrap().strip_prefix("line ").unwrap().parse().unwrap();
        assert_eq!(joined.lines().count() as u32, 500 - first);
    }

    #[test]
    fn log_is_continued_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        CappedLog::new(ShareDir::open(dir.path()).unwrap(), 1000).write(b"before\n");
        CappedLog::new(ShareDir::open(dir.path()).unwrap(), 1000).write(b"after\n");
        assert_eq!(std::fs::read_to_string(dir.path().join(LOG_NAME)).unwrap(), "before\nafter\n");
    }
}
