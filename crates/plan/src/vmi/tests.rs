use std::sync::Arc;

use fv_api::VirtualMachineInstance;
use fv_api::config::ClusterConfig;
use fv_render::launcher_pod_name;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::node::NodeFacts;
use crate::plan::{Effect, EffectFailure, Guard, ObjectKey, Plan, failures};

const UID: &str = "vmi-uid";

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().expect("a timestamp")
}

fn vmi(status: Value) -> VirtualMachineInstance {
    serde_json::from_value(json!({
        "metadata": {"name": "demo", "namespace": "ns", "uid": UID, "resourceVersion": "10",
                     "finalizers": ["kubevirt.io/foregroundDeleteVirtualMachine"]},
        "spec": {"domain": {"devices": {}, "memory": {"guest": "64Mi"}}},
        "status": status,
    }))
    .expect("a VMI")
}

fn held(phase: &str) -> VirtualMachineInstance {
    vmi(json!({"phase": phase, "nodeName": "n1"}))
}

fn deleting(mut vmi: VirtualMachineInstance) -> VirtualMachineInstance {
    vmi.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    vmi
}

fn pod(attempt: u32) -> PodFacts {
    PodFacts {
        key: ObjectKey::new("ns", launcher_pod_name("demo", UID, attempt)),
        uid: format!("pod-{attempt}"),
        resource_version: "5".into(),
        owner_uid: Some(UID.into()),
        owner_name: Some("demo".into()),
        created_by: Some(UID.into()),
        phase: "Pending".into(),
        ..PodFacts::default()
    }
}

fn bound(attempt: u32) -> PodFacts {
    PodFacts { phase: "Running".into(), node: Some("n1".into()), containers_ready: true, ..pod(attempt) }
}

fn plan(vmi: VirtualMachineInstance, pods: Vec<PodFacts>) -> Plan {
    let observed =
        Observed { vmi: Arc::new(vmi), pods: pods.into_iter().map(Arc::new).collect(), ..Observed::default() };
    decide(&observed, &ClusterConfig::default(), now())
}

fn effects(plan: &Plan) -> Vec<String> {
    let name = |key: &ObjectKey| key.name.clone();
    plan.effects
        .iter()
        .map(|step| match &step.effect {
            Effect::CreatePod(pod) => format!("create {}", pod.metadata.name.clone().unwrap_or_default()),
            Effect::DeletePod { key, .. } => format!("delete {}", name(key)),
            Effect::PatchPodStatus { key, .. } => format!("gate {}", name(key)),
            other => panic!("unexpected {other:?}"),
        })
        .collect()
}

/// The grace period of the first effect, a deletion.
fn grace(plan: &Plan) -> Option<u32> {
    match &plan.effects[0].effect {
        Effect::DeletePod { grace_seconds, .. } => *grace_seconds,
        other => panic!("unexpected {other:?}"),
    }
}

fn named(verb: &str, attempt: u32) -> String {
    format!("{verb} {}", launcher_pod_name("demo", UID, attempt))
}

fn written(plan: &Plan) -> &Value {
    &plan.status.as_ref().expect("a status write").patch
}

#[test]
fn a_new_vmi_gets_its_pod_and_no_other_write() {
    for phase in ["", "Pending"] {
        let plan = plan(vmi(json!({"phase": phase})), vec![]);
        assert_eq!(effects(&plan), [named("create", 0)], "{phase:?}");
        assert!(plan.status.is_none());
    }
}

#[test]
fn phases_follow_the_pod_until_a_node_has_it() {
    let cases = [
        ("Pending", pod(0), json!("Scheduling")),
        ("", pod(0), json!("Scheduling")),
        ("Scheduling", bound(0), json!("Scheduled")),
        ("Pending", bound(0), json!("Scheduled")),
        ("Scheduling", PodFacts { containers_ready: false, ..bound(0) }, Value::Null),
        ("Scheduling", PodFacts { node: None, ..bound(0) }, Value::Null),
        ("Scheduling", PodFacts { phase: "Failed".into(), ..bound(0) }, json!("Failed")),
        ("Scheduling", PodFacts { phase: "Succeeded".into(), ..bound(0) }, json!("Failed")),
        ("Scheduling", PodFacts { deleting: true, ..bound(0) }, Value::Null),
    ];
    for (phase, pod, expected) in cases {
        let what = format!("{phase} {pod:?}");
        let plan = plan(vmi(json!({"phase": phase})), vec![pod]);
        assert!(plan.effects.is_empty(), "{what}");
        let status = &written(&plan)["status"];
        assert_eq!(status["phase"], expected, "{what}");
        if expected == "Scheduled" {
            assert_eq!(status["nodeName"], "n1");
            assert_eq!(status["activePods"], json!({"pod-0": "n1"}));
            assert_eq!(written(&plan)["metadata"]["labels"]["kubevirt.io/nodeName"], "n1");
            assert_eq!(written(&plan)["metadata"]["resourceVersion"], "10");
        }
    }
}

