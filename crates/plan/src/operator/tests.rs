use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::drift::contains;
use super::objects::{is_ready, resource};
use super::*;
use crate::plan::Requeue;
use fv_render::install::ObjectId;
use world::World;

mod drift;
mod elsewhere;
mod ownership;
mod upkeep;
mod world;

/// What the log says, without what is not of interest.
fn writes<'a>(world: &'a World, verb: &str, words: &[&str]) -> Vec<&'a str> {
    let is = |line: &&str| line.starts_with(verb) && words.iter().any(|word| line.contains(word));
    world.log.iter().map(String::as_str).filter(is).collect()
}

fn at(world: &World, line: &str) -> usize {
    world.log.iter().position(|known| known.contains(line)).unwrap_or_else(|| panic!("no {line} in {:?}", world.log))
}

fn installed(spec: Value) -> World {
    let mut world = World::new(spec);
    world.run();
    assert_eq!(world.phase(), "Deployed");
    world.log.clear();
    world
}

fn id(kind: &str, name: &str) -> impl Fn(&&ObjectId) -> bool {
    move |id| id.kind == kind && id.name == name
}

#[test]
fn an_installation_goes_through_its_stages_and_is_ready_at_the_end() {
    let mut world = World::new(json!({}));
    world.step(usize::MAX);
    assert_eq!(world.log, ["finalizers 1"]);
    world.step(usize::MAX);
    assert_eq!(world.phase(), "Deploying");
    assert_eq!(world.condition("Available").unwrap(), "False/DeploymentInProgress");
    assert_eq!(world.condition("Progressing").unwrap(), "True/DeploymentInProgress");
    assert_eq!(world.condition("Degraded").unwrap(), "False/DeploymentInProgress");
    assert_eq!(world.message("Available"), "Deploying version v1 with registry quay.io/ferrovirt");
    assert_eq!((world.condition("Created"), world.condition("Synchronized")), (None, None));
    world.settle();
    world.run();
    assert_eq!(world.phase(), "Deployed");
    assert_eq!(world.condition("Created").unwrap(), "True/AllResourcesCreated");
    assert_eq!(world.condition("Available").unwrap(), "True/AllComponentsReady");
    assert_eq!(world.condition("Progressing").unwrap(), "False/AllComponentsReady");
    assert_eq!(world.condition("Degraded").unwrap(), "False/AllComponentsReady");
    let status = world.status();
    assert_eq!(status.observed_generation, Some(1));
    assert_eq!(status.observed_deployment_id, status.target_deployment_id);
    assert_eq!(status.observed_kube_virt_version.as_deref(), Some("v1"));
    assert!(status.generations.iter().any(|entry| entry.resource == "deployments" && entry.name == "virt-api"));
    let order = [
        "CustomResourceDefinition virtualmachines",
        "ClusterRole kubevirt-apiserver",
        "Service kubevirt/virt-api",
        "new authority",
        "publish",
        "issue kubevirt-virt-api-certs",
        "Deployment kubevirt/virt-api",
        "MutatingWebhookConfiguration",
        "Deployment kubevirt/virt-controller",
        "DaemonSet kubevirt/virt-handler",
    ];
    let places: Vec<usize> = order.iter().map(|line| at(&world, line)).collect();
    assert!(places.is_sorted(), "{:?}", world.log);
}

#[test]
fn an_installation_that_is_as_wanted_is_left_alone_until_a_certificate_is_due() {
    let world = installed(json!({}));
    let plan = world.decide();
    assert_eq!((plan.effects, plan.status), (vec![], None));
    assert_eq!(plan.requeue, Requeue::After(Duration::from_secs(24 * 3600 * 4 / 5)));
}

#[test]
fn nothing_is_registered_with_the_api_server_before_virt_api_answers() {
    let mut world = World::new(json!({}));
    world.broken = vec!["virt-api"];
    for _ in 0..20 {
        world.step(usize::MAX);
        world.settle();
    }
    assert!(
        writes(&world, "create", &["Webhook", "APIService", "virt-controller", "DaemonSet"])
            .iter()
            .all(|line| { line.contains("kubevirt-controller") || line.contains("ClusterRole") }),
        "{:?}",
        world.log
    );
    assert_eq!(world.phase(), "Deploying");
    assert!(matches!(world.decide().requeue, Requeue::After(_)));
}

