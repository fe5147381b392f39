//! Domain state → VMI.

use fv_api::meta::phases::VmiPhase::{self, Failed, Running, Scheduled, Succeeded};
use fv_domain::state::{DomainState, PauseReason, StopReason, paused_condition, phase};

#[test]
fn phases_follow_the_table() {
    let cases: &[(DomainState, bool, VmiPhase, VmiPhase)] = &[
        (DomainState::Running, true, Scheduled, Running),
        (DomainState::Blocked, true, Scheduled, Running),
        (DomainState::PmSuspended, true, Scheduled, Running),
        (DomainState::Paused(PauseReason::User), true, Scheduled, Running),
        // Started paused by us and not resumed yet: not running yet.
        (DomainState::Paused(PauseReason::StartingUp), true, Scheduled, Scheduled),
        (DomainState::Paused(PauseReason::IoError), true, Running, Running),
        (DomainState::Paused(PauseReason::PostCopyFailed), true, Running, Failed),
        (DomainState::ShuttingDown, true, Running, Running),
        (DomainState::Crashed, true, Running, Failed),
        (DomainState::Shutoff(StopReason::Shutdown), true, Running, Succeeded),
        (DomainState::Shutoff(StopReason::Shutdown), true, Scheduled, Succeeded),
        (DomainState::Shutoff(StopReason::HostShutdown), true, Running, Failed),
        (DomainState::Shutoff(StopReason::Crashed), true, Running, Failed),
        (DomainState::Shutoff(StopReason::Failed), true, Running, Failed),
        (DomainState::Shutoff(StopReason::Destroyed), true, Running, Failed),
        (DomainState::Shutoff(StopReason::Destroyed), false, Running, Succeeded),
        (DomainState::Shutoff(StopReason::Saved), true, Running, Succeeded),
        (DomainState::Shutoff(StopReason::Migrated), true, Running, Running),
        // Nothing known: nothing changes.
        (DomainState::Shutoff(StopReason::Unknown), true, Running, Running),
        (DomainState::Unknown, true, Running, Running),
    ];
    for (state, acpi, current, expected) in cases {
        assert_eq!(phase(*state, *acpi, *current), *expected, "{state:?} acpi={acpi} {current:?}");
    }
}

#[test]
fn only_a_pause_somebody_must_know_of_is_a_condition() {
    assert_eq!(
        paused_condition(DomainState::Paused(PauseReason::User)).map(|(reason, _)| reason),
        Some("PausedByUser")
    );
    assert_eq!(
        paused_condition(DomainState::Paused(PauseReason::IoError)).map(|(reason, _)| reason),
        Some("PausedIOError")
    );
    for state in [DomainState::Running, DomainState::Paused(PauseReason::StartingUp), DomainState::Unknown] {
        assert_eq!(paused_condition(state), None);
    }
}
