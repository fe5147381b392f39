//! The supervisor: the parent of a private libvirtd, in the mount namespace made for it. It does almost nothing, so that nothing
//! can go wrong with it: set up the namespace, start libvirtd, reap, start it again.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{WaitOptions, getpid, set_child_subreaper};
use serde_json::{Value, json};

use super::cgroup;
use super::files::Layout;
use super::process::ProcessId;
use super::record::DaemonRecord;

/// Environment variable that makes a process the supervisor.
pub(crate) const ORDERS: &str = "FERROVIRT_LIBVIRTD_SUPERVISOR";

/// What a supervisor is told.
#[derive(Debug)]
pub(crate) struct Orders {
    pub(crate) dir: PathBuf,
    pub(crate) run_dir: PathBuf,
    pub(crate) instance_id: String,
    pub(crate) libvirtd: PathBuf,
    pub(crate) hide_kvm: bool,
}

impl Orders {
    pub(crate) fn encode(&self) -> String {
        json!({
            "dir": self.dir.to_string_lossy(),
            "runDir": self.run_dir.to_string_lossy(),
            "instanceId": self.instance_id,
            "libvirtd": self.libvirtd.to_string_lossy(),
            "hideKvm": self.hide_kvm,
        })
        .to_string()
    }

    fn decode(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let path = |name: &str| value.get(name).and_then(Value::as_str).map(PathBuf::from);
        Some(Self {
            dir: path("dir")?,
            run_dir: path("runDir")?,
            instance_id: value.get("instanceId")?.as_str()?.to_owned(),
            libvirtd: path("libvirtd")?,
            hide_kvm: value.get("hideKvm")?.as_bool()?,
        })
    }
}

/// Turns this process into the supervisor of a private libvirtd when [`super::ensure_libvirtd`] started it as one; otherwise
/// returns at once. Call it first in `main`, before any thread or async runtime exists.
pub fn supervise_if_asked() {
    let Ok(text) = std::env::var(ORDERS) else { return };
    let code = match Orders::decode(&text) {
        Some(orders) => match supervise(&orders) {
            Ok(()) => 0,
            Err(problem) => {
                note(&problem);
                1
            }
        },
        None => {
            note("unreadable orders");
            2
        }
    };
    std::process::exit(code);
}

/// Standard error is the daemon's log.
#[allow(clippy::print_stderr)]
fn note(message: &str) {
    eprintln!("ferrovirt supervisor: {message}");
}

fn supervise(orders: &Orders) -> Result<(), String> {
    let layout = Layout::new(&orders.dir, &orders.run_dir);
    let Some(_lock) = DaemonRecord::lock(&layout).map_err(|error| format!("locking: {error}"))? else {
        return Ok(());
    };
    for problem in cgroup::enter(&orders.instance_id) {
        note(&format!("cgroup {problem}"));
    }
    enter_view(&layout, orders.hide_kvm)?;
    // QEMU daemonises: it becomes our child and is reaped here at once, which libvirt waits for when it destroys a domain.
    set_child_subreaper(Some(getpid())).map_err(|error| format!("becoming a subreaper: {error}"))?;
    let own = ProcessId::of(std::process::id());
    let mut pause = FIRST_PAUSE;
    loop {
        let begin = Instant::now();
        let child = Command::new(&orders.libvirtd)
            // The default pid file lies outside of the directories bound here: two daemons would fight for it.
            .args(["--config", "/etc/libvirt/libvirtd.conf", "--pid-file", "/run/libvirt/libvirtd.pid"])
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| format!("starting {}: {error}", orders.libvirtd.display()))?;
        let record = DaemonRecord { supervisor: own, libvirtd: ProcessId::of(child.id()) };
        record.write(&layout).map_err(|error| format!("writing {}: {error}", layout.record().display()))?;
        let status = reap_until(child.id())?;
        note(&format!("libvirtd ({}) ended: {status}", child.id()));
        pause = if begin.elapsed() > LONG_LIFE { FIRST_PAUSE } else { (pause * 2).min(LAST_PAUSE) };
        std::thread::sleep(pause);
    }
}

/// A libvirtd that lived this long did not fail at its start.
const LONG_LIFE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// Reaps every child until `libvirtd` is among them.
fn reap_until(libvirtd: u32) -> Result<String, String> {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get().cast_unsigned() == libvirtd => {
                return Ok(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => format!("exit status {code}"),
                    (None, Some(signal)) => format!("signal {signal}"),
                    (None, None) => "unknown".into(),
                });
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(format!("waiting for children: {error}")),
        }
    }
}

/// Binds our directories over libvirt's, in the namespace `unshare` made for this process.
fn enter_view(layout: &Layout, hide_kvm: bool) -> Result<(), String> {
    for (source, target) in layout.binds() {
        std::fs::create_dir_all(target).map_err(|error| format!("making {}: {error}", target.display()))?;
        bind(source, target)?;
    }
    let kvm = Path::new("/dev/kvm");
    if hide_kvm && kvm.exists() {
        bind(&layout.no_kvm(), kvm)?;
    }
    Ok(())
}

fn bind(source: &Path, target: &Path) -> Result<(), String> {
    rustix::mount::mount_bind(source, target)
        .map_err(|error| format!("binding {} over {}: {error}", source.display(), target.display()))
}
