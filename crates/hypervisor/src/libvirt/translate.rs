//! libvirt's numbers → our words. Pure; unknown numbers (of a newer libvirt) become the word that promises least.

use std::ffi::c_int;

use uuid::Uuid;
use virt::error::{Error, ErrorDomain, ErrorNumber};
use virt_sys as sys;

use crate::error::HypervisorError;
use crate::port::DomainEventKind;
use crate::{DomainState, PauseReason, StopReason};

/// A domain event as libvirt states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RawEvent {
    Lifecycle { event: c_int, detail: c_int },
    Reboot,
    Watchdog,
    IoError { path: String, reason: String },
    Agent { state: c_int },
}

/// State and reason of `virDomainGetState`.
pub(super) fn domain_state(state: sys::virDomainState, reason: i32) -> DomainState {
    let reason = u32::try_from(reason).unwrap_or_default();
    match state {
        sys::VIR_DOMAIN_RUNNING => DomainState::Running,
        sys::VIR_DOMAIN_BLOCKED => DomainState::Blocked,
        sys::VIR_DOMAIN_PAUSED => DomainState::Paused(match reason {
            // A domain created paused and never resumed has this one, a paused one too: the difference is only known to whoever
            // asked for it.
            sys::VIR_DOMAIN_PAUSED_USER => PauseReason::User,
            sys::VIR_DOMAIN_PAUSED_STARTING_UP => PauseReason::StartingUp,
            sys::VIR_DOMAIN_PAUSED_MIGRATION | sys::VIR_DOMAIN_PAUSED_POSTCOPY => PauseReason::Migration,
            sys::VIR_DOMAIN_PAUSED_POSTCOPY_FAILED => PauseReason::PostCopyFailed,
            sys::VIR_DOMAIN_PAUSED_IOERROR => PauseReason::IoError,
            sys::VIR_DOMAIN_PAUSED_WATCHDOG => PauseReason::Watchdog,
            sys::VIR_DOMAIN_PAUSED_SHUTTING_DOWN => PauseReason::Transient,
            sys::VIR_DOMAIN_PAUSED_CRASHED => PauseReason::GuestPanicked,
            _ => PauseReason::Other,
        }),
        sys::VIR_DOMAIN_SHUTDOWN => DomainState::ShuttingDown,
        sys::VIR_DOMAIN_SHUTOFF => DomainState::Shutoff(match reason {
            sys::VIR_DOMAIN_SHUTOFF_SHUTDOWN => StopReason::Shutdown,
            sys::VIR_DOMAIN_SHUTOFF_DESTROYED => StopReason::Destroyed,
            sys::VIR_DOMAIN_SHUTOFF_CRASHED => StopReason::Crashed,
            sys::VIR_DOMAIN_SHUTOFF_MIGRATED => StopReason::Migrated,
            sys::VIR_DOMAIN_SHUTOFF_SAVED => StopReason::Saved,
            sys::VIR_DOMAIN_SHUTOFF_FAILED | sys::VIR_DOMAIN_SHUTOFF_DAEMON => StopReason::Failed,
            sys::VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT => StopReason::FromSnapshot,
            _ => StopReason::Unknown,
        }),
        sys::VIR_DOMAIN_CRASHED => DomainState::Crashed,
        sys::VIR_DOMAIN_PMSUSPENDED => DomainState::PmSuspended,
        _ => DomainState::Unknown,
    }
}

/// An event in our words; `None`: it says nothing we act on.
///
/// `host_ends` is what the last `ShuttingDown` of the same domain said: whether the host told QEMU to end.
pub(super) fn event_kind(event: &RawEvent, host_ends: bool) -> Option<DomainEventKind> {
    Some(match event {
        RawEvent::Lifecycle { event, detail } => return lifecycle(*event, *detail, host_ends),
        RawEvent::Reboot => DomainEventKind::Rebooted,
        RawEvent::Watchdog => DomainEventKind::WatchdogFired,
        RawEvent::IoError { path, reason } => DomainEventKind::IoError { disk: path.clone(), reason: reason.clone() },
        RawEvent::Agent { state } => match u32::try_from(*state).ok()? {
            sys::VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED => DomainEventKind::AgentConnected,
            sys::VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_DISCONNECTED => DomainEventKind::AgentDisconnected,
            _ => return None,
        },
    })
}

