use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::vm::facts::Session;

mod world;

fn vmi(phase: VmiPhase) -> VmiFact {
    VmiFact::Present(VmiFacts {
        phase,
        assigned_here: true,
        deleting: false,
        evacuate: false,
        grace: SignedDuration::from_secs(30),
        start_paused: false,
        domain_deleted: false,
    })
}

fn deleted(phase: VmiPhase) -> VmiFact {
    let VmiFact::Present(facts) = vmi(phase) else { unreachable!() };
    VmiFact::Present(VmiFacts { deleting: true, ..facts })
}

fn record(stage: Stage) -> Record {
    Record { stage, ..Record::new("u", "ns", "vm", 1_000_000_000) }
}

fn observed(vmi: VmiFact, domain: DomainFact, record: Option<Record>) -> Observed {
    Observed {
        now: Timestamp::UNIX_EPOCH,
        vmi,
        domain,
        process: if domain == DomainFact::Absent { ProcessFact::Dead } else { ProcessFact::NotAsked },
        exit: None,
        unhealthy: None,
        record,
        sandbox: SandboxFact::Present { id: "pod".into() },
        session: Session {
            network_of: Some("pod".into()),
            plugged: true,
            link: GuestLink::Settled,
            console_attached: true,
            last_power_button: None,
            prepared: true,
            released_launcher: false,
        },
    }
}

#[test]
fn scheduled_vmi_gets_a_record_before_anything_else() {
    let o = observed(vmi(VmiPhase::Scheduled), DomainFact::Absent, None);
    assert_eq!(decide(&o).steps, [Step::Open]);
}

#[test]
fn first_start_goes_from_disks_to_resume() {
    let mut o = observed(vmi(VmiPhase::Scheduled), DomainFact::Absent, Some(record(Stage::Preparing)));
    o.session = Session::default();
    assert_eq!(decide(&o).steps, [Step::Prepare]);
    o.session.prepared = true;
    let connect = Step::Connect { sandbox: "pod".into() };
    assert_eq!(decide(&o).steps, [connect.clone(), Step::RecordStage(Stage::Starting), Step::Define]);
    o.session.network_of = Some("pod".into());
    o.domain = DomainFact::Paused(PauseCause::User);
    o.record = Some(record(Stage::Starting));
    let steps = [
        Step::Plug,
        Step::AttachConsole,
        Step::RecordStage(Stage::Resuming),
        Step::Resume,
        Step::RecordStage(Stage::Running),
    ];
    assert_eq!(decide(&o).steps, steps);
}

#[test]
fn paused_start_never_resumes() {
    let mut o = observed(vmi(VmiPhase::Scheduled), DomainFact::Paused(PauseCause::User), Some(record(Stage::Starting)));
    let VmiFact::Present(facts) = &mut o.vmi else { unreachable!() };
    facts.start_paused = true;
    assert_eq!(decide(&o).steps, [Step::Plug, Step::RecordStage(Stage::Running)]);
    o.record = Some(record(Stage::Running));
    assert_eq!(decide(&o).steps, [Step::Publish(Goal::Running { paused: Some(PauseCause::User) })]);
}

#[test]
fn stale_address_takes_the_cable_out_for_a_while() {
    let mut o = observed(vmi(VmiPhase::Running), DomainFact::Running, Some(record(Stage::Running)));
    let publish = Step::Publish(Goal::Running { paused: None });
    assert_eq!(decide(&o).steps, std::slice::from_ref(&publish));
    o.session.link = GuestLink::Stale;
    assert_eq!(decide(&o).steps, [publish.clone(), Step::LinkDown]);
    // The taps come first: there has to be a network to ask in.
    o.session.plugged = false;
    assert_eq!(decide(&o).steps, [publish.clone(), Step::Plug]);
    o.session.plugged = true;
    o.session.link = GuestLink::Down { since: o.now };
    o.now += SignedDuration::from_millis(500);
    let plan = decide(&o);
    assert_eq!((plan.steps, plan.wake), (vec![publish.clone()], Some(SignedDuration::from_millis(1500))));
    o.now += SignedDuration::from_secs(2);
    assert_eq!(decide(&o).steps, [publish.clone(), Step::LinkUp]);
    // A clock that was set back does not keep it out.
    o.now = Timestamp::UNIX_EPOCH - SignedDuration::from_secs(3600);
    assert_eq!(decide(&o).steps, [publish, Step::LinkUp]);
}