#[test]
fn an_update_replaces_node_agents_first_and_virt_api_last_and_stays_available() {
    let mut world = installed(json!({}));
    world.edit(|spec| spec.image_tag = Some("v2".into()));
    world.step(usize::MAX);
    assert_eq!(world.phase(), "Deployed");
    assert_eq!(world.condition("Available").unwrap(), "True/UpdateInProgress");
    assert_eq!(world.condition("Progressing").unwrap(), "True/UpdateInProgress");
    assert_eq!(world.condition("Degraded").unwrap(), "True/UpdateInProgress");
    assert_eq!(world.condition("Created"), None);
    assert_eq!(
        world.message("Available"),
        "Transitioning from previous version v1 with registry quay.io/ferrovirt to target version v2 using registry quay.io/ferrovirt"
    );
    assert_eq!(world.status().observed_generation, Some(2));
    world.settle();
    world.run();
    let order =
        ["DaemonSet kubevirt/virt-handler", "Deployment kubevirt/virt-controller", "Deployment kubevirt/virt-api"];
    let places: Vec<usize> = order.iter().map(|line| at(&world, line)).collect();
    assert!(places.is_sorted(), "{:?}", world.log);
    assert_eq!(world.status().observed_kube_virt_version.as_deref(), Some("v2"));
    // And back.
    world.edit(|spec| spec.image_tag = None);
    world.run();
    assert_eq!(world.status().observed_kube_virt_version.as_deref(), Some("v1"));
    assert_eq!(world.condition("Available").unwrap(), "True/AllComponentsReady");
}

#[test]
fn an_update_whose_node_agents_do_not_come_up_leaves_the_control_plane_as_it_was() {
    let mut world = installed(json!({}));
    world.edit(|spec| spec.image_tag = Some("v2".into()));
    world.broken = vec!["virt-handler"];
    for _ in 0..10 {
        world.step(usize::MAX);
        world.settle();
    }
    assert!(writes(&world, "replace", &["Deployment kubevirt"]).is_empty(), "{:?}", world.log);
    assert_eq!(world.status().observed_kube_virt_version.as_deref(), Some("v1"));
}

#[test]
fn what_an_installation_no_longer_has_is_deleted_once_it_works() {
    let mut world = installed(json!({}));
    world.edit(|spec| {
        spec.infra = Some(fv_api::ComponentConfig { replicas: Some(1), ..Default::default() });
    });
    world.run();
    assert_eq!(writes(&world, "delete", &["PodDisruptionBudget"]).len(), 2);
    assert!(!world.live.keys().any(|id| id.kind == "PodDisruptionBudget"));
}

#[test]
fn a_prometheus_operator_that_comes_later_is_told_and_told_first_of_a_removal() {
    let mut world = installed(json!({"monitorNamespace": "monitoring"}));
    assert!(!world.live.keys().any(|id| id.group == "monitoring.coreos.com"));
    world.is_monitored = true;
    world.run();
    assert_eq!(world.phase(), "Deployed");
    assert_eq!(world.condition("Available").unwrap(), "True/AllComponentsReady");
    let told = [
        "create Role kubevirt/kubevirt-monitoring",
        "create RoleBinding kubevirt/kubevirt-monitoring",
        "create ServiceMonitor monitoring/prometheus-kubevirt-rules",
        "create PrometheusRule kubevirt/prometheus-kubevirt-rules",
    ];
    assert_eq!(world.log, told);
    world.log.clear();
    world.delete_kubevirt();
    world.run();
    assert!(at(&world, "delete PrometheusRule") < at(&world, "delete APIService"));
    assert!(world.live.is_empty() && world.kubevirt.is_none());
}