#[test]
fn a_pod_that_vanished_before_the_hand_over_ends_the_vmi_only_if_the_api_agrees() {
    let plan = plan(vmi(json!({"phase": "Scheduling"})), vec![]);
    assert!(plan.effects.is_empty());
    assert_eq!(written(&plan)["status"]["phase"], "Failed");
    assert_eq!(plan.status.and_then(|write| write.guard), Some(Guard::NoPodOf { vmi_uid: UID.into() }));
}

#[test]
fn a_vanished_pod_is_replaced_on_the_same_node_and_never_ends_the_vmi() {
    for phase in ["Scheduled", "Running", "Unknown"] {
        for (pods, attempt) in [
            (vec![], 0),
            (vec![PodFacts { deleting: true, ..bound(0) }], 1),
            (vec![PodFacts { phase: "Failed".into(), ..bound(0) }], 1),
            (vec![PodFacts { phase: "Failed".into(), ..bound(1) }], 0),
        ] {
            let what = format!("{phase} {pods:?}");
            let plan = plan(held(phase), pods);
            assert_eq!(effects(&plan), [named("create", attempt)], "{what}");
            let Effect::CreatePod(pod) = &plan.effects[0].effect else { panic!("a pod") };
            let affinity =
                serde_json::to_string(&pod.spec.as_ref().and_then(|spec| spec.affinity.clone())).expect("json");
            assert!(affinity.contains(r#""metadata.name","operator":"In","values":["n1"]"#), "{what}: {affinity}");
        }
    }
}

#[test]
fn an_evicted_pod_makes_its_guest_leave_and_is_not_replaced() {
    let evicted = PodFacts { deleting: true, evicted: true, ..bound(0) };
    for phase in ["Scheduled", "Running", "Unknown"] {
        let first = plan(held(phase), vec![evicted.clone()]);
        assert_eq!(effects(&first), [] as [String; 0], "{phase}");
        assert_eq!(written(&first)["status"]["evacuationNodeName"], "n1", "{phase}");
        assert_eq!(first.events.iter().map(|event| event.reason).collect::<Vec<_>>(), ["Evicted"]);
        // From then on the VMI itself says so, whatever becomes of the pod.
        let mut marked = held(phase);
        marked.status.as_mut().expect("a status").evacuation_node_name = Some("n1".into());
        for pods in [vec![], vec![evicted.clone()]] {
            let second = plan(marked.clone(), pods);
            assert!(second.effects.is_empty() && second.events.is_empty(), "{phase}");
        }
    }
}

#[test]
fn only_an_eviction_of_its_own_pod_there_makes_a_guest_leave() {
    let replaced = |pods: Vec<PodFacts>| {
        let plan = plan(held("Running"), pods);
        assert!(plan.status.is_none_or(|write| write.patch["status"]["evacuationNodeName"].is_null()));
        effects(&Plan { status: None, ..plan })
    };
    let evicted = PodFacts { deleting: true, evicted: true, ..bound(0) };
    let forged = PodFacts { owner_uid: Some("another".into()), ..evicted.clone() };
    assert_eq!(replaced(vec![forged]), [named("create", 1)]);
    let elsewhere = PodFacts { node: Some("n2".into()), ..evicted };
    assert_eq!(replaced(vec![elsewhere]), [named("create", 1)]);
    // A mark that names another node is of the past.
    let mut marked = held("Running");
    marked.status.as_mut().expect("a status").evacuation_node_name = Some("n2".into());
    assert_eq!(effects(&plan(marked, vec![])), [named("create", 0)]);
}

#[test]
fn evictions_are_told_from_what_follows_a_silent_node() {
    let pod = |reason: &str, status: &str, deleting: bool| {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": []}, "status": {"conditions": [
            {"type": "DisruptionTarget", "status": status, "reason": reason}]}});
        if deleting {
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T12:00:00Z");
        }
        PodFacts::of(&serde_json::from_value(pod).expect("a pod")).evicted
    };
    assert!(pod("EvictionByEvictionAPI", "True", true));
    assert!(pod("PreemptionByScheduler", "True", true));
    assert!(!pod("EvictionByEvictionAPI", "True", false), "refused in the end");
    assert!(!pod("EvictionByEvictionAPI", "False", true));
    for reason in ["DeletionByTaintManager", "DeletionByPodGC", "TerminationByKubelet"] {
        assert!(!pod(reason, "True", true), "{reason}");
    }
}

