//! `ferrovirt down`: ends the control plane; with more words also its guests, and every trace of the instance.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use fv_host::lock::{Acquired, FileLock};
use fv_host::process::{Process, ProcessId, Signal};
use fv_hypervisor::daemon::{ensure_libvirtd, stop_libvirtd};
use fv_hypervisor::{DomainState, Hypervisor, LibvirtConfig, LibvirtHypervisor};
use uuid::Uuid;

use crate::instance::{Instance, Running};
use crate::podrunner::{self, PodNetwork, forget_pods, remove_network};
use crate::up::daemon_config;

/// How long the process may take to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long guests may take to shut down before they are switched off.
const GUEST_PATIENCE: Duration = Duration::from_secs(30);

/// An instance that nobody else works on, until dropped.
#[derive(Debug)]
pub struct Stopped {
    /// Whether a process ran it.
    pub ran: bool,
    _lock: Option<FileLock>,
}

/// Ends the process that runs the instance, also one that is still starting, and keeps others from starting it.
///
/// # Errors
/// It does not end, or may not be signalled.
pub async fn stop_process(instance: &Instance) -> anyhow::Result<Stopped> {
    let path = instance.lock_file();
    let mut ran = false;
    let begin = Instant::now();
    let mut signalled = None;
    loop {
        let acquired = match FileLock::try_acquire(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Stopped { ran, _lock: None }),
            other => other.with_context(|| format!("lock {}", path.display()))?,
        };
        let holder = match acquired {
            Acquired::Lock(lock) => {
                Running::remove(instance);
                return Ok(Stopped { ran, _lock: Some(lock) });
            }
            Acquired::HeldBy(pid) => pid,
        };
        let patience = if signalled.is_some() { PATIENCE } else { Duration::from_secs(2) };
        if begin.elapsed() > patience {
            bail!(
                "process {} did not end within {} s; see {}",
                holder.map_or_else(|| "unknown".to_string(), |pid| pid.to_string()),
                patience.as_secs(),
                instance.log_file().display()
            );
        }
        if let Some(pid) = holder.filter(|pid| signalled != Some(*pid))
            && let Some(process) = open(pid).context("look at the process")?
        {
            if !runs_up(pid) {
                bail!("another ferrovirt (pid {pid}) works on {}: wait until it is done", instance.data_dir.display());
            }
            process.signal(Signal::TERM).with_context(|| format!("signal process {pid}"))?;
            signalled = Some(pid);
            ran = true;
            let _ = tokio::time::timeout(PATIENCE, process.wait()).await;
            continue;
        }
        // Between taking the lock and writing one's pid, and between a process's end and that of its lock, there is a moment.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The running process of a pid.
fn open(pid: u32) -> io::Result<Option<Process>> {
    match ProcessId::of(pid) {
        Ok(id) => Process::open(id),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the process is a `ferrovirt up`.
fn runs_up(pid: u32) -> bool {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    words.split(|b| *b == 0).skip(1).any(|word| word == b"up")
}

/// Names of the guests of an instance whose domains exist now. Empty when no libvirt daemon runs: looking starts none.
///
/// # Errors
/// libvirt does not answer.
pub async fn guests(instance: &Instance) -> anyhow::Result<Vec<String>> {
    let sockets = [
        instance.run_dir.join("libvirt/libvirt-sock"),
        "/run/libvirt/libvirt-sock".into(),
        "/run/libvirt/virtqemud-sock".into(),
    ];
    if !sockets.iter().any(|socket| std::os::unix::net::UnixStream::connect(socket).is_ok()) {
        return Ok(Vec::new());
    }
    let Some(hypervisor) = connect(instance).await? else { return Ok(Vec::new()) };
    let domains = hypervisor.list().await.context("list the domains")?;
    Ok(domains.into_iter().map(|d| format!("{}/{}", d.metadata.namespace, d.metadata.name)).collect())
}

async fn connect(instance: &Instance) -> anyhow::Result<Option<std::sync::Arc<LibvirtHypervisor>>> {
    let config = daemon_config(instance);
    if !instance.libvirt_dir().exists() {
        return Ok(None);
    }
    let endpoint = tokio::task::spawn_blocking(move || ensure_libvirtd(&config)).await?.context("reach libvirt")?;
    let hypervisor = LibvirtHypervisor::new(LibvirtConfig::new(&endpoint, instance.id.clone()));
    hypervisor.await_connected(PATIENCE).await.context("connect to libvirt")?;
    Ok(Some(hypervisor))
}

/// Shuts the instance's guests down: by the power button, then, after half a minute, by switching them off.
///
/// # Errors
/// libvirt does not answer or a domain does not end.
pub async fn stop_guests(instance: &Instance) -> anyhow::Result<usize> {
    let Some(hypervisor) = connect(instance).await? else { return Ok(0) };
    let domains = hypervisor.list().await.context("list the domains")?;
    let count = domains.len();
    for domain in &domains {
        if domain.state == DomainState::Running {
            // A guest that cannot be asked is switched off below.
            let _ = hypervisor.shutdown(domain.uuid).await;
        }
    }
    let deadline = Instant::now() + GUEST_PATIENCE;
    let mut asked = Instant::now();
    loop {
        let left = hypervisor.list().await.context("list the domains")?;
        let running = left.iter().any(|d| d.state == DomainState::Running);
        if left.is_empty() || !running || Instant::now() > deadline {
            break;
        }
        if asked.elapsed() > Duration::from_secs(5) {
            for domain in &left {
                let _ = hypervisor.shutdown(domain.uuid).await;
            }
            asked = Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for domain in hypervisor.list().await.context("list the domains")? {
        hypervisor.destroy(domain.uuid).await.with_context(|| format!("switch off domain {}", domain.name))?;
    }
    Ok(count)
}

/// Removes what libvirt keeps about the instance's guests, which have ended: where the daemon is the machine's own, its logs would outlive
/// the instance.
///
/// # Errors
/// libvirt does not answer, or a guest runs.
pub async fn forget_guests(instance: &Instance) -> anyhow::Result<()> {
    let Some(hypervisor) = connect(instance).await? else { return Ok(()) };
    let records = std::fs::read_dir(instance.data_dir.join("node/vmis"));
    let names = records.into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    for uid in names.filter_map(|name| Uuid::parse_str(&name).ok()) {
        hypervisor.forget(uid).await.with_context(|| format!("remove libvirt's logs of VMI {uid}"))?;
    }
    Ok(())
}

/// Ends what the instance still has on the machine after its guests: pods, networks, private libvirtd, run directory. The data
/// directory stays.
///
/// # Errors
/// Something cannot be removed; repeating it goes on.
pub async fn release(instance: &Instance) -> anyhow::Result<()> {
    let network = PodNetwork::recorded(instance).context("read the pod network")?;
    forget_pods(instance, network.as_ref()).await.context("end the pods")?;
    let guests = fv_host::network::NetworkSetup::new(instance.run_dir.join("netns"));
    for uid in guests.list().context("list the guests' networks")? {
        guests.release(&uid).await.with_context(|| format!("remove the network of VMI {uid}"))?;
    }
    remove_network(instance).await.context("remove the pod network")?;
    let config = daemon_config(instance);
    tokio::task::spawn_blocking(move || stop_libvirtd(&config)).await?.context("stop the private libvirtd")?;
    let volumes = instance.run_dir.join(fv_virt_handler::VOLUMES_DIR);
    fv_host::mount::unmount_lazily(&volumes).with_context(|| format!("unmount {}", volumes.display()))?;
    remove_tree(&instance.run_dir)
}

/// Removes what Ferrovirt keeps in the data directory: every object, key, image and disk. Files that are not ours stay, and with
/// them the directory; `false` then.
///
/// # Errors
/// Something cannot be removed.
pub fn purge_data(instance: &Instance) -> anyhow::Result<bool> {
    for name in ["store", "pki", "replaced", "restore", "images", "node", "pods", "volumes", "cni", "libvirt"] {
        remove_tree(&instance.data_dir.join(name))?;
    }
    for name in ["kubeconfig", "ferrovirt.log", "ferrovirt.log.1"] {
        let path = instance.data_dir.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove {}", path.display()));
            }
            _ => {}
        }
    }
    match std::fs::remove_dir(&instance.data_dir) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
        Err(error) => Err(error).with_context(|| format!("remove {}", instance.data_dir.display())),
    }
}

/// Removes a directory of an instance; what somebody mounted in it is an error, not content.
pub(crate) fn remove_tree(path: &Path) -> anyhow::Result<()> {
    podrunner::remove_tree(path).with_context(|| format!("remove {}", path.display()))
}
