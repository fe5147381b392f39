use fv_standalone::scheduler;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::support::{Cluster, asking, pod, until};

fn node_of(pod: &Pod) -> Option<String> {
    pod.spec.as_ref().and_then(|s| s.node_name.clone())
}

fn scheduled(pod: &Pod) -> Option<PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == "PodScheduled").cloned()
}

async fn bound(cluster: &Cluster, name: &str) -> String {
    until(&format!("{name} is bound"), || async { node_of(&cluster.pods().get(name).await.unwrap()) }).await
}

async fn refusal(cluster: &Cluster, name: &str) -> String {
    until(&format!("{name} is refused"), || async {
        let condition = scheduled(&cluster.pods().get(name).await.unwrap())?;
        (condition.status == "False" && condition.reason.as_deref() == Some("Unschedulable"))
            .then_some(condition.message?)
    })
    .await
}

async fn add(cluster: &Cluster, pod: &Pod) {
    cluster.pods().create(&PostParams::default(), pod).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_fits_is_bound_with_condition_and_event() {
    let cluster = Cluster::new().await;
    cluster.add_node(10).await;
    let _scheduler = cluster.run("system:kube-scheduler", scheduler::run);
    add(&cluster, &asking("a", "512Mi")).await;
    assert_eq!(bound(&cluster, "a").await, "n1");
    assert_eq!(scheduled(&cluster.pods().get("a").await.unwrap()).unwrap().status, "True");
    let event = until("the event", || async { cluster.events_of("a").await.pop() }).await;
    assert_eq!(event.reason.as_deref(), Some("Scheduled"));
    assert_eq!(event.message.as_deref(), Some("Successfully assigned default/a to n1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_waits_for_room_and_says_what_lacks() {
    let cluster = Cluster::new().await;
    cluster.add_node(10).await;
    let _scheduler = cluster.run("system:kube-scheduler", scheduler::run);
    add(&cluster, &asking("big", "768Mi")).await;
    bound(&cluster, "big").await;
    add(&cluster, &asking("late", "512Mi")).await;
    let text = "0/1 nodes are available: 1 Insufficient memory. preemption: 0/1 nodes are available: \
                1 No preemption victims found for incoming pod.";
    assert_eq!(refusal(&cluster, "late").await, text);
    let event = until("the event", || async { cluster.events_of("late").await.pop() }).await;
    assert_eq!((event.reason.as_deref(), event.type_.as_deref()), (Some("FailedScheduling"), Some("Warning")));
    assert_eq!(event.message.as_deref(), Some(text));
    assert_eq!(event.source.unwrap().component.as_deref(), Some("default-scheduler"));
    // A pod that has finished takes no room any more, even while its object stays.
    let done = json!({"status": {"phase": "Succeeded"}});
    cluster.pods().patch_status("big", &PatchParams::default(), &Patch::Merge(&done)).await.unwrap();
    bound(&cluster, "late").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_pods_room_is_given_to_the_oldest_that_waits() {
    let cluster = Cluster::new().await;
    cluster.add_node(1).await;
    let _scheduler = cluster.run("system:kube-scheduler", scheduler::run);
    add(&cluster, &asking("first", "1")).await;
    bound(&cluster, "first").await;
    add(&cluster, &asking("second", "1")).await;
    assert!(refusal(&cluster, "second").await.contains("1 Too many pods"));
    cluster.pods().delete("first", &DeleteParams::default().grace_period(0)).await.unwrap();
    bound(&cluster, "second").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pods_at_once_never_overcommit_the_node() {
    let cluster = Cluster::new().await;
    cluster.add_node(250).await;
    let _scheduler = cluster.run("system:kube-scheduler", scheduler::run);
    let pods = cluster.pods();
    let creations = (0..60).map(|n| {
        let pods = pods.clone();
        async move { pods.create(&PostParams::default(), &asking(&format!("p{n}"), "100Mi")).await.unwrap() }
    });
    futures::future::join_all(creations).await;
    let all = until("every pod is bound or refused", || async {
        let all = cluster.pods().list(&Default::default()).await.unwrap().items;
        all.iter().all(|p| scheduled(p).is_some()).then_some(all)
    })
    .await;
    // 1 GiB holds ten of 100 MiB.
    assert_eq!(all.iter().filter(|p| node_of(p).is_some()).count(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_or_uncordoning_that_comes_late_lets_pods_in() {
    let cluster = Cluster::new().await;
    cluster.add_node(10).await;
    let _scheduler = cluster.run("system:kube-scheduler", scheduler::run);
    add(&cluster, &pod("picky", &json!({"nodeSelector": {"disk": "fast"}}))).await;
    assert_eq!(
        refusal(&cluster, "picky").await,
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. preemption: 0/1 nodes are available: \
         1 Preemption is not helpful for scheduling."
    );
    let params = PatchParams::default();
    let cordon = json!({"metadata": {"labels": {"disk": "fast"}}, "spec": {"unschedulable": true}});
    cluster.nodes().patch("n1", &params, &Patch::Merge(&cordon)).await.unwrap();
    until("the other reason", || async {
        refusal(&cluster, "picky").await.contains("1 node(s) were unschedulable").then_some(())
    })
    .await;
    let uncordon = json!({"spec": {"unschedulable": null}});
    cluster.nodes().patch("n1", &params, &Patch::Merge(&uncordon)).await.unwrap();
    bound(&cluster, "picky").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_node_a_pod_is_told_so_and_bound_when_one_comes() {
    let cluster = Cluster::new().await;
    let _scheduler = cluster.run("system:kube-scheduler", scheduler::run);
    add(&cluster, &asking("early", "1")).await;
    assert_eq!(refusal(&cluster, "early").await, "no nodes available to schedule pods");
    cluster.add_node(10).await;
    bound(&cluster, "early").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gated_and_foreign_pods_are_left_alone() {
    let cluster = Cluster::new().await;
    cluster.add_node(10).await;
    let _scheduler = cluster.run("system:kube-scheduler", scheduler::run);
    add(&cluster, &pod("gated", &json!({"schedulingGates": [{"name": "wait"}]}))).await;
    add(&cluster, &pod("foreign", &json!({"schedulerName": "mine"}))).await;
    add(&cluster, &asking("plain", "1")).await;
    bound(&cluster, "plain").await;
    for name in ["gated", "foreign"] {
        let pod = cluster.pods().get(name).await.unwrap();
        assert_eq!((node_of(&pod), cluster.events_of(name).await.len()), (None, 0), "{}", pod.name_any());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_started_anew_counts_what_is_bound_already() {
    let cluster = Cluster::new().await;
    cluster.add_node(10).await;
    let scheduler = cluster.run("system:kube-scheduler", scheduler::run);
    add(&cluster, &asking("a", "700Mi")).await;
    bound(&cluster, "a").await;
    scheduler.stop().await;
    add(&cluster, &asking("b", "700Mi")).await;
    let _scheduler = cluster.run("system:kube-scheduler", scheduler::run);
    assert!(refusal(&cluster, "b").await.contains("Insufficient memory"));
}