#[test]
fn what_a_replacement_replaced_is_removed_once_it_lives() {
    let ended = PodFacts { phase: "Failed".into(), ..bound(0) };
    assert_eq!(effects(&plan(held("Scheduled"), vec![ended, pod(1)])), [named("delete", 0)]);
    let ending = PodFacts { deleting: true, ..bound(0) };
    let plan = plan(held("Scheduled"), vec![ending, bound(1)]);
    assert!(plan.effects.is_empty());
    assert_eq!(written(&plan)["status"]["activePods"], json!({"pod-0": "n1", "pod-1": "n1"}));
}

fn on(node: NodeFacts, vmi: VirtualMachineInstance, pods: Vec<PodFacts>) -> Plan {
    let pods = pods.into_iter().map(Arc::new).collect();
    let observed = Observed { vmi: Arc::new(vmi), pods, host: Some(Arc::new(node)), ..Observed::default() };
    decide(&observed, &ClusterConfig::default(), now())
}

fn called_off() -> NodeFacts {
    NodeFacts { name: "n1".into(), called_off: true, ..NodeFacts::default() }
}

#[test]
fn a_guest_whose_node_is_off_has_ended_and_is_let_go() {
    for phase in ["Scheduled", "Running", "Unknown"] {
        for pods in [vec![], vec![bound(0)], vec![PodFacts { deleting: true, ..bound(0) }]] {
            let first = on(called_off(), held(phase), pods.clone());
            assert!(effects(&first).iter().all(|effect| effect.starts_with("gate")), "{phase} {pods:?}");
            let status = &written(&first)["status"];
            assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("NodeOutOfService")));
            let guard = Guard::NodeIsOff { name: "n1".into(), now: now() };
            assert_eq!(first.status.as_ref().and_then(|write| write.guard.clone()), Some(guard));
            assert_eq!(first.events.iter().map(|event| event.reason).collect::<Vec<_>>(), ["NodeOutOfService"]);
            // From then on the VMI itself says so, whatever becomes of the taint.
            let mut ended = held("Failed");
            ended.status.as_mut().expect("a status").conditions =
                serde_json::from_value(status["conditions"].clone()).expect("conditions");
            let second = on(NodeFacts { called_off: false, ..called_off() }, ended.clone(), vec![bound(0)]);
            assert_eq!(effects(&second), [named("delete", 0)]);
            let last = on(called_off(), deleting(ended), vec![]);
            assert_eq!(written(&last)["metadata"]["finalizers"], json!([]));
            assert!(last.events.is_empty(), "told once");
        }
    }
    // One that ended by itself, or is to go, waits no longer for its node's word.
    for waiting in [held("Succeeded"), deleting(held("Running"))] {
        let plan = on(called_off(), waiting, vec![bound(0)]);
        let conditions = &written(&plan)["status"]["conditions"];
        let is_told = |told: &Value| told["type"] == "DomainDeleted" && told["status"] == "True";
        assert!(conditions.as_array().is_some_and(|all| all.iter().any(is_told)), "{conditions}");
    }
}

#[test]
fn only_its_own_node_and_only_without_doubt_ends_a_guest() {
    let doubtful = NodeFacts { heartbeat: Some(now()), ..called_off() };
    let doubted = on(doubtful, held("Running"), vec![bound(0)]);
    assert_eq!(doubted.requeue, crate::plan::Requeue::After(std::time::Duration::from_secs(150)));
    for plan in [
        doubted,
        on(NodeFacts { name: "n2".into(), ..called_off() }, held("Running"), vec![bound(0)]),
        on(NodeFacts { called_off: false, ..called_off() }, held("Running"), vec![bound(0)]),
        on(called_off(), vmi(json!({"phase": "Scheduling"})), vec![bound(0)]),
    ] {
        assert!(plan.events.is_empty());
        assert!(plan.status.is_none_or(|write| write.guard.is_none() && write.patch["status"]["phase"] != "Failed"));
    }
}

