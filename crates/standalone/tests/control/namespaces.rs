use fv_standalone::namespaces;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::support::{Cluster, config_map, create, from, until};

async fn make(cluster: &Cluster, name: &str) -> Api<Namespace> {
    let api = Api::<Namespace>::all(cluster.client.clone());
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    api.create(&PostParams::default(), &from(namespace)).await.unwrap();
    api
}

async fn gone(api: &Api<Namespace>, name: &str) {
    until("the namespace is gone", || async { api.get_opt(name).await.unwrap().is_none().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_goes_with_all_that_is_in_it_and_nothing_else() {
    let cluster = Cluster::new().await;
    let _controller = cluster.run("system:namespace-controller", namespaces::run);
    let api = make(&cluster, "team").await;
    for n in 0..20 {
        create(&cluster.api("v1", "ConfigMap", Some("team")), config_map(&format!("c{n}"), &[], &[])).await;
    }
    create(&cluster.config_maps(), config_map("elsewhere", &[], &[])).await;
    api.delete("team", &DeleteParams::default()).await.unwrap();
    gone(&api, "team").await;
    assert!(cluster.config_maps().get_opt("elsewhere").await.unwrap().is_some());
    // The same name again begins empty.
    make(&cluster, "team").await;
    let left = cluster.api("v1", "ConfigMap", Some("team")).list(&Default::default()).await.unwrap();
    assert!(left.items.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_a_namespace_is_told_until_it_lets_go() {
    let cluster = Cluster::new().await;
    let _controller = cluster.run("system:namespace-controller", namespaces::run);
    let api = make(&cluster, "held").await;
    let inside = cluster.api("v1", "ConfigMap", Some("held"));
    create(&inside, config_map("c", &[], &["test.dev/hold"])).await;
    api.delete("held", &DeleteParams::default()).await.unwrap();
    let texts = until("the conditions", || async {
        let status = api.get("held").await.unwrap().status?;
        let conditions = status.conditions.unwrap_or_default();
        let text = |type_: &str| {
            conditions.iter().find(|c| c.type_ == type_ && c.status == "True").and_then(|c| c.message.clone())
        };
        Some((text("NamespaceContentRemaining")?, text("NamespaceFinalizersRemaining")?))
    })
    .await;
    assert_eq!(texts.0, "Some resources are remaining: configmaps. has 1 resource instances");
    assert_eq!(
        texts.1,
        "Some content in the namespace has finalizers remaining: test.dev/hold in 1 resource instances"
    );
    let status = api.get("held").await.unwrap().status.unwrap();
    assert_eq!(status.conditions.unwrap().len(), 5, "as kubectl describe shows them");
    let refused = inside.create(&PostParams::default(), &from(config_map("new", &[], &[]))).await.unwrap_err();
    assert!(refused.to_string().contains("because it is being terminated"), "{refused}");
    let patch = json!({"metadata": {"finalizers": []}});
    inside.patch("c", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    gone(&api, "held").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_begun_while_nobody_ran_is_finished() {
    let cluster = Cluster::new().await;
    let api = make(&cluster, "late").await;
    create(
        &cluster.api("v1", "Secret", Some("late")),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}),
    )
    .await;
    api.delete("late", &DeleteParams::default()).await.unwrap();
    assert!(api.get_opt("late").await.unwrap().is_some());
    let _controller = cluster.run("system:namespace-controller", namespaces::run);
    gone(&api, "late").await;
}
