//! Advisory file locks.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::FlockOperation;

/// An exclusive lock on a file, held until dropped (also by the kernel, when the process dies). The file stays: removing it would
/// let two holders in.
#[derive(Debug)]
pub struct FileLock(#[expect(dead_code, reason = "held for its lock")] File);

/// What [`FileLock::try_acquire`] found.
#[derive(Debug)]
pub enum Acquired {
    /// It is ours.
    Lock(FileLock),
    /// Another process, which wrote this pid, has it.
    HeldBy(Option<u32>),
}

impl FileLock {
    /// Takes the lock, or says who has it. Does not wait.
    pub fn try_acquire(path: &Path) -> io::Result<Acquired> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                file.set_len(0)?;
                writeln!(file, "{}", std::process::id())?;
                Ok(Acquired::Lock(Self(file)))
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                file.rewind()?;
                let pid = file.take(32).read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                Ok(Acquired::HeldBy(pid))
            }
            Err(error) => Err(error.into()),
        }
    }
}
