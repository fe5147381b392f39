//! The network of a VM: applies [`fv_netplan::NetPlan`]s, moves taps, and takes everything away again.
//!
//! The order a handler keeps (each step may be repeated at any time):
//! 1. [`NetworkSetup::pod_facts`], then `fv_netplan::plan`;
//! 2. [`NetworkSetup::ensure`] with the plan: both namespaces are wired up;
//! 3. no domain yet: [`NetworkSetup::create_taps`], start the domain *paused*, [`NetworkSetup::attach_taps`], resume;
//!    a domain is running: only `ensure`, which also finds a remade veth's place (the pod's namespace may be a new one);
//! 4. at the end [`NetworkSetup::release`].
//!
//! Directory: `<dir>/<vmi uid>` is the VM's namespace (a bind mount), `<dir>/<vmi uid>.json` the pod's facts as they were before the
//! bridge binding took the interface over. It belongs on a tmpfs: namespaces do not survive a reboot either.

mod apply;
mod facts;

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fv_netplan::{InterfacePlan, NetPlan, PodNetworkFacts, names};
use tokio::net::{TcpSocket, TcpStream};

use crate::link::{LinkError, LinkStats, Links};
use crate::netns::NetNs;
use crate::tap;

/// Why the network of a VM could not be set up, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("VMI uid {uid:?} cannot name a namespace; a uid has letters, digits and dashes")]
    Uid { uid: String },
    #[error("open the network namespace of {owner}")]
    OpenNetns {
        owner: String,
        #[source]
        source: io::Error,
    },
    #[error("remove the network namespace {path}")]
    RemoveNetns {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("{link} exists as a {found:?} device, where a {wanted} is needed; it was not made by Ferrovirt")]
    Foreign { link: String, found: String, wanted: &'static str },
    #[error("set {key} to {value}")]
    Sysctl {
        key: String,
        value: String,
        #[source]
        source: io::Error,
    },
    #[error("apply the nftables rules in the {ns} namespace")]
    Nft {
        ns: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("make tap {name}")]
    Tap {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("tap {name} is neither in the host's network namespace nor in the VM's")]
    TapMissing { name: String },
    #[error("the pod's interface {interface} has no Ethernet address")]
    NoMac { interface: String },
    #[error(
        "the pod's interface {interface} was taken over, but the record of what it was, {path}, is unusable; delete the launcher pod to get a fresh one"
    )]
    FactsLost { interface: String, path: String },
    #[error("record the pod's network in {path}")]
    RecordFacts {
        path: String,
        #[source]
        source: io::Error,
    },
}

type Result<T> = std::result::Result<T, NetworkError>;

/// What an `ensure` found to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Short descriptions, in order: `bridge k6t-eth0 made`, … Empty: everything was in place.
    pub made: Vec<String>,
}

/// Finds the network namespace in which the hypervisor opens taps, anew each time.
pub type FindHostNetns = dyn Fn() -> io::Result<NetNs> + Send + Sync;

/// Sets up the networks of one node's VMs.
#[derive(Clone)]
pub struct NetworkSetup {
    directory: PathBuf,
    host: Option<Arc<FindHostNetns>>,
}

