//! Disruption budgets, quotas, and definitions of others.

use fv_apiserver::ApiServerBuilder;
use fv_standalone::{definitions, disruption, quotas};
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, DeleteParams, EvictParams, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::support::{Cluster, from, pod, until};

async fn ready(pods: &Api<Pod>, name: &str) {
    let mut made = pod(name, &json!({"nodeName": "n1"}));
    made.metadata = ObjectMeta { labels: Some([("app".into(), "x".into())].into()), ..made.metadata };
    pods.create(&PostParams::default(), &made).await.unwrap();
    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_lets_go_as_many_pods_as_it_can_spare() {
    let cluster = Cluster::new().await;
    let _controller = cluster.run("system:disruption-controller", disruption::run);
    let budgets = Api::<PodDisruptionBudget>::namespaced(cluster.client.clone(), "default");
    let spec =
        json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}}});
    let pods = cluster.pods();
    ready(&pods, "p1").await;
    ready(&pods, "p2").await;
    budgets.create(&PostParams::default(), &from(spec)).await.unwrap();
    let allowed = async |wanted: i32| {
        until(&format!("{wanted} may be disrupted"), || async {
            let status = budgets.get("b").await.unwrap().status?;
            (status.disruptions_allowed == wanted && status.observed_generation == Some(1)).then_some(status)
        })
        .await
    };
    assert_eq!(allowed(1).await.current_healthy, 2);
    pods.evict("p1", &EvictParams::default()).await.unwrap();
    let refused = pods.evict("p2", &EvictParams::default()).await.unwrap_err();
    assert!(refused.to_string().contains("would violate the pod's disruption budget"), "{refused}");
    // Nobody runs pods here: what is marked goes with a grace period of nothing.
    pods.delete("p1", &DeleteParams { grace_period_seconds: Some(0), ..Default::default() }).await.unwrap();
    until("the eviction is forgotten", || async {
        let status = budgets.get("b").await.unwrap().status?;
        (status.expected_pods == 1 && status.disrupted_pods.is_none()).then_some(())
    })
    .await;
    ready(&pods, "p3").await;
    allowed(1).await;
    pods.evict("p2", &EvictParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_counts_what_is_made_and_what_goes() {
    let cluster = Cluster::new().await;
    let _controller = cluster.run("system:resourcequota-controller", quotas::run);
    let quotas = Api::<ResourceQuota>::namespaced(cluster.client.clone(), "default");
    let pods = cluster.pods();
    pods.create(&PostParams::default(), &pod("before", &json!({}))).await.unwrap();
    let spec = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "2", "count/secrets": "1"}}});
    quotas.create(&PostParams::default(), &from(spec)).await.unwrap();
    let used = async |pods: &str| {
        until(&format!("{pods} pods are counted"), || async {
            let used = quotas.get("q").await.unwrap().status?.used?;
            (used.get("pods")?.0 == pods && used.get("count/secrets")?.0 == "0").then_some(())
        })
        .await;
    };
    used("1").await;
    pods.create(&PostParams::default(), &pod("second", &json!({}))).await.unwrap();
    used("2").await;
    let refused = pods.create(&PostParams::default(), &pod("third", &json!({}))).await.unwrap_err();
    assert!(
        refused.to_string().contains("exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2"),
        "{refused}"
    );
    pods.delete("before", &DeleteParams::default()).await.unwrap();
    used("1").await;
    pods.create(&PostParams::default(), &pod("third", &json!({}))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_made_at_once_do_not_exceed_a_quota() {
    let cluster = Cluster::new().await;
    let quotas = Api::<ResourceQuota>::namespaced(cluster.client.clone(), "default");
    let spec = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "3"}}});
    quotas.create(&PostParams::default(), &from(spec)).await.unwrap();
    let status = json!({"status": {"hard": {"pods": "3"}, "used": {"pods": "0"}}});
    quotas.patch_status("q", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    let pods = cluster.pods();
    let tries = (0..10).map(|n| {
        let pods = pods.clone();
        async move { pods.create(&PostParams::default(), &pod(&format!("p{n}"), &json!({}))).await.is_ok() }
    });
    let made = futures::future::join_all(tries).await.into_iter().filter(|made| *made).count();
    assert_eq!((made, pods.list(&Default::default()).await.unwrap().items.len()), (3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn network_attachments_are_served_as_users_know_them() {
    let server = ApiServerBuilder::new(fv_apiserver::Store::memory()).crd(definitions::network_attachments());
    let server = server.build().await.unwrap();
    let tables = server.registry().tables();
    let resource = tables.resource("k8s.cni.cncf.io", "network-attachment-definitions").unwrap();
    assert_eq!(resource.short_names, ["net-attach-def"]);
    assert!(resource.namespaced() && resource.version("v1").is_some());
}
