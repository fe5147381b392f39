//! Follows the guest's console log, which the handler bounds by truncating or replacing it.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::args::ConsoleLogArgs;
use crate::run::RELEASED;
use crate::watch::{Also, Watch};

/// A look around even if no event came.
const IDLE: Duration = Duration::from_secs(10);

/// Copies the log to standard output until the pod is released or a termination signal comes.
pub(crate) fn follow(args: &ConsoleLogArgs) -> io::Result<()> {
    let directory: PathBuf = args.file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).into();
    let watch = Watch::new(&directory, Also::Writes)?;
    let mut tail = Tail { path: args.file.clone(), open: None };
    let mut out = io::stdout();
    loop {
        // Asked first, so that what was written before the release is still copied.
        let released = directory.join(RELEASED).exists();
        tail.copy(&mut out)?;
        if released || watch.wait(&[], Some(IDLE))? {
            return tail.copy(&mut out);
        }
    }
}

struct Tail {
    path: PathBuf,
    open: Option<File>,
}

impl Tail {
    /// Copies what is new, to the end of the newest file.
    fn copy(&mut self, out: &mut impl Write) -> io::Result<()> {
        loop {
            if self.open.is_none() {
                match File::open(&self.path) {
                    Ok(file) => self.open = Some(file),
                    Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            let Some(file) = &mut self.open else { return Ok(()) };
            // Replaced? Read the old one to its end first, then look again at which one is current.
            let meta = file.metadata()?;
            let replaced = match fs::metadata(&self.path) {
                Ok(current) => (current.ino(), current.dev()) != (meta.ino(), meta.dev()),
                // Moved away, its successor not there yet: more may still come into this one.
                Err(error) if error.kind() == ErrorKind::NotFound => false,
                Err(error) => return Err(error),
            };
            if meta.len() < file.stream_position()? {
                file.seek(SeekFrom::Start(0))?;
            }
            copy_rest(file, out)?;
            if !replaced {
                return Ok(());
            }
            self.open = None;
        }
    }
}

fn copy_rest(file: &mut File, out: &mut impl Write) -> io::Result<()> {
    let mut buffer = [0u8; 8192];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return out.flush(),
            Ok(n) => out.write_all(buffer.get(..n).unwrap_or_default())?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncation_and_replacement_lose_nothing_and_repeat_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        let mut tail = Tail { path: path.clone(), open: None };
        let mut out = Vec::new();
        tail.copy(&mut out).unwrap();
        assert!(out.is_empty(), "no file yet");

        fs::write(&path, "one ").unwrap();
        tail.copy(&mut out).unwrap();
        let mut writer = fs::OpenOptions::new().append(true).open(&path).unwrap();
        writer.write_all(b"two ").unwrap();
        tail.copy(&mut out).unwrap();
        writer.set_len(0).unwrap();
        writer.write_all(b"3 ").unwrap();
        tail.copy(&mut out).unwrap();

        writer.write_all(b"4 ").unwrap();
        fs::rename(&path, dir.path().join("console.log.1")).unwrap();
        writer.write_all(b"5 ").unwrap();
        tail.copy(&mut out).unwrap();
        fs::write(&path, "six").unwrap();
        tail.copy(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "one two 3 4 5 six");
    }
}
