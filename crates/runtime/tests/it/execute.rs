use std::time::Duration;

use fv_plan::{
    DeleteIntent, Effect, Guard, ObjectKey, ObjectRef, Plan, Requeue, StatusKind, StatusWrite, Step, failures,
};
use fv_runtime::{Again, Clock, Executor, Outcome, Recorder};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::api::{ScriptedApi, refusal};

fn key() -> ObjectKey {
    ObjectKey::new("ns", "demo")
}

fn about() -> ObjectRef {
    ObjectRef { api_version: "kubevirt.io/v1", kind: "VirtualMachineInstance", key: key(), uid: "u".into() }
}

fn step(effect: Effect) -> Step {
    Step {
        effect,
        done: Vec::new(),
        failed: failures::CREATE,
        failed_text: "Error creating pod".into(),
        about: about(),
    }
}

fn pod(owner: &str) -> Value {
    json!({"metadata": {"name": "p", "namespace": "ns", "uid": "p1", "ownerReferences": [
        {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "name": "demo", "uid": owner, "controller": true}]}})
}

fn create_pod() -> Plan {
    let pod: Pod = serde_json::from_value(pod("vmi-1")).expect("a pod");
    Plan { effects: vec![step(Effect::CreatePod(Box::new(pod)))], ..Plan::default() }
}

fn delete_vmi() -> Plan {
    let intent = DeleteIntent { vm_uid: "vm-1".into(), vm_resource_version: "7".into() };
    Plan { effects: vec![step(Effect::DeleteVmi { key: key(), uid: "vmi-1".into(), intent })], ..Plan::default() }
}

fn meta(uid: &str, version: &str) -> (u16, Value) {
    (200, json!({"metadata": {"name": "demo", "namespace": "ns", "uid": uid, "resourceVersion": version}}))
}

fn status_write(guard: Option<Guard>) -> Plan {
    Plan {
        status: Some(StatusWrite {
            kind: StatusKind::Vmi,
            key: key(),
            resource_version: "7".into(),
            patch: json!({"metadata": {"resourceVersion": "7"}, "status": {"phase": "Failed"}}),
            guard,
        }),
        ..Plan::default()
    }
}

async fn execute(plan: Plan, answers: impl IntoIterator<Item = (u16, Value)>) -> (Outcome, Vec<String>) {
    let api = ScriptedApi::new(answers);
    let silent = ScriptedApi::default();
    let (recorder, writer) = Recorder::start(silent.client(), "test", Clock::System);
    let outcome = Executor::new(api.client(), recorder).execute(plan).await;
    writer.await.expect("the writer ends with its recorder");
    (outcome, api.requests())
}

#[tokio::test]
async fn failures_fall_into_their_classes() {
    type Answers = Vec<(u16, Value)>;
    let cases: Vec<(&str, Answers, Again, Option<&str>, u32)> = vec![
        ("created", vec![(201, pod("vmi-1"))], Again::OnChange, None, 1),
        ("made by an earlier try", vec![refusal(409, "AlreadyExists"), (200, pod("vmi-1"))], Again::OnChange, None, 0),
        (
            "name taken",
            vec![refusal(409, "AlreadyExists"), (200, pod("other"))],
            Again::Backoff,
            Some("Error creating pod: Pod ns/p exists and does not belong to demo; delete or rename it"),
            0,
        ),
        ("vanished meanwhile", vec![refusal(409, "AlreadyExists"), refusal(404, "NotFound")], Again::Soon, None, 0),
        ("refused", vec![refusal(403, "Forbidden")], Again::Backoff, Some("Error creating pod: because Forbidden"), 0),
        ("overloaded", vec![refusal(429, "TooManyRequests")], Again::Backoff, None, 0),
        ("down", vec![refusal(503, "ServiceUnavailable")], Again::Backoff, None, 0),
    ];
    for (what, answers, again, message, writes) in cases {
        let (outcome, _) = execute(create_pod(), answers).await;
        assert_eq!(outcome.again, again, "{what}");
        assert_eq!(outcome.failure.as_ref().map(|failure| failure.message.as_str()), message, "{what}");
        assert_eq!(outcome.writes, writes, "{what}");
    }
}

#[tokio::test]
async fn an_instance_is_deleted_only_while_its_vm_still_says_so() {
    let (outcome, requests) = execute(delete_vmi(), [meta("vm-1", "7"), meta("vmi-1", "9"), meta("vmi-1", "10")]).await;
    assert_eq!((outcome.again, outcome.writes), (Again::OnChange, 1));
    assert_eq!(requests, ["GET demo", "GET demo", "DELETE demo"]);

    for (what, answers, again) in [
        ("the VM changed", vec![meta("vm-1", "8")], Again::Soon),
        ("another VM", vec![meta("vm-2", "7")], Again::Soon),
        ("the VM is gone", vec![refusal(404, "NotFound")], Again::Soon),
        ("the API is away", vec![refusal(503, "ServiceUnavailable")], Again::Backoff),
        ("another instance", vec![meta("vm-1", "7"), meta("vmi-2", "9")], Again::OnChange),
        ("no instance", vec![meta("vm-1", "7"), refusal(404, "NotFound")], Again::OnChange),
    ] {
        let (outcome, requests) = execute(delete_vmi(), answers).await;
        assert_eq!((outcome.again, outcome.writes), (again, 0), "{what}");
        assert!(requests.iter().all(|request| request.starts_with("GET")), "{what}: {requests:?}");
    }
}

