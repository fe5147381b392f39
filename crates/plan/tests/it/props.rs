use fv_plan::Requeue;
use jiff::SignedDuration;
use proptest::prelude::*;

use crate::world::{Act, World};

const STRATEGIES: [&str; 6] = ["Always", "RerunOnFailure", "Manual", "Halted", "Once", "WaitAsReceiver"];

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => proptest::sample::select(&STRATEGIES[..]).prop_map(Act::Strategy),
        2 => Just(Act::Start),
        2 => Just(Act::Stop),
        2 => Just(Act::Restart),
        1 => Just(Act::DeleteVm),
        1 => Just(Act::DeleteVmi),
        1 => any::<u8>().prop_map(Act::EditTemplate),
        4 => Just(Act::Schedule),
        4 => Just(Act::PodReady),
        2 => Just(Act::PodEnds),
        2 => Just(Act::PodLost),
        2 => Just(Act::PodDeleted),
        4 => Just(Act::GuestRuns),
        2 => proptest::sample::select(&["Succeeded", "Failed"][..]).prop_map(Act::GuestEnds),
        2 => any::<bool>().prop_map(Act::GuestPaused),
        3 => Just(Act::NodeCleansUp),
        2 => any::<u16>().prop_map(Act::TimePasses),
        12 => Just(Act::Reconcile),
    ]
}

/// Lets everybody do their duty until nothing moves; panics when that never happens.
fn settle(world: &mut World) {
    for _ in 0..200 {
        let before = format!("{:?}", (&world.vm, &world.vmi, &world.pods));
        let deleting: Vec<String> =
            world.pods.values().filter(|pod| pod.deleting).map(|pod| pod.key.name.clone()).collect();
        for name in deleting {
            world.pods.remove(&name);
        }
        for duty in [Act::Schedule, Act::PodReady, Act::GuestRuns, Act::NodeCleansUp] {
            // Only what changes something: versions would move for ever.
            let busy = match duty {
                Act::Schedule => world.pods.values().any(|pod| pod.node.is_none()),
                Act::PodReady => world.pods.values().any(|pod| {
                    let open = pod.gate.as_ref().is_some_and(|(_, word)| word == "True");
                    !pod.is_terminal()
                        && (!pod.containers_ready
                            || pod.ready.as_ref().is_some_and(|ready| (ready.status == "True") != open))
                }),
                Act::NodeCleansUp => {
                    let conditions =
                        world.vmi.as_ref().map(|vmi| vmi["status"]["conditions"].to_string()).unwrap_or_default();
                    !conditions.contains("DomainDeleted")
                }
                _ => true,
            };
            if busy {
                world.act(&duty);
            }
        }
        let (worked, requeue) = world.reconcile();
        if let Requeue::After(wait) = requeue {
            world.now += SignedDuration::try_from(wait).expect("a short wait") + SignedDuration::from_secs(1);
        } else if !worked && before == format!("{:?}", (&world.vm, &world.vmi, &world.pods)) {
            return;
        }
    }
    panic!("never settles: {world:#?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, ..ProptestConfig::default() })]

    #[test]
    fn any_history_settles_without_harm(
        strategy in proptest::sample::select(&STRATEGIES[..]),
        acts in proptest::collection::vec(act(), 0..60),
    ) {
        let mut world = World::new(strategy);
        for act in &acts {
            world.act(act);
        }
        settle(&mut world);
        let (worked, _) = world.reconcile();
        prop_assert!(!worked, "settled means idle");
        let Some(vm) = &world.vm else { return Ok(()) };
        let running = world.vmi_phase() == "Running";
        match vm["spec"]["runStrategy"].as_str() {
            Some("Always") => prop_assert!(running, "{vm}"),
            Some("Halted") => prop_assert!(world.vmi.is_none(), "{vm}"),
            _ => {}
        }
        let word = vm["status"]["printableStatus"].as_str().unwrap_or_default();
        let paused = world.vmi.as_ref().is_some_and(|vmi| vmi["status"]["conditions"].to_string().contains(r#""status":"True","type":"Paused"#)
            || vmi["status"]["conditions"].to_string().contains(r#""type":"Paused","status":"True"#));
        if running {
            prop_assert_eq!(word, if paused { "Paused" } else { "Running" });
            prop_assert_eq!(vm["status"]["ready"] == true, !paused, "{}", vm);
            prop_assert_eq!(world.pods.values().filter(|pod| pod.is_live()).count(), 1);
        }
        if world.vmi.is_none() {
            prop_assert!(world.pods.is_empty());
        }
    }

    #[test]
    fn a_deleted_vm_leaves_nothing(acts in proptest::collection::vec(act(), 0..40)) {
        let mut world = World::new("Always");
        for act in &acts {
            world.act(act);
        }
        world.act(&Act::DeleteVm);
        settle(&mut world);
        prop_assert!(world.vm.is_none());
        prop_assert!(world.vmi.is_none() && world.pods.is_empty(), "{world:#?}");
    }
}

#[test]
fn a_plain_start_takes_few_writes() {
    let mut world = World::new("Always");
    let mut rounds = 0;
    while world.vmi_phase() != "Running" {
        for duty in [Act::Reconcile, Act::Schedule, Act::PodReady, Act::GuestRuns] {
            world.act(&duty);
        }
        rounds += 1;
        assert!(rounds < 10, "{world:#?}");
    }
    assert_eq!((world.vmis_made, world.pods.len()), (1, 1));
}