#[test]
fn drift_is_repaired_wherever_it_is() {
    let mut world = installed(json!({}));
    let role = world.live.keys().find(id("ClusterRole", "kubevirt-handler")).unwrap().clone();
    let rules = world.live[&role].value["rules"].clone();
    world.live.get_mut(&role).unwrap().value["rules"] =
        json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    let api = world.live.keys().find(id("Deployment", "virt-api")).unwrap().clone();
    let deployment = world.live.get_mut(&api).unwrap();
    // A field beside ours, found by the generation.
    deployment.value["spec"]["template"]["spec"]["hostNetwork"] = json!(true);
    deployment.value["metadata"]["generation"] = json!(2);
    let service = world.live.keys().find(id("Service", "virt-api")).unwrap().clone();
    world.live.remove(&service);
    let secret = world.live.keys().find(id("Secret", "kubevirt-virt-api-certs")).unwrap().clone();
    world.live.remove(&secret);
    world.reread_certificates();
    world.run();
    assert_eq!(world.live[&role].value["rules"], rules);
    assert!(world.live[&api].value["spec"]["template"]["spec"].get("hostNetwork").is_none());
    assert!(world.live.contains_key(&service) && world.live.contains_key(&secret));
    assert_eq!(world.log.len(), 4, "{:?}", world.log);
}

#[test]
fn what_others_put_onto_our_objects_is_kept_and_what_the_cluster_assigned_too() {
    let mut world = installed(json!({}));
    let service = world.live.keys().find(id("Service", "virt-api")).unwrap().clone();
    let live = world.live.get_mut(&service).unwrap();
    live.value["spec"]["clusterIP"] = json!("10.96.0.7");
    live.value["metadata"]["annotations"]["owner.example/team"] = json!("shop");
    live.value["spec"]["ports"][0]["port"] = json!(1);
    world.run();
    let live = &world.live[&service].value;
    assert_eq!(live["spec"]["clusterIP"], "10.96.0.7");
    assert_eq!(live["metadata"]["annotations"]["owner.example/team"], "shop");
    assert_eq!(live["spec"]["ports"][0]["port"], 443);
}

#[test]
fn another_installation_is_named_and_nothing_is_touched() {
    let theirs = |kind: &str, name: &str, labels: Value| json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": kind, "metadata": {"name": name, "labels": labels}});
    for (foreign, found) in [
        (theirs("CustomResourceDefinition", "virtualmachines.kubevirt.io", json!({"kubevirt.io": ""})), true),
        (
            theirs(
                "CustomResourceDefinition",
                "other.kubevirt.io",
                json!({"app.kubernetes.io/managed-by": "virt-operator"}),
            ),
            true,
        ),
        (
            theirs(
                "CustomResourceDefinition",
                "virtualmachines.kubevirt.io",
                json!({"ferrovirt.io/installed-by": "elsewhere"}),
            ),
            true,
        ),
        (theirs("CustomResourceDefinition", "other.example", json!({})), false),
    ] {
        let mut world = World::new(json!({}));
        world.add_foreign(foreign.clone());
        let name = ObjectId::of(&foreign).to_string();
        world.run();
        if !found {
            assert_eq!(world.phase(), "Deployed");
            continue;
        }
        assert_eq!(world.log, Vec::<String>::new(), "{name}");
        assert_eq!(world.condition("Synchronized").unwrap(), "False/ExistingDeployment");
        assert!(world.message("Synchronized").contains(&name), "{}", world.message("Synchronized"));
        assert_eq!(world.condition("Available").unwrap(), "False/DeploymentFailed");
        assert_eq!(world.condition("Degraded").unwrap(), "True/DeploymentFailed");
        assert_eq!(world.status().observed_generation, Some(1));
    }
}

