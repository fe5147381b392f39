//! Free space.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

/// The size of a file system and what an unprivileged user can still write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes in all.
    pub total: u64,
    /// Bytes available.
    pub available: u64,
}

/// Of the file system that holds `path`.
pub fn space(path: &Path) -> io::Result<Space> {
    Ok(of(&rustix::fs::statvfs(path)?))
}

/// Of the file system that an open file or directory is in.
pub fn space_of(file: impl AsFd) -> io::Result<Space> {
    Ok(of(&rustix::fs::fstatvfs(file)?))
}

fn of(stat: &rustix::fs::StatVfs) -> Space {
    Space { total: stat.f_blocks.saturating_mul(stat.f_frsize), available: stat.f_bavail.saturating_mul(stat.f_frsize) }
}
