//! A private libvirtd per test, gone with everything it made when the test ends.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use fv_hypervisor::daemon::{
    DaemonConfig, LibvirtEndpoint, SupervisorCommand, ensure_libvirtd, stop_libvirtd, supervise_if_asked,
};
use fv_hypervisor::{LibvirtConfig, LibvirtHypervisor};

/// The test binary becomes the supervisor through this test.
#[test]
fn libvirtd_supervisor() {
    supervise_if_asked();
}

/// Directories, id and daemon of one test.
pub(crate) struct World {
    pub(crate) config: DaemonConfig,
    data: tempfile::TempDir,
    run: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("{:08x}", (std::process::id() << 8) | COUNT.fetch_add(1, Ordering::Relaxed));
        // QEMU runs as another user and must get through.
        let open = |dir: tempfile::TempDir| {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
            dir
        };
        let data = open(tempfile::Builder::new().prefix("fv-it-").tempdir_in("/var/tmp").unwrap());
        let run = open(tempfile::Builder::new().prefix("fv-it-").tempdir_in("/run").unwrap());
        let mut config = DaemonConfig::new(data.path().join("libvirt"), run.path(), id);
        config.use_system = false;
        config.supervisor = SupervisorCommand::test_function("support::libvirtd_supervisor");
        Self { config, data, run }
    }

    pub(crate) fn ensure(&self) -> LibvirtEndpoint {
        ensure_libvirtd(&self.config).unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)))
    }

    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    pub(crate) fn run(&self) -> &Path {
        self.run.path()
    }

    pub(crate) fn id(&self) -> &str {
        &self.config.instance_id
    }

    pub(crate) async fn connect(&self, endpoint: &LibvirtEndpoint) -> Arc<LibvirtHypervisor> {
        let hypervisor = LibvirtHypervisor::new(LibvirtConfig::new(endpoint, self.id()));
        hypervisor.await_connected(Duration::from_secs(180)).await.unwrap();
        hypervisor
    }

    /// cgroups of this instance, in every hierarchy.
    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for root in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let Ok(groups) = std::fs::read_dir(root.path()) else { continue };
            found.extend(
                groups.flatten().map(|group| group.path()).filter(|path| path.to_string_lossy().contains(self.id())),
            );
        }
        found
    }

    /// Processes whose command line names this test's directories.
    pub(crate) fn processes(&self) -> Vec<String> {
        let names = [self.data.path(), self.run.path()].map(|path| path.to_string_lossy().into_owned());
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
            if pid == std::process::id() {
                continue;
            }
            let text = |name: &str| {
                std::fs::read(entry.path().join(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            };
            let view = format!("{} {}", text("cmdline").unwrap_or_default(), text("mountinfo").unwrap_or_default());
            if names.iter().any(|name| view.contains(name)) {
                found.push(format!("{pid} {}", text("cmdline").unwrap_or_default().replace('\0', " ")));
            }
        }
        found
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Guests first: the daemon's end leaves them alone. Only pid files in this test's own directory are followed.
        if let Ok(entries) = std::fs::read_dir(self.config.run_dir.join("libvirt/qemu")) {
            for path in entries
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|end| end == "pid"))
            {
                let name = path.file_stem().unwrap().to_string_lossy().into_owned();
                let Ok(pid) = std::fs::read_to_string(&path).unwrap_or_default().trim().parse::<i32>() else {
                    continue;
                };
                let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                if String::from_utf8_lossy(&command).contains(&format!("guest={name},"))
                    && let Some(pid) = rustix::process::Pid::from_raw(pid)
                {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                    wait_until("a guest's end", || {
                        !Path::new(&format!("/proc/{}/cmdline", pid.as_raw_nonzero())).exists()
                            || std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()))
                                .is_ok_and(|text| text.is_empty())
                    });
                }
            }
        }
        if let Err(error) = stop_libvirtd(&self.config) {
            eprintln!("{error}");
        }
    }
}

/// Waits for `condition`; panics after a while.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(180), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
