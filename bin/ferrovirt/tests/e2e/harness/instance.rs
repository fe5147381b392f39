//! `ferrovirt up` on a directory and a port of its own, purged when dropped; or the installation on a cluster.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use serde_json::Value;
use tempfile::TempDir;

use super::engine;
use super::machine::image;
use super::traces::{processes, traces};
use super::{Done, Namespace, command, run, until};

const FERROVIRT: &str = env!("CARGO_BIN_EXE_ferrovirt");
/// Temporary directories carry the pid of the run that made them.
const PREFIX: &str = "fv-e2e-";

/// A running Ferrovirt.
pub(crate) struct Instance {
    home: TempDir,
    namespaces: AtomicUsize,
    /// What names things of this instance: its id, directories, UIDs of its machines.
    marks: Mutex<BTreeSet<String>>,
    /// Nothing here was started by us, and nothing is ended: the kubeconfig of a cluster with an installation.
    cluster: Option<PathBuf>,
}

impl Instance {
    /// The instance shared by the tests that run now.
    pub(crate) fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Instance>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock();
        if let Some(instance) = shared.upgrade() {
            return instance;
        }
        let instance = Arc::new(if engine::cluster().is_some() { Self::directories() } else { Self::started() });
        *shared = Arc::downgrade(&instance);
        instance
    }

    /// An instance that allows files of the node as disks; a cluster has been told so by `tests/e2e/suite.sh`.
    pub(crate) fn with_host_disks() -> Arc<Self> {
        match engine::cluster() {
            Some(_) => Self::shared(),
            None => Arc::new(Self::started_with(&["--feature-gate", "HostDisk"])),
        }
    }

    /// An instance that runs and has the guest's image.
    pub(crate) fn started() -> Self {
        Self::started_with(&[])
    }

    /// As [`started`](Self::started), with more arguments of `up`.
    fn started_with(more: &[&str]) -> Self {
        let instance = Self::prepared();
        instance.up_with(more).success();
        let file = guest_image();
        instance.ferrovirt(&["image", "import", &image(), file.to_str().unwrap()]).success();
        instance
    }

    /// Directories only; nothing was started.
    pub(crate) fn prepared() -> Self {
        assert!(engine::cluster().is_none(), "the case did not say that it needs a Daemon");
        sweep();
        Self::directories()
    }

    fn directories() -> Self {
        let home = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{}-", std::process::id()))
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir_in("/tmp")
            .unwrap();
        let instance =
            Self { home, namespaces: AtomicUsize::new(0), marks: Mutex::default(), cluster: engine::cluster() };
        instance.marks.lock().insert(instance.data_dir().to_str().unwrap().to_owned());
        instance
    }

    /// Where the node's part keeps its files.
    pub(crate) fn data_dir(&self) -> PathBuf {
        if self.cluster.is_some() { PathBuf::from("/var/lib/ferrovirt") } else { self.home.path().join("d") }
    }

    /// A path that nothing else uses; QEMU's users may come to it, and it goes with the instance.
    pub(crate) fn scratch(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.cluster.clone().unwrap_or_else(|| self.home.path().join("kubeconfig"))
    }

    /// The arguments of `up`, in the background, on a port that the kernel chooses.
    pub(crate) fn up_command(&self) -> Command {
        self.up_command_at("127.0.0.1:0")
    }

    pub(crate) fn up_command_at(&self, listen: &str) -> Command {
        let mut command = command(FERROVIRT, ["up", "--private-libvirt", "--listen", listen, "--data-dir"]);
        command.arg(self.data_dir()).arg("--write-kubeconfig").arg(self.kubeconfig());
        command
    }

    pub(crate) fn up(&self) -> Done {
        self.up_with(&[])
    }

    /// As [`up`](Self::up), with more arguments.
    pub(crate) fn up_with(&self, more: &[&str]) -> Done {
        let done = run(self.up_command().args(more), "");
        if done.ok {
            let id = std::fs::read_dir("/run/ferrovirt").unwrap().flatten().find(|entry| {
                std::fs::read(entry.path().join("data-dir"))
                    .is_ok_and(|dir| dir == self.data_dir().as_os_str().as_encoded_bytes())
            });
            let run_dir = id.expect("the instance has a run directory").path();
            let mut marks = self.marks.lock();
            marks.insert(run_dir.file_name().unwrap().to_str().unwrap().to_owned());
            marks.insert(run_dir.to_str().unwrap().to_owned());
        }
        done
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        let marks = self.marks.lock();
        PathBuf::from(marks.iter().find(|mark| mark.starts_with("/run/")).expect("the instance was started"))
    }

    /// `ferrovirt` with the instance's data directory.
    pub(crate) fn ferrovirt(&self, args: &[&str]) -> Done {
        run(command(FERROVIRT, args).env("FERROVIRT_DATA_DIR", self.data_dir()), "")
    }

    /// Pid of the process that serves this instance.
    pub(crate) fn pid(&self) -> u32 {
        let state: Value =
            serde_json::from_slice(&std::fs::read(self.run_dir().join("running.json")).unwrap()).unwrap();
        u32::try_from(state["pid"].as_u64().unwrap()).unwrap()
    }

    /// A namespace that no other test uses.
    pub(crate) fn namespace(self: &Arc<Self>) -> Namespace {
        let number = self.namespaces.fetch_add(1, Ordering::Relaxed);
        Namespace::create(Arc::clone(self), &format!("e2e-{number}"))
    }

    pub(crate) fn kubectl_command(&self, args: &[&str]) -> Command {
        let mut command = command("kubectl", args);
        command
            .env("KUBECONFIG", self.kubeconfig())
            .env("KUBECACHEDIR", self.home.path().join("cache"))
            .current_dir("/");
        command
    }

    pub(crate) fn virtctl_command(&self, args: &[&str]) -> Command {
        let mut command = command(Path::new(FERROVIRT).with_file_name("virtctl"), args);
        command.env("KUBECONFIG", self.kubeconfig()).current_dir("/");
        command
    }

    /// Remembers a UID by which things of this instance are named.
    pub(crate) fn mark(&self, uid: &str) {
        self.marks.lock().insert(uid.to_owned());
    }

    /// What the instance has on the machine now.
    pub(crate) fn traces(&self) -> Vec<String> {
        traces(&self.marks.lock())
    }

    /// Processes whose command line contains every one of the words.
    pub(crate) fn processes(words: &[&str]) -> Vec<u32> {
        let all = processes().into_iter();
        all.filter(|(_, line)| words.iter().all(|word| line.contains(word))).map(|(pid, _)| pid).collect()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.data_dir().join("ferrovirt.log")).unwrap_or_default()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if self.cluster.is_some() {
            return;
        }
        let failing = std::thread::panicking();
        if failing || std::env::var_os("FERROVIRT_E2E_LOG").is_some() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!(
                "---- the end of the log of {}\n{}",
                self.data_dir().display(),
                lines[lines.len().saturating_sub(60)..].join("\n")
            );
        }
        let done = self.ferrovirt(&["down", "--purge"]);
        if failing {
            eprintln!("{}: {}{}", done.what, done.out, done.err);
            return;
        }
        done.success();
        until(&format!("nothing of {} left on the machine", self.data_dir().display()), || match self.traces() {
            left if left.is_empty() => Ok(()),
            left => Err(left.join("\n")),
        });
    }
}

/// The demo guest, from the builder's cache or built now. Once for all tests.
/// The file of the demo guest.
pub(crate) fn guest_image() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e-guest.qcow2");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest/build.sh");
        let lock = output.with_extension("lock");
        // Building takes longer than anything else here: no deadline of ours.
        let built = command("flock", [lock.as_path(), script.as_path(), output.as_path()]).output().unwrap();
        assert!(built.status.success(), "guest/build.sh: {}", String::from_utf8_lossy(&built.stderr));
        output
    })
}

/// Ends instances that a killed run of these tests left behind.
fn sweep() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        for entry in std::fs::read_dir("/tmp").unwrap().flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|n| n.strip_prefix(PREFIX)).and_then(|n| n.split('-').next()) else {
                continue;
            };
            if Path::new("/proc").join(pid).exists() {
                continue;
            }
            let data_dir = entry.path().join("d");
            let done = run(command(FERROVIRT, ["down", "--purge", "--data-dir"]).arg(data_dir), "");
            if done.ok {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    });
}
