//! The demo guest, built by the repository, booted by plain QEMU with a NoCloud disk of ours: guest, guest data and ISO together.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use fv_disk::{IsoFile, Owner, VmDir, no_progress};
use fv_guestdata::{Guest, Secrets, build_cloud_init};

use crate::{open_store, run, text};

struct Machine {
    child: Child,
    input: ChildStdin,
    output: Receiver<Vec<u8>>,
    seen: String,
    transcript: VecDeque<String>,
}

impl Machine {
    fn start(disks: &[(&Path, &str, bool)], qmp: &Path) -> Self {
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-machine", "q35,accel=tcg", "-m", "128M", "-display", "none", "-nodefaults", "-no-reboot"])
            .args(["-serial", "stdio", "-qmp", &format!("unix:{},server=on,wait=off", text(qmp))])
            .args(["-netdev", "user,id=n,restrict=on", "-device", "virtio-net-pci,netdev=n", "-device", "pvpanic"]);
        for (path, format, readonly) in disks {
            let readonly = if *readonly { "on" } else { "off" };
            command.args(["-drive", &format!("if=virtio,file={},format={format},readonly={readonly}", text(path))]);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let (sender, output) = mpsc::channel();
        let mut console = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = console.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        let input = child.stdin.take().unwrap();
        Self { child, input, output, seen: String::new(), transcript: VecDeque::new() }
    }

    /// Waits for `wanted` on the console and gives what came before it.
    fn expect(&mut self, wanted: &str) -> String {
        // Generous: software emulation on a busy machine.
        let deadline = Instant::now() + Duration::from_secs(180);
        loop {
            if let Some(at) = self.seen.find(wanted) {
                let rest = self.seen.split_off(at + wanted.len());
                let before = std::mem::replace(&mut self.seen, rest);
                self.transcript.push_back(before.clone());
                return before;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(bytes) = self.output.recv_timeout(left) else {
                panic!("no {wanted:?} on the console; before: {:?}; now: {:?}", self.transcript, self.seen)
            };
            self.seen += &String::from_utf8_lossy(&bytes);
        }
    }

    fn send(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    /// Runs a command in the shell and gives its output.
    fn shell(&mut self, line: &str) -> String {
        // The mark is put together by the shell, so that the echo of the line does not contain it.
        self.send(&format!("{line}; echo en''d-of-it"));
        self.expect("end-of-it")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The image, built once and cached by the script.
fn demo_guest(dir: &Path) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest/build.sh");
    let image = dir.join("demo.qcow2");
    run(text(&script), &[text(&image)]);
    image
}

#[test]
fn demo_guest_boots_takes_its_user_data_and_powers_off_by_button() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path());
    let image = store.import("demo", &demo_guest(dir.path()), &no_progress()).unwrap();
    let owner = Owner { uid: 0, gid: 107 };
    let vm = VmDir::open(&dir.path().join("vms"), "uid-1", owner).unwrap();
    let root = vm.ensure_overlay("root", &image).unwrap();

    let user_data = "#cloud-config\npassword: s3cret word\nchpasswd: { expire: False }\nruncmd:\n  - echo \"first\" > /data/ran\n  - [ sh, -c, \"echo $((40 + 2)) >> /data/ran\" ]\n";
    let volume =
        serde_json::from_value(serde_json::json!({"name": "ci", "cloudInitNoCloud": {"userData": user_data}})).unwrap();
    let guest = Guest {
        name: "vm-one",
        namespace: "default",
        firmware_uuid: "5d307ca9-b3ef-428c-8861-06e72d69f223",
        hostname: None,
        instance_type: None,
    };
    let tree = build_cloud_init(&volume, guest, &Secrets::default()).unwrap().unwrap();
    let files: Vec<IsoFile<'_>> =
        tree.files.iter().map(|file| IsoFile { path: &file.path, bytes: &file.bytes }).collect();
    let iso = vm.ensure_iso("ci", tree.label, &files).unwrap();

    let qmp = dir.path().join("qmp");
    let mut machine = Machine::start(&[(&root.path, "qcow2", false), (&iso.path, "raw", true)], &qmp);
    let banner = machine.expect("vm-one login: ");
    assert!(banner.contains("Ferrovirt demo guest") && !banner.contains("password"), "{banner}");
    machine.send("demo");
    machine.expect("assword: ");
    // The well-known password must not work once the user data gave one.
    machine.send("demo");
    machine.expect("Login incorrect");
    machine.expect("vm-one login: ");
    machine.send("demo");
    machine.expect("assword: ");
    machine.send("s3cret word");
    machine.expect("# ");
    machine.shell("cloud-init status --wait");
    let ran = machine.shell("cat /data/ran");
    assert!(ran.contains("first") && ran.contains("42"), "{ran}");
    let page = machine.shell("wget -q -O - http://127.0.0.1/");
    assert!(page.contains("hostname: vm-one") && page.contains("boot id: "), "{page}");
    let address = machine.shell("ip -4 addr show eth0");
    assert!(address.contains("10.0.2.15/24"), "{address}");

    let mut qmp = std::os::unix::net::UnixStream::connect(qmp).unwrap();
    qmp.write_all(b"{\"execute\": \"qmp_capabilities\"}\n{\"execute\": \"system_powerdown\"}\n").unwrap();
    machine.expect("Power down");
    assert!(machine.child.wait().unwrap().success());
}