fn lifecycle(event: c_int, detail: c_int, host_ends: bool) -> Option<DomainEventKind> {
    let detail = u32::try_from(detail).unwrap_or(u32::MAX);
    Some(match u32::try_from(event).ok()? {
        sys::VIR_DOMAIN_EVENT_STARTED => DomainEventKind::Started,
        sys::VIR_DOMAIN_EVENT_RESUMED => DomainEventKind::Resumed,
        sys::VIR_DOMAIN_EVENT_SUSPENDED => DomainEventKind::Paused(match detail {
            sys::VIR_DOMAIN_EVENT_SUSPENDED_PAUSED => PauseReason::User,
            sys::VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED | sys::VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY => {
                PauseReason::Migration
            }
            sys::VIR_DOMAIN_EVENT_SUSPENDED_IOERROR => PauseReason::IoError,
            sys::VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG => PauseReason::Watchdog,
            sys::VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY_FAILED => PauseReason::PostCopyFailed,
            _ => PauseReason::Other,
        }),
        sys::VIR_DOMAIN_EVENT_SHUTDOWN => {
            DomainEventKind::ShuttingDown { by_guest: detail != sys::VIR_DOMAIN_EVENT_SHUTDOWN_HOST }
        }
        sys::VIR_DOMAIN_EVENT_STOPPED => DomainEventKind::Stopped(match detail {
            sys::VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN if host_ends => StopReason::HostShutdown,
            sys::VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN => StopReason::Shutdown,
            sys::VIR_DOMAIN_EVENT_STOPPED_DESTROYED => StopReason::Destroyed,
            sys::VIR_DOMAIN_EVENT_STOPPED_CRASHED => StopReason::Crashed,
            sys::VIR_DOMAIN_EVENT_STOPPED_MIGRATED => StopReason::Migrated,
            sys::VIR_DOMAIN_EVENT_STOPPED_SAVED => StopReason::Saved,
            sys::VIR_DOMAIN_EVENT_STOPPED_FAILED => StopReason::Failed,
            sys::VIR_DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT => StopReason::FromSnapshot,
            _ => StopReason::Unknown,
        }),
        sys::VIR_DOMAIN_EVENT_CRASHED if detail == sys::VIR_DOMAIN_EVENT_CRASHED_PANICKED => DomainEventKind::Panicked,
        _ => return None,
    })
}

/// Whether an error is about the connection and not about what was asked.
pub(super) fn is_connection_error(error: &Error) -> bool {
    matches!(error.code(), ErrorNumber::InvalidConn | ErrorNumber::NoConnect)
        || matches!(error.domain(), ErrorDomain::Rpc | ErrorDomain::Remote)
}

/// An error of a call about `uuid` (nil when it is about no domain).
pub(super) fn call_error(step: &'static str, uuid: Uuid, error: &Error) -> HypervisorError {
    let message = error.message().to_owned();
    match error.code() {
        ErrorNumber::NoDomain => HypervisorError::NoDomain { uuid },
        ErrorNumber::AgentUnresponsive | ErrorNumber::AgentUnsynced => {
            HypervisorError::AgentUnavailable { uuid, message }
        }
        ErrorNumber::OperationInvalid => HypervisorError::InvalidState { step, message },
        code => HypervisorError::Libvirt { step, code: code.to_raw(), message },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_of_a_newer_libvirt_promise_nothing() {
        assert_eq!(domain_state(99, 0), DomainState::Unknown);
        assert_eq!(domain_state(sys::VIR_DOMAIN_PAUSED, 99), DomainState::Paused(PauseReason::Other));
        assert_eq!(domain_state(sys::VIR_DOMAIN_SHUTOFF, -1), DomainState::Shutoff(StopReason::Unknown));
        assert_eq!(event_kind(&RawEvent::Lifecycle { event: 42, detail: 0 }, false), None);
        let stopped = RawEvent::Lifecycle { event: 5, detail: 77 };
        assert_eq!(event_kind(&stopped, false), Some(DomainEventKind::Stopped(StopReason::Unknown)));
    }

    #[test]
    fn a_shutdown_from_the_host_is_not_the_guests_own() {
        let stopped = RawEvent::Lifecycle { event: 5, detail: 0 };
        assert_eq!(event_kind(&stopped, true), Some(DomainEventKind::Stopped(StopReason::HostShutdown)));
        assert_eq!(event_kind(&stopped, false), Some(DomainEventKind::Stopped(StopReason::Shutdown)));
        // Who destroys or crashes is told by libvirt itself.
        let destroyed = RawEvent::Lifecycle { event: 5, detail: 1 };
        assert_eq!(event_kind(&destroyed, true), Some(DomainEventKind::Stopped(StopReason::Destroyed)));
        for (detail, by_guest) in [(0, true), (1, true), (2, false)] {
            let event = RawEvent::Lifecycle { event: 6, detail };
            assert_eq!(event_kind(&event, false), Some(DomainEventKind::ShuttingDown { by_guest }));
        }
    }

    #[test]
    fn panics_pauses_and_agents_are_told_apart() {
        let event = |event, detail| event_kind(&RawEvent::Lifecycle { event, detail }, false);
        assert_eq!(event(8, 0), Some(DomainEventKind::Panicked));
        assert_eq!(event(8, 1), None);
        assert_eq!(event(3, 2), Some(DomainEventKind::Paused(PauseReason::IoError)));
        assert_eq!(event_kind(&RawEvent::Agent { state: 1 }, false), Some(DomainEventKind::AgentConnected));
        assert_eq!(event_kind(&RawEvent::Agent { state: 2 }, false), Some(DomainEventKind::AgentDisconnected));
        assert_eq!(event_kind(&RawEvent::Agent { state: 0 }, false), None);
    }
}