#[test]
fn a_forged_label_does_not_make_a_pod_ours() {
    let forged = PodFacts { owner_uid: Some("other".into()), ..bound(0) };
    let plan = plan(vmi(json!({"phase": "Pending"})), vec![forged]);
    assert_eq!(effects(&plan), [named("create", 1)], "its name is taken, but it is not the VMI's pod");
}

#[test]
fn a_vmi_that_no_node_had_is_taken_down_by_the_controller_alone() {
    for phase in ["", "Pending", "Scheduling", "Failed"] {
        let first = plan(deleting(vmi(json!({"phase": phase}))), vec![pod(0)]);
        assert_eq!(effects(&first), [named("delete", 0)], "{phase:?}");
        assert_eq!(grace(&first), Some(1), "no node will ever release it");
        assert!(first.status.is_none());
        let going = plan(deleting(vmi(json!({"phase": phase}))), vec![PodFacts { deleting: true, ..pod(0) }]);
        assert!(going.is_idle());
        let given = |grace_seconds| PodFacts { deleting: true, grace_seconds, ..pod(0) };
        let hurried = plan(deleting(vmi(json!({"phase": phase}))), vec![given(Some(90))]);
        assert_eq!((effects(&hurried), grace(&hurried)), (vec![named("delete", 0)], Some(1)), "{phase:?}");
        assert!(plan(deleting(vmi(json!({"phase": phase}))), vec![given(Some(1))]).is_idle());
        let last = plan(deleting(vmi(json!({"phase": phase}))), vec![]);
        assert!(last.effects.is_empty());
        assert_eq!(written(&last)["metadata"]["finalizers"], json!([]));
        assert_eq!(last.status.and_then(|write| write.guard), Some(Guard::NoPodOf { vmi_uid: UID.into() }));
    }
}

#[test]
fn a_vmi_that_a_node_has_waits_for_the_nodes_word() {
    for phase in ["Scheduled", "Running", "Succeeded", "Failed"] {
        let leaving = PodFacts { deleting: true, grace_seconds: Some(90), ..bound(0) };
        for pods in [vec![bound(0)], vec![], vec![leaving]] {
            let plan = plan(deleting(held(phase)), pods);
            assert!(plan.effects.is_empty(), "{phase}");
            if let Some(write) = &plan.status {
                assert!(write.patch["metadata"].get("finalizers").is_none(), "{phase}");
            }
        }
        let mut released = deleting(held(phase));
        released.status.as_mut().expect("status").conditions =
            serde_json::from_value(json!([{"type": "DomainDeleted", "status": "True"}])).expect("conditions");
        let last = plan(released.clone(), vec![bound(0)]);
        assert_eq!((effects(&last), grace(&last)), (vec![named("delete", 0)], None));
        released.metadata.finalizers.as_mut().expect("finalizers").push("foregroundDeleteVirtualMachine".into());
        released.metadata.finalizers.as_mut().expect("finalizers").push("example.com/mine".into());
        assert_eq!(written(&plan(released, vec![]))["metadata"]["finalizers"], json!(["example.com/mine"]));
    }
}

#[test]
fn an_ended_vmi_keeps_its_pod_until_the_node_has_cleaned_up() {
    let plan_of = |conditions: Value| {
        let mut ended = held("Succeeded");
        ended.status.as_mut().expect("status").conditions = serde_json::from_value(conditions).expect("conditions");
        plan(ended, vec![bound(0)])
    };
    assert!(plan_of(json!([])).effects.is_empty());
    assert!(plan_of(json!([{"type": "DomainDeleted", "status": "False"}])).effects.is_empty());
    assert_eq!(effects(&plan_of(json!([{"type": "DomainDeleted", "status": "True"}]))), [named("delete", 0)]);
}

