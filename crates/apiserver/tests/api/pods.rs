//! Pods: defaults, binding, graceful deletion, logs.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt as _;
use fv_apiserver::{ApiServerBuilder, LogOptions, LogStream, PodLogs, Status, Store};
use serde_json::{Value, json};

use crate::support::*;

pub(crate) async fn bind(server: &fv_apiserver::ApiServer, name: &str) -> Answer {
    let binding = json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": "node1"}});
    post(server, &format!("{PODS}/{name}/binding"), &binding).await
}

#[tokio::test]
async fn new_pods_are_pending_with_defaults() {
    let server = server().await;
    let mut wanted = pod("a");
    wanted["status"] = json!({"phase": "Running"});
    let made = post(&server, PODS, &wanted).await.ok();
    assert_eq!(made["status"]["phase"], "Pending");
    assert_eq!(made["spec"]["restartPolicy"], "Always");
    assert_eq!(made["spec"]["terminationGracePeriodSeconds"], 30);
    assert_eq!(made["metadata"]["generation"], 1);
    let message = post(&server, PODS, &json!({"metadata": {"name": "b"}, "spec": {"containers": []}}))
        .await
        .fails(422, "Invalid");
    assert!(message.contains("spec.containers: Required value"), "{message}");
}

#[tokio::test]
async fn binding_sets_the_node_once() {
    let server = server().await;
    post(&server, PODS, &pod("a")).await.ok();
    assert_eq!(bind(&server, "a").await.ok()["status"], "Success");
    let bound = get(&server, &format!("{PODS}/a")).await.ok();
    assert_eq!(bound["spec"]["nodeName"], "node1");
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    let message = bind(&server, "a").await.fails(409, "Conflict");
    assert!(message.contains("pod a is already assigned to node \"node1\""), "{message}");
    let listed = get(&server, &format!("{PODS}?fieldSelector=spec.nodeName=node1")).await.ok();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    let moved = json!({"spec": {"nodeName": "node2"}});
    merge(&server, &format!("{PODS}/a"), &moved).await.fails(422, "Invalid");
}

#[tokio::test]
async fn bound_pod_is_marked_until_its_node_is_done() {
    let server = server().await;
    let path = format!("{PODS}/a");
    post(&server, PODS, &pod("a")).await.ok();
    bind(&server, "a").await.ok();
    merge(&server, &format!("{path}/status"), &json!({"status": {"phase": "Running"}})).await.ok();
    let marked = delete(&server, &path, &Value::Null).await.ok();
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    let sooner = delete(&server, &path, &json!({"gracePeriodSeconds": 5})).await.ok();
    assert_eq!(sooner["metadata"]["deletionGracePeriodSeconds"], 5);
    let later = delete(&server, &path, &json!({"gracePeriodSeconds": 50})).await.ok();
    assert_eq!(later["metadata"]["deletionGracePeriodSeconds"], 5);
    // Status of a deleted pod can still be written, which does not remove it.
    merge(&server, &format!("{path}/status"), &json!({"status": {"message": "x"}})).await.ok();
    get(&server, &path).await.ok();
    delete(&server, &path, &json!({"gracePeriodSeconds": 0})).await.ok();
    get(&server, &path).await.fails(404, "NotFound");
}

#[tokio::test]
async fn unbound_or_ended_pod_goes_at_once() {
    let server = server().await;
    post(&server, PODS, &pod("a")).await.ok();
    assert_eq!(delete(&server, &format!("{PODS}/a"), &Value::Null).await.ok()["kind"], "Pod");
    get(&server, &format!("{PODS}/a")).await.fails(404, "NotFound");
}

#[tokio::test]
async fn finalizer_and_grace_both_hold_a_pod() {
    let server = server().await;
    let path = format!("{PODS}/a");
    let mut wanted = pod("a");
    wanted["metadata"]["finalizers"] = json!(["x.io/f"]);
    post(&server, PODS, &wanted).await.ok();
    bind(&server, "a").await.ok();
    delete(&server, &path, &Value::Null).await.ok();
    delete(&server, &path, &json!({"gracePeriodSeconds": 0})).await.ok();
    get(&server, &path).await.ok();
    merge(&server, &path, &json!({"metadata": {"finalizers": []}})).await.ok();
    get(&server, &path).await.fails(404, "NotFound");
}

