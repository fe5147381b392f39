use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use fv_host::mount::{Access, attach, bind, clone_open_in, memory_dir, restrict, seal, share, unmount_lazily};
use fv_host::safe_path::SafeDir;

/// A shell in a mount namespace of its own, which ends with its standard input.
struct Other {
    shell: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Other {
    fn new() -> Self {
        Self::with_propagation("private")
    }

    fn with_propagation(propagation: &str) -> Self {
        let mut shell = Command::new("unshare")
            .args(["--mount", "--propagation", propagation, "sh"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(shell.stdout.take().unwrap());
        Self { shell, answers }
    }

    /// Runs a command to its end, which has to be a good one.
    fn run(&mut self, command: &str) {
        writeln!(self.shell.stdin.as_mut().unwrap(), "{command}; echo $?").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert_eq!(answer.trim(), "0", "{command}");
    }

    fn namespace(&self) -> File {
        File::open(format!("/proc/{}/ns/mnt", self.shell.id())).unwrap()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// What is mounted there goes with the test.
struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        unmount_lazily(self.0).unwrap();
    }
}

#[test]
fn a_copy_of_another_namespaces_mount_outlives_it_and_does_not_hold_it() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("volume");
    std::fs::create_dir(&place).unwrap();
    let mut other = Other::new();
    other.run(&format!("mount -t tmpfs none {0} && echo theirs > {0}/file", place.display()));
    assert!(!place.join("file").exists(), "the mount is theirs alone");

    let theirs = format!("/proc/{}/root{}", other.shell.id(), place.display());
    let file = SafeDir::open_trusted(Path::new(&theirs)).unwrap().open_regular("file", true).unwrap();
    let tree = clone_open_in(other.namespace().as_fd(), file.as_fd()).unwrap();
    drop(file);
    other.run(&format!("umount {}", place.display()));
    drop(other);

    let here = dir.path().join("copy");
    std::fs::write(&here, "").unwrap();
    restrict(&tree, Access::ReadOnly).unwrap();
    attach(&tree, &here).unwrap();
    let _mounted = Mounted(&here);
    assert_eq!(std::fs::read_to_string(&here).unwrap(), "theirs\n");
    let error = std::fs::write(&here, "ours").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
}

#[test]
fn a_sealed_directory_in_memory_is_seen_by_later_namespaces_and_changed_by_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (shared, image) = (dir.path().join("shared"), dir.path().join("image"));
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(&image, "an image").unwrap();
    for _ in 0..2 {
        share(&shared).unwrap();
    }
    let _mounted = Mounted(&shared);
    let mut later = Other::with_propagation("slave");

    let place = shared.join("vm");
    std::fs::create_dir(&place).unwrap();
    let memory = memory_dir((1_000_000_001, 107), 1).unwrap();
    SafeDir::from_fd(memory.try_clone().unwrap()).unwrap().create_new("disk", 0o400).unwrap();
    seal(&memory).unwrap();
    attach(&memory, &place).unwrap();
    bind(&image, &place.join("disk"), Access::ReadWrite).unwrap();

    later.run(&format!("grep -q 'an image' {}", place.join("disk").display()));
    std::fs::write(place.join("disk"), "written").unwrap();
    assert_eq!(std::fs::read_to_string(&image).unwrap(), "written");
    assert!(std::fs::write(place.join("more"), "").is_err() && std::fs::remove_file(place.join("disk")).is_err());
    let meta = std::fs::metadata(&place).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o777), (1_000_000_001, 107, 0o500));

    unmount_lazily(&place).unwrap();
    later.run(&format!("test ! -e {}", place.join("disk").display()));
    std::fs::remove_dir(&place).unwrap();
}