#[test]
fn ready_says_why_not() {
    let ready = |status: &str, reason: &str| {
        Some(PodCondition { status: status.into(), reason: reason.into(), message: String::new() })
    };
    let cases = [
        ("Scheduling", vec![pod(0)], "False", json!("GuestNotRunning")),
        ("Running", vec![], "False", json!("PodNotExists")),
        ("Running", vec![PodFacts { deleting: true, ..bound(0) }], "False", json!("PodTerminating")),
        ("Running", vec![bound(0)], "False", json!("PodConditionMissing")),
        (
            "Running",
            vec![PodFacts { ready: ready("False", "ReadinessGatesNotReady"), ..bound(0) }],
            "False",
            json!("ReadinessGatesNotReady"),
        ),
        ("Running", vec![PodFacts { ready: ready("True", ""), ..bound(0) }], "True", Value::Null),
        ("Succeeded", vec![bound(0)], "False", json!("PodNotExists")),
    ];
    for (phase, pods, status, reason) in cases {
        let vmi = if phase == "Scheduling" { vmi(json!({"phase": phase})) } else { held(phase) };
        let observed = Observed {
            vmi: Arc::new(vmi),
            pods: pods.into_iter().map(Arc::new).collect(),
            last_failure: Some(EffectFailure { reason: failures::CREATE, message: "x".into() }),
            ..Observed::default()
        };
        let plan = decide(&observed, &ClusterConfig::default(), now());
        let conditions = written(&plan)["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.iter().find(|c| c["type"] == "Ready").cloned().expect("Ready");
        assert_eq!((ready["status"].as_str(), &ready["reason"]), (Some(status), &reason), "{phase}");
    }
}

#[test]
fn an_unschedulable_pod_shows_on_the_vmi_until_it_is_scheduled() {
    let scheduled = |status: &str| {
        Some(PodCondition {
            status: status.into(),
            reason: "Unschedulable".into(),
            message: "0/1 nodes are available".into(),
        })
    };
    let first = plan(vmi(json!({"phase": "Scheduling"})), vec![PodFacts { scheduled: scheduled("False"), ..pod(0) }]);
    let conditions = written(&first)["status"]["conditions"].clone();
    assert!(conditions.to_string().contains("0/1 nodes are available"));
    let second = plan(
        vmi(json!({"phase": "Scheduling", "conditions": conditions})),
        vec![PodFacts { scheduled: scheduled("True"), ..pod(0) }],
    );
    assert!(!written(&second)["status"]["conditions"].to_string().contains("PodScheduled"));
}

#[test]
fn the_gate_opens_when_the_guest_runs_and_closes_while_it_is_paused() {
    let gate = |vmi: VirtualMachineInstance, pod: PodFacts| {
        let plan = plan(vmi, vec![pod]);
        plan.effects.into_iter().find_map(|step| match step.effect {
            Effect::PatchPodStatus { patch, .. } => Some(patch),
            _ => None,
        })
    };
    assert_eq!(gate(held("Scheduled"), bound(0)), None);
    let opened = gate(held("Running"), PodFacts { has_conditions: true, ..bound(0) }).expect("a patch");
    assert_eq!(opened[0], json!({"op": "test", "path": "/metadata/resourceVersion", "value": "5"}));
    assert_eq!((&opened[1]["op"], &opened[1]["path"]), (&json!("add"), &json!("/status/conditions/-")));
    assert_eq!((&opened[1]["value"]["status"], &opened[1]["value"]["reason"]), (&json!("True"), &json!("NotPaused")));
    assert_eq!(
        gate(held("Running"), PodFacts { gate: Some((2, "True".into())), has_conditions: true, ..bound(0) }),
        None
    );
    let mut paused = held("Running");
    paused.status.as_mut().expect("status").conditions =
        serde_json::from_value(json!([{"type": "Paused", "status": "True"}])).expect("conditions");
    let closed =
        gate(paused, PodFacts { gate: Some((2, "True".into())), has_conditions: true, ..bound(0) }).expect("a patch");
    assert_eq!((&closed[1]["op"], &closed[1]["path"]), (&json!("replace"), &json!("/status/conditions/2")));
    assert_eq!(closed[1]["value"]["reason"], "Paused");
}

#[test]
fn a_refused_pod_shows_on_the_vmi_and_goes_when_it_is_made() {
    let observed = Observed {
        vmi: Arc::new(vmi(json!({"phase": "Pending"}))),
        last_failure: Some(EffectFailure { reason: failures::CREATE, message: "Error creating pod: quota".into() }),
        ..Observed::default()
    };
    let failing = decide(&observed, &ClusterConfig::default(), now());
    assert_eq!(effects(&failing), [named("create", 0)]);
    let conditions = written(&failing)["status"]["conditions"].clone();
    assert!(conditions.to_string().contains("Error creating pod: quota"));
    let made = plan(vmi(json!({"phase": "Pending", "conditions": conditions})), vec![pod(0)]);
    assert!(!written(&made)["status"]["conditions"].to_string().contains("Synchronized"));
}

#[test]
fn in_the_nodes_phases_only_the_controllers_fields_are_written() {
    let mut running = held("Running");
    running.status.as_mut().expect("status").interfaces =
        serde_json::from_value(json!([{"name": "default", "ipAddress": "10.1.1.1"}])).expect("interfaces");
    let plan = plan(running, vec![PodFacts { gate: Some((0, "True".into())), ..bound(0) }]);
    let status = written(&plan)["status"].as_object().expect("object");
    let mut fields: Vec<&str> = status.keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["activePods", "conditions"]);
}

