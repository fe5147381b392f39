use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use fv_host::lock::{Acquired, FileLock};
use fv_host::safe_path::SafeDir;
use fv_host::unix_socket;

struct Fixture {
    dir: tempfile::TempDir,
    safe: SafeDir,
}

/// `outside/secret` beside `inside/`, which is open.
fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("inside/sub")).unwrap();
    fs::create_dir(dir.path().join("outside")).unwrap();
    fs::write(dir.path().join("outside/secret"), "secret").unwrap();
    fs::write(dir.path().join("inside/sub/file"), "fine").unwrap();
    symlink("../outside", dir.path().join("inside/link")).unwrap();
    symlink("../../outside/secret", dir.path().join("inside/sub/secret")).unwrap();
    symlink("/proc/self/root", dir.path().join("inside/root")).unwrap();
    let safe = SafeDir::open_trusted(&dir.path().join("inside")).unwrap();
    Fixture { dir, safe }
}

#[test]
fn nothing_leads_out() {
    let Fixture { dir, safe } = fixture();
    for path in
        ["../outside/secret", "link/secret", "sub/secret", "/etc/passwd", "root/etc/passwd", "sub/../../outside/secret"]
    {
        assert!(safe.open_file(path).is_err(), "open {path}");
        assert!(safe.reference(path).is_err(), "reference {path}");
        assert!(safe.append(path, 0o600).is_err(), "append {path}");
    }
    for path in ["../new", "link/new", "/new", "..", ".", "", "root/tmp/new"] {
        assert!(safe.create_new(path, 0o600).is_err(), "create {path}");
        assert!(safe.mkdir(path, 0o700).is_err(), "mkdir {path}");
        assert!(safe.write_atomic(path, b"x", 0o600).is_err(), "write {path}");
    }
    assert!(safe.mkdir_all("link/a/b", 0o700).is_err() && safe.mkdir_all("a/../../b", 0o700).is_err());
    let mut text = String::new();
    safe.open_file("sub/file").unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "fine");
    assert_eq!(fs::read_dir(dir.path().join("outside")).unwrap().count(), 1);
}

#[test]
fn atomic_write_replaces_a_planted_link_not_its_target() {
    let Fixture { dir, safe } = fixture();
    safe.write_atomic("sub/secret", b"new", 0o640).unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("outside/secret")).unwrap(), "secret");
    let meta = fs::symlink_metadata(dir.path().join("inside/sub/secret")).unwrap();
    assert!(meta.is_file() && meta.mode() & 0o777 == 0o640);
    let mut names = safe.open_dir("sub").unwrap().names().unwrap();
    names.sort();
    assert_eq!(names, ["file", "secret"], "no draft is left");
}

#[test]
fn removing_a_tree_leaves_what_links_point_to() {
    let Fixture { dir, safe } = fixture();
    symlink(dir.path().join("outside"), dir.path().join("inside/sub/again")).unwrap();
    safe.remove_tree("sub").unwrap();
    safe.remove_tree("link").unwrap();
    safe.remove_tree("never/was").unwrap();
    assert!(dir.path().join("outside/secret").exists());
    assert_eq!(safe.names().unwrap(), ["root"]);
    assert_eq!(safe.remove_tree("../outside").unwrap_err().kind(), ErrorKind::CrossesDevices, "EXDEV: leads out");
}

#[test]
fn very_deep_tree_is_removed_without_running_out_of_anything() {
    let Fixture { dir: _dir, safe } = fixture();
    let mut here = safe.mkdir("deep", 0o700).unwrap();
    for level in 0..1000 {
        here.create_new("file", 0o600).unwrap();
        here = here.mkdir(format!("level{level}"), 0o700).unwrap();
    }
    safe.remove_tree("deep").unwrap();
    assert!(safe.stat("deep").is_err());
}

#[test]
fn special_files_are_no_regular_files_and_block_nobody() {
    let Fixture { dir, safe } = fixture();
    let fifo = dir.path().join("inside/fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let error = safe.open_regular("fifo", false).unwrap_err().to_string();
    assert!(error.contains("Fifo"), "{error}");
    assert!(safe.open_regular("sub/file", true).is_ok());
}

#[test]
fn socket_is_reached_through_its_directory_but_not_through_a_link() {
    let Fixture { dir, safe } = fixture();
    let long = "d".repeat(120);
    let deep = safe.mkdir(&long, 0o755).unwrap();
    let other = dir.path().join("outside/socket");
    let _other = UnixListener::bind(&other).unwrap();
    symlink(&other, dir.path().join("inside/socket")).unwrap();
    assert!(unix_socket::connect(&safe, "socket").is_err());
    // Too long a path for a socket address; the directory's descriptor is short.
    let path =
        Path::new("/proc/self/fd").join(std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(&deep)).to_string());
    let listener = UnixListener::bind(path.join("s")).unwrap();
    let mut client = unix_socket::connect(&safe, format!("{long}/s")).unwrap();
    let (server, _) = listener.accept().unwrap();
    client.write_all(b"x").unwrap();
    let peer = unix_socket::peer_credentials(&server).unwrap();
    assert_eq!((peer.pid, peer.uid), (std::process::id() as i32, 0));
}

#[test]
fn lock_has_one_holder_who_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let Acquired::Lock(lock) = FileLock::try_acquire(&path).unwrap() else { panic!("held") };
    let Acquired::HeldBy(pid) = FileLock::try_acquire(&path).unwrap() else { panic!("two holders") };
    assert_eq!(pid, Some(std::process::id()));
    drop(lock);
    assert!(matches!(FileLock::try_acquire(&path).unwrap(), Acquired::Lock(_)));
}

#[test]
fn what_is_mounted_in_a_tree_survives_its_removal() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("precious"), "kept").unwrap();
    let inside = dir.path().join("tree/inside");
    std::fs::create_dir_all(&inside).unwrap();
    fv_host::mount::bind(outside.path(), &inside, fv_host::mount::Access::ReadWrite).unwrap();
    let safe = SafeDir::open_trusted(dir.path()).unwrap();
    for path in ["tree", "tree/inside"] {
        assert_eq!(safe.remove_tree(path).unwrap_err().kind(), ErrorKind::ResourceBusy, "{path}");
    }
    assert!(outside.path().join("precious").exists());
    fv_host::mount::unmount_all(&inside).unwrap();
    safe.remove_tree("tree").unwrap();
    assert!(outside.path().join("precious").exists() && !dir.path().join("tree").exists());
}