#[tokio::test]
async fn a_write_tells_which_version_it_replaced() {
    for (answer, replaced) in
        [(meta("vmi-1", "8"), Some("7")), (meta("vmi-1", "7"), None), (refusal(404, "NotFound"), None)]
    {
        let (outcome, _) = execute(status_write(None), [answer]).await;
        assert_eq!(outcome.replaced.as_deref(), replaced);
        assert_eq!(outcome.writes, u32::from(replaced.is_some()));
    }
}

#[tokio::test]
async fn deletes_carry_the_uid() {
    let api = ScriptedApi::new([(200, pod("vmi-1"))]);
    let (recorder, _writer) = Recorder::start(ScriptedApi::default().client(), "test", Clock::System);
    let delete = Effect::DeletePod { key: key(), uid: "p1".into(), grace_seconds: Some(1) };
    Executor::new(api.client(), recorder).execute(Plan { effects: vec![step(delete)], ..Plan::default() }).await;
    let asked = &api.asked()[0].body;
    assert_eq!((&asked["preconditions"], &asked["gracePeriodSeconds"]), (&json!({"uid": "p1"}), &json!(1)));
}

#[tokio::test]
async fn a_guard_that_fails_stops_the_write() {
    let guard = || Some(Guard::NoPodOf { vmi_uid: "vmi-1".into() });
    let (outcome, requests) =
        execute(status_write(guard()), [(200, json!({"metadata": {}, "items": [pod("vmi-1")]}))]).await;
    assert_eq!((outcome.again, requests), (Again::Soon, vec!["GET pods".to_owned()]));
    let (outcome, requests) =
        execute(status_write(guard()), [(200, json!({"metadata": {}, "items": [pod("forged")]})), meta("vmi-1", "8")])
            .await;
    assert_eq!((outcome.writes, requests), (1, vec!["GET pods".to_owned(), "PATCH demo".to_owned()]));
}

#[tokio::test]
async fn a_node_that_came_back_meanwhile_keeps_its_guests() {
    let now: jiff::Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
    let node = |name: &str, ready: &str| {
        json!({"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}]},
            "spec": {"taints": [{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]}})
    };
    for (nodes, again, writes) in [
        (vec![node("n1", "Unknown")], Again::OnChange, 1),
        (vec![node("n1", "True")], Again::Soon, 0),
        (vec![node("n2", "Unknown")], Again::Soon, 0),
        (vec![], Again::Soon, 0),
    ] {
        let guard = Guard::NodeIsOff { name: "n1".into(), now };
        let answers = [(200, json!({"metadata": {}, "items": nodes})), meta("vmi-1", "8")];
        let (outcome, requests) = execute(status_write(Some(guard)), answers).await;
        assert_eq!((outcome.again, outcome.writes), (again, writes), "{nodes:?}");
        assert_eq!(requests[0], "GET nodes");
    }
}

#[tokio::test]
async fn a_conflict_is_looked_at_again_soon_and_a_gone_object_is_no_failure() {
    assert_eq!(execute(status_write(None), [refusal(409, "Conflict")]).await.0.again, Again::Soon);
    assert_eq!(execute(status_write(None), [refusal(404, "NotFound")]).await.0.again, Again::OnChange);
    assert_eq!(execute(status_write(None), [refusal(422, "Invalid")]).await.0.again, Again::Backoff);
    let mark = || Plan {
        effects: vec![step(Effect::PatchNode {
            name: "n1".into(),
            patch: json!({"metadata": {"resourceVersion": "7"}}),
        })],
        ..Plan::default()
    };
    assert_eq!(execute(mark(), [refusal(409, "Conflict")]).await.0.again, Again::Soon);
    let (outcome, requests) = execute(mark(), [meta("n", "8")]).await;
    assert_eq!((outcome.writes, requests), (1, vec!["PATCH n1".to_owned()]));
    let patch = json!([{"op": "test", "path": "/metadata/resourceVersion", "value": "1"}]);
    let gate =
        || Plan { effects: vec![step(Effect::PatchPodStatus { key: key(), patch: patch.clone() })], ..Plan::default() };
    assert_eq!(execute(gate(), [refusal(422, "Invalid")]).await.0.again, Again::Soon);
}

#[tokio::test]
async fn later_effects_wait_for_earlier_ones_but_the_status_is_told() {
    let mut plan = create_pod();
    plan.effects.push(step(Effect::DeletePod { key: key(), uid: "p0".into(), grace_seconds: None }));
    plan.status = status_write(None).status;
    plan.requeue = Requeue::After(Duration::from_secs(5));
    let (outcome, requests) = execute(plan, [refusal(403, "Forbidden"), meta("vmi-1", "8")]).await;
    assert_eq!(requests, ["POST pods", "PATCH demo"]);
    assert_eq!(outcome.again, Again::Backoff);
    assert!(outcome.failure.is_some());
}
