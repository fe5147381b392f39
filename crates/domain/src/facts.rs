//! What the node knows and the VMI does not say: paths, devices, ids, the accelerator.

use std::collections::BTreeMap;

/// How the guest's CPUs are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// Hardware virtualisation.
    Kvm,
    /// QEMU's software emulation.
    Tcg,
}

/// Everything [`crate::build`] needs besides the VMI. All paths are absolute, UTF-8 and seen by QEMU.
#[derive(Clone, Debug, PartialEq)]
pub struct DomainFacts {
    /// Id of this Ferrovirt instance; only domains that carry it are ever touched by it.
    pub instance_id: String,
    /// UID of the launcher pod that represents the VMI now.
    pub pod_uid: String,
    pub accelerator: Accelerator,
    /// The CPU architecture libvirt knows the guest by: `x86_64`, `aarch64`.
    pub arch: String,
    /// The emulator libvirt reports for the accelerator and architecture.
    pub emulator: String,
    /// The concrete machine type (`pc-q35-7.2`) that `spec.domain.machine.type` stands for on this node.
    pub machine_type: String,
    /// Where each volume's data is, by volume name.
    pub disks: BTreeMap<String, DiskSource>,
    /// The tap of each interface, by interface name.
    pub interfaces: BTreeMap<String, InterfaceFacts>,
    pub sockets: SocketPaths,
    /// Who QEMU runs as.
    pub owner: Owner,
    /// OVMF files; needed when the VMI boots by EFI.
    pub efi: Option<EfiFiles>,
    /// libvirt's resource partition, e.g. `/ferrovirt-1a2b3c4d`; `None`: libvirt's default.
    pub partition: Option<String>,
}

/// What a volume became on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskSource {
    pub kind: SourceKind,
    pub path: String,
    pub format: DiskFormat,
    /// The data must not be written, whatever the disk says. (A sata `disk` cannot be read-only: give it a file of its own.)
    pub read_only: bool,
    /// Whether `O_DIRECT` works on it (decides the default cache mode).
    pub direct_io: bool,
    /// Whether all blocks are allocated (decides the default IO mode).
    pub preallocated: bool,
}

/// A regular file or a block device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    File,
    Block,
}

/// Image format, always given explicitly: QEMU never guesses one from guest-written bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFormat {
    Raw,
    Qcow2,
}

/// The host side of a guest interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceFacts {
    /// Name of the tap device, which exists and is owned by [`DomainFacts::owner`].
    pub tap: String,
    /// The guest's MAC address, as decided (user's, pod's or generated).
    pub mac: String,
    pub mtu: Option<u32>,
    /// Queues of the tap; 1 unless it was made multi-queue.
    pub queues: u32,
}

/// Unix sockets QEMU listens on; each path is shorter than 108 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketPaths {
    pub serial: String,
    pub vnc: String,
    pub agent: String,
}

/// User and group of the QEMU process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

/// UEFI firmware: the read-only code and this VM's own variable store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EfiFiles {
    pub code: String,
    /// What `vars` was copied from.
    pub vars_template: String,
    /// This VM's variable store. The node agent makes it, owned by the VM's user: one that libvirt made QEMU could not open.
    pub vars: String,
    /// Whether the code enforces Secure Boot (needs SMM).
    pub secure: bool,
}

/// A domain ready to be started.
#[derive(Clone, Debug, PartialEq)]
pub struct BuiltDomain {
    pub uuid: uuid::Uuid,
    pub name: String,
    pub xml: String,
    /// What the user must be told (as events): where the domain differs from what was asked.
    pub notes: Vec<Note>,
    /// The guest's device name of every volume, in the order of `spec.domain.devices.disks` (`status.volumeStatus[].target`).
    pub disks: Vec<BuiltDisk>,
}

/// The device a volume is attached as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltDisk {
    /// Volume (and disk) name.
    pub name: String,
    /// `vda`, `sda`, …
    pub target: String,
}

/// A deviation from what was asked. `Display` is the text for the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Note {
    /// The CPU model needs hardware virtualisation; under emulation another is used.
    #[error("cpu model {requested} needs hardware virtualisation, which this node lacks: the guest gets {used}")]
    CpuModelFallback { requested: String, used: String },
    /// A required CPU feature cannot be promised by software emulation.
    #[error("cpu feature {feature} is not enforced under software emulation")]
    CpuFeatureIgnored { feature: String },
    /// Something only hardware virtualisation has is left out.
    #[error("{field} needs hardware virtualisation, which this node lacks: left out")]
    NeedsKvm { field: String },
}

impl Note {
    /// Stable reason word for the event.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::CpuModelFallback { .. } => "CPUModelFallback",
            Self::CpuFeatureIgnored { .. } => "CPUFeatureIgnored",
            Self::NeedsKvm { .. } => "HardwareVirtualizationMissing",
        }
    }
}