#[test]
fn a_resource_that_another_operator_follows_is_left_alone_also_when_it_is_removed() {
    let upstreams =
        json!({"id": "8ad8", "namespace": "kubevirt", "registry": "quay.io/kubevirt", "kubeVirtVersion": "v1.8.0"});
    let elsewhere = json!({"namespace": "elsewhere", "images": {"virt-launcher": "x"}, "spec": {}});
    for config in [upstreams, elsewhere] {
        let mut world = World::new(json!({}));
        let kubevirt = world.kubevirt.as_mut().unwrap();
        kubevirt.metadata.finalizers = Some(vec![FINALIZER.into()]);
        kubevirt.status =
            Some(KubeVirtStatus { target_deployment_config: Some(config.to_string()), ..KubeVirtStatus::default() });
        world.workloads = vec![machine("theirs")];
        assert_eq!(world.decide(), Plan::default());
        world.delete_kubevirt();
        assert_eq!(world.decide(), Plan::default());
    }
}

#[test]
fn a_resource_is_not_followed_beside_one_of_another_operator_however_old_it_is() {
    let resource = |name: &str, second: i64, config: Option<Value>| {
        let mut kubevirt = World::new(json!({})).kubevirt.unwrap();
        kubevirt.metadata.name = Some(name.into());
        kubevirt.metadata.creation_timestamp = Some(Time(Timestamp::from_second(second).unwrap()));
        let target_deployment_config = config.map(|config| config.to_string());
        kubevirt.status = Some(KubeVirtStatus { target_deployment_config, ..KubeVirtStatus::default() });
        kubevirt
    };
    let config = |namespace: &str| Some(json!({"namespace": namespace, "images": {"virt-launcher": "x"}, "spec": {}}));
    let (nobodys, theirs) = (resource("a", 1, None), resource("theirs", 2, config("elsewhere")));
    let (mut ours, younger) = (resource("ours", 3, config("kubevirt")), resource("b", 1, None));
    // To be refused is told in a status like any other.
    let refused = ours.clone();
    ours.metadata.finalizers = Some(vec![FINALIZER.into()]);
    for (all, order) in [
        (vec![&nobodys, &theirs], vec!["theirs", "a"]),
        (vec![&nobodys, &theirs, &ours], vec!["ours", "theirs", "a"]),
        (vec![&refused, &theirs], vec!["theirs", "ours"]),
        (vec![&younger, &nobodys], vec!["a", "b"]),
    ] {
        let sorted = in_order(all.into_iter().cloned().collect(), "kubevirt");
        let names: Vec<_> = sorted.iter().map(|kubevirt| kubevirt.metadata.name.clone().unwrap()).collect();
        assert_eq!(names, order);
    }
}

#[test]
fn a_repair_of_what_works_raises_no_alarm() {
    let mut world = installed(json!({}));
    let role = world.live.keys().find(id("ClusterRole", "kubevirt-handler")).unwrap().clone();
    world.live.get_mut(&role).unwrap().value["rules"] = json!([]);
    let plan = world.decide();
    assert_eq!((plan.effects.len(), plan.status), (1, None));
    // What no longer works is told as before.
    let api = world.live.keys().find(id("Deployment", "virt-api")).unwrap().clone();
    world.live.remove(&api);
    world.broken = vec!["virt-api"];
    for _ in 0..3 {
        world.step(usize::MAX);
        world.settle();
    }
    assert_eq!(world.condition("Available").unwrap(), "False/DeploymentInProgress");
}

#[test]
fn a_second_resource_is_not_followed() {
    let mut world = World::new(json!({}));
    world.elders = vec!["kubevirt/first".into()];
    world.run();
    assert_eq!(world.log, Vec::<String>::new());
    assert_eq!(world.message("Synchronized"), "There is an existing KubeVirt deployment: kubevirt/first");
}