#[test]
fn start_waits_for_the_pod_but_disks_do_not() {
    let mut o = observed(vmi(VmiPhase::Scheduled), DomainFact::Absent, Some(record(Stage::Preparing)));
    o.sandbox = SandboxFact::Missing;
    o.session = Session::default();
    assert_eq!(decide(&o).steps, [Step::Prepare]);
    o.session.prepared = true;
    assert_eq!(decide(&o).steps, []);
}

#[test]
fn delete_presses_the_button_until_the_grace_period_is_over() {
    let mut o = observed(deleted(VmiPhase::Running), DomainFact::Running, Some(record(Stage::Running)));
    let stop = Stop { since: o.now, grace_seconds: 30, unhealthy: None };
    assert_eq!(decide(&o).steps, [Step::RecordStop(stop.clone()), Step::PowerButton]);

    let mut ours = record(Stage::Running);
    ours.stop = Some(stop);
    o.record = Some(ours);
    o.session.last_power_button = Some(o.now);
    o.now += SignedDuration::from_secs(2);
    assert_eq!(decide(&o).steps, []);
    assert_eq!(decide(&o).wake, Some(SignedDuration::from_secs(3)));
    o.now += SignedDuration::from_secs(4);
    assert_eq!(decide(&o).steps, [Step::PowerButton]);
    o.now += SignedDuration::from_secs(24);
    let plan = decide(&o);
    assert_eq!(plan.steps, [Step::RecordOutcome(killed(30)), Step::Destroy]);
}

#[test]
fn clock_that_was_set_back_begins_the_grace_period_anew_but_once() {
    let now = Timestamp::UNIX_EPOCH;
    let stop = |since| Stop { since, grace_seconds: 30, unhealthy: None };
    let ended = [Step::RecordOutcome(killed(30)), Step::Destroy];
    for (since, after, steps) in [
        (3600, 0, vec![Step::RecordStop(stop(now)), Step::PowerButton]),
        (1, 0, vec![Step::RecordStop(stop(now)), Step::PowerButton]),
        // What was written then counts from then on.
        (0, 29, vec![Step::PowerButton]),
        (0, 30, ended.to_vec()),
    ] {
        for vmi in [deleted(VmiPhase::Running), VmiFact::Gone, VmiFact::Unknown] {
            let mut ours = record(Stage::Running);
            ours.stop = Some(stop(now + SignedDuration::from_secs(since)));
            let mut o = observed(vmi, DomainFact::Running, Some(ours));
            o.now += SignedDuration::from_secs(after);
            let plan = decide(&o);
            assert_eq!(plan.steps, steps, "{since} {after}");
            assert!(plan.wake.is_none_or(|wake| wake <= POWER_BUTTON_INTERVAL));
        }
    }
}

#[test]
fn no_grace_destroys_at_once() {
    let mut o = observed(deleted(VmiPhase::Running), DomainFact::Running, Some(record(Stage::Running)));
    let VmiFact::Present(facts) = &mut o.vmi else { unreachable!() };
    facts.grace = SignedDuration::ZERO;
    assert!(decide(&o).steps.contains(&Step::Destroy));
}

#[test]
fn shortened_grace_counts_from_the_first_request() {
    let mut ours = record(Stage::Running);
    ours.stop = Some(Stop { since: Timestamp::UNIX_EPOCH, grace_seconds: 3600, unhealthy: None });
    let mut o = observed(deleted(VmiPhase::Running), DomainFact::Running, Some(ours));
    o.now += SignedDuration::from_secs(40);
    assert!(decide(&o).steps.contains(&Step::Destroy));
}

