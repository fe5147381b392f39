use std::time::Duration;

use fv_plan::{EventKind, EventSpec, ObjectKey, ObjectRef};
use fv_runtime::{Clock, Recorder};
use serde_json::json;

use crate::api::{ScriptedApi, refusal};

fn event(message: &str) -> EventSpec {
    let key = ObjectKey::new("ns", "demo");
    EventSpec {
        about: ObjectRef { api_version: "kubevirt.io/v1", kind: "VirtualMachine", key, uid: "u".into() },
        kind: EventKind::Normal,
        reason: "SuccessfulCreate",
        message: message.into(),
    }
}

fn clock() -> Clock {
    Clock::runtime("2026-01-01T00:00:00Z".parse().expect("a time"))
}

#[tokio::test(start_paused = true)]
async fn the_same_event_counts_up() {
    let api = ScriptedApi::new([
        (201, json!({"metadata": {}, "involvedObject": {}})),
        (200, json!({"metadata": {}, "involvedObject": {}})),
    ]);
    let (recorder, writer) = Recorder::start(api.client(), "test", clock());
    for _ in 0..5 {
        recorder.record(event("hello"));
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(api.requests().len(), 2, "{:?}", api.requests());
    let asked = api.asked();
    assert_eq!(asked[0].body["involvedObject"]["name"], "demo");
    assert_eq!(asked[0].body["source"]["component"], "test");
    assert_eq!(asked[1].body["count"], 5);
    drop(recorder);
    writer.await.expect("ends");
}

#[tokio::test(start_paused = true)]
async fn an_event_of_an_earlier_process_is_counted_on() {
    let api = ScriptedApi::new([
        refusal(409, "AlreadyExists"),
        (200, json!({"metadata": {"name": "e"}, "involvedObject": {}, "count": 3})),
        (200, json!({"metadata": {}, "involvedObject": {}})),
    ]);
    let (recorder, writer) = Recorder::start(api.client(), "test", clock());
    recorder.record(event("hello"));
    drop(recorder);
    writer.await.expect("ends");
    assert_eq!(api.asked().last().map(|asked| asked.body["count"].clone()), Some(json!(4)));
}

#[tokio::test]
async fn recording_never_waits() {
    let api = ScriptedApi::default();
    let (recorder, writer) = Recorder::start(api.client(), "test", clock());
    for n in 0..5000 {
        recorder.record(event(&format!("message {n} {}", "ü".repeat(2000))));
    }
    drop(recorder);
    writer.await.expect("ends");
    assert!(api.asked().iter().all(|asked| asked.body["message"].as_str().is_none_or(|text| text.len() <= 1024)));
}
