//! The scheduler of a cluster of one node. Level-triggered: whenever a pod, the node or storage changes, every pod without a node is
//! tried again, by priority and then age; what does not fit gets the condition and the event Kubernetes would write.

mod claims;
pub mod fit;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Binding, Namespace, Node, ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod, PodCondition,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use self::claims::Verdict;
use crate::events::{Note, record};
use crate::storage::World;
use crate::storage::writes::{reserve, select_node};

const COMPONENT: &str = "default-scheduler";
/// How long a pod waits after the API refused or failed.
const RETRY: Duration = Duration::from_secs(1);

/// Runs until `shutdown`; API failures are retried, never fatal.
pub async fn run(client: Client, shutdown: CancellationToken) {
    let (pods, pod_writer) = reflector::store::<Pod>();
    let (nodes, node_writer) = reflector::store::<Node>();
    let pod_stream = watcher(Api::<Pod>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .reflect(pod_writer)
        .map(|_| ());
    let node_stream = watcher(Api::<Node>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .reflect(node_writer)
        .map(|_| ());
    let (claims, claim_writer) = reflector::store::<PersistentVolumeClaim>();
    let (volumes, volume_writer) = reflector::store::<PersistentVolume>();
    let (classes, class_writer) = reflector::store::<StorageClass>();
    let (namespaces, namespace_writer) = reflector::store::<Namespace>();
    let config = watcher::Config::default;
    let mut changes = futures::stream::select_all([
        pod_stream.boxed(),
        node_stream.boxed(),
        watcher(Api::all(client.clone()), config()).default_backoff().reflect(claim_writer).map(|_| ()).boxed(),
        watcher(Api::all(client.clone()), config()).default_backoff().reflect(volume_writer).map(|_| ()).boxed(),
        watcher(Api::all(client.clone()), config()).default_backoff().reflect(class_writer).map(|_| ()).boxed(),
        watcher(Api::all(client.clone()), config()).default_backoff().reflect(namespace_writer).map(|_| ()).boxed(),
    ]);
    // What was bound here may not have come back through the watch yet: it must count against the node all the same.
    let mut assumed: HashMap<String, Arc<Pod>> = HashMap::new();
    let mut failed = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            change = changes.next() => if change.is_none() { return },
            () = tokio::time::sleep(RETRY), if failed => {}
        }
        // Before the first complete lists, what is not there is only not seen yet.
        let listed = nodes.wait_until_ready().now_or_never().is_some()
            && claims.wait_until_ready().now_or_never().is_some()
            && volumes.wait_until_ready().now_or_never().is_some()
            && classes.wait_until_ready().now_or_never().is_some()
            && namespaces.wait_until_ready().now_or_never().is_some();
        if !listed {
            continue;
        }
        let world = World::new(claims.state(), volumes.state(), classes.state(), Vec::new());
        let namespaces =
            namespaces.state().iter().map(|n| (n.name_any(), n.metadata.labels.clone().unwrap_or_default())).collect();
        failed = false;
        let node = nodes.state().into_iter().min_by_key(|n| n.name_any());
        let state = pods.state();
        assumed.retain(|uid, _| state.iter().any(|p| p.uid().as_ref() == Some(uid) && node_of(p).is_none()));
        let mut waiting: Vec<_> = state.iter().filter(|p| is_waiting(p) && !assumed.contains_key(&uid_of(p))).collect();
        waiting.sort_by_key(|pod| turn(pod));
        for pod in waiting {
            let Some(node) = &node else {
                failed |= log(pod, refuse(&client, pod, "no nodes available to schedule pods").await);
                continue;
            };
            let others: Vec<&Pod> = state
                .iter()
                .filter(|p| node_of(p).is_some() && !is_finished(p))
                .chain(assumed.values())
                .map(AsRef::as_ref)
                .collect();
            let outcome = place(&client, pod, node, &others, &namespaces, &world).await.map(|bound| {
                if bound {
                    assumed.insert(uid_of(pod), Arc::clone(pod));
                }
            });
            failed |= log(pod, outcome);
        }
    }
}

/// Pods are tried by priority, then by age.
fn turn(pod: &Pod) -> impl Ord + use<> {
    let priority = pod.spec.as_ref().and_then(|s| s.priority).unwrap_or_default();
    (Reverse(priority), pod.creation_timestamp(), pod.name_any())
}

