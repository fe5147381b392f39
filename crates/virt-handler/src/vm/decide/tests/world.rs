//! A node in miniature: steps change it, the process can be killed between (and inside) any two of them.

use super::*;

/// What survives a kill, and what does not.
#[derive(Clone, Debug)]
struct World {
    now: Timestamp,
    vmi: VmiFact,
    domain: DomainFact,
    exit: Option<ExitCause>,
    record: Option<Record>,
    sandbox: SandboxFact,
    disks: bool,
    network: bool,
    launcher_released: bool,
    /// The guest's address is another one than it knows; survives a kill, like the plan that says so.
    address_stale: bool,
    cable_in: bool,
    session: Session,
    /// Times guest code began to run.
    boots: u32,
    /// Whether the guest obeys the power button.
    obedient: bool,
}

impl World {
    fn new(obedient: bool) -> Self {
        Self {
            now: Timestamp::UNIX_EPOCH,
            vmi: vmi(VmiPhase::Scheduled),
            domain: DomainFact::Absent,
            exit: None,
            record: None,
            sandbox: SandboxFact::Present { id: "pod".into() },
            disks: false,
            network: false,
            launcher_released: false,
            address_stale: false,
            cable_in: true,
            session: Session::default(),
            boots: 0,
            obedient,
        }
    }

    fn observe(&self) -> Observed {
        Observed {
            now: self.now,
            vmi: self.vmi.clone(),
            domain: self.domain,
            process: if self.domain == DomainFact::Absent { ProcessFact::Dead } else { ProcessFact::NotAsked },
            exit: self.exit,
            unhealthy: None,
            record: self.record.clone(),
            sandbox: self.sandbox.clone(),
            session: self.session.clone(),
        }
    }

    fn kill(&mut self) {
        self.session = Session::default();
        self.exit = None;
    }

