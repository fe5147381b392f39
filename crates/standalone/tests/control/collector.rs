use fv_standalone::gc;
use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use serde_json::json;

use crate::support::{Cluster, config_map, create, until, until_gone};

const USER: &str = "system:garbage-collector";

async fn set_finalizers(api: &Api<DynamicObject>, name: &str, finalizers: &[&str]) {
    let patch = json!({"metadata": {"finalizers": finalizers}});
    api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

/// Something that the collector must have got round to after everything that happened before.
async fn settle(cluster: &Cluster) {
    let api = cluster.config_maps();
    let owner = create(&api, config_map("settle-owner", &[], &[])).await;
    create(&api, config_map("settle-child", &[&owner], &[])).await;
    api.delete("settle-owner", &DeleteParams::background()).await.unwrap();
    until_gone(&api, "settle-child").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn background_deletion_takes_generations_and_spares_the_rest() {
    let cluster = Cluster::new().await;
    let api = cluster.config_maps();
    let _collector = cluster.run(USER, gc::run);
    let top = create(&api, config_map("top", &[], &[])).await;
    let other = create(&api, config_map("other", &[], &[])).await;
    let child = create(&api, config_map("child", &[&top], &[])).await;
    create(&api, config_map("grandchild", &[&child], &[])).await;
    create(&api, config_map("shared", &[&top, &other], &[])).await;
    create(&api, config_map("free", &[], &[])).await;
    api.delete("top", &DeleteParams::background()).await.unwrap();
    until_gone(&api, "child").await;
    until_gone(&api, "grandchild").await;
    until("the shared one forgets", || async {
        (api.get("shared").await.unwrap().owner_references().len() == 1).then_some(())
    })
    .await;
    assert!(api.get_opt("free").await.unwrap().is_some() && api.get_opt("other").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn foreground_deletion_waits_for_a_held_dependent() {
    let cluster = Cluster::new().await;
    let api = cluster.config_maps();
    let _collector = cluster.run(USER, gc::run);
    let top = create(&api, config_map("top", &[], &[])).await;
    let child = create(&api, config_map("child", &[&top], &["test.dev/hold"])).await;
    create(&api, config_map("grandchild", &[&child], &[])).await;
    api.delete("top", &DeleteParams::foreground()).await.unwrap();
    until("the child is being deleted", || async { api.get("child").await.unwrap().meta().deletion_timestamp.clone() })
        .await;
    until_gone(&api, "grandchild").await;
    settle(&cluster).await;
    assert!(api.get_opt("top").await.unwrap().is_some(), "the owner waits");
    set_finalizers(&api, "child", &[]).await;
    until_gone(&api, "child").await;
    until_gone(&api, "top").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreground_deletion_never_takes_what_another_owner_keeps() {
    let cluster = Cluster::new().await;
    let api = cluster.config_maps();
    let _collector = cluster.run(USER, gc::run);
    let top = create(&api, config_map("top", &[], &[])).await;
    let other = create(&api, config_map("other", &[], &[])).await;
    create(&api, config_map("shared", &[&top, &other], &[])).await;
    api.delete("top", &DeleteParams::foreground()).await.unwrap();
    until_gone(&api, "top").await;
    settle(&cluster).await;
    let shared = api.get("shared").await.unwrap();
    assert!(shared.meta().deletion_timestamp.is_none());
    assert_eq!(shared.owner_references().iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["other"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn orphaning_keeps_every_dependent() {
    let cluster = Cluster::new().await;
    let api = cluster.config_maps();
    let _collector = cluster.run(USER, gc::run);
    let top = create(&api, config_map("top", &[], &[])).await;
    for n in 0..5 {
        create(&api, config_map(&format!("child{n}"), &[&top], &[])).await;
    }
    api.delete("top", &DeleteParams::orphan()).await.unwrap();
    until_gone(&api, "top").await;
    settle(&cluster).await;
    for n in 0..5 {
        assert!(api.get(&format!("child{n}")).await.unwrap().owner_references().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphaning_that_begins_while_nobody_runs_keeps_every_dependent() {
    // Several times: after a start the kinds' lists come in any order.
    for _ in 0..5 {
        let cluster = Cluster::new().await;
        let (api, secrets) = (cluster.config_maps(), cluster.api("v1", "Secret", Some("default")));
        let top = create(&api, config_map("top", &[], &[])).await;
        let mut child = config_map("child", &[&top], &[]);
        child["kind"] = "Secret".into();
        create(&secrets, child).await;
        api.delete("top", &DeleteParams::orphan()).await.unwrap();
        let collector = cluster.run(USER, gc::run);
        until_gone(&api, "top").await;
        settle(&cluster).await;
        assert!(secrets.get("child").await.unwrap().owner_references().is_empty());
        collector.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deletions_begun_before_a_restart_are_finished_after_it() {
    let cluster = Cluster::new().await;
    let api = cluster.config_maps();
    let collector = cluster.run(USER, gc::run);
    let top = create(&api, config_map("top", &[], &[])).await;
    create(&api, config_map("child", &[&top], &["test.dev/hold"])).await;
    let gone = create(&api, config_map("gone", &[], &[])).await;
    create(&api, config_map("left", &[&gone], &[])).await;
    api.delete("top", &DeleteParams::foreground()).await.unwrap();
    until("it began", || async { api.get("child").await.unwrap().meta().deletion_timestamp.clone() }).await;
    collector.stop().await;
    // Both happen while nobody looks.
    set_finalizers(&api, "child", &[]).await;
    api.delete("gone", &DeleteParams::background()).await.unwrap();
    let _collector = cluster.run(USER, gc::run);
    until_gone(&api, "top").await;
    until_gone(&api, "left").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_nobody_serves_or_of_another_uid_decides_rightly() {
    let cluster = Cluster::new().await;
    let api = cluster.config_maps();
    let _collector = cluster.run(USER, gc::run);
    let owner = |api_version: &str, kind: &str, name: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("of-{name}"), "ownerReferences":
            [{"apiVersion": api_version, "kind": kind, "name": name, "uid": "00000000-0000-0000-0000-00000000000f"}]}})
    };
    create(&api, config_map("namesake", &[], &[])).await;
    create(&api, owner("nobody.dev/v1", "Thing", "thing")).await;
    create(&api, owner("v1", "ConfigMap", "namesake")).await;
    until_gone(&api, "of-namesake").await;
    settle(&cluster).await;
    assert!(api.get_opt("of-thing").await.unwrap().is_some(), "a kind that is not served is not known to be gone");
    assert!(api.get_opt("namesake").await.unwrap().is_some());
}

fn crd() -> serde_json::Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "widgets.test.dev"},
        "spec": {"group": "test.dev", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
                {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_defined_at_run_time_is_collected_too() {
    let cluster = Cluster::new().await;
    let (api, widgets) = (cluster.config_maps(), cluster.api("test.dev/v1", "Widget", Some("default")));
    let _collector = cluster.run(USER, gc::run);
    settle(&cluster).await;
    create(&cluster.api("apiextensions.k8s.io/v1", "CustomResourceDefinition", None), crd()).await;
    let widget = json!({"apiVersion": "test.dev/v1", "kind": "Widget", "metadata": {"name": "w"}});
    let widget = until("it is served", || async {
        widgets.create(&Default::default(), &serde_json::from_value(widget.clone()).unwrap()).await.ok()
    })
    .await;
    create(&api, config_map("of-widget", &[&widget], &[])).await;
    let top = create(&api, config_map("top", &[], &[])).await;
    let mut owned = config_map("owned", &[&top], &[]);
    owned["apiVersion"] = "test.dev/v1".into();
    owned["kind"] = "Widget".into();
    create(&widgets, owned).await;
    widgets.delete("w", &DeleteParams::background()).await.unwrap();
    until_gone(&api, "of-widget").await;
    api.delete("top", &DeleteParams::background()).await.unwrap();
    until_gone(&widgets, "owned").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_in_another_namespace_is_none_and_this_is_told() {
    let cluster = Cluster::new().await;
    let (api, elsewhere) = (cluster.config_maps(), cluster.api("v1", "ConfigMap", Some("kube-public")));
    let _collector = cluster.run(USER, gc::run);
    let owner = create(&api, config_map("owner", &[], &[])).await;
    create(&elsewhere, config_map("child", &[&owner], &[])).await;
    until_gone(&elsewhere, "child").await;
    let events = Api::<Event>::namespaced(cluster.client.clone(), "kube-public");
    let event = until("the event", || async {
        let events = events.list(&ListParams::default()).await.unwrap().items;
        events.into_iter().find(|event| event.reason.as_deref() == Some("OwnerRefInvalidNamespace"))
    })
    .await;
    let expected = format!(
        "ownerRef [v1/ConfigMap, namespace: kube-public, name: owner, uid: {}] does not exist in namespace \"kube-public\"",
        owner.uid().unwrap()
    );
    assert_eq!((event.message, event.type_), (Some(expected), Some("Warning".into())));
    assert!(api.get_opt("owner").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_is_deleted_as_it_is_asked_for() {
    let cluster = Cluster::new().await;
    let api = cluster.config_maps();
    let _collector = cluster.run(USER, gc::run);
    let labelled = async |name: &str, owners: &[&DynamicObject], word: &str| {
        let mut object = config_map(name, owners, &[]);
        object["metadata"]["labels"] = json!({"set": word});
        create(&api, object).await
    };
    let kept = labelled("kept", &[], "orphan").await;
    let taken = labelled("taken", &[], "foreground").await;
    labelled("orphan", &[&kept], "none").await;
    labelled("child", &[&taken], "none").await;
    let chosen = |word: &str| ListParams::default().labels(&format!("set={word}"));
    api.delete_collection(&DeleteParams::orphan(), &chosen("orphan")).await.unwrap();
    api.delete_collection(&DeleteParams::foreground(), &chosen("foreground")).await.unwrap();
    until_gone(&api, "kept").await;
    until_gone(&api, "taken").await;
    until_gone(&api, "child").await;
    assert!(api.get("orphan").await.unwrap().owner_references().is_empty());
}
