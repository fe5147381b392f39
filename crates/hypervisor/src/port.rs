//! The port: what the node agent may ask of a hypervisor, and what it hears from it.

use std::time::Duration;

use async_trait::async_trait;
use fv_domain::DomainMetadata;
use fv_domain::state::{DomainState, PauseReason, StopReason};
use serde_json::Value;
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::error::HypervisorError;
use crate::stats::DomainStats;

/// A hypervisor that runs this instance's domains. Domains of others are invisible through it.
///
/// At most one call per domain is in flight; a further one waits (its waiting counts against its deadline). Every call has a
/// deadline of its own and fails with [`HypervisorError::Disconnected`] at once while there is no connection.
#[async_trait]
pub trait Hypervisor: Send + Sync + 'static {
    /// Creates and starts the transient domain `xml` describes; it must carry our metadata with this instance's id.
    /// After a `Timeout` the domain may still appear: ask again with [`Hypervisor::get`].
    async fn start(&self, xml: &str, mode: StartMode) -> Result<DomainInfo, HypervisorError>;

    /// All domains of this instance that exist now. Fails rather than leaving one out.
    async fn list(&self) -> Result<Vec<DomainInfo>, HypervisorError>;

    /// One domain. `NoDomain` is positive knowledge that it does not exist.
    async fn get(&self, uuid: Uuid) -> Result<DomainInfo, HypervisorError>;

    /// Stops the guest's CPUs.
    async fn suspend(&self, uuid: Uuid) -> Result<(), HypervisorError>;

    /// Lets the guest's CPUs go on.
    async fn resume(&self, uuid: Uuid) -> Result<(), HypervisorError>;

    /// Presses the ACPI power button. Returning says nothing about the guest's answer.
    async fn shutdown(&self, uuid: Uuid) -> Result<(), HypervisorError>;

    /// Asks the guest to reboot (ACPI power button, then a reset once it is down).
    async fn reboot(&self, uuid: Uuid) -> Result<(), HypervisorError>;

    /// Presses the reset button.
    async fn reset(&self, uuid: Uuid) -> Result<(), HypervisorError>;

    /// Ends the QEMU process at once. The caller holds the intent (see invariants 1 and 2).
    async fn destroy(&self, uuid: Uuid) -> Result<(), HypervisorError>;

    /// Connects (`up`) or disconnects the cable of the guest's network card whose host device is `tap`. A guest that sees its cable
    /// come back asks for its address again.
    async fn set_link(&self, uuid: Uuid, tap: &str, up: bool) -> Result<(), HypervisorError>;

    /// The live domain document.
    async fn xml(&self, uuid: Uuid) -> Result<String, HypervisorError>;

    /// Counters of the domain's vCPUs, memory and disks. Does not wait for anything that is done with the domain, nor for an earlier
    /// question that hangs in its QEMU: fails with [`HypervisorError::Busy`] at once then.
    async fn stats(&self, uuid: Uuid) -> Result<DomainStats, HypervisorError>;

    /// Sends one guest agent command (`{"execute": …}`) and returns its `return` value. What comes back was written by the guest.
    async fn agent_command(&self, uuid: Uuid, command: &Value, timeout: Duration) -> Result<Value, HypervisorError>;

    /// Why a domain that is gone stopped, from records that outlive it; `None`: nothing is known. For domains that ended while
    /// nobody listened.
    async fn last_stop(&self, uuid: Uuid) -> Result<Option<StopReason>, HypervisorError>;

    /// Removes the records that outlive a domain ([`Hypervisor::last_stop`] knows nothing afterwards), among them logs that were rotated.
    /// Refused while the domain exists. What cannot be removed is logged and stays: it is in nobody's way.
    async fn forget(&self, uuid: Uuid) -> Result<(), HypervisorError>;

    /// What this hypervisor can run.
    async fn capabilities(&self) -> Result<Capabilities, HypervisorError>;

    /// How long the present connection has been there; `None`: there is none.
    fn connected_for(&self) -> Option<Duration>;

    /// Whether there is a connection now.
    fn is_connected(&self) -> bool {
        self.connected_for().is_some()
    }

    /// Everything that happens from now on, also to domains of other instances on the same libvirtd: look a uuid up before acting. After `Lagged` and after [`HypervisorEvent::Connected`] list the domains again: events
    /// are hints to look, the list is the truth.
    fn events(&self) -> broadcast::Receiver<HypervisorEvent>;
}

