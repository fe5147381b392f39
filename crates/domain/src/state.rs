//! Domain state and what it means for the VMI.

use fv_api::meta::phases::VmiPhase;

/// State of a domain, with libvirt's reason where it decides something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DomainState {
    /// libvirt knows no state (yet).
    Unknown,
    Running,
    /// Blocked on a resource: the guest runs.
    Blocked,
    Paused(PauseReason),
    /// The guest is on its way down.
    ShuttingDown,
    Shutoff(StopReason),
    /// The guest panicked and is kept for inspection (not with `on_crash=destroy`).
    Crashed,
    /// Suspended by the guest's power management.
    PmSuspended,
}

/// Why a domain is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseReason {
    /// Somebody asked for it.
    User,
    /// Created with the paused flag and not resumed yet.
    StartingUp,
    Migration,
    PostCopyFailed,
    /// A disk reported an error (also: the disk is full) and its policy says stop.
    IoError,
    Watchdog,
    /// The guest is being reset or shut down right now.
    Transient,
    /// The guest panicked.
    GuestPanicked,
    Other,
}

/// Why a domain stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The guest powered itself off (on its own or asked by ACPI).
    Shutdown,
    /// QEMU was ended from the host by a signal it obeys (the host goes down, somebody killed it).
    HostShutdown,
    /// Destroyed by an API call.
    Destroyed,
    /// QEMU died, or the guest panicked.
    Crashed,
    Migrated,
    Saved,
    /// It never came up, or QEMU died without a word (libvirt's event then says this, its log `Crashed`).
    Failed,
    FromSnapshot,
    /// The domain is gone and nothing says why.
    Unknown,
}

/// The phase a VMI in `Scheduled` or `Running` has, given its domain (`features` table of phases).
///
/// A domain that was started paused and not resumed yet looks like one somebody paused (`Paused(User)`): whoever started it knows
/// better, and asks only afterwards.
///
/// `acpi`: whether the guest has ACPI, i.e. whether it could have obeyed a shutdown request: then being destroyed means that the
/// grace period ran out. `current` is returned where the state decides nothing.
pub fn phase(state: DomainState, acpi: bool, current: VmiPhase) -> VmiPhase {
    match state {
        DomainState::Running | DomainState::Blocked | DomainState::PmSuspended | DomainState::ShuttingDown => {
            VmiPhase::Running
        }
        DomainState::Paused(PauseReason::PostCopyFailed) => VmiPhase::Failed,
        DomainState::Paused(PauseReason::StartingUp) => current,
        DomainState::Paused(_) => VmiPhase::Running,
        DomainState::Crashed => VmiPhase::Failed,
        DomainState::Shutoff(reason) => match reason {
            StopReason::Shutdown | StopReason::Saved | StopReason::FromSnapshot => VmiPhase::Succeeded,
            StopReason::Destroyed if acpi => VmiPhase::Failed,
            StopReason::Destroyed => VmiPhase::Succeeded,
            // Upstream calls a signalled QEMU a success; but the guest did not choose to end, and with `RerunOnFailure` a node
            // that goes down must not leave its VMs down.
            StopReason::HostShutdown | StopReason::Crashed | StopReason::Failed => VmiPhase::Failed,
            StopReason::Migrated | StopReason::Unknown => current,
        },
        DomainState::Unknown => current,
    }
}

/// Reason and message of the VMI's `Paused` condition; `None`: the condition must be absent.
pub fn paused_condition(state: DomainState) -> Option<(&'static str, &'static str)> {
    match state {
        DomainState::Paused(PauseReason::User) => Some(("PausedByUser", "VMI was paused by user")),
        DomainState::Paused(PauseReason::IoError) => Some(("PausedIOError", "VMI was paused, IO error")),
        DomainState::Paused(PauseReason::Migration) => {
            Some(("PausedByMigrationMonitor", "VMI was paused by the migration monitor"))
        }
        DomainState::Paused(PauseReason::Watchdog) => Some(("PausedByWatchdog", "VMI was paused by its watchdog")),
        DomainState::Paused(PauseReason::GuestPanicked) => {
            Some(("PausedGuestPanicked", "VMI was paused, the guest panicked"))
        }
        DomainState::Paused(
            PauseReason::StartingUp | PauseReason::Transient | PauseReason::PostCopyFailed | PauseReason::Other,
        )
        | DomainState::Unknown
        | DomainState::Running
        | DomainState::Blocked
        | DomainState::ShuttingDown
        | DomainState::Shutoff(_)
        | DomainState::Crashed
        | DomainState::PmSuspended => None,
    }
}
