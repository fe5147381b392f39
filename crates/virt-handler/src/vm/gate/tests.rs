use proptest::prelude::*;

use super::*;
use crate::vm::record::{Outcome, Stop};

fn gate(state: GateState) -> Gate {
    Gate { state, can_signal: true }
}

#[test]
fn verbs_in_each_state() {
    use DomainVerb::{Pause, Reset, SoftReboot, Unpause};
    use GateState as S;
    let table = [
        (S::Unknown, [Err(Denied::Unknown); 4]),
        (S::Starting, [Err(Denied::NotRunning); 4]),
        (S::Ended, [Err(Denied::NotRunning); 4]),
        (S::Held, [Err(Denied::Unknown); 4]),
        (S::Running, [Ok(()), Err(Denied::NotPaused), Ok(()), Ok(())]),
        (S::PausedByUser, [Err(Denied::AlreadyPaused), Ok(()), Err(Denied::Paused), Ok(())]),
        (S::PausedIoError, [Err(Denied::AlreadyPaused), Ok(()), Err(Denied::Paused), Ok(())]),
        (S::Stopping, [Err(Denied::NotRunning), Ok(()), Err(Denied::NotRunning), Err(Denied::NotRunning)]),
    ];
    for (state, expected) in table {
        let got = [Pause, Unpause, SoftReboot, Reset].map(|verb| gate(state).admit(verb));
        assert_eq!(got, expected, "{state:?}");
    }
}

#[test]
fn soft_reboot_needs_a_way_into_the_guest() {
    let gate = Gate { state: GateState::Running, can_signal: false };
    assert_eq!(gate.admit(DomainVerb::SoftReboot), Err(Denied::NoWayToReboot));
    assert_eq!(gate.admit(DomainVerb::Reset), Ok(()));
}

fn domains() -> impl Strategy<Value = DomainFact> {
    prop_oneof![
        Just(DomainFact::Unknown),
        Just(DomainFact::Absent),
        Just(DomainFact::Running),
        Just(DomainFact::Paused(PauseCause::User)),
        Just(DomainFact::Paused(PauseCause::IoError)),
        Just(DomainFact::Paused(PauseCause::Operation)),
        Just(DomainFact::Panicked),
        Just(DomainFact::ShutOff),
    ]
}

fn verbs() -> impl Strategy<Value = DomainVerb> {
    prop_oneof![
        Just(DomainVerb::Pause),
        Just(DomainVerb::Unpause),
        Just(DomainVerb::SoftReboot),
        Just(DomainVerb::Reset)
    ]
}

fn records() -> impl Strategy<Value = Option<Record>> {
    let stages =
        prop_oneof![Just(Stage::Preparing), Just(Stage::Starting), Just(Stage::Resuming), Just(Stage::Running)];
    proptest::option::of((stages, any::<bool>(), any::<bool>()).prop_map(|(stage, stop, ended)| Record {
        stage,
        stop: stop.then_some(Stop { since: jiff::Timestamp::UNIX_EPOCH, grace_seconds: 30, unhealthy: None }),
        outcome: ended.then(|| Outcome { succeeded: true, reason: String::new(), message: String::new() }),
        ..Record::new("u", "ns", "n", 1)
    }))
}

proptest! {
    #[test]
    fn nothing_is_legal_unless_a_started_guest_is_there(domain in domains(), record in records(), verb in verbs()) {
        let mut gate = Gate { can_signal: true, ..Gate::default() };
        gate.observe(domain, record.as_ref());
        let live = matches!(domain, DomainFact::Running | DomainFact::Paused(_))
            && record.as_ref().is_none_or(|r| r.stage == Stage::Running && r.outcome.is_none());
        if !live {
            prop_assert!(gate.admit(verb).is_err());
            prop_assert!(gate.admit_stream().is_err());
        }
    }

    #[test]
    fn pause_and_unpause_are_never_legal_at_once_unless_stopping(domain in domains(), record in records()) {
        let mut gate = Gate { can_signal: true, ..Gate::default() };
        gate.observe(domain, record.as_ref());
        prop_assert!(gate.admit(DomainVerb::Pause).is_err() || gate.admit(DomainVerb::Unpause).is_err());
    }

    #[test]
    fn accepted_verbs_keep_the_gate_true_to_the_guest(script in proptest::collection::vec(verbs(), 0..40)) {
        let mut gate = gate(GateState::Running);
        let mut paused = false;
        for verb in script {
            if gate.admit(verb).is_ok() {
                gate.done(verb);
                match verb {
                    DomainVerb::Pause => paused = true,
                    DomainVerb::Unpause => paused = false,
                    DomainVerb::SoftReboot | DomainVerb::Reset => {}
                }
            }
            prop_assert_eq!(gate.state() == GateState::PausedByUser, paused);
        }
    }
}