/// How a domain begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartMode {
    Running,
    /// With its CPUs stopped, until [`Hypervisor::resume`].
    Paused,
}

/// A domain of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainInfo {
    pub uuid: Uuid,
    pub name: String,
    pub state: DomainState,
    /// The QEMU process, when it can be known from here.
    pub pid: Option<u32>,
    pub metadata: DomainMetadata,
}

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HypervisorEvent {
    /// A connection was made (the first, or again): list the domains.
    Connected,
    /// The connection is lost. Domains go on running; nothing is known about them until `Connected`.
    Disconnected {
        reason: String,
    },
    Domain(DomainEvent),
}

/// Something happened to a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainEvent {
    pub uuid: Uuid,
    pub kind: DomainEventKind,
}

/// What happened to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DomainEventKind {
    Started,
    Paused(PauseReason),
    Resumed,
    /// QEMU began to end; [`DomainEventKind::Stopped`] follows. `by_guest`: the guest powered itself off (asked or not).
    ShuttingDown {
        by_guest: bool,
    },
    /// The domain is gone.
    Stopped(StopReason),
    /// The guest reported a panic through its panic device; `Stopped(Crashed)` follows with `on_crash=destroy`.
    Panicked,
    /// The guest was reset, by itself or by us.
    Rebooted,
    /// A disk failed; the domain pauses when the disk's policy says so.
    IoError {
        disk: String,
        reason: String,
    },
    /// The guest's watchdog device expired; what it did is the device's action.
    WatchdogFired,
    AgentConnected,
    AgentDisconnected,
}

/// What the hypervisor of this node can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether hardware virtualisation truly works (see [`crate::kvm`]).
    pub kvm_usable: bool,
    /// libvirt's name of the host architecture: `x86_64`.
    pub arch: String,
    /// The emulator for this architecture.
    pub emulator: String,
    /// `9.0.0`
    pub libvirt_version: String,
    /// `7.2.22`
    pub qemu_version: String,
    pub machines: Vec<MachineType>,
    /// What `host-model` means here; `None` without KVM.
    pub host_model: Option<String>,
    /// Features that `host-model` adds to it.
    pub host_model_features: Vec<String>,
    /// All features a guest's CPU may have here: those of `host_model` and those added to it. Empty without KVM.
    pub cpu_features: Vec<String>,
    /// Vendor of the host's CPU: `Intel`; `None` without KVM.
    pub cpu_vendor: Option<String>,
    pub cpu_models: Vec<CpuModel>,
    /// UEFI firmware found, best for an ordinary guest first.
    pub efi: Vec<EfiFirmware>,
}

impl Capabilities {
    /// The concrete machine type `name` stands for (`q35` → `pc-q35-7.2`); `None` when this QEMU has no such machine.
    pub fn resolve_machine(&self, name: &str) -> Option<&str> {
        let machine = self.machines.iter().find(|machine| machine.name == name)?;
        Some(machine.canonical.as_deref().unwrap_or(&machine.name))
    }

    /// The firmware for a guest with or without Secure Boot.
    pub fn efi_firmware(&self, secure_boot: bool) -> Option<&EfiFirmware> {
        self.efi.iter().find(|firmware| firmware.secure_boot == secure_boot)
    }
}

/// A machine type of this QEMU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineType {
    pub name: String,
    /// What an alias stands for.
    pub canonical: Option<String>,
    pub max_vcpus: u32,
}

/// A CPU model libvirt knows by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuModel {
    pub name: String,
    /// Whether a guest may use it here.
    pub usable: bool,
}

/// A pair of UEFI code and variable template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EfiFirmware {
    pub code: String,
    pub vars_template: String,
    /// The code enforces Secure Boot (needs SMM) and the template has the usual keys enrolled.
    pub secure_boot: bool,
}
