//! What to do next for one VM: a total, deterministic function of what is known.
//!
//! A plan goes as far as the facts reach; after its last step, or the first that fails, the facts are gathered again. A step may
//! be repeated at any time without harm.

use fv_api::meta::phases::VmiPhase;
use jiff::SignedDuration;

use super::facts::{
    DomainFact, ExitCause, GuestLink, Observed, PauseCause, ProcessFact, SandboxFact, VmiFact, VmiFacts,
};
use super::record::{Outcome, Record, Stage, Stop};

/// Guests that are still booting do not hear the power button, so it is pressed again.
pub const POWER_BUTTON_INTERVAL: SignedDuration = SignedDuration::from_secs(5);
/// How soon facts that could not be had are asked for again.
pub const UNKNOWN_INTERVAL: SignedDuration = SignedDuration::from_secs(2);

/// How long a guest's cable stays out. Linux tells its user space about a lost carrier at most once a second: a shorter time can pass
/// without any DHCP client learning of it.
pub const LINK_DOWN: SignedDuration = SignedDuration::from_secs(2);

/// One effect.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Writes the first record and gives the VM a host user.
    Open,
    /// Writes a record for a domain found without one.
    Adopt,
    RecordStop(Stop),
    RecordStage(Stage),
    RecordOutcome(Outcome),
    /// Fetches images and makes disks, cloud-init image and firmware variables.
    Prepare,
    /// Makes sure of the guest's network in this pod, from bridge to DHCP answer.
    Connect {
        sandbox: String,
    },
    /// Creates the domain, paused before its first instruction.
    Define,
    /// Moves the tap to where the guest's network is. The domain must be there, and paused on its first start.
    Plug,
    /// Takes the guest's cable out, so that it asks for its new address once [`Step::LinkUp`] puts it in again.
    LinkDown,
    LinkUp,
    AttachConsole,
    Resume,
    PowerButton,
    Destroy,
    Publish(Goal),
    ReleaseNetwork,
    ReleaseDisks,
    /// Lets the launcher go.
    ReleaseLauncher,
    /// Removes the record and its directory: the last trace.
    Forget,
}

impl Step {
    /// Stable word for logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Open => "Open",
            Self::Adopt => "Adopt",
            Self::RecordStop(_) => "RecordStop",
            Self::RecordStage(_) => "RecordStage",
            Self::RecordOutcome(_) => "RecordOutcome",
            Self::Prepare => "Prepare",
            Self::Connect { .. } => "Connect",
            Self::Define => "Define",
            Self::Plug => "Plug",
            Self::LinkDown => "LinkDown",
            Self::LinkUp => "LinkUp",
            Self::AttachConsole => "AttachConsole",
            Self::Resume => "Resume",
            Self::PowerButton => "PowerButton",
            Self::Destroy => "Destroy",
            Self::Publish(_) => "Publish",
            Self::ReleaseNetwork => "ReleaseNetwork",
            Self::ReleaseDisks => "ReleaseDisks",
            Self::ReleaseLauncher => "ReleaseLauncher",
            Self::Forget => "Forget",
        }
    }
}

/// What the VMI's status has to say.
#[derive(Clone, Debug, PartialEq)]
pub enum Goal {
    Running {
        paused: Option<PauseCause>,
    },
    Ended(Outcome),
    /// The condition the controller waits for before it removes pod and finalizer.
    Deleted,
}

/// A state an operator has to know about. Nothing is done about it: every remedy could end a healthy guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trouble {
    LibvirtUnreachable,
    /// The VMI is gone without having been deleted through its finalizer.
    Orphan,
    /// The VMI is assigned to another node, the guest runs here.
    Misplaced,
    /// QEMU runs, libvirt does not know it.
    LostByLibvirt,
    /// A guest without a launcher pod: no network until it is back.
    LauncherMissing,
    /// The node's record of the VM cannot be read: nothing at all is done for or to it.
    DamagedRecord,
}