#[test]
fn guest_that_ended_is_published_released_and_forgotten() {
    let mut ours = record(Stage::Running);
    let o = Observed {
        exit: Some(ExitCause::Shutdown),
        ..observed(vmi(VmiPhase::Running), DomainFact::Absent, Some(ours.clone()))
    };
    let outcome = outcome_of(Some(ExitCause::Shutdown), None);
    assert!(outcome.succeeded);
    assert_eq!(decide(&o).steps, [Step::RecordOutcome(outcome.clone())]);
    ours.outcome = Some(outcome.clone());
    let o = observed(vmi(VmiPhase::Running), DomainFact::Absent, Some(ours));
    let steps = [
        Step::Publish(Goal::Ended(outcome)),
        Step::ReleaseNetwork,
        Step::ReleaseDisks,
        Step::ReleaseLauncher,
        Step::Forget,
    ];
    assert_eq!(decide(&o).steps, steps);
}

#[test]
fn ends_are_told_apart() {
    for (exit, succeeded, reason) in [
        (Some(ExitCause::Shutdown), true, "GuestShutdown"),
        (Some(ExitCause::Crashed), false, "GuestCrashed"),
        (Some(ExitCause::Destroyed), false, "DomainDestroyed"),
        (Some(ExitCause::Failed), false, "DomainFailed"),
        (None, false, "DomainVanished"),
    ] {
        let outcome = outcome_of(exit, None);
        assert_eq!((outcome.succeeded, outcome.reason.as_str()), (succeeded, reason));
    }
    assert!(
        outcome_of(None, Some(&Stop { since: Timestamp::UNIX_EPOCH, grace_seconds: 30, unhealthy: None })).succeeded
    );
}

#[test]
fn replaced_launcher_is_joined_to_the_running_guest() {
    let mut o = observed(vmi(VmiPhase::Running), DomainFact::Running, Some(record(Stage::Running)));
    o.sandbox = SandboxFact::Present { id: "new".into() };
    let steps = [Step::Publish(Goal::Running { paused: None }), Step::Connect { sandbox: "new".into() }, Step::Plug];
    assert_eq!(decide(&o).steps, steps);
}

#[test]
fn missing_launcher_is_told_and_nothing_else() {
    let mut o = observed(vmi(VmiPhase::Running), DomainFact::Running, Some(record(Stage::Running)));
    o.sandbox = SandboxFact::Missing;
    let plan = decide(&o);
    assert_eq!(plan.trouble, Some(Trouble::LauncherMissing));
    assert_eq!(plan.steps, [Step::Publish(Goal::Running { paused: None })]);
}

#[test]
fn qemu_unknown_to_libvirt_is_neither_restarted_nor_declared_dead() {
    for stage in [Stage::Preparing, Stage::Starting, Stage::Resuming, Stage::Running] {
        let mut o = observed(vmi(VmiPhase::Running), DomainFact::Absent, Some(record(stage)));
        o.process = ProcessFact::Alive;
        let plan = decide(&o);
        assert_eq!((plan.steps.len(), plan.trouble), (0, Some(Trouble::LostByLibvirt)), "{stage:?}");
    }
}

#[test]
fn nothing_is_decided_while_the_kernel_does_not_say_whether_qemu_lives() {
    let mut stopped = record(Stage::Starting);
    stopped.stop = Some(Stop { since: Timestamp::UNIX_EPOCH, grace_seconds: 30, unhealthy: None });
    let ended = Record { outcome: Some(vanished()), ..record(Stage::Running) };
    let running = record(Stage::Running);
    for record in [None, Some(record(Stage::Preparing)), Some(running), Some(stopped), Some(ended)] {
        for vmi in [vmi(VmiPhase::Scheduled), vmi(VmiPhase::Running), deleted(VmiPhase::Running), VmiFact::Gone] {
            let o = observed(vmi, DomainFact::Absent, record.clone());
            let o = Observed { process: ProcessFact::NotAsked, ..o };
            assert_eq!(decide(&o), Plan::wait(None), "{o:?}");
        }
    }
}

