//! The libvirt daemon of this node: the one that runs already, or a private one of our own.
//!
//! A private daemon belongs to nobody: it survives the program that started it, and running guests survive it. Its parts:
//!
//! ```text
//! ensure_libvirtd ─ setsid --fork unshare -m ─► supervisor (this program again, see `supervise_if_asked`)
//!                                                │ binds D/libvirt/{lib,cache,log,etc} and R/libvirt over libvirt's directories,
//!                                                │ hides an unusable /dev/kvm, leaves our cgroups, becomes a subreaper
//!                                                ▼
//!                                               libvirtd (started again whenever it ends)
//!                                                └─► QEMU (child of the supervisor once daemonised: reaped at once)
//! ```
//!
//! `R/libvirt/daemon.json` names both processes by pid and start time, the supervisor holds a lock while it lives: so the next
//! program finds them again, and never signals a stranger that got the same pid.

mod cgroup;
mod files;
mod keep;
mod process;
mod record;
mod supervisor;
mod system;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) use self::files::domain_pid;
pub use self::keep::keep_libvirtd;
pub use self::supervisor::supervise_if_asked;
pub use self::system::{SystemDaemonError, SystemPlaces, find_system_daemon};

use self::files::Layout;
use self::record::DaemonRecord;
use crate::kvm::kvm_usable;

/// Where a private daemon keeps its things, and how it is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonConfig {
    /// State that must survive (`D/libvirt`).
    pub dir: PathBuf,
    /// Runtime files (`R`); `libvirt/` with the daemon's socket is made beneath it. Short: socket paths stay below 108 bytes.
    pub run_dir: PathBuf,
    /// Id of this Ferrovirt instance (8 hex digits).
    pub instance_id: String,
    /// Whether a system libvirtd or virtqemud that answers may be used. Off: always a private one.
    pub use_system: bool,
    /// Where that one is.
    pub system: SystemPlaces,
    /// How long a daemon may take until it answers.
    pub start_timeout: Duration,
    /// A program whose `main` begins with [`supervise_if_asked`].
    pub supervisor: SupervisorCommand,
}

/// The program that becomes the private daemon's parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SupervisorCommand {
    pub program: PathBuf,
    pub args: Vec<String>,
}

impl SupervisorCommand {
    /// This very program, whose `main` begins with [`supervise_if_asked`]. The argument only serves readers of `ps`.
    pub fn this_program() -> Self {
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
        // The kernel marks a program that was replaced while it runs; the new file at that path is as good.
        let program = match program.to_str().and_then(|path| path.strip_suffix(" (deleted)")) {
            Some(path) => PathBuf::from(path),
            None => program,
        };
        Self { program, args: vec!["libvirtd-supervisor".into()] }
    }

    /// A test binary: `test` is the full name of a `#[test]` function whose body is a call of [`supervise_if_asked`].
    pub fn test_function(test: &str) -> Self {
        Self { args: vec!["--exact".into(), test.into(), "--nocapture".into()], ..Self::this_program() }
    }
}

impl DaemonConfig {
    pub fn new(dir: impl Into<PathBuf>, run_dir: impl Into<PathBuf>, instance_id: impl Into<String>) -> Self {
        Self {
            dir: dir.into(),
            run_dir: run_dir.into(),
            instance_id: instance_id.into(),
            use_system: true,
            system: SystemPlaces::default(),
            start_timeout: Duration::from_secs(30),
            supervisor: SupervisorCommand::this_program(),
        }
    }

    /// The resource partition (`<resource><partition>`) of domains under a private daemon.
    pub fn partition(&self) -> String {
        cgroup::partition(&self.instance_id)
    }

    fn layout(&self) -> Layout {
        Layout::new(&self.dir, &self.run_dir)
    }
}