impl Trouble {
    /// Stable word for events, logs and metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::LibvirtUnreachable => "LibvirtUnreachable",
            Self::Orphan => "OrphanedDomain",
            Self::Misplaced => "MisplacedDomain",
            Self::LostByLibvirt => "DomainUnknownToLibvirt",
            Self::LauncherMissing => "LauncherMissing",
            Self::DamagedRecord => "DamagedRecord",
        }
    }

    /// For the user, with the way out.
    pub fn message(self) -> &'static str {
        match self {
            Self::LibvirtUnreachable => "libvirt does not answer; the guest is left as it is until it does",
            Self::Orphan => {
                "the VirtualMachineInstance is gone from the API, but nobody asked to stop its guest; it is kept running: restore the \
                 object, or stop the guest on its node"
            }
            Self::Misplaced => {
                "the VirtualMachineInstance is assigned to another node, but its guest runs on this one; nothing is changed"
            }
            Self::LostByLibvirt => {
                "a QEMU process of this VirtualMachineInstance lives, but libvirt does not know it: check that the libvirt daemon that \
                 started it is the one in use"
            }
            Self::LauncherMissing => {
                "the launcher pod has no network namespace on this node; the guest goes on and is reconnected when it has"
            }
            Self::DamagedRecord => {
                "the node's record of this VirtualMachineInstance cannot be read, so nothing is done for or to its guest: mend the file, or \
                 remove its directory once the guest is stopped, and start the node agent again"
            }
        }
    }
}

/// What to do now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub steps: Vec<Step>,
    pub trouble: Option<Trouble>,
    /// Look again after this long even if nothing happens.
    pub wake: Option<SignedDuration>,
    /// Nothing of the VM is left to care for: its task may end.
    pub finished: bool,
}

impl Plan {
    fn steps(steps: impl Into<Vec<Step>>) -> Self {
        Self { steps: steps.into(), ..Self::default() }
    }

    fn wait(trouble: Option<Trouble>) -> Self {
        Self { trouble, wake: Some(UNKNOWN_INTERVAL), ..Self::default() }
    }
}

/// Decides for one VM.
pub fn decide(o: &Observed) -> Plan {
    match (&o.domain, &o.record) {
        (DomainFact::Unknown, _) => Plan::wait(Some(Trouble::LibvirtUnreachable)),
        (DomainFact::Absent, record) => match (o.process, record) {
            (ProcessFact::Alive, _) => Plan::wait(Some(Trouble::LostByLibvirt)),
            // The kernel gave no answer: the guest may live.
            (ProcessFact::NotAsked, _) => Plan::wait(None),
            (ProcessFact::Dead, None) => without_trace(o),
            (ProcessFact::Dead, Some(record)) => without_domain(o, record),
        },
        (_, None) => with_unrecorded_domain(o),
        (domain, Some(record)) => with_domain(o, *domain, record),
    }
}

/// The intent to end this VM, as the API or the record has it.
fn stop_intent(o: &Observed) -> Option<Stop> {
    let recorded = o.record.as_ref().and_then(|r| r.stop.clone());
    match &o.vmi {
        VmiFact::Present(vmi) if vmi.assigned_here && (vmi.deleting || vmi.evacuate || vmi.phase.is_final()) => {
            let since = recorded.as_ref().map_or(o.now, |stop| stop.since);
            let unhealthy = recorded.and_then(|stop| stop.unhealthy);
            Some(Stop { since, grace_seconds: vmi.grace.as_secs(), unhealthy })
        }
        VmiFact::Present(vmi) if vmi.assigned_here && recorded.is_none() && o.domain == DomainFact::Running => {
            let unhealthy = o.unhealthy.clone()?;
            Some(Stop { since: o.now, grace_seconds: vmi.grace.as_secs(), unhealthy: Some(unhealthy) })
        }
        _ => recorded,
    }
}