    fn facts(&mut self) -> Option<&mut VmiFacts> {
        match &mut self.vmi {
            VmiFact::Present(facts) => Some(facts),
            VmiFact::Unknown | VmiFact::Gone => None,
        }
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Open => self.record = Some(record(Stage::Preparing)),
            Step::Adopt => self.record = Some(record(Stage::Running)),
            Step::RecordStop(stop) => self.record.as_mut().unwrap().stop = Some(stop.clone()),
            Step::RecordStage(stage) => self.record.as_mut().unwrap().stage = *stage,
            Step::RecordOutcome(outcome) => self.record.as_mut().unwrap().outcome = Some(outcome.clone()),
            Step::Prepare => {
                self.disks = true;
                self.session.prepared = true;
            }
            Step::Connect { sandbox } => {
                self.network = true;
                self.session.network_of = Some(sandbox.clone());
                self.session.plugged = false;
                if self.address_stale && self.session.link == GuestLink::Settled {
                    self.session.link = GuestLink::Stale;
                }
            }
            Step::Define => {
                assert_eq!(self.domain, DomainFact::Absent, "a second domain");
                assert!(self.disks && self.network, "a domain without disks or network");
                self.domain = DomainFact::Paused(PauseCause::User);
            }
            Step::Plug => {
                assert!(self.network);
                self.session.plugged = true;
            }
            Step::LinkDown => {
                self.cable_in = false;
                self.session.link = GuestLink::Down { since: self.now };
            }
            Step::LinkUp => {
                self.cable_in = true;
                self.address_stale = false;
                self.session.link = GuestLink::Settled;
            }
            Step::AttachConsole => self.session.console_attached = true,
            Step::Resume => {
                self.domain = DomainFact::Running;
                self.boots += 1;
            }
            Step::PowerButton => {
                self.session.last_power_button = Some(self.now);
                if self.obedient {
                    self.domain = DomainFact::Absent;
                    self.exit = Some(ExitCause::Shutdown);
                }
            }
            Step::Destroy => {
                self.domain = DomainFact::Absent;
                self.exit = Some(ExitCause::Destroyed);
            }
            Step::Publish(Goal::Running { .. }) => {
                if let Some(facts) = self.facts() {
                    facts.phase = VmiPhase::Running;
                }
            }
            Step::Publish(Goal::Ended(outcome)) => {
                if let Some(facts) = self.facts() {
                    facts.phase = if outcome.succeeded { VmiPhase::Succeeded } else { VmiPhase::Failed };
                }
            }
            Step::Publish(Goal::Deleted) => {
                assert!(!self.disks && !self.network && self.launcher_released, "told before it is true");
                assert_eq!(self.domain, DomainFact::Absent);
                if let Some(facts) = self.facts() {
                    facts.domain_deleted = true;
                }
            }
            Step::ReleaseNetwork => self.network = false,
            Step::ReleaseDisks => {
                assert_eq!(self.domain, DomainFact::Absent, "disks of a living guest released");
                self.disks = false;
            }
            Step::ReleaseLauncher => {
                self.launcher_released = true;
                self.session.released_launcher = true;
            }
            Step::Forget => {
                assert!(!self.disks && !self.network);
                self.record = None;
                self.session = Session::default();
            }
        }
    }

    /// Runs until nothing is left to do; `kills` are the steps after which the process dies (each once).
    fn settle(&mut self, kills: &mut Vec<usize>, done: &mut usize) {
        for _ in 0..200 {
            let plan = decide(&self.observe());
            // Publishing what the status says already changes nothing: the world is at rest.
            let at_rest = plan.steps.iter().all(|s| matches!(s, Step::Publish(Goal::Running { .. })))
                && (plan.steps.is_empty() || self.facts().is_none_or(|f| f.phase == VmiPhase::Running));
            if at_rest && plan.wake.is_none() {
                return;
            }
            for step in &plan.steps {
                self.apply(step);
                *done += 1;
                if let Some(at) = kills.iter().position(|kill| kill == done) {
                    kills.swap_remove(at);
                    self.kill();
                    break;
                }
            }
            if let Some(wake) = plan.wake {
                self.now += wake;
            }
        }
        panic!("does not settle: {self:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn start_and_delete_reach_their_end_from_every_kill_point(
        mut kills in prop::collection::vec(1usize..40, 0..8),
        obedient in any::<bool>(),
        delete_early in prop::option::of(0usize..12),
    ) {
        let mut world = World::new(obedient);
        let mut done = 0;
        match delete_early {
            None => world.settle(&mut kills, &mut done),
            // Delete in the middle of the start.
            Some(steps) => {
                for _ in 0..steps {
                    let Some(step) = decide(&world.observe()).steps.into_iter().next() else { break };
                    world.apply(&step);
                }
            }
        }
        if delete_early.is_none() {
            prop_assert_eq!(world.domain, DomainFact::Running);
            prop_assert_eq!(world.boots, 1);
            prop_assert_eq!(world.facts().unwrap().phase, VmiPhase::Running);
        }
        world.facts().unwrap().deleting = true;
        world.settle(&mut kills, &mut done);
        prop_assert_eq!(world.domain, DomainFact::Absent);
        prop_assert!(world.boots <= 1);
        prop_assert!(world.record.is_none() && !world.disks && !world.network && world.launcher_released);
        prop_assert!(world.facts().unwrap().domain_deleted);
    }

    #[test]
    fn guest_that_has_to_leave_is_gone_and_told_from_every_kill_point(
        mut kills in prop::collection::vec(1usize..40, 0..8),
        obedient in any::<bool>(),
        early in 0usize..12,
    ) {
        let mut world = World::new(obedient);
        for _ in 0..early {
            let Some(step) = decide(&world.observe()).steps.into_iter().next() else { break };
            world.apply(&step);
        }
        world.facts().unwrap().evacuate = true;
        world.settle(&mut kills, &mut 0);
        prop_assert_eq!(world.domain, DomainFact::Absent);
        prop_assert!(world.boots <= 1);
        prop_assert!(world.facts().unwrap().phase.is_final());
        prop_assert!(world.record.is_none() && !world.disks && !world.network && world.launcher_released);
    }

    #[test]
    fn guest_that_ends_itself_is_not_started_again(
        mut kills in prop::collection::vec(1usize..30, 0..8),
        seen in any::<bool>(),
    ) {
        let mut world = World::new(true);
        let mut done = 0;
        world.settle(&mut Vec::new(), &mut done);
        world.domain = DomainFact::Absent;
        world.exit = seen.then_some(ExitCause::Shutdown);
        done = 0;
        world.settle(&mut kills, &mut done);
        prop_assert_eq!(world.boots, 1);
        prop_assert!(world.facts().unwrap().phase.is_final());
        prop_assert!(world.record.is_none() && !world.disks && !world.network);
    }

    #[test]
    fn guest_of_a_replaced_pod_gets_its_cable_back_from_every_kill_point(
        mut kills in prop::collection::vec(1usize..20, 0..6),
    ) {
        let mut world = World::new(true);
        let mut done = 0;
        world.settle(&mut Vec::new(), &mut done);
        world.sandbox = SandboxFact::Present { id: "new pod".into() };
        world.address_stale = true;
        done = 0;
        world.settle(&mut kills, &mut done);
        prop_assert!(world.cable_in && !world.address_stale);
        prop_assert_eq!(world.boots, 1);
        prop_assert_eq!(world.domain, DomainFact::Running);
    }

    #[test]
    fn losing_sight_for_a_while_changes_nothing(
        outages in prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>()), 1..20),
    ) {
        let mut world = World::new(true);
        let mut done = 0;
        world.settle(&mut Vec::new(), &mut done);
        for (api, libvirt, pod) in outages {
            let mut observed = world.observe();
            if api { observed.vmi = VmiFact::Unknown; }
            if libvirt { observed.domain = DomainFact::Unknown; }
            if pod { observed.sandbox = SandboxFact::Missing; }
            for step in decide(&observed).steps {
                prop_assert!(!matches!(step, Step::Destroy | Step::PowerButton | Step::Define | Step::ReleaseDisks | Step::ReleaseNetwork));
                world.apply(&step);
            }
        }
        prop_assert_eq!(world.domain, DomainFact::Running);
        prop_assert_eq!(world.boots, 1);
    }
}
