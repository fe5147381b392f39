//! Node agents that are away.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Node};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::cluster::{Cluster, NODE, PATIENCE};

/// What the node agent writes when it beats at `at`.
fn beat(at: Timestamp) -> Value {
    let at = at.strftime("%Y-%m-%dT%H:%M:%SZ");
    json!({"metadata": {
        "labels": {"kubevirt.io/schedulable": "true"}, "annotations": {"kubevirt.io/heartbeat": format!("\"{at}\"")}}})
}

fn ago(seconds: u64) -> Timestamp {
    Timestamp::now() - Duration::from_secs(seconds)
}

async fn create_node(nodes: &Api<Node>, beat: Value) {
    let mut node = beat;
    node["metadata"]["name"] = NODE.into();
    nodes.create(&PostParams::default(), &serde_json::from_value(node).expect("a node")).await.expect("created");
}

fn schedulable(node: Option<&Node>) -> Option<&str> {
    node?.labels().get("kubevirt.io/schedulable").map(String::as_str)
}

async fn becomes_unschedulable(nodes: &Api<Node>) {
    let marked = await_condition(nodes.clone(), NODE, |node: Option<&Node>| schedulable(node) == Some("false"));
    tokio::time::timeout(PATIENCE, Box::pin(marked)).await.expect("never marked").expect("watched");
}

async fn told_of(events: &Api<Event>, kind: &str, name: &str) -> Vec<String> {
    let all = events.list(&ListParams::default()).await.expect("events").items;
    let about = |event: &&Event| {
        let about = &event.involved_object;
        event.reason.as_deref() == Some("NodeUnresponsive")
            && (about.kind.as_deref(), about.name.as_deref()) == (Some(kind), Some(name))
    };
    all.iter().filter(about).filter_map(|event| event.message.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_node_agent_makes_its_node_unschedulable_and_its_guests_go_on() {
    let cluster = Cluster::start().await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    create_node(&nodes, beat(ago(0))).await;
    let controller = cluster.controller();
    cluster.create_vm("Always").await;
    let pod = cluster.bring_up().await;
    let before = cluster.phase("Running").await;

    nodes.patch(NODE, &PatchParams::default(), &Patch::Merge(beat(ago(301)))).await.expect("an old beat");
    becomes_unschedulable(&nodes).await;
    // Its pod is lost with the node, as far as anybody can see: no reason to end the guest either.
    cluster.lose_pod(&pod).await;
    cluster.a_pod(Some(&pod)).await;
    let after = cluster.phase("Running").await;
    assert_eq!((after.uid(), &after.metadata.deletion_timestamp), (before.uid(), &None));

    // The agent is back: its own word counts again.
    nodes.patch(NODE, &PatchParams::default(), &Patch::Merge(beat(ago(0)))).await.expect("a beat");
    // Ending waits for what was begun and for the events.
    controller.stop().await;
    let node = nodes.get(NODE).await.expect("the node");
    assert_eq!(schedulable(Some(&node)), Some("true"));
    let events: Api<Event> = cluster.api();
    for (kind, name) in [("Node", NODE), ("VirtualMachineInstance", "demo")] {
        let told = told_of(&events, kind, name).await;
        assert!(told.len() == 1 && told[0].contains("virt-handler"), "{kind}: {told:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_starts_elsewhere_once_its_node_is_called_off_and_not_before() {
    let cluster = Cluster::start().await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    create_node(&nodes, beat(ago(301))).await;
    let controller = cluster.controller();
    cluster.create_vm("Always").await;
    let pod = cluster.bring_up().await;
    let before = cluster.phase("Running").await;
    becomes_unschedulable(&nodes).await;

    // Kubernetes has given its pods up, which is no proof.
    let silent = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
    nodes.patch_status(NODE, &PatchParams::default(), &Patch::Merge(silent)).await.expect("not ready");
    cluster.lose_pod(&pod).await;
    let replacement = cluster.a_pod(Some(&pod)).await;
    let after = cluster.phase("Running").await;
    assert_eq!(after.uid(), before.uid());

    let off = json!({"spec": {"taints": [{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]}});
    nodes.patch(NODE, &PatchParams::default(), &Patch::Merge(off)).await.expect("tainted");
    // Kubernetes then removes what is deleted there without its kubelet's word.
    cluster.pod_ends(&replacement).await;
    let next = cluster.vmi("another instance", |vmi| vmi.uid() != before.uid()).await;
    assert!(next.status.as_ref().is_none_or(|status| status.node_name.is_none()), "it may go anywhere");
    let pod = cluster.a_pod(Some(&replacement)).await;
    let affinity = serde_json::to_string(&pod.spec.expect("a spec").affinity).expect("json");
    assert!(!affinity.contains("metadata.name"), "{affinity}");
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_noticed_although_nothing_changes() {
    let cluster = Cluster::start().await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    create_node(&nodes, beat(ago(298))).await;
    let controller = cluster.controller();
    becomes_unschedulable(&nodes).await;
    controller.stop().await;
}
