//! Which user request is legal in which state. No lock, no await, no clock: a value the task owns and updates from facts.

use fv_stream::agent::DomainVerb;

use super::facts::{DomainFact, PauseCause};
use super::record::{Record, Stage};

/// The state of a VM, as far as requests are concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GateState {
    /// Nothing is known yet: right after a start of the handler, or while libvirt does not answer.
    #[default]
    Unknown,
    /// The guest has not run yet.
    Starting,
    Running,
    PausedByUser,
    /// Paused by QEMU because of a failed disk request or a watchdog; the user may resume it once the cause is gone.
    PausedIoError,
    /// Libvirt holds it paused for an operation of its own.
    Held,
    /// A shutdown is under way.
    Stopping,
    /// The guest is gone for good.
    Ended,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    NotRunning,
    AlreadyPaused,
    NotPaused,
    Paused,
    NoWayToReboot,
    Unknown,
}

impl std::fmt::Display for Denied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotRunning => "VMI is not running",
            Self::AlreadyPaused => "VMI is already paused",
            Self::NotPaused => "VMI is not paused",
            Self::Paused => "VMI is paused",
            Self::NoWayToReboot => "VMI neither have the agent connected nor the ACPI feature enabled",
            Self::Unknown => "the state of the VMI's domain is not known at the moment; try again",
        })
    }
}

/// The gate of one VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    state: GateState,
    /// Whether a soft reboot has a way into the guest: its agent or ACPI.
    pub can_signal: bool,
}

impl Gate {
    /// The present state.
    pub fn state(&self) -> GateState {
        self.state
    }

    /// Takes over what was observed.
    pub fn observe(&mut self, domain: DomainFact, record: Option<&Record>) {
        self.state = project(domain, record);
    }

    /// Takes over that `verb` was carried out, ahead of the event that will tell so.
    pub fn done(&mut self, verb: DomainVerb) {
        self.state = match (verb, self.state) {
            (DomainVerb::Pause, GateState::Running) => GateState::PausedByUser,
            (DomainVerb::Unpause, GateState::PausedByUser | GateState::PausedIoError) => GateState::Running,
            (_, state) => state,
        };
    }

    /// Whether `verb` is legal now.
    pub fn admit(&self, verb: DomainVerb) -> Result<(), Denied> {
        match self.state {
            GateState::Unknown => return Err(Denied::Unknown),
            GateState::Starting | GateState::Ended => return Err(Denied::NotRunning),
            GateState::Held => return Err(Denied::Unknown),
            GateState::Running | GateState::PausedByUser | GateState::PausedIoError | GateState::Stopping => {}
        }
        let paused = matches!(self.state, GateState::PausedByUser | GateState::PausedIoError);
        let stopping = self.state == GateState::Stopping;
        match verb {
            DomainVerb::Pause if paused => Err(Denied::AlreadyPaused),
            DomainVerb::Pause | DomainVerb::Reset | DomainVerb::SoftReboot if stopping => Err(Denied::NotRunning),
            DomainVerb::Pause => Ok(()),
            // A guest paused before it was told to stop can only hear the power button when it runs again.
            DomainVerb::Unpause if paused || stopping => Ok(()),
            DomainVerb::Unpause => Err(Denied::NotPaused),
            DomainVerb::SoftReboot if paused => Err(Denied::Paused),
            DomainVerb::SoftReboot if !self.can_signal => Err(Denied::NoWayToReboot),
            DomainVerb::SoftReboot | DomainVerb::Reset => Ok(()),
        }
    }

    /// Whether the guest has consoles to connect to.
    pub fn admit_stream(&self) -> Result<(), Denied> {
        match self.state {
            GateState::Running
            | GateState::PausedByUser
            | GateState::PausedIoError
            | GateState::Held
            | GateState::Stopping => Ok(()),
            GateState::Unknown => Err(Denied::Unknown),
            GateState::Starting | GateState::Ended => Err(Denied::NotRunning),
        }
    }
}

fn project(domain: DomainFact, record: Option<&Record>) -> GateState {
    if record.is_some_and(|r| r.outcome.is_some()) {
        return GateState::Ended;
    }
    let started = record.is_none_or(|r| r.stage == Stage::Running);
    let stopping = record.is_some_and(|r| r.stop.is_some());
    match domain {
        DomainFact::Unknown => GateState::Unknown,
        DomainFact::Absent => match record {
            Some(record) if record.may_have_run() => GateState::Ended,
            _ => GateState::Starting,
        },
        DomainFact::Panicked | DomainFact::ShutOff => GateState::Ended,
        DomainFact::Running | DomainFact::Paused(_) if !started => GateState::Starting,
        DomainFact::Running | DomainFact::Paused(_) if stopping => GateState::Stopping,
        DomainFact::Running => GateState::Running,
        DomainFact::Paused(PauseCause::User) => GateState::PausedByUser,
        DomainFact::Paused(PauseCause::IoError | PauseCause::Watchdog) => GateState::PausedIoError,
        DomainFact::Paused(PauseCause::Operation) => GateState::Held,
    }
}

#[cfg(test)]
mod tests;
