//! What is known about one VM at one moment. "Not known" is a value of its own everywhere.

use fv_api::meta::phases::VmiPhase;
use fv_hypervisor::{DomainState, PauseReason, StopReason};
use jiff::{SignedDuration, Timestamp};

use super::record::Record;

/// The VMI object, as the API showed it.
#[derive(Clone, Debug, PartialEq)]
pub enum VmiFact {
    /// No answer yet, or none to rely on.
    Unknown,
    /// A live request found no such object, or another one under its name.
    Gone,
    Present(VmiFacts),
}

/// The part of a VMI the decision needs.
#[derive(Clone, Debug, PartialEq)]
pub struct VmiFacts {
    pub phase: VmiPhase,
    /// Whether `status.nodeName` is this node.
    pub assigned_here: bool,
    /// Set once the object is being deleted.
    pub deleting: bool,
    /// The guest has to leave this node, and shutting it down is the way (`status.evacuationNodeName`, where the eviction strategy
    /// knows no better).
    pub evacuate: bool,
    pub grace: SignedDuration,
    pub start_paused: bool,
    /// The condition DomainDeleted is True already.
    pub domain_deleted: bool,
}

/// The domain, as libvirt showed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DomainFact {
    /// Libvirt did not answer.
    Unknown,
    /// Libvirt answered that it has no such domain.
    Absent,
    Running,
    Paused(PauseCause),
    /// The guest panicked; QEMU still holds what is left of it.
    Panicked,
    /// The guest has powered off; QEMU is about to leave.
    ShutOff,
}

/// Why a domain is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseCause {
    User,
    IoError,
    /// The guest's watchdog fired and says pause.
    Watchdog,
    /// Libvirt itself, for the length of an operation (starting up, a snapshot, a dump).
    Operation,
}

impl DomainFact {
    /// What libvirt's state means here.
    pub fn of(state: DomainState) -> Self {
        match state {
            DomainState::Running | DomainState::Blocked | DomainState::PmSuspended | DomainState::ShuttingDown => {
                Self::Running
            }
            DomainState::Paused(reason) => match reason {
                // Created paused: ours to resume, or what the user asked for (`startStrategy: Paused`); the record tells.
                PauseReason::User | PauseReason::StartingUp => Self::Paused(PauseCause::User),
                PauseReason::IoError => Self::Paused(PauseCause::IoError),
                PauseReason::Watchdog => Self::Paused(PauseCause::Watchdog),
                PauseReason::GuestPanicked => Self::Panicked,
                PauseReason::Migration | PauseReason::PostCopyFailed | PauseReason::Transient | PauseReason::Other => {
                    Self::Paused(PauseCause::Operation)
                }
            },
            DomainState::Crashed => Self::Panicked,
            DomainState::Shutoff(_) => Self::ShutOff,
            DomainState::Unknown => Self::Unknown,
        }
    }
}

impl ExitCause {
    /// What libvirt's reason for the end of a domain means here; `None`: it gives none.
    pub fn of(reason: StopReason) -> Option<Self> {
        match reason {
            StopReason::Shutdown | StopReason::Saved | StopReason::FromSnapshot => Some(Self::Shutdown),
            StopReason::Destroyed => Some(Self::Destroyed),
            StopReason::Crashed | StopReason::HostShutdown => Some(Self::Crashed),
            StopReason::Failed => Some(Self::Failed),
            StopReason::Migrated | StopReason::Unknown => None,
        }
    }
}

/// How a domain ended, when libvirt told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCause {
    /// The guest powered itself off.
    Shutdown,
    /// Somebody destroyed the domain through libvirt.
    Destroyed,
    /// QEMU died, or was killed.
    Crashed,
    /// Libvirt gave up on it.
    Failed,
}

/// The launcher pod's side on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SandboxFact {
    Unknown,
    Missing,
    /// Names the pod and its network namespace: a pod can get a new one.
    Present {
        id: String,
    },
}

/// Whether a QEMU process of this VM lives on the node, asked of the kernel and not of libvirt: a daemon other than the one that
/// started the guest knows nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessFact {
    /// Nobody asked, or the kernel gave no answer.
    NotAsked,
    Alive,
    Dead,
}

/// Whether the guest knows about its address. Its address can change under it only with the bridge binding, when its pod is replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GuestLink {
    #[default]
    Settled,
    /// It has to ask for its address again: its cable must go out and in.
    Stale,
    /// The cable is out.
    Down { since: Timestamp },
}

/// What this process has already made sure of; empty after a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// The sandbox whose network was last made sure of.
    pub network_of: Option<String>,
    /// The taps were put where they belong since then.
    pub plugged: bool,
    pub link: GuestLink,
    pub console_attached: bool,
    pub last_power_button: Option<Timestamp>,
    pub prepared: bool,
    pub released_launcher: bool,
}

/// All facts about one VM.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    pub now: Timestamp,
    pub vmi: VmiFact,
    pub domain: DomainFact,
    pub process: ProcessFact,
    pub exit: Option<ExitCause>,
    /// What the guest's liveness probe found often enough to count.
    pub unhealthy: Option<String>,
    pub record: Option<Record>,
    pub sandbox: SandboxFact,
    pub session: Session,
}