fn without_trace(o: &Observed) -> Plan {
    let VmiFact::Present(vmi) = &o.vmi else {
        return Plan { finished: o.vmi == VmiFact::Gone, ..Plan::default() };
    };
    if !vmi.assigned_here {
        return Plan { finished: true, ..Plan::default() };
    }
    if vmi.deleting {
        if vmi.domain_deleted {
            return Plan { finished: true, ..Plan::default() };
        }
        return Plan::steps([Step::ReleaseLauncher, Step::Publish(Goal::Deleted)]);
    }
    match vmi.phase {
        VmiPhase::Scheduled if vmi.evacuate => Plan::steps([Step::Publish(Goal::Ended(never_started()))]),
        VmiPhase::Scheduled => Plan::steps([Step::Open]),
        VmiPhase::Running => Plan::steps([Step::Publish(Goal::Ended(vanished()))]),
        VmiPhase::Succeeded | VmiPhase::Failed if !o.session.released_launcher => Plan::steps([Step::ReleaseLauncher]),
        VmiPhase::Unset
        | VmiPhase::Pending
        | VmiPhase::Scheduling
        | VmiPhase::Unknown
        | VmiPhase::Succeeded
        | VmiPhase::Failed => Plan::default(),
    }
}

fn without_domain(o: &Observed, record: &Record) -> Plan {
    let stop = stop_intent(o);
    if record.may_have_run() && record.outcome.is_none() {
        return Plan::steps([Step::RecordOutcome(outcome_of(o.exit, stop.as_ref()))]);
    }
    if record.outcome.is_none()
        && matches!(&o.vmi, VmiFact::Present(vmi) if vmi.assigned_here && vmi.evacuate && !vmi.deleting && !vmi.phase.is_final())
    {
        return Plan::steps([Step::RecordOutcome(never_started())]);
    }
    if record.outcome.is_some() || stop.is_some() {
        return release(o, record);
    }
    // The guest has never run, and nobody asked to end it.
    match &o.vmi {
        VmiFact::Unknown => Plan::wait(None),
        VmiFact::Gone => release(o, record),
        VmiFact::Present(vmi) if !vmi.assigned_here => release(o, record),
        VmiFact::Present(vmi) if vmi.phase == VmiPhase::Running => {
            // The API remembers a guest that this record does not: it must not be started over its own disks again.
            Plan::steps([Step::RecordOutcome(vanished())])
        }
        VmiFact::Present(_) => start(o, record),
    }
}

fn start(o: &Observed, record: &Record) -> Plan {
    if !o.session.prepared {
        return Plan::steps([Step::Prepare]);
    }
    let SandboxFact::Present { id } = &o.sandbox else {
        return Plan::wait(None);
    };
    let mut steps = vec![Step::Connect { sandbox: id.clone() }];
    if record.stage < Stage::Starting {
        steps.push(Step::RecordStage(Stage::Starting));
    }
    steps.push(Step::Define);
    Plan::steps(steps)
}

/// Gives back all a VM without a domain holds, and says so.
fn release(o: &Observed, record: &Record) -> Plan {
    let mut steps = Vec::new();
    let vmi = match &o.vmi {
        VmiFact::Unknown => return Plan::wait(None),
        VmiFact::Gone => None,
        VmiFact::Present(vmi) => vmi.assigned_here.then_some(vmi),
    };
    if let (Some(vmi), Some(outcome)) = (vmi, &record.outcome)
        && !vmi.phase.is_final()
    {
        steps.push(Step::Publish(Goal::Ended(outcome.clone())));
    }
    steps.extend([Step::ReleaseNetwork, Step::ReleaseDisks, Step::ReleaseLauncher]);
    if vmi.is_some_and(|vmi| vmi.deleting && !vmi.domain_deleted) {
        steps.push(Step::Publish(Goal::Deleted));
    }
    steps.push(Step::Forget);
    Plan::steps(steps)
}

fn with_unrecorded_domain(o: &Observed) -> Plan {
    match &o.vmi {
        VmiFact::Unknown => Plan::wait(None),
        VmiFact::Gone => Plan::wait(Some(Trouble::Orphan)),
        VmiFact::Present(vmi) if !vmi.assigned_here => Plan::wait(Some(Trouble::Misplaced)),
        VmiFact::Present(_) => Plan::steps([Step::Adopt]),
    }
}