#[test]
fn a_resource_that_cannot_be_followed_and_a_failed_write_are_told() {
    let world = installed(json!({}));
    let mut observed = world.observe().unwrap();
    observed.failure = Some("create Service kubevirt/virt-api: quota".into());
    let plan = decide(&observed, world.now);
    let status = plan.status.unwrap();
    let synchronized = status.conditions.iter().find(|condition| condition.type_ == "Synchronized").unwrap();
    assert_eq!(synchronized.reason.as_deref(), Some("DeploymentFailed"));
    assert_eq!(synchronized.message.as_deref(), Some("create Service kubevirt/virt-api: quota"));
    observed.failure = None;
    observed.target = Err("spec.imageTag: \"a b\" is not a tag".into());
    let plan = decide(&observed, world.now);
    assert_eq!(plan.effects, []);
    assert_eq!(plan.status.unwrap().phase.as_deref(), Some("Deployed"));
}

#[test]
fn machines_with_outdated_launchers_are_counted_and_disturb_nothing() {
    let mut world = installed(json!({}));
    assert_eq!(world.status().outdated_virtual_machine_instance_workloads, Some(0));
    world.outdated = None;
    assert_eq!(world.decide().status, None, "what is not known is left as it was");
    world.outdated = Some(3);
    let plan = world.decide();
    assert_eq!(plan.effects, []);
    let status = plan.status.unwrap();
    assert_eq!(status.outdated_virtual_machine_instance_workloads, Some(3));
    assert_eq!(status.conditions, world.status().conditions);
}

fn machine(name: &str) -> Workload {
    Workload {
        kind: "VirtualMachine",
        namespace: "default".into(),
        name: name.into(),
        uid: format!("uid-{name}"),
        is_leaving: false,
    }
}

#[test]
fn removal_takes_machines_first_and_definitions_last_and_leaves_everything_foreign() {
    let mut world = installed(json!({}));
    let foreign =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "theirs", "namespace": "default"}});
    world.add_foreign(foreign.clone());
    world.workloads = vec![machine("a"), machine("b")];
    world.delete_kubevirt();
    world.step(usize::MAX);
    assert_eq!((world.phase().as_str(), world.log.len()), ("Deleting", 0));
    assert_eq!(world.condition("Available").unwrap(), "False/DeletionInProgress");
    assert_eq!(world.condition("Progressing").unwrap(), "False/DeletionInProgress");
    assert_eq!(world.condition("Degraded").unwrap(), "True/DeletionInProgress");
    assert_eq!(world.condition("Created"), None);
    world.run();
    assert!(world.kubevirt.is_none());
    assert_eq!(world.live.keys().map(ToString::to_string).collect::<Vec<_>>(), ["Service default/theirs"]);
    let order = [
        "workload a",
        "WebhookConfiguration",
        "DaemonSet",
        "Deployment kubevirt/virt-api",
        "ClusterRole ",
        "CustomResourceDefinition",
    ];
    let places: Vec<usize> = order.iter().map(|line| at(&world, line)).collect();
    assert!(places.is_sorted(), "{:?}", world.log);
}

#[test]
fn removal_waits_for_machines_that_take_their_time() {
    let mut world = installed(json!({}));
    world.workloads = vec![machine("slow")];
    world.delete_kubevirt();
    for _ in 0..5 {
        world.step(usize::MAX);
    }
    assert_eq!(world.log, ["delete workload slow"]);
    assert!(matches!(world.decide().requeue, Requeue::After(_)));
}

#[test]
fn removal_is_refused_while_machines_exist_when_asked_to() {
    let mut world = installed(json!({"uninstallStrategy": "BlockUninstallIfWorkloadsExist"}));
    world.workloads = vec![machine("a")];
    world.delete_kubevirt();
    world.step(usize::MAX);
    assert_eq!((world.phase().as_str(), world.log.len()), ("Deployed", 0));
    assert_eq!(world.condition("Synchronized").unwrap(), "False/DeletionFailed");
    assert_eq!(world.condition("Available").unwrap(), "True/AllComponentsReady", "what is installed works on");
    world.workloads.clear();
    world.run();
    assert!(world.kubevirt.is_none() && world.live.is_empty());
}

#[test]
fn removal_of_a_second_resource_takes_nothing_along() {
    let mut world = installed(json!({}));
    let installed = world.live.len();
    world.elders = vec!["kubevirt/first".into()];
    world.workloads = vec![machine("a")];
    world.delete_kubevirt();
    world.run();
    assert!(world.kubevirt.is_none());
    assert_eq!((world.live.len(), world.log), (installed, vec!["finalizers 0".to_owned()]));
}