#[test]
fn vmi_gone_without_deletion_leaves_an_orphan() {
    let o = observed(VmiFact::Gone, DomainFact::Running, Some(record(Stage::Running)));
    let plan = decide(&o);
    assert_eq!((plan.steps.len(), plan.trouble), (0, Some(Trouble::Orphan)));
}

#[test]
fn recorded_stop_is_carried_through_without_the_vmi() {
    let mut ours = record(Stage::Running);
    ours.stop = Some(Stop { since: Timestamp::UNIX_EPOCH, grace_seconds: 10, unhealthy: None });
    for vmi in [VmiFact::Gone, VmiFact::Unknown] {
        let mut o = observed(vmi, DomainFact::Running, Some(ours.clone()));
        assert_eq!(decide(&o).steps, [Step::PowerButton]);
        o.now += SignedDuration::from_secs(11);
        assert!(decide(&o).steps.contains(&Step::Destroy));
    }
}

#[test]
fn deleted_vmi_that_never_started_here_is_let_go() {
    let o = observed(deleted(VmiPhase::Scheduled), DomainFact::Absent, None);
    assert_eq!(decide(&o).steps, [Step::ReleaseLauncher, Step::Publish(Goal::Deleted)]);
}

#[test]
fn guest_whose_liveness_probe_fails_is_shut_down_and_counts_as_failed() {
    let mut o = observed(vmi(VmiPhase::Running), DomainFact::Running, Some(record(Stage::Running)));
    o.unhealthy = Some("no answer within 1 s".into());
    let stop = Stop { since: o.now, grace_seconds: 30, unhealthy: o.unhealthy.clone() };
    assert_eq!(decide(&o).steps, [Step::RecordStop(stop.clone()), Step::PowerButton]);
    let mut ours = record(Stage::Running);
    ours.stop = Some(stop);
    o.record = Some(ours);
    // A handler that starts anew carries it through, a guest that obeys is a failed one all the same.
    o.unhealthy = None;
    o.domain = DomainFact::Absent;
    o.process = ProcessFact::Dead;
    o.exit = Some(ExitCause::Shutdown);
    let Some(Step::RecordOutcome(outcome)) = decide(&o).steps.into_iter().next() else { panic!("no outcome") };
    assert!(!outcome.succeeded);
    assert_eq!(outcome.reason, "LivenessProbeFailed");
    o.domain = DomainFact::Running;
    o.now += SignedDuration::from_secs(31);
    let Some(Step::RecordOutcome(outcome)) = decide(&o).steps.into_iter().next() else { panic!("no outcome") };
    assert_eq!(outcome.reason, "LivenessProbeFailed");
}

#[test]
fn failed_liveness_probe_is_nothing_to_a_guest_that_stands_still_or_is_elsewhere() {
    for domain in [DomainFact::Paused(PauseCause::User), DomainFact::Paused(PauseCause::IoError), DomainFact::Unknown] {
        let mut o = observed(vmi(VmiPhase::Running), domain, Some(record(Stage::Running)));
        o.unhealthy = Some("no answer".into());
        assert!(!decide(&o).steps.iter().any(|step| matches!(step, Step::RecordStop(_))), "{domain:?}");
    }
    let mut o = observed(VmiFact::Gone, DomainFact::Running, Some(record(Stage::Running)));
    o.unhealthy = Some("no answer".into());
    assert!(!decide(&o).steps.iter().any(|step| matches!(step, Step::RecordStop(_))));
}

fn leaving(phase: VmiPhase) -> VmiFact {
    let VmiFact::Present(facts) = vmi(phase) else { unreachable!() };
    VmiFact::Present(VmiFacts { evacuate: true, ..facts })
}