fn with_domain(o: &Observed, domain: DomainFact, record: &Record) -> Plan {
    if record.outcome.is_some() {
        return Plan::steps([Step::Destroy]);
    }
    match domain {
        DomainFact::Panicked => return Plan::steps([Step::RecordOutcome(panicked())]),
        DomainFact::ShutOff => {
            let exit = o.exit.or(Some(ExitCause::Shutdown));
            return Plan::steps([Step::RecordOutcome(outcome_of(exit, record.stop.as_ref()))]);
        }
        DomainFact::Unknown | DomainFact::Absent | DomainFact::Running | DomainFact::Paused(_) => {}
    }
    if let Some(stop) = stop_intent(o) {
        return shut_down(o, record, stop);
    }
    let mut plan = keep_up(o, domain, record);
    plan.trouble = plan.trouble.or(match &o.vmi {
        VmiFact::Gone => Some(Trouble::Orphan),
        VmiFact::Present(vmi) if !vmi.assigned_here => Some(Trouble::Misplaced),
        VmiFact::Present(_) | VmiFact::Unknown => None,
    });
    if matches!(o.vmi, VmiFact::Unknown | VmiFact::Gone) {
        plan.wake = plan.wake.or(Some(UNKNOWN_INTERVAL));
    }
    plan
}

fn shut_down(o: &Observed, record: &Record, mut stop: Stop) -> Plan {
    let mut steps = Vec::new();
    // A clock that was set back must not keep the guest alive: its grace period begins anew, by what the clock says now.
    stop.since = stop.since.min(o.now);
    if record.stop.as_ref() != Some(&stop) {
        steps.push(Step::RecordStop(stop.clone()));
    }
    if !record.may_have_run() {
        steps.push(Step::Destroy);
        return Plan::steps(steps);
    }
    let grace = SignedDuration::from_secs(stop.grace_seconds.max(0));
    let left = grace - o.now.duration_since(stop.since);
    if !left.is_positive() {
        let outcome = stop.unhealthy.as_deref().map_or_else(|| killed(stop.grace_seconds), unhealthy);
        steps.extend([Step::RecordOutcome(outcome), Step::Destroy]);
        return Plan::steps(steps);
    }
    if !o.session.console_attached {
        steps.push(Step::AttachConsole);
    }
    let since_press = o.session.last_power_button.map(|at| o.now.duration_since(at));
    let next_press = match since_press {
        Some(since) if since < POWER_BUTTON_INTERVAL && !since.is_negative() => POWER_BUTTON_INTERVAL - since,
        _ => {
            steps.push(Step::PowerButton);
            POWER_BUTTON_INTERVAL
        }
    };
    Plan { steps, wake: Some(left.min(next_press)), ..Plan::default() }
}

/// Nothing asks for an end: makes sure the guest runs, is connected, and is reported.
fn keep_up(o: &Observed, domain: DomainFact, record: &Record) -> Plan {
    let vmi = match &o.vmi {
        VmiFact::Present(vmi) if vmi.assigned_here => Some(vmi),
        VmiFact::Present(_) | VmiFact::Unknown | VmiFact::Gone => None,
    };
    if record.stage < Stage::Running {
        return bring_up(o, domain, record, vmi);
    }
    let mut steps = Vec::new();
    if !o.session.console_attached {
        steps.push(Step::AttachConsole);
    }
    // The guest is reported before its network is mended: a network that cannot be mended must not hide a running guest.
    if vmi.is_some() {
        let paused = match domain {
            DomainFact::Paused(PauseCause::Operation) => None,
            DomainFact::Paused(cause) => Some(cause),
            _ => None,
        };
        steps.push(Step::Publish(Goal::Running { paused }));
    }
    let mut link_wake = None;
    if let GuestLink::Down { since } = o.session.link {
        let out = o.now.duration_since(since);
        // A clock that was set back must not keep the guest without its network.
        if out >= LINK_DOWN || out.is_negative() {
            steps.push(Step::LinkUp);
        } else {
            link_wake = Some(LINK_DOWN - out);
        }
    }
    let mut trouble = None;
    match &o.sandbox {
        SandboxFact::Present { id } if o.session.network_of.as_ref() != Some(id) => {
            steps.extend([Step::Connect { sandbox: id.clone() }, Step::Plug]);
        }
        SandboxFact::Present { .. } if !o.session.plugged => steps.push(Step::Plug),
        // A guest whose CPUs stand still would see nothing of it.
        SandboxFact::Present { .. } if o.session.link == GuestLink::Stale && domain == DomainFact::Running => {
            steps.push(Step::LinkDown);
        }
        SandboxFact::Present { .. } | SandboxFact::Unknown => {}
        SandboxFact::Missing => trouble = Some(Trouble::LauncherMissing),
    }
    let wake = [link_wake, trouble.map(|_| UNKNOWN_INTERVAL)].into_iter().flatten().min();
    Plan { steps, trouble, wake, finished: false }
}

