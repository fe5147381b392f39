//! `up`, `down` and `status` where something is in the way. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests fail by panicking, like the tests themselves
#![allow(clippy::disallowed_methods)] // no runtime runs here: waiting may block

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use fv_host::lock::{Acquired, FileLock};
use fv_host::process::{Process, ProcessId, Signal};
use fv_standalone::instance::{Instance, Running};

/// A data directory of its own, purged in the end.
struct Place {
    home: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let home = tempfile::Builder::new()
            .prefix("fv-lifecycle-")
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir_in("/tmp")
            .unwrap();
        Self { home }
    }

    fn data_dir(&self) -> PathBuf {
        self.home.path().join("d")
    }

    fn instance(&self) -> Instance {
        Instance::open(&self.data_dir()).unwrap()
    }

    fn command(&self, verb: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ferrovirt"));
        command.arg(verb).arg("--data-dir").arg(self.data_dir()).args(args).env_remove("RUST_LOG");
        if verb == "up" {
            // Any program will do: none of these instances lives to run a pod.
            command.args(["--private-libvirt", "--launcher", "/bin/true"]);
        }
        command
    }

    fn run(&self, verb: &str, args: &[&str]) -> Output {
        self.command(verb, args).output().unwrap()
    }

    fn start_in_foreground(&self) -> Child {
        let mut command = self.command("up", &["--foreground", "--listen", "127.0.0.1:0"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Waits until the process has the lock, which it takes before it starts anything.
    fn until_locked(&self, child: &Child) {
        let path = self.instance().lock_file();
        let deadline = Instant::now() + Duration::from_secs(30);
        while !std::fs::read_to_string(&path).is_ok_and(|text| text.trim() == child.id().to_string()) {
            assert!(Instant::now() < deadline, "it never took its lock");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.data_dir().exists() {
            let output = self.run("down", &["--purge"]);
            if !std::thread::panicking() {
                assert!(output.status.success(), "{output:?}");
            }
        }
    }
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_second_up_is_refused_and_names_who_holds_the_directory() {
    let place = Place::new();
    let instance = place.instance();
    instance.make_run_dir().unwrap();
    let Acquired::Lock(lock) = FileLock::try_acquire(&instance.lock_file()).unwrap() else { panic!("not ours") };
    for args in [&["--listen", "127.0.0.1:0"][..], &["--listen", "127.0.0.1:0", "--foreground"]] {
        let output = place.run("up", args);
        assert_eq!(output.status.code(), Some(1));
        let text = err(&output);
        assert!(text.contains(&format!("in use by another ferrovirt (pid {})", std::process::id())), "{text}");
        assert!(text.contains("ferrovirt down --data-dir"), "{text}");
    }
    // Whoever holds it is no `up`: it is not signalled.
    let output = place.run("down", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("wait until it is done"), "{output:?}");
    drop(lock);
}

#[test]
fn a_port_in_use_is_named_and_leaves_nothing_locked() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = place.run("up", &["--listen", &address]);
    assert_eq!(output.status.code(), Some(1));
    let text = err(&output);
    assert!(
        text.contains(&format!("listen on {address}: the address is in use")) && text.contains("--listen"),
        "{text}"
    );

    // After the refusal the directory is free again.
    assert!(out(&place.run("down", &[])).contains("was not running"));
}

#[test]
fn status_and_down_tell_a_stale_state_file_from_a_running_process() {
    let place = Place::new();
    let never = place.run("status", &[]);
    assert_eq!(never.status.code(), Some(3));
    assert!(out(&place.run("down", &[])).contains("no instance was ever started there"));

    let instance = place.instance();
    instance.make_run_dir().unwrap();
    // The pid belongs to somebody: to us. Only the start time tells that the writer is gone.
    let mut state = Running::this_process("https://127.0.0.1:1".into(), "/k".into()).unwrap();
    state.start_time -= 1;
    state.write(&instance).unwrap();
    let status = place.run("status", &[]);
    assert_eq!(status.status.code(), Some(1));
    assert!(out(&status).contains("ended without being asked to"), "{status:?}");
    let down = place.run("down", &[]);
    assert!(down.status.success() && out(&down).contains("was not running"), "{down:?}");
    assert_eq!(Running::read(&instance), None);
    assert_eq!(place.run("status", &[]).status.code(), Some(3));
}

#[test]
fn a_purge_leaves_what_is_not_ferrovirts() {
    let place = Place::new();
    let instance = place.instance();
    std::fs::create_dir_all(instance.store_dir()).unwrap();
    let letter = place.data_dir().join("letter.txt");
    std::fs::write(&letter, "mine").unwrap();
    let output = place.run("down", &["--purge"]);
    assert!(output.status.success() && out(&output).contains("are left there"), "{output:?}");
    assert!(letter.exists() && !instance.store_dir().exists() && !instance.run_dir.exists());
    std::fs::remove_file(&letter).unwrap();
    assert!(out(&place.run("down", &["--purge"])).contains("was deleted"));
    assert!(!place.data_dir().exists());
}

#[test]
fn a_namespace_whose_pod_left_no_other_trace_does_not_hold_the_purge() {
    let place = Place::new();
    let instance = place.instance();
    instance.make_run_dir().unwrap();
    std::fs::create_dir_all(instance.netns_dir()).unwrap();
    fv_host::netns::NetNs::ensure_at(&instance.netns_dir().join("0-1-2-3")).unwrap();
    let output = place.run("down", &["--purge"]);
    assert!(output.status.success(), "{output:?}");
    assert!(!instance.run_dir.exists());
}

#[test]
fn a_signal_during_the_start_ends_it_and_leaves_nothing_locked() {
    let place = Place::new();
    let child = place.start_in_foreground();
    place.until_locked(&child);
    let process = Process::open(ProcessId::of(child.id()).unwrap()).unwrap().unwrap();
    process.signal(Signal::TERM).unwrap();
    let begin = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(err(&output).contains("asked to stop before it was ready"), "{output:?}");
    assert_eq!(place.run("status", &[]).status.code(), Some(3));
}

#[test]
fn down_ends_an_up_that_is_still_starting() {
    let place = Place::new();
    let child = place.start_in_foreground();
    place.until_locked(&child);
    let down = place.run("down", &[]);
    assert!(down.status.success() && out(&down).contains("is down."), "{down:?}");
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(1));
}