#[test]
fn guest_that_has_to_leave_its_node_is_shut_down_and_its_end_told() {
    let mut o = observed(leaving(VmiPhase::Running), DomainFact::Running, Some(record(Stage::Running)));
    let stop = Stop { since: o.now, grace_seconds: 30, unhealthy: None };
    assert_eq!(decide(&o).steps, [Step::RecordStop(stop.clone()), Step::PowerButton]);
    let mut ours = record(Stage::Running);
    ours.stop = Some(stop);
    ours.outcome = Some(outcome_of(Some(ExitCause::Shutdown), None));
    o = observed(leaving(VmiPhase::Running), DomainFact::Absent, Some(ours.clone()));
    let told = Step::Publish(Goal::Ended(ours.outcome.unwrap()));
    assert_eq!(decide(&o).steps, [told, Step::ReleaseNetwork, Step::ReleaseDisks, Step::ReleaseLauncher, Step::Forget]);
}

#[test]
fn guest_that_has_to_leave_before_it_ran_is_not_started() {
    let told = Step::Publish(Goal::Ended(never_started()));
    let untouched = observed(leaving(VmiPhase::Scheduled), DomainFact::Absent, None);
    assert_eq!(decide(&untouched).steps, [told]);
    let prepared = observed(leaving(VmiPhase::Scheduled), DomainFact::Absent, Some(record(Stage::Preparing)));
    assert_eq!(decide(&prepared).steps, [Step::RecordOutcome(never_started())]);
    let defined =
        observed(leaving(VmiPhase::Scheduled), DomainFact::Paused(PauseCause::User), Some(record(Stage::Starting)));
    let stop = Stop { since: defined.now, grace_seconds: 30, unhealthy: None };
    assert_eq!(decide(&defined).steps, [Step::RecordStop(stop), Step::Destroy]);
}

fn any_phase() -> impl Strategy<Value = VmiPhase> {
    prop::sample::select(vec![
        VmiPhase::Unset,
        VmiPhase::Pending,
        VmiPhase::Scheduling,
        VmiPhase::Scheduled,
        VmiPhase::Running,
        VmiPhase::Succeeded,
        VmiPhase::Failed,
        VmiPhase::Unknown,
    ])
}

fn any_vmi() -> impl Strategy<Value = VmiFact> {
    let present = (any_phase(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), 0i64..60)
        .prop_map(|(phase, assigned_here, deleting, evacuate, start_paused, domain_deleted, grace)| {
            VmiFact::Present(VmiFacts {
                phase,
                assigned_here,
                deleting,
                evacuate,
                grace: SignedDuration::from_secs(grace),
                start_paused,
                domain_deleted,
            })
        });
    prop_oneof![1 => Just(VmiFact::Unknown), 1 => Just(VmiFact::Gone), 6 => present]
}

