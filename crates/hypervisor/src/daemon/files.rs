//! Directories and configuration of a private daemon.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::DaemonError;
use super::process::ProcessId;

/// Where things are, as the host sees them.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) dir: PathBuf,
    pub(crate) lib: PathBuf,
    pub(crate) cache: PathBuf,
    pub(crate) log_dir: PathBuf,
    pub(crate) etc: PathBuf,
    /// Bound over /run/libvirt.
    pub(crate) run: PathBuf,
}

impl Layout {
    pub(crate) fn new(dir: &Path, run_dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
            lib: dir.join("lib"),
            cache: dir.join("cache"),
            log_dir: dir.join("log"),
            etc: dir.join("etc"),
            run: run_dir.join("libvirt"),
        }
    }

    /// Host directory → the path libvirt has it at inside the daemon's namespace.
    pub(crate) fn binds(&self) -> [(&Path, &'static Path); 5] {
        [
            (&self.lib, Path::new("/var/lib/libvirt")),
            (&self.cache, Path::new("/var/cache/libvirt")),
            (&self.log_dir, Path::new("/var/log/libvirt")),
            (&self.etc, Path::new("/etc/libvirt")),
            (&self.run, Path::new("/run/libvirt")),
        ]
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.run.join("libvirt-sock")
    }

    pub(crate) fn record(&self) -> PathBuf {
        self.run.join("daemon.json")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.run.join("supervisor.lock")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.log_dir.join("libvirtd.log")
    }

    /// Names the system daemon in use.
    fn system_daemon(&self) -> PathBuf {
        self.dir.join("system-daemon")
    }

    /// The empty file that hides /dev/kvm.
    pub(crate) fn no_kvm(&self) -> PathBuf {
        self.run.join("no-kvm")
    }

    pub(crate) fn check(&self) -> Result<(), DaemonError> {
        let socket = self.socket();
        let len = socket.as_os_str().len();
        if len > 107 {
            return Err(DaemonError::SocketPathTooLong { path: socket, len });
        }
        for path in [&self.dir, &self.run] {
            if !path.is_absolute() {
                return Err(DaemonError::UnusablePath { path: path.clone(), problem: "it is not absolute" });
            }
            if path.to_str().is_none_or(|text| text.contains(['?', '#', '&', '%'])) {
                let problem = "it has a character that cannot stand in a libvirt URI";
                return Err(DaemonError::UnusablePath { path: path.clone(), problem });
            }
            for (_, target) in self.binds() {
                if path.starts_with(target) {
                    let problem = "a private libvirtd has its own directories there";
                    return Err(DaemonError::UnusablePath { path: path.clone(), problem });
                }
            }
        }
        Ok(())
    }

    /// Whether a QEMU of this daemon runs, by the pid files that libvirt leaves in its runtime directory.
    pub(crate) fn has_live_domains(&self) -> bool {
        let Ok(entries) = std::fs::read_dir(self.run.join("qemu")) else { return false };
        entries
            .flatten()
            .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "pid"))
            .any(|entry| domain_pid(&entry.path()).is_some())
    }
}

/// The QEMU process a pid file of libvirt names, if it still is that domain's: a recycled pid is not.
pub(crate) fn domain_pid(pid_file: &Path) -> Option<u32> {
    let name = pid_file.file_stem()?.to_str()?;
    let pid: u32 = std::fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    ProcessId::of(pid)?;
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let guest = format!("guest={name},");
    command.split(|byte| *byte == 0).any(|word| word.starts_with(guest.as_bytes())).then_some(pid)
}

/// Writes down that domains of this instance may live in a system daemon from now on.
pub(crate) fn remember_system_daemon(layout: &Layout, socket: &Path) -> Result<(), DaemonError> {
    let path = layout.system_daemon();
    if system_daemon_used(layout).as_deref() == Some(socket) {
        return Ok(());
    }
    std::fs::create_dir_all(&layout.dir)
        .and_then(|()| std::fs::write(&path, socket.as_os_str().as_encoded_bytes()))
        .map_err(|source| DaemonError::Prepare { step: "writing", path, source })
}

/// The system daemon this instance used last, if it did not use a private one since.
pub(crate) fn system_daemon_used(layout: &Layout) -> Option<PathBuf> {
    std::fs::read_to_string(layout.system_daemon()).ok().map(PathBuf::from)
}

pub(crate) fn forget_system_daemon(layout: &Layout) {
    let _ = std::fs::remove_file(layout.system_daemon());
}

/// Whether a QEMU with a name of ours runs on this machine, whichever daemon and instance it belongs to.
pub(crate) fn any_guest_runs() -> bool {
    std::fs::read_dir("/proc").into_iter().flatten().flatten().any(|entry| {
        let name = entry.file_name();
        name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
            && std::fs::read(entry.path().join("cmdline"))
                .is_ok_and(|command| command.split(|byte| *byte == 0).any(|word| word.starts_with(b"guest=fv-")))
    })
}

/// Finds the monolithic daemon.
pub(crate) fn find_libvirtd() -> Result<PathBuf, DaemonError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/libexec"].map(PathBuf::from))
        .map(|dir| dir.join("libvirtd"))
        .find(|file| file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0))
        .ok_or(DaemonError::MissingProgram { program: "libvirtd", package: "libvirt-daemon-system" })
}