#[test]
fn a_resource_whose_finalizer_is_not_ours_is_left_alone() {
    let mut world = World::new(json!({}));
    world.kubevirt.as_mut().unwrap().metadata.finalizers = Some(vec!["other/one".into()]);
    world.delete_kubevirt();
    assert_eq!(world.decide(), Plan::default());
}

#[test]
fn certificates_are_renewed_with_overlap_for_ever() {
    let mut world = installed(json!({}));
    let mut trusted: Vec<Vec<String>> = Vec::new();
    for _ in 0..(30 * 6) {
        world.now += SignedDuration::from_hours(4);
        world.run();
        let authority = &world.authority;
        trusted.push(authority.published.iter().map(|known| known.fingerprint.clone()).collect());
        for leaf in authority.leaves.values() {
            assert!(leaf.not_after > world.now, "a certificate ran out");
            assert!(
                authority.published.iter().any(|known| known.fingerprint == leaf.issuer && known.not_after > world.now)
            );
        }
    }
    let rotations = writes(&world, "new successor", &[""]).len();
    assert_eq!((rotations, writes(&world, "promote", &[""]).len()), (5, 5));
    assert!(trusted.iter().all(|bundle| !bundle.is_empty() && bundle.len() <= 2));
    assert!(writes(&world, "replace", &["MutatingWebhook"]).len() >= rotations, "webhooks follow the bundle");
    assert!(writes(&world, "replace", &["Deployment", "DaemonSet"]).is_empty(), "nothing is restarted");
}

#[test]
fn certificates_that_end_with_their_authority_are_not_signed_again_and_again() {
    let lifetimes =
        json!({"ca": {"duration": "24h", "renewBefore": "2h"}, "server": {"duration": "24h", "renewBefore": "4h"}});
    let mut world = installed(json!({"certificateRotateStrategy": {"selfSigned": lifetimes}}));
    for _ in 0..(2 * 24 * 2) {
        world.now += SignedDuration::from_mins(30);
        world.run();
        for (name, leaf) in &world.authority.leaves {
            assert!(leaf.not_after > world.now, "{name} ran out");
        }
    }
    assert_eq!(writes(&world, "promote", &[""]).len(), 2);
    assert_eq!(writes(&world, "issue", &[""]).len(), 2 * 5);
}

#[test]
fn an_authority_that_ran_out_is_replaced_at_once() {
    let mut world = installed(json!({}));
    world.now += SignedDuration::from_hours(24 * 30);
    world.run();
    assert_eq!(writes(&world, "new authority", &[""]).len(), 1);
    assert_eq!(writes(&world, "issue", &[""]).len(), 5);
    assert_eq!(world.condition("Available").unwrap(), "True/AllComponentsReady");
}

#[test]
fn readiness_is_read_from_what_controllers_report() {
    let deployment = |status: Value| json!({"kind": "Deployment", "metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": status});
    let full = json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2});
    assert!(is_ready(&deployment(full.clone())));
    for (key, value) in [("observedGeneration", 1), ("replicas", 3), ("updatedReplicas", 1), ("availableReplicas", 1)] {
        let mut status = full.clone();
        status[key] = json!(value);
        assert!(!is_ready(&deployment(status)), "{key}");
    }
    assert!(!is_ready(&deployment(json!({}))));
    assert!(!is_ready(&json!({"kind": "APIService"})));
    assert!(is_ready(&json!({"kind": "Secret"})));
}

#[test]
fn an_object_is_as_wanted_when_it_has_all_of_it() {
    for (live, wanted, is) in [
        (json!({"a": 1, "b": 2}), json!({"a": 1}), true),
        (json!({"a": 1}), json!({"a": 2}), false),
        (json!({}), json!({"a": []}), true),
        (json!({}), json!({"a": false}), true),
        (json!({}), json!({"a": true}), false),
        (json!({"a": [1, 2]}), json!({"a": [1]}), false),
        (json!({"a": [{"x": 1, "y": 1}]}), json!({"a": [{"x": 1}]}), true),
    ] {
        assert_eq!(contains(&live, &wanted), is, "{live} {wanted}");
    }
}