/// A daemon that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LibvirtEndpoint {
    /// For `virConnectOpen`, e.g. `qemu+unix:///system?socket=/run/ferrovirt/1a2b3c4d/libvirt/libvirt-sock`.
    pub uri: String,
    pub socket: PathBuf,
    /// Whose it is.
    pub kind: DaemonKind,
    /// Whether this call started it.
    pub started: bool,
    pub pid: Option<u32>,
    /// Host path of QEMU's per-domain pid files and libvirt's state of running domains.
    pub state_dir: PathBuf,
    /// Host path of QEMU's per-domain logs.
    pub log_dir: PathBuf,
    /// `<resource><partition>` domains have to name; `None`: libvirt's default.
    pub partition: Option<String>,
}

impl LibvirtEndpoint {
    pub(crate) fn uri_of(socket: &Path) -> String {
        format!("qemu+unix:///system?socket={}", socket.display())
    }
}

/// Whose daemon it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DaemonKind {
    /// The machine's libvirtd.
    SystemLibvirtd,
    /// The machine's modular virtqemud.
    SystemVirtqemud,
    /// Ours.
    Private,
}

/// Why there is no daemon.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error("{program} is not installed: install the package {package}")]
    MissingProgram { program: &'static str, package: &'static str },
    #[error("socket path {} is too long ({len} bytes, at most 107): choose a shorter data or run directory", path.display())]
    SocketPathTooLong { path: PathBuf, len: usize },
    #[error("path {} cannot be used: {problem}", path.display())]
    UnusablePath { path: PathBuf, problem: &'static str },
    #[error("{step} {} failed", path.display())]
    Prepare {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("starting the libvirtd supervisor failed")]
    Spawn(#[source] std::io::Error),
    #[error("the libvirtd supervisor (log: {}) ended right after its start: {message}", log.display())]
    Ended { log: PathBuf, message: String },
    #[error("libvirtd (log: {}) did not answer within {after:?}: {message}", log.display())]
    NoAnswer { log: PathBuf, after: Duration, message: String },
    #[error(
        "the system libvirt at {} does not answer, and guests still run that it may know: start it again (a private libvirtd would \
         not know them)",
        socket.display()
    )]
    SystemDaemonGone { socket: PathBuf },
    #[error("process {pid} did not end")]
    DoesNotEnd { pid: u32 },
}

/// How often a starting or ending daemon is looked at.
const POLL: Duration = Duration::from_millis(10);

/// Finds the daemon to use: a system libvirtd or virtqemud that answers, else this instance's private one, which is started when
/// it does not run. Repeating it is harmless, also from two programs at once. Blocking.
///
/// Domains stay with the daemon that knows them: a private daemon that has running domains is preferred to a system daemon that
/// appeared later, and a system daemon that was used is not replaced by a private one while guests run.
pub fn ensure_libvirtd(config: &DaemonConfig) -> Result<LibvirtEndpoint, DaemonError> {
    let layout = config.layout();
    layout.check()?;
    if config.use_system && !layout.has_live_domains() {
        match find_system_daemon(&config.system, config.start_timeout) {
            Ok(endpoint) => {
                files::remember_system_daemon(&layout, &endpoint.socket)?;
                return Ok(endpoint);
            }
            Err(error @ SystemDaemonError::Silent { .. }) => tracing::warn!(%error, "system libvirt is not used"),
            Err(SystemDaemonError::Absent { .. }) => {}
        }
        if let Some(socket) = files::system_daemon_used(&layout)
            && files::any_guest_runs()
        {
            return Err(DaemonError::SystemDaemonGone { socket });
        }
    }
    files::forget_system_daemon(&layout);
    ensure_private(config, &layout)
}