#[test]
fn a_guest_is_started_once_its_containers_run_and_becomes_ready_later() {
    let ready = |compute_state: Value, compute_ready: bool, disk_ready: bool| {
        let status = |name: &str, state: Value, ready: bool| json!({"name": name, "image": "", "imageID": "", "ready": ready, "restartCount": 0, "state": state});
        let pod = json!({
            "spec": {"containers": [{"name": "compute"}, {"name": "volumeroot"}]},
            "status": {"containerStatuses": [
                status("compute", compute_state, compute_ready), status("volumeroot", json!({"running": {}}), disk_ready)]},
        });
        PodFacts::of(&serde_json::from_value(pod).expect("a pod")).containers_ready
    };
    assert!(ready(json!({"running": {}}), true, true));
    assert!(ready(json!({"running": {}}), false, true), "its readiness probe asks a guest that is not started yet");
    assert!(!ready(json!({"running": {}}), false, false));
    assert!(!ready(json!({"waiting": {}}), false, true));
    assert!(!ready(json!({}), false, true));
}

#[test]
fn image_the_kubelet_cannot_pull_is_told_until_it_can() {
    let pod_with = |init: Value, main: Value| -> PodFacts {
        let state = |reason: Value| json!({"waiting": {"reason": reason, "message": "no such image"}});
        let status = |name: &str, reason: Value| json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state(reason)});
        let pod = serde_json::from_value(json!({"status": {
            "phase": "Pending",
            "initContainerStatuses": [status("container-disk-binary", init)],
            "containerStatuses": [status("compute", json!("PodInitializing")), status("volumeroot", main)],
        }}))
        .expect("a pod");
        PodFacts { image_failure: PodFacts::of(&pod).image_failure, ..pod_template() }
    };
    fn pod_template() -> PodFacts {
        PodFacts { node: Some("n1".into()), ..pod(0) }
    }
    let told = |plan: &Plan| -> Option<(String, String)> {
        let conditions = written(plan)["status"]["conditions"].as_array()?.clone();
        let found = conditions.into_iter().find(|c| c["type"] == "Synchronized" && c["status"] == "False")?;
        Some((found["reason"].as_str()?.to_owned(), found["message"].as_str()?.to_owned()))
    };
    for (init, main, expected) in [
        (json!("PodInitializing"), json!("ErrImagePull"), Some("ErrImagePull")),
        (json!("PodInitializing"), json!("ImagePullBackOff"), Some("ImagePullBackOff")),
        (json!("ErrImagePull"), json!("ImagePullBackOff"), Some("ErrImagePull")),
        (json!("PodInitializing"), json!("InvalidImageName"), Some("InvalidImageName")),
        (json!("PodInitializing"), json!("ContainerCreating"), None),
        (Value::Null, json!("CrashLoopBackOff"), None),
    ] {
        let plan = plan(vmi(json!({"phase": "Scheduling"})), vec![pod_with(init.clone(), main.clone())]);
        assert_eq!(told(&plan).map(|(reason, _)| reason).as_deref(), expected, "{init} {main}");
        assert!(told(&plan).is_none_or(|(_, message)| message == "no such image"));
    }
    // Pulled after all: the hand-over takes the word back.
    let failing = json!({"type": "Synchronized", "status": "False", "reason": "ImagePullBackOff", "message": "m"});
    let plan_after = plan(vmi(json!({"phase": "Scheduling", "conditions": [failing.clone()]})), vec![bound(0)]);
    assert_eq!(told(&plan_after), None);
    // A guest that a node has is the node agent's to speak of.
    let running = vmi(json!({"phase": "Running", "nodeName": "n1", "conditions": [failing]}));
    let replacement = PodFacts { node: Some("n1".into()), ..pod_with(json!("ErrImagePull"), Value::Null) };
    assert!(told(&plan(running, vec![replacement])).is_some_and(|(reason, _)| reason == "ImagePullBackOff"));
}