#[test]
fn kinds_have_the_plural_of_the_api() {
    for (kind, plural) in [
        ("Deployment", "deployments"),
        ("PriorityClass", "priorityclasses"),
        ("ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
        ("APIService", "apiservices"),
        ("Service", "services"),
    ] {
        assert_eq!(resource(kind), plural);
    }
}

/// What happens between two looks.
#[derive(Clone, Debug)]
enum Happening {
    /// The operator does so many writes and dies.
    Dies(usize),
    Settles,
    /// The object at this place in the list is deleted by somebody.
    Deleted(usize),
    /// Or changed.
    Changed(usize),
    Hours(i64),
    Tag(Option<&'static str>),
    Replicas(u8),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (0..12_usize).prop_map(Happening::Dies),
        3 => Just(Happening::Settles),
        1 => (0..64_usize).prop_map(Happening::Deleted),
        1 => (0..64_usize).prop_map(Happening::Changed),
        1 => (1..200_i64).prop_map(Happening::Hours),
        1 => prop_oneof![Just(None), Just(Some("v2")), Just(Some("v3"))].prop_map(Happening::Tag),
        1 => (1..4_u8).prop_map(Happening::Replicas),
    ]
}

fn happens(world: &mut World, happening: Happening) {
    match happening {
        Happening::Dies(budget) => {
            world.step(budget);
        }
        Happening::Settles => world.settle(),
        Happening::Deleted(place) => {
            if let Some(id) = world.live.keys().nth(place).cloned() {
                world.live.remove(&id);
                world.reread_certificates();
            }
        }
        Happening::Changed(place) => {
            if let Some(live) = world.live.values_mut().nth(place) {
                live.value["metadata"]["annotations"]["kubevirt.io/install-strategy-version"] = json!("changed");
            }
        }
        Happening::Hours(hours) => world.now += SignedDuration::from_hours(hours),
        Happening::Tag(tag) => world.edit(|spec| spec.image_tag = tag.map(str::to_owned)),
        Happening::Replicas(replicas) => world.edit(|spec| {
            spec.infra = Some(fv_api::ComponentConfig { replicas: Some(replicas), ..Default::default() });
        }),
    }
}

/// Names and what was wanted of every object, which a calm installation has too.
fn shape(world: &World) -> Vec<(String, Value)> {
    let spec = |live: &objects::Live| json!([live.value["spec"], live.value["rules"], live.value["webhooks"]]);
    let mut shape: Vec<(String, Value)> = world.live.iter().map(|(id, live)| (id.to_string(), spec(live))).collect();
    for (_, value) in &mut shape {
        // Each world has authorities of its own.
        strip_bundles(value);
    }
    shape
}

fn strip_bundles(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.shift_remove("caBundle");
            fields.values_mut().for_each(strip_bundles);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_bundles),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn killed_after_any_write_and_continued_it_comes_to_the_same_end(story in prop::collection::vec(happening(), 0..40)) {
        let mut world = World::new(json!({}));
        let foreign = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "zzz"}});
        for happening in story {
            happens(&mut world, happening);
        }
        world.settle();
        world.run();
        prop_assert_eq!(world.phase(), "Deployed");
        prop_assert_eq!(world.condition("Available").unwrap(), "True/AllComponentsReady");
        let spec = serde_json::to_value(&world.kubevirt.as_ref().unwrap().spec).unwrap();
        let mut calm = World::new(spec);
        calm.run();
        prop_assert_eq!(shape(&world), shape(&calm));
        world.add_foreign(foreign);
        world.delete_kubevirt();
        world.run();
        prop_assert!(world.kubevirt.is_none());
        prop_assert_eq!(world.live.len(), 1, "only what is foreign is left");
    }
}