fn any_observed() -> impl Strategy<Value = Observed> {
    let domains = prop::sample::select(vec![
        DomainFact::Unknown,
        DomainFact::Absent,
        DomainFact::Running,
        DomainFact::Paused(PauseCause::User),
        DomainFact::Paused(PauseCause::IoError),
        DomainFact::Paused(PauseCause::Watchdog),
        DomainFact::Paused(PauseCause::Operation),
        DomainFact::Panicked,
        DomainFact::ShutOff,
    ]);
    let records = prop::option::of(
        (
            prop::sample::select(vec![Stage::Preparing, Stage::Starting, Stage::Resuming, Stage::Running]),
            prop::option::of((0i64..100, 0i64..60)),
            any::<bool>(),
        )
            .prop_map(|(stage, stop, ended)| Record {
                stop: stop.map(|(since, grace_seconds)| Stop {
                    since: Timestamp::from_second(since).unwrap(),
                    grace_seconds,
                    unhealthy: None,
                }),
                outcome: ended.then(vanished),
                ..record(stage)
            }),
    );
    let processes = prop::sample::select(vec![ProcessFact::NotAsked, ProcessFact::Alive, ProcessFact::Dead]);
    let exits = prop::option::of(prop::sample::select(vec![
        ExitCause::Shutdown,
        ExitCause::Destroyed,
        ExitCause::Crashed,
        ExitCause::Failed,
    ]));
    let sandboxes = prop::sample::select(vec![
        SandboxFact::Unknown,
        SandboxFact::Missing,
        SandboxFact::Present { id: "a".into() },
        SandboxFact::Present { id: "b".into() },
    ]);
    let links = (0i64..200).prop_map(|since| GuestLink::Down { since: Timestamp::from_second(since).unwrap() });
    let links = prop_oneof![Just(GuestLink::Settled), Just(GuestLink::Stale), links];
    let networks = prop::option::of(Just("a".to_owned()));
    let sessions = (networks, any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), links).prop_map(
        |(network_of, plugged, console_attached, prepared, released_launcher, link)| Session {
            network_of,
            plugged,
            link,
            console_attached,
            last_power_button: None,
            prepared,
            released_launcher,
        },
    );
    let verdicts = prop::option::of(Just("no answer".to_owned()));
    (0i64..200, any_vmi(), domains, processes, exits, verdicts, records, sandboxes, sessions).prop_map(
        |(now, vmi, domain, process, exit, unhealthy, record, sandbox, session)| Observed {
            now: Timestamp::from_second(now).unwrap(),
            vmi,
            domain,
            process,
            exit,
            unhealthy,
            record,
            sandbox,
            session,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn guest_is_only_ended_with_positive_intent(o in any_observed()) {
        let plan = decide(&o);
        let ends = plan.steps.iter().any(|s| matches!(s, Step::Destroy | Step::PowerButton));
        if ends {
            let asked = matches!(&o.vmi, VmiFact::Present(v) if v.assigned_here && (v.deleting || v.evacuate || v.phase.is_final() || o.unhealthy.is_some()));
            let recorded = o.record.as_ref().is_some_and(|r| r.stop.is_some() || r.outcome.is_some());
            prop_assert!(asked || recorded, "{:?}", plan);
            prop_assert!(o.record.is_some());
            prop_assert!(o.domain != DomainFact::Unknown);
        }
    }

    #[test]
    fn nothing_is_released_while_a_guest_may_live(o in any_observed()) {
        let plan = decide(&o);
        let releases = |s: &Step| matches!(s, Step::ReleaseNetwork | Step::ReleaseDisks | Step::Forget | Step::Publish(Goal::Deleted));
        if plan.steps.iter().any(releases) {
            prop_assert_eq!(o.domain, DomainFact::Absent);
            prop_assert_eq!(o.process, ProcessFact::Dead);
            if o.record.as_ref().is_some_and(Record::may_have_run) {
                prop_assert!(o.record.as_ref().is_some_and(|r| r.outcome.is_some()));
            }
        }
    }

    #[test]
    fn guest_that_may_have_run_is_never_started_again(o in any_observed()) {
        let plan = decide(&o);
        if plan.steps.iter().any(|s| matches!(s, Step::Define | Step::Prepare)) {
            prop_assert_eq!(o.domain, DomainFact::Absent);
            prop_assert_eq!(o.process, ProcessFact::Dead);
            prop_assert!(o.record.as_ref().is_some_and(|r| !r.may_have_run() && r.outcome.is_none() && r.stop.is_none()));
            let wanted = matches!(&o.vmi, VmiFact::Present(v) if v.assigned_here && !v.deleting && !v.evacuate && !v.phase.is_final());
            prop_assert!(wanted);
        }
    }

    #[test]
    fn what_is_not_known_leads_to_waiting(o in any_observed()) {
        if o.domain == DomainFact::Unknown {
            let plan = decide(&o);
            prop_assert!(plan.steps.is_empty());
            prop_assert!(plan.wake.is_some());
            prop_assert!(!plan.finished);
        }
        if o.vmi == VmiFact::Unknown {
            prop_assert!(!decide(&o).finished);
        }
    }

    #[test]
    fn record_is_removed_last_and_deletion_told_before_it(o in any_observed()) {
        let steps = decide(&o).steps;
        if let Some(at) = steps.iter().position(|s| *s == Step::Forget) {
            prop_assert_eq!(at, steps.len() - 1);
            let untold = matches!(&o.vmi, VmiFact::Present(v) if v.assigned_here && v.deleting && !v.domain_deleted);
            prop_assert_eq!(steps.contains(&Step::Publish(Goal::Deleted)), untold);
        }
    }
}