/// The domain is there, the guest not yet seen running.
fn bring_up(o: &Observed, domain: DomainFact, record: &Record, vmi: Option<&VmiFacts>) -> Plan {
    if domain == DomainFact::Running {
        return Plan::steps([Step::RecordStage(Stage::Running)]);
    }
    // To let a guest run for the first time takes a VMI that wants it, seen now.
    let Some(vmi) = vmi else { return Plan::wait(None) };
    let SandboxFact::Present { id } = &o.sandbox else {
        return Plan::wait(matches!(o.sandbox, SandboxFact::Missing).then_some(Trouble::LauncherMissing));
    };
    let mut steps = Vec::new();
    if o.session.network_of.as_ref() != Some(id) {
        steps.push(Step::Connect { sandbox: id.clone() });
    }
    steps.push(Step::Plug);
    if !o.session.console_attached {
        steps.push(Step::AttachConsole);
    }
    if vmi.start_paused {
        steps.push(Step::RecordStage(Stage::Running));
    } else {
        if record.stage < Stage::Resuming {
            steps.push(Step::RecordStage(Stage::Resuming));
        }
        steps.extend([Step::Resume, Step::RecordStage(Stage::Running)]);
    }
    Plan::steps(steps)
}

fn outcome_of(exit: Option<ExitCause>, stop: Option<&Stop>) -> Outcome {
    if let Some(found) = stop.and_then(|stop| stop.unhealthy.as_deref()) {
        return unhealthy(found);
    }
    let (succeeded, reason, message) = match exit {
        Some(ExitCause::Shutdown) => (true, "GuestShutdown", "the guest powered off"),
        Some(ExitCause::Destroyed) => (false, "DomainDestroyed", "the domain was destroyed through libvirt"),
        Some(ExitCause::Crashed) => (false, "GuestCrashed", "QEMU ended unexpectedly"),
        Some(ExitCause::Failed) => (false, "DomainFailed", "libvirt gave the domain up"),
        // The power button was pressed and the domain left while nobody looked: what was asked for has happened.
        None if stop.is_some() => {
            (true, "GuestShutdown", "the guest was gone when the node agent looked again during its shutdown")
        }
        None => return vanished(),
    };
    Outcome { succeeded, reason: reason.into(), message: message.into() }
}

fn vanished() -> Outcome {
    Outcome {
        succeeded: false,
        reason: "DomainVanished".into(),
        message: "the domain is no longer on its node: the node restarted, or QEMU ended while the node agent was away"
            .into(),
    }
}

fn unhealthy(found: &str) -> Outcome {
    Outcome {
        succeeded: false,
        reason: "LivenessProbeFailed".into(),
        message: format!("the guest was shut down because its liveness probe failed: {found}"),
    }
}

fn never_started() -> Outcome {
    Outcome {
        succeeded: false,
        reason: "Evicted".into(),
        message: "the launcher pod was evicted before the guest was started".into(),
    }
}

fn panicked() -> Outcome {
    Outcome { succeeded: false, reason: "GuestPanicked".into(), message: "the guest reported a kernel panic".into() }
}

fn killed(grace_seconds: i64) -> Outcome {
    Outcome {
        succeeded: false,
        reason: "GracePeriodExceeded".into(),
        message: format!("the guest did not shut down within its grace period of {grace_seconds} s and was destroyed"),
    }
}

#[cfg(test)]
mod tests;