/// Makes directories and configuration. What exists stays; the configuration is ours and written anew.
pub(crate) fn prepare(layout: &Layout, instance_id: &str) -> Result<(), DaemonError> {
    let failed = |step: &'static str, path: &Path| {
        let path = path.to_path_buf();
        move |source| DaemonError::Prepare { step, path, source }
    };
    // QEMU runs as other users and has to get at its files beneath these.
    for dir in [&layout.dir, &layout.lib, &layout.cache, &layout.log_dir, &layout.etc, &layout.run] {
        std::fs::create_dir_all(dir).map_err(failed("making", dir))?;
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))
            .map_err(failed("setting the mode of", dir))?;
    }
    let qemu_logs = layout.log_dir.join("qemu");
    std::fs::create_dir_all(&qemu_logs).map_err(failed("making", &qemu_logs))?;
    for (name, text) in [("libvirtd.conf", libvirtd_conf(instance_id)), ("qemu.conf", QEMU_CONF.to_owned())] {
        let path = layout.etc.join(name);
        std::fs::write(&path, text).map_err(failed("writing", &path))?;
    }
    let no_kvm = layout.no_kvm();
    match std::fs::File::create_new(&no_kvm) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        other => drop(other.map_err(failed("making", &no_kvm))?),
    }
    std::fs::set_permissions(&no_kvm, std::fs::Permissions::from_mode(0o000))
        .map_err(failed("setting the mode of", &no_kvm))
}

fn libvirtd_conf(instance_id: &str) -> String {
    // Two daemons on one machine must not look like one host to a migration.
    let host_uuid = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, format!("ferrovirt/{instance_id}").as_bytes());
    format!(
        "# Written by Ferrovirt at every start of its private libvirtd; changes are lost.\n\
         unix_sock_ro_perms = \"0700\"\n\
         unix_sock_rw_perms = \"0700\"\n\
         unix_sock_admin_perms = \"0700\"\n\
         auth_unix_ro = \"none\"\n\
         auth_unix_rw = \"none\"\n\
         host_uuid = \"{host_uuid}\"\n\
         log_outputs = \"3:stderr\"\n\
         keepalive_interval = 5\n\
         keepalive_count = 5\n\
         max_clients = 64\n\
         max_workers = 64\n\
         max_client_requests = 64\n"
    )
}

/// No namespaces of its own (it has ours), no chown (the node agent owns the files), no labels where nothing enforces them, and
/// QEMU's output into files (virtlogd is not in the path of a console).
const QEMU_CONF: &str = "# Written by Ferrovirt at every start of its private libvirtd; changes are lost.\n\
    security_driver = \"none\"\n\
    dynamic_ownership = 0\n\
    remember_owner = 0\n\
    namespaces = []\n\
    stdio_handler = \"file\"\n\
    max_core = 0\n\
    auto_dump_bypass_cache = 0\n\
    relaxed_acs_check = 0\n";

/// The last lines of a log, for an error message.
pub(crate) fn log_tail(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(2000)..]).into_owned();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_directories_are_refused_with_the_way_out() {
        let long = "/run/".to_owned() + &"x".repeat(100);
        for (dir, run, expected) in [
            ("/var/lib/ferrovirt/libvirt", long.as_str(), "choose a shorter"),
            ("relative", "/run/x", "not absolute"),
            ("/a?b", "/run/x", "libvirt URI"),
            ("/var/lib/libvirt/ferrovirt", "/run/x", "own directories"),
        ] {
            let error = Layout::new(Path::new(dir), Path::new(run)).check().unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
        Layout::new(Path::new("/var/lib/ferrovirt/libvirt"), Path::new("/run/ferrovirt/0a1b2c3d")).check().unwrap();
    }

    #[test]
    fn a_pid_file_of_a_dead_or_foreign_process_names_no_domain() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path(), dir.path());
        std::fs::create_dir_all(layout.run.join("qemu")).unwrap();
        let file = layout.run.join("qemu/fv-x.pid");
        for content in ["", "garbage", "4194999", &std::process::id().to_string()] {
            std::fs::write(&file, content).unwrap();
            assert_eq!(domain_pid(&file), None, "{content:?}");
        }
        assert!(!layout.has_live_domains());
    }

    #[test]
    fn the_system_daemon_in_use_is_remembered_until_a_private_one_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(&dir.path().join("libvirt"), dir.path());
        assert_eq!(system_daemon_used(&layout), None);
        let socket = Path::new("/run/libvirt/libvirt-sock");
        remember_system_daemon(&layout, socket).unwrap();
        remember_system_daemon(&layout, socket).unwrap();
        assert_eq!(system_daemon_used(&layout).as_deref(), Some(socket));
        forget_system_daemon(&layout);
        assert_eq!(system_daemon_used(&layout), None);
    }

    #[test]
    fn two_instances_are_two_hosts_to_libvirt() {
        assert_ne!(libvirtd_conf("00000001"), libvirtd_conf("00000002"));
    }
}
