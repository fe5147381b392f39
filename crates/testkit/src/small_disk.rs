//! Disks that are soon full.

use std::path::Path;
use std::process::Command;

/// A small file system of its own, in memory, unmounted at the end. Needs root.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// One with room for so many MiB.
    #[must_use]
    pub fn new(mebibytes: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        mount("mount", &["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"], dir.path());
        Self(dir)
    }

    /// Its root directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        mount("umount", &["-l"], self.path());
    }
}

fn mount(program: &str, args: &[&str], at: &Path) {
    let status = Command::new(program).args(args).arg(at).status().unwrap();
    assert!(status.success(), "{program} {args:?} {}: {status}", at.display());
}
