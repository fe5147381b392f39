use std::fs;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::world::eventually;

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(args: &[&str]) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_virt-launcher"));
    Running(command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

fn run_args(share: &str) -> [&str; 11] {
    ["run", "--share-dir", share, "--name", "n", "--namespace", "ns", "--uid", "u", "--grace-period-seconds", "3600"]
}

fn terminate(child: &Child) {
    kill_process(Pid::from_child(child), Signal::TERM).unwrap();
}

/// Reads its log until a line contains `text`.
fn wait_for_line(running: &mut Running, text: &str) {
    let mut log = running.0.stderr.take().unwrap();
    let (mut seen, mut byte) = (String::new(), [0u8]);
    while !seen.contains(text) {
        assert_eq!(log.read(&mut byte).unwrap(), 1, "log ended: {seen}");
        seen.push(char::from(byte[0]));
    }
    running.0.stderr = Some(log);
}

#[tokio::test]
async fn sigterm_is_ignored_until_released_and_then_it_exits_0() {
    let dir = tempfile::tempdir().unwrap();
    let mut launcher = start(&run_args(dir.path().to_str().unwrap()));
    wait_for_line(&mut launcher, "holding the pod");
    terminate(&launcher.0);
    wait_for_line(&mut launcher, "asked to stop");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(launcher.0.try_wait().unwrap().is_none(), "still there");
    fs::write(dir.path().join("released"), "").unwrap();
    let mut status = None;
    eventually("exit", || {
        status = launcher.0.try_wait().unwrap();
        status.is_some()
    })
    .await;
    assert_eq!(status.unwrap().code(), Some(0));
}

#[tokio::test]
async fn restarted_launcher_finds_that_it_was_released_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let share = dir.path().to_str().unwrap().to_owned();
    let mut launcher = start(&run_args(&share));
    wait_for_line(&mut launcher, "holding the pod");
    launcher.0.kill().unwrap();
    launcher.0.wait().unwrap();
    fs::write(dir.path().join("released"), "").unwrap();
    assert_eq!(start(&run_args(&share)).0.wait().unwrap().code(), Some(0));
}

#[tokio::test]
async fn unusable_dhcp_file_is_reported_and_survived() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("dhcp.json"), "{\"interfaces\": [{\"name\":").unwrap();
    let mut launcher = start(&run_args(dir.path().to_str().unwrap()));
    wait_for_line(&mut launcher, "dhcp.json is unusable");
    fs::write(dir.path().join("new"), "{\"interfaces\": []}").unwrap();
    fs::rename(dir.path().join("new"), dir.path().join("dhcp.json")).unwrap();
    fs::write(dir.path().join("released"), "").unwrap();
    assert_eq!(launcher.0.wait().unwrap().code(), Some(0));
}

#[tokio::test]
async fn missing_share_directory_is_an_error_with_its_path() {
    let output = Command::new(env!("CARGO_BIN_EXE_virt-launcher")).args(run_args("/nowhere/at/all")).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere/at/all"));
    let usage = Command::new(env!("CARGO_BIN_EXE_virt-launcher")).arg("run").output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
}

#[tokio::test]
async fn console_log_follows_and_ends_with_the_release() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("console.log");
    let mut tail = start(&["console-log", "--file", file.to_str().unwrap()]);
    let mut out = tail.0.stdout.take().unwrap();
    let mut expect = |text: &str| {
        let mut buffer = vec![0u8; text.len()];
        out.read_exact(&mut buffer).unwrap();
        assert_eq!(String::from_utf8(buffer).unwrap(), text);
    };
    fs::write(&file, "login: ").unwrap();
    expect("login: ");
    fs::rename(&file, dir.path().join("console.log.1")).unwrap();
    fs::write(&file, "after rotation").unwrap();
    expect("after rotation");
    fs::OpenOptions::new().write(true).truncate(true).open(&file).unwrap();
    fs::write(dir.path().join("released"), "").unwrap();
    assert_eq!(tail.0.wait().unwrap().code(), Some(0));
}

#[test]
fn probe_passes_while_nothing_is_wrong_and_says_what_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("readiness");
    let probe = |file: &std::path::Path| {
        let args = ["probe", "--file", file.to_str().unwrap()];
        let output = Command::new(env!("CARGO_BIN_EXE_virt-launcher")).args(args).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(probe(&file), (Some(1), "the guest has not been asked yet\n".to_owned()));
    fs::write(&file, "").unwrap();
    assert_eq!(probe(&file), (Some(0), String::new()));
    fs::write(&file, "command ended with exit code 3").unwrap();
    assert_eq!(probe(&file), (Some(1), "command ended with exit code 3\n".to_owned()));
    assert_eq!(probe(dir.path()), (Some(1), String::new()), "what cannot be read is no pass");
}

#[test]
fn installed_copy_holds_an_image_until_terminated() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("virt-launcher");
    // The second one stands for a restarted init container.
    for _ in 0..2 {
        let mut install = start(&["install", "--to", dir.path().to_str().unwrap()]);
        assert_eq!(install.0.wait().unwrap().code(), Some(0));
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
    let mut command = Command::new(&path);
    command.arg("container-disk").env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut holder = Running(command.spawn().unwrap());
    wait_for_line(&mut holder, "holding the image");
    terminate(&holder.0);
    // No success: it is started again when the pod's sandbox is made anew.
    assert_eq!(holder.0.wait().unwrap().code(), Some(143));
}

#[test]
fn install_into_a_missing_directory_names_it() {
    let mut install = start(&["install", "--to", "/nonexistent/bin"]);
    wait_for_line(&mut install, "/nonexistent/bin");
    assert_eq!(install.0.wait().unwrap().code(), Some(1));
}
