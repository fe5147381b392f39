//! What goes on whatever else is in the way.

use fv_render::install::Stage;
use fv_render::install::webhooks::with_bundle;
use serde_json::json;

use super::certificates::published;
use super::objects::stage_of;
use super::world::World;
use super::*;

/// What makes the API server call us.
fn callers(world: &World) -> impl Iterator<Item = &objects::Live> {
    world.live.iter().filter(|(id, _)| stage_of(id) == Stage::Registration).map(|(_, live)| live)
}

#[test]
fn certificates_and_bundles_are_kept_up_while_a_rollout_is_stuck() {
    let mut world = installed(json!({}));
    world.edit(|spec| spec.image_tag = Some("v2".into()));
    world.broken = vec!["virt-handler"];
    for _ in 0..(30 * 6) {
        world.now += SignedDuration::from_hours(4);
        world.run();
        for (name, leaf) in &world.authority.leaves {
            assert!(leaf.not_after > world.now, "{name} ran out");
        }
        let bundle = published(&world.authority);
        assert!(callers(&world).all(|live| with_bundle(&live.value, &bundle).is_none()), "at {}", world.now);
    }
    assert_eq!(callers(&world).count(), 5);
    assert_eq!(world.status().observed_kube_virt_version.as_deref(), Some("v1"), "the rollout is stuck");
    assert!(writes(&world, "replace", &["Deployment kubevirt"]).is_empty());
    world.broken.clear();
    world.settle();
    world.run();
    assert_eq!(world.status().observed_kube_virt_version.as_deref(), Some("v2"));
}

fn is_renewal(effect: &Effect) -> bool {
    matches!(effect, Effect::Certificates(_))
}

#[test]
fn what_is_due_is_done_first_whatever_else_is_wrong() {
    type Change = fn(&mut Observed);
    let blocked: Change = |observed| {
        observed.kubevirt.spec.uninstall_strategy = Some("BlockUninstallIfWorkloadsExist".into());
        observed.kubevirt.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        observed.workloads = vec![machine("a")];
    };
    let leaving: Change = |observed| {
        observed.kubevirt.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        observed.kubevirt.status.as_mut().unwrap().phase = Some("Deleting".into());
        observed.workloads = vec![machine("a")];
    };
    let foreign: Change = |observed| {
        let metadata =
            json!({"name": "other.kubevirt.io", "labels": {"app.kubernetes.io/managed-by": "virt-operator"}});
        let value =
            json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": metadata});
        observed.live.insert(ObjectId::of(&value), objects::Live { value });
    };
    let drifted: Change = |observed| observed.live.retain(|id, _| id.kind != "ServiceAccount");
    let changes: [(&str, Change); 6] = [
        ("an invalid resource", |observed| observed.target = Err("spec.imageTag: no tag".into())),
        ("a failed write", |observed| observed.failure = Some("create Service: quota".into())),
        ("another installation", foreign),
        ("drift", drifted),
        ("a removal that is blocked", blocked),
        ("a removal that waits for machines", leaving),
    ];
    let mut world = installed(json!({}));
    world.now += SignedDuration::from_hours(23);
    for (name, change) in changes {
        let mut observed = world.observe().unwrap();
        change(&mut observed);
        let effects = decide(&observed, world.now).effects;
        assert!(effects.len() >= 5 && effects[..5].iter().all(is_renewal), "{name}: {effects:?}");
    }
}

#[test]
fn what_calls_us_trusts_an_authority_before_it_signs() {
    let mut world = installed(json!({}));
    world.now += SignedDuration::from_hours(23);
    let id = world.live.keys().find(id("ValidatingWebhookConfiguration", "virt-api-validator")).unwrap().clone();
    world.live.get_mut(&id).unwrap().value["webhooks"][0]["clientConfig"]["caBundle"] = json!("b2xk");
    let effects = world.decide().effects;
    assert!(matches!(&effects[0], Effect::Replace(value) if ObjectId::of(value) == id), "{effects:?}");
    assert_eq!(effects.iter().filter(|effect| is_renewal(effect)).count(), 5);
}

#[test]
fn nothing_is_kept_up_that_is_not_ours_or_is_being_taken_apart() {
    type Change = fn(&mut Observed);
    let leaving: Change = |observed| observed.kubevirt.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    let taken: Change = |observed| {
        let secret = observed.live.iter_mut().find(|(id, _)| id.name == "kubevirt-virt-api-certs").unwrap().1;
        secret.value["metadata"]["labels"] = json!({});
    };
    let mut world = installed(json!({}));
    world.now += SignedDuration::from_hours(23);
    for change in [leaving, taken, |observed| observed.elders = vec!["kubevirt/first".into()]] {
        let mut observed = world.observe().unwrap();
        change(&mut observed);
        let effects = decide(&observed, world.now).effects;
        assert!(!effects.iter().any(is_renewal), "{effects:?}");
    }
}