fn ensure_private(config: &DaemonConfig, layout: &Layout) -> Result<LibvirtEndpoint, DaemonError> {
    let started = !DaemonRecord::supervisor_lives(layout)
        && !DaemonRecord::read(layout).is_some_and(|record| record.libvirtd.is_some_and(|id| id.is_alive()));
    if started {
        let libvirtd = files::find_libvirtd()?;
        files::prepare(layout, &config.instance_id)?;
        spawn_supervisor(config, layout, &libvirtd)?;
    }
    let begin = Instant::now();
    let uri = LibvirtEndpoint::uri_of(&layout.socket());
    let mut held = false;
    loop {
        // Opening a connection is expensive compared with connecting to a socket nobody listens on.
        let problem = match std::os::unix::net::UnixStream::connect(layout.socket()) {
            Ok(_) => match system::answers(&uri, config.start_timeout.saturating_sub(begin.elapsed())) {
                Ok(()) => break,
                Err(message) => message,
            },
            Err(error) => error.to_string(),
        };
        if started {
            held |= DaemonRecord::supervisor_lives(layout);
            // Between the fork and the lock there is a moment in which nobody holds it.
            if !DaemonRecord::supervisor_lives(layout) && (held || begin.elapsed() > Duration::from_secs(3)) {
                return Err(DaemonError::Ended { log: layout.log(), message: files::log_tail(&layout.log()) });
            }
        }
        if begin.elapsed() > config.start_timeout {
            return Err(DaemonError::NoAnswer { log: layout.log(), after: config.start_timeout, message: problem });
        }
        std::thread::sleep(POLL);
    }
    let record = DaemonRecord::read(layout).unwrap_or_default();
    Ok(LibvirtEndpoint {
        uri,
        socket: layout.socket(),
        kind: DaemonKind::Private,
        started,
        pid: record.libvirtd.map(|id| id.pid),
        state_dir: layout.run.join("qemu"),
        log_dir: layout.log_dir.join("qemu"),
        partition: Some(config.partition()),
    })
}

fn spawn_supervisor(config: &DaemonConfig, layout: &Layout, libvirtd: &Path) -> Result<(), DaemonError> {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(layout.log())
        .map_err(|source| DaemonError::Prepare { step: "opening the log", path: layout.log(), source })?;
    let orders = supervisor::Orders {
        dir: config.dir.clone(),
        run_dir: config.run_dir.clone(),
        instance_id: config.instance_id.clone(),
        libvirtd: libvirtd.to_path_buf(),
        hide_kvm: !kvm_usable(),
    };
    let stderr = log.try_clone().map_err(DaemonError::Spawn)?;
    // `setsid --fork` returns at once and leaves the supervisor to init; `unshare` replaces itself by it.
    let status = Command::new("setsid")
        .args(["--fork", "unshare", "--mount", "--propagation", "slave", "--"])
        .arg(&config.supervisor.program)
        .args(&config.supervisor.args)
        .env(supervisor::ORDERS, orders.encode())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(stderr)
        .status()
        .map_err(DaemonError::Spawn)?;
    if !status.success() {
        return Err(DaemonError::Ended { log: layout.log(), message: format!("setsid: {status}") });
    }
    Ok(())
}

/// Ends this instance's private daemon, if there is one, and removes its cgroups and runtime files (its mounts go with it).
/// Guests that still run are left alone, and so is what the next daemon needs to take them over. Blocking.
pub fn stop_libvirtd(config: &DaemonConfig) -> Result<(), DaemonError> {
    let layout = config.layout();
    let record = DaemonRecord::read(&layout).unwrap_or_default();
    // The supervisor first, or it would start libvirtd again.
    if let Some(id) = record.supervisor {
        id.end(&[(process::End::Kill, Duration::from_secs(5))])?;
    }
    // What it started last may be younger than the record read above.
    let record = DaemonRecord::read(&layout).unwrap_or_default();
    if let Some(id) = record.libvirtd {
        id.end(&[(process::End::Term, Duration::from_secs(10)), (process::End::Kill, Duration::from_secs(5))])?;
    }
    if layout.has_live_domains() {
        return Ok(());
    }
    cgroup::remove(&config.instance_id);
    match std::fs::remove_dir_all(&layout.run) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(DaemonError::Prepare { step: "removing", path: layout.run.clone(), source })
        }
        _ => Ok(()),
    }
}