#[test]
fn a_machine_whose_launcher_has_another_image_says_so_until_it_has_a_new_one() {
    const LABEL: &str = "kubevirt.io/outdatedLauncherImage";
    let current = ClusterConfig::default().launcher_image;
    let with_image = |image: &str| PodFacts { image: Some(image.to_owned()), ..bound(0) };
    let label = |plan: &Plan| written(plan)["metadata"]["labels"].get(LABEL).cloned();

    let told = plan(held("Running"), vec![with_image("registry/virt-launcher:old")]);
    assert_eq!(label(&told), Some(json!("")));
    let told = plan(held("Running"), vec![with_image(&current)]);
    assert_eq!(label(&told), None);

    let mut outdated = held("Running");
    outdated.metadata.labels = Some([(LABEL.to_owned(), String::new())].into());
    let told = plan(outdated.clone(), vec![with_image(&current)]);
    assert_eq!(label(&told), Some(Value::Null), "its new launcher is of today");
    outdated.status.as_mut().expect("a status").phase = Some("Succeeded".into());
    let told = plan(outdated, vec![with_image("registry/virt-launcher:old")]);
    assert_eq!(label(&told), Some(Value::Null), "there is nothing left to bring up to date");
}

#[test]
fn a_pod_has_the_limits_that_quotas_of_its_namespace_ask_for() {
    use k8s_openapi::api::core::v1::{LimitRange, ResourceQuota};
    let quota = |hard: Value| {
        let quota: ResourceQuota =
            serde_json::from_value(json!({"metadata": {"namespace": "ns", "name": "q"}, "spec": {"hard": hard}}))
                .expect("a quota");
        QuotaFacts::of(&quota)
    };
    let range = |kind: &str, given: Value| {
        let mut item = given;
        item["type"] = kind.into();
        let range: LimitRange =
            serde_json::from_value(json!({"metadata": {"namespace": "ns", "name": "r"}, "spec": {"limits": [item]}}))
                .expect("a range");
        Arc::new(RangeFacts::of(&range))
    };
    let limits = |quotas: &[QuotaFacts], ranges: &[Arc<RangeFacts>]| {
        let quotas: Vec<_> = quotas.iter().cloned().map(Arc::new).collect();
        let observed = Observed {
            vmi: Arc::new(vmi(json!({}))),
            auto_limits: QuotaFacts::auto_limits(&quotas, ranges),
            ..Observed::default()
        };
        let plan = decide(&observed, &ClusterConfig::default(), now());
        let Effect::CreatePod(pod) = &plan.effects[0].effect else { panic!("no pod is made") };
        let container = pod.spec.as_ref().expect("a spec").containers[0].clone();
        container.resources.and_then(|all| all.limits).unwrap_or_default().into_keys().collect::<Vec<_>>()
    };
    assert_eq!(limits(&[], &[]), Vec::<String>::new());
    assert_eq!(limits(&[quota(json!({"pods": "3", "requests.cpu": "1"}))], &[]), Vec::<String>::new());
    let both = [quota(json!({"limits.cpu": "1"})), quota(json!({"limits.memory": "1Gi"}))];
    assert_eq!(limits(&both, &[]), ["cpu", "memory"]);
    assert_eq!(limits(&both, &[range("Container", json!({"default": {"cpu": "1"}}))]), ["memory"]);
    assert_eq!(
        limits(&both, &[range("Container", json!({"max": {"memory": "4Gi"}}))]),
        ["cpu"],
        "it is the default too"
    );
    assert_eq!(limits(&both, &[range("Pod", json!({"max": {"memory": "4Gi"}}))]), ["cpu", "memory"]);
}
