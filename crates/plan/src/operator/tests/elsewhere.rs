//! A KubeVirt resource in another namespace than its operator.

use serde_json::json;

use super::world::World;
use super::*;

fn elsewhere() -> World {
    let mut world = World::new(json!({}));
    world.kubevirt.as_mut().unwrap().metadata.namespace = Some("shop".into());
    world
}

#[test]
fn a_resource_of_another_namespace_is_told_so_and_nothing_is_done() {
    let mut world = elsewhere();
    world.run();
    assert_eq!(world.log, Vec::<String>::new());
    assert_eq!(world.condition("Synchronized").unwrap(), "False/AnotherNamespace");
    assert_eq!(world.condition("Available").unwrap(), "False/DeploymentFailed");
    let message = world.message("Synchronized");
    assert!(message.contains("namespace shop") && message.contains("own namespace kubevirt"), "{message}");
    // An operator of that namespace may come yet.
    assert_eq!(world.status().target_deployment_config, None);
}

#[test]
fn the_removal_of_a_resource_of_another_namespace_takes_nothing_along() {
    let mut world = elsewhere();
    world.kubevirt.as_mut().unwrap().metadata.finalizers = Some(vec![FINALIZER.into()]);
    world.workloads = vec![machine("a")];
    world.delete_kubevirt();
    assert_eq!(world.decide(), Plan::default());
}

#[test]
fn a_resource_of_another_namespace_is_not_in_the_way_of_one_of_ours() {
    let mut theirs = elsewhere().kubevirt.unwrap();
    theirs.metadata.creation_timestamp = Some(Time(Timestamp::from_second(1).unwrap()));
    let mut ours = World::new(json!({})).kubevirt.unwrap();
    ours.metadata.creation_timestamp = Some(Time(Timestamp::from_second(2).unwrap()));
    let sorted = in_order(vec![theirs, ours], "kubevirt");
    assert_eq!(sorted[0].metadata.namespace.as_deref(), Some("kubevirt"));
}

#[test]
fn what_was_begun_for_a_resource_of_another_namespace_is_looked_after_until_it_goes() {
    let mut world = installed(json!({}));
    world.kubevirt.as_mut().unwrap().metadata.namespace = Some("shop".into());
    assert_eq!(world.decide().status, None);
    world.delete_kubevirt();
    world.run();
    assert!(world.kubevirt.is_none() && world.live.is_empty());
}