/// Binds a pod that fits and whose claims are bound; whether it did. Claims that wait for it are moved on.
async fn place(
    client: &Client,
    pod: &Pod,
    node: &Node,
    others: &[&Pod],
    namespaces: &fit::Namespaces,
    world: &World,
) -> kube::Result<bool> {
    let storage = claims::look(pod, node, others, world);
    if let Verdict::Unresolvable(reason) = &storage {
        return refuse(client, pod, &fit::unresolvable(reason)).await.map(|()| false);
    }
    let mut reasons = fit::misfits(pod, node, others, namespaces);
    if let (Verdict::Misfit(reason), true) = (&storage, reasons.is_empty()) {
        reasons.push((*reason).to_owned());
    }
    if !reasons.is_empty() {
        return refuse(client, pod, &fit::message(&reasons, pod, node)).await.map(|()| false);
    }
    if let Verdict::Binding(steps) = storage {
        for step in steps {
            match step {
                claims::Step::Reserve(volume, claim) => reserve(client, volume, claim).await?,
                claims::Step::SelectNode(claim) => select_node(client, claim, &node.name_any()).await?,
            }
        }
        return Ok(false);
    }
    bind(client, pod, &node.name_any()).await.map(|()| true)
}

/// Whether it failed.
fn log(pod: &Pod, outcome: kube::Result<()>) -> bool {
    match outcome {
        Ok(()) => false,
        Err(error) => {
            tracing::warn!(pod = %pod.name_any(), %error, "scheduling a pod failed; it is tried again");
            true
        }
    }
}

fn uid_of(pod: &Pod) -> String {
    pod.uid().unwrap_or_default()
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).filter(|n| !n.is_empty())
}

fn is_finished(pod: &Pod) -> bool {
    matches!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"))
}

fn is_waiting(pod: &Pod) -> bool {
    let gated = pod.spec.as_ref().and_then(|s| s.scheduling_gates.as_ref()).is_some_and(|g| !g.is_empty());
    let ours = pod.spec.as_ref().and_then(|s| s.scheduler_name.as_deref()).is_none_or(|n| n == COMPONENT);
    node_of(pod).is_none() && pod.metadata.deletion_timestamp.is_none() && !is_finished(pod) && !gated && ours
}

async fn bind(client: &Client, pod: &Pod, node: &str) -> kube::Result<()> {
    let namespace = pod.namespace().unwrap_or_default();
    let binding = Binding {
        metadata: ObjectMeta { name: Some(pod.name_any()), uid: pod.uid(), ..ObjectMeta::default() },
        target: ObjectReference { kind: Some("Node".into()), name: Some(node.into()), ..ObjectReference::default() },
    };
    let api = Api::<Pod>::namespaced(client.clone(), &namespace);
    match api
        .create_subresource::<_, serde_json::Value>("binding", &pod.name_any(), &PostParams::default(), &binding)
        .await
    {
        // Deleted or bound meanwhile: the watch will tell.
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => return Ok(()),
        other => other?,
    };
    let message = format!("Successfully assigned {namespace}/{} to {node}", pod.name_any());
    record(client, COMPONENT, pod, Note::normal("Scheduled", "Binding", &message)).await;
    Ok(())
}

async fn refuse(client: &Client, pod: &Pod, message: &str) -> kube::Result<()> {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let scheduled = conditions.iter().find(|c| c.type_ == "PodScheduled");
    if scheduled.is_some_and(|c| c.status == "False" && c.message.as_deref() == Some(message)) {
        return Ok(());
    }
    let condition = PodCondition {
        type_: "PodScheduled".into(),
        status: "False".into(),
        reason: Some("Unschedulable".into()),
        message: Some(message.into()),
        last_transition_time: Some(Time(Timestamp::now())),
        ..PodCondition::default()
    };
    let mut all: Vec<PodCondition> = conditions.iter().filter(|c| c.type_ != "PodScheduled").cloned().collect();
    all.push(condition);
    let patch = json!({
        "metadata": {"uid": pod.uid(), "resourceVersion": pod.resource_version()},
        "status": {"conditions": all},
    });
    let api = Api::<Pod>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    match api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => return Ok(()),
        other => other?,
    };
    record(client, COMPONENT, pod, Note::warning("FailedScheduling", "Scheduling", message)).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_take_turns_by_priority_then_age_then_name() {
        let pod = |name: &str, priority: serde_json::Value, created: &str| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": name, "creationTimestamp": created},
                "spec": {"priority": priority, "containers": []}}))
            .unwrap()
        };
        let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z");
        let mut pods = [
            pod("b", json!(0), early),
            pod("low", json!(-5), early),
            pod("late", json!(null), late),
            pod("a", json!(null), early),
            pod("high", json!(1000), late),
        ];
        pods.sort_by_key(turn);
        let names: Vec<String> = pods.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, ["high", "a", "b", "late", "low"]);
    }
}