impl NetworkSetup {
    /// `directory` holds the namespaces: `<run dir>/netns`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), host: None }
    }

    /// For a caller that does not live in the namespace in which the hypervisor opens taps.
    pub fn with_host(mut self, find: Arc<FindHostNetns>) -> Self {
        self.host = Some(find);
        self
    }

    async fn host_netns(&self) -> Result<NetNs> {
        let failed = |source| NetworkError::OpenNetns { owner: "the hypervisor".to_owned(), source };
        let Some(find) = self.host.clone() else { return NetNs::current().map_err(failed) };
        tokio::task::spawn_blocking(move || find())
            .await
            .map_err(|error| failed(io::Error::other(error)))?
            .map_err(failed)
    }

    /// A connection from the network namespace of the node.
    pub async fn dial(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let make = move || if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let socket = match &self.host {
            None => make()?,
            // A socket stays in the namespace it was made in.
            Some(_) => self.host_netns().await.map_err(io::Error::other)?.run_async(make).await?,
        };
        socket.connect(address).await
    }

    /// Where a VM's namespace is kept.
    pub fn vm_netns_path(&self, vmi_uid: &str) -> PathBuf {
        self.directory.join(vmi_uid)
    }

    /// The pod's interface `eth0`: read, or, once a bridge binding has taken it over, remembered. Recorded on the way.
    pub async fn pod_facts(&self, vmi_uid: &str, pod_netns: BorrowedFd<'_>) -> Result<PodNetworkFacts> {
        facts::read(&self.record_path(checked(vmi_uid)?), pod_netns).await
    }

    /// Brings both namespaces to what the plan says; the VM's is made when missing. A tap that is already in the VM's namespace is
    /// joined again. Safe while the guest runs.
    pub async fn ensure(&self, plan: &NetPlan, pod_netns: BorrowedFd<'_>) -> Result<Changes> {
        let path = self.vm_netns_path(checked(&plan.vmi_uid)?);
        let open = |owner: &str, source| NetworkError::OpenNetns { owner: owner.to_owned(), source };
        let pod = NetNs::from_borrowed(pod_netns).map_err(|e| open("the launcher pod", e))?;
        let vm = ensure_netns(path).await.map_err(|e| open(&plan.vmi_uid, e))?;
        let mut changes = apply::run(plan, &pod, &vm).await?;
        let links = Links::in_netns(&vm).await?;
        for interface in &plan.interfaces {
            if links.get(&interface.tap.name).await?.is_some() {
                apply::join_tap(&links, interface, &mut changes).await?;
            }
        }
        Ok(changes)
    }

    /// Makes fresh taps in the host's namespace for a domain about to start. Only while no domain of this VM runs: what is left of
    /// earlier taps, here or in the VM's namespace, goes.
    pub async fn create_taps(&self, plan: &NetPlan) -> Result<()> {
        let netns = self.host_netns().await?;
        let host = Links::in_netns(&netns).await?;
        let vm = self.open_vm(&plan.vmi_uid).await?;
        for interface in &plan.interfaces {
            let spec = interface.tap.clone();
            host.delete_by_name(&spec.name).await?;
            if let Some(vm) = &vm {
                Links::in_netns(vm).await?.delete_by_name(&spec.name).await?;
            }
            let failed = |source| NetworkError::Tap { name: interface.tap.name.clone(), source };
            let made = netns.run_async(move || {
                tap::create(&spec)?;
                // The kernel must not greet the guest in the short time the device spends here.
                crate::sysctl::set(&format!("net.ipv6.conf.{}.disable_ipv6", spec.name), "1")
            });
            made.await.map_err(failed)?;
            let link = host.require(&interface.tap.name).await?;
            if link.mtu != interface.tap.mtu {
                host.set_mtu(&link, interface.tap.mtu).await?;
            }
        }
        Ok(())
    }

    /// Moves the VM's taps, which its (paused) QEMU holds open, out of the host's namespace and joins them. Taps that are already
    /// where they belong are only checked.
    pub async fn attach_taps(&self, plan: &NetPlan) -> Result<Changes> {
        let mut changes = Changes::default();
        let host = Links::in_netns(&self.host_netns().await?).await?;
        let vm = self.open_vm(&plan.vmi_uid).await?.ok_or_else(|| NetworkError::OpenNetns {
            owner: plan.vmi_uid.clone(),
            source: io::ErrorKind::NotFound.into(),
        })?;
        let links = Links::in_netns(&vm).await?;
        for interface in &plan.interfaces {
            let name = &interface.tap.name;
            if let Some(tap) = host.get(name).await? {
                host.move_to(&tap, std::os::fd::AsFd::as_fd(&vm)).await?;
                changes.made.push(format!("tap {name} moved"));
            } else if links.get(name).await?.is_none() {
                return Err(NetworkError::TapMissing { name: name.clone() });
            }
            apply::join_tap(&links, interface, &mut changes).await?;
        }
        Ok(changes)
    }

    /// Where a VM's tap is now.
    pub async fn tap_place(&self, interface: &InterfacePlan, vmi_uid: &str) -> Result<TapPlace> {
        if let Some(vm) = self.open_vm(vmi_uid).await?
            && Links::in_netns(&vm).await?.get(&interface.tap.name).await?.is_some()
        {
            return Ok(TapPlace::Vm);
        }
        let here = Links::in_netns(&self.host_netns().await?).await?.get(&interface.tap.name).await?.is_some();
        Ok(if here { TapPlace::Host } else { TapPlace::Nowhere })
    }

    /// The counters of a VM's tap, as the *guest* sees them: received is what was sent into the tap. `None`: no such tap.
    pub async fn guest_stats(&self, vmi_uid: &str, tap: &str) -> Result<Option<LinkStats>> {
        let Some(vm) = self.open_vm(vmi_uid).await? else { return Ok(None) };
        let Some(link) = Links::in_netns(&vm).await?.get(tap).await? else { return Ok(None) };
        let s = link.stats;
        Ok(Some(LinkStats {
            rx_bytes: s.tx_bytes,
            rx_packets: s.tx_packets,
            rx_errors: s.tx_errors,
            rx_dropped: s.tx_dropped,
            tx_bytes: s.rx_bytes,
            tx_packets: s.rx_packets,
            tx_errors: s.rx_errors,
            tx_dropped: s.rx_dropped,
        }))
    }

    /// Removes every trace of one VM outside its pod: taps, veth (with its end in the pod), bridge, namespace, record. Nothing there
    /// is fine. The domain must be gone.
    pub async fn release(&self, vmi_uid: &str) -> Result<()> {
        let path = self.vm_netns_path(checked(vmi_uid)?);
        let host = Links::in_netns(&self.host_netns().await?).await?;
        let first = names::tap(vmi_uid, 0);
        let stem = &first[..first.len() - 1];
        for link in host.list().await? {
            if link.name.starts_with(stem) {
                host.delete(&link).await?;
            }
        }
        if let Some(vm) = self.open_vm(vmi_uid).await? {
            // Another mount namespace may hold a copy of the bind mount and so keep the namespace: its devices go now.
            let links = Links::in_netns(&vm).await?;
            for link in links.list().await? {
                if matches!(link.kind.as_str(), "veth" | "tun" | "bridge") {
                    links.delete(&link).await?;
                }
            }
        }
        let text = path.display().to_string();
        let removed = tokio::task::spawn_blocking(move || NetNs::remove_at(&path)).await.map_err(io::Error::other);
        removed.and_then(|r| r).map_err(|source| NetworkError::RemoveNetns { path: text, source })?;
        let record = self.record_path(vmi_uid);
        match std::fs::remove_file(&record) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(NetworkError::RecordFacts { path: record.display().to_string(), source })
            }
            _ => Ok(()),
        }
    }

    /// The UIDs of all VMs with a namespace here, for finding orphans.
    pub fn list(&self) -> io::Result<Vec<String>> {
        let name = |path: PathBuf| path.file_name().map(|n| n.to_string_lossy().into_owned());
        Ok(NetNs::list(&self.directory)?.into_iter().filter_map(name).collect())
    }

    fn record_path(&self, vmi_uid: &str) -> PathBuf {
        self.directory.join(format!("{vmi_uid}.json"))
    }

    async fn open_vm(&self, vmi_uid: &str) -> Result<Option<NetNs>> {
        match NetNs::open(&self.vm_netns_path(checked(vmi_uid)?)) {
            Ok(netns) => Ok(Some(netns)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => Ok(None),
            Err(source) => Err(NetworkError::OpenNetns { owner: vmi_uid.to_owned(), source }),
        }
    }
}

/// Where a tap is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapPlace {
    /// Waiting for its domain.
    Host,
    /// In the VM's namespace.
    Vm,
    /// There is none.
    Nowhere,
}

async fn ensure_netns(path: PathBuf) -> io::Result<NetNs> {
    tokio::task::spawn_blocking(move || NetNs::ensure_at(Path::new(&path))).await.map_err(io::Error::other)?
}

/// A UID becomes a file name: nothing in it may lead elsewhere.
fn checked(uid: &str) -> Result<&str> {
    let fine = !uid.is_empty() && uid.len() <= 64 && uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if fine { Ok(uid) } else { Err(NetworkError::Uid { uid: uid.chars().take(80).collect() }) }
}