pub(crate) struct Echo;

#[async_trait]
impl PodLogs for Echo {
    async fn logs(&self, pod: &Value, options: LogOptions) -> Result<LogStream, Status> {
        let line = format!("{} {} {:?}\n", pod["metadata"]["name"], options.container, options.tail_lines);
        Ok(futures::stream::iter([Ok(line.into())]).boxed())
    }
}

#[tokio::test]
async fn logs_come_from_the_port() {
    let server = ApiServerBuilder::new(Store::memory()).pod_logs(Arc::new(Echo)).build().await.unwrap();
    post(&server, PODS, &pod("a")).await.ok();
    get(&server, &format!("{PODS}/a/log")).await.fails(400, "BadRequest");
    bind(&server, "a").await.ok();
    assert_eq!(get(&server, &format!("{PODS}/a/log?tailLines=3")).await.ok(), json!("\"a\" c Some(3)\n"));
    get(&server, &format!("{PODS}/a/log?container=x")).await.fails(400, "BadRequest");
    get(&server, &format!("{PODS}/a/log?tailLines=x")).await.fails(400, "BadRequest");
    get(&server, &format!("{PODS}/b/log")).await.fails(404, "NotFound");
}

#[tokio::test]
async fn what_made_a_pod_can_also_replace_it() {
    let server = server().await;
    post(&server, PODS, &pod("p")).await.ok();
    let mut manifest = pod("p");
    manifest["spec"]["containers"][0]["image"] = json!("other");
    let replaced = put(&server, &format!("{PODS}/p"), &manifest).await.ok();
    assert_eq!(replaced["spec"]["containers"][0]["image"], "other");
    assert_eq!(replaced["spec"]["tolerations"].as_array().unwrap().len(), 2);
    assert_eq!((&replaced["spec"]["priority"], &replaced["metadata"]["generation"]), (&json!(0), &json!(2)));
}

#[tokio::test]
async fn tolerations_are_only_added_and_scheduling_gates_only_removed() {
    let server = server().await;
    let mut made = pod("p");
    let own = json!({"key": "own", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5});
    made["spec"]["tolerations"] = json!([own]);
    made["spec"]["schedulingGates"] = json!([{"name": "x.io/a"}, {"name": "x.io/b"}]);
    post(&server, PODS, &made).await.ok();
    let path = format!("{PODS}/p");
    let longer = json!({"key": "own", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 50});
    let other = json!({"key": "own", "operator": "Exists", "effect": "NoSchedule"});
    let more = json!({"key": "more", "operator": "Exists"});
    let spec = |field: &str, value: Value| json!({"spec": {field: value}});
    for (change, refused) in [
        (spec("tolerations", json!([])), Some("spec.tolerations")),
        (spec("tolerations", json!([other])), Some("spec.tolerations")),
        (spec("tolerations", json!([longer, more])), None),
        (spec("tolerations", json!([longer])), Some("spec.tolerations")),
        (
            spec("schedulingGates", json!([{"name": "x.io/a"}, {"name": "x.io/c"}])),
            Some("spec.schedulingGates[1].name"),
        ),
        (spec("schedulingGates", json!([{"name": "x.io/b"}])), None),
        (
            spec("schedulingGates", json!([{"name": "x.io/b"}, {"name": "x.io/a"}])),
            Some("spec.schedulingGates[1].name"),
        ),
        (spec("schedulingGates", Value::Null), None),
        (spec("nodeSelector", json!({"a": "b"})), Some("spec")),
        (spec("terminationGracePeriodSeconds", json!(7)), Some("spec")),
        (spec("activeDeadlineSeconds", json!(100)), None),
        (spec("activeDeadlineSeconds", json!(200)), Some("spec.activeDeadlineSeconds")),
    ] {
        let answer = merge(&server, &path, &change).await;
        match refused {
            None => drop(answer.ok()),
            Some(field) => {
                assert_eq!(answer.body["details"]["causes"][0]["field"], field, "{change}: {}", answer.body);
                answer.fails(422, "Invalid");
            }
        }
    }
}
