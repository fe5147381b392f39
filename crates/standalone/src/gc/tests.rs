use fv_apiserver::{ApiServerBuilder, Store, UserInfo};
use kube::api::{ObjectMeta, PostParams};
use kube::core::GroupVersionKind;

use super::*;

fn owner(name: &str, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        name: name.into(),
        uid: uid.into(),
        ..OwnerReference::default()
    }
}

/// A collector that sees nothing by itself, over a server in memory.
async fn collector() -> (Collector, Api<DynamicObject>, ApiResource) {
    let server = ApiServerBuilder::new(Store::memory()).build().await.unwrap();
    let client = server.client_as(UserInfo::admin("gc"));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "ConfigMap"));
    let api = Api::namespaced_with(client.clone(), "default", &resource);
    let watch = CancellationToken::new().drop_guard();
    let kind = Kind { resource: resource.clone(), namespaced: true, _watch: watch };
    let kinds = BTreeMap::from([(key(&resource), kind)]);
    let collector = Collector { client, graph: Graph::default(), kinds, sender: mpsc::channel(1).0 };
    (collector, api, resource)
}

#[tokio::test]
async fn an_object_that_found_another_owner_meanwhile_is_not_deleted() {
    type Change = fn(&mut ObjectMeta);
    let cases: [(&str, Change, bool); 4] = [
        ("nothing", |_| {}, false),
        ("a label", |meta| meta.labels = Some(BTreeMap::from([("a".into(), "b".into())])), false),
        ("another owner", |meta| meta.owner_references = Some(vec![owner("gone", "g"), owner("other", "o")]), true),
        ("no owner", |meta| meta.owner_references = None, true),
    ];
    for (what, change, stays) in cases {
        let (mut collector, api, resource) = collector().await;
        let mut object = DynamicObject::new("a", &resource);
        object.metadata.owner_references = Some(vec![owner("gone", "g")]);
        let made = api.create(&PostParams::default(), &object).await.unwrap();
        collector.graph.upsert(&key(&resource), &made.metadata);
        let mut changed = made.clone();
        change(&mut changed.metadata);
        api.replace("a", &PostParams::default(), &changed).await.unwrap();
        // The graph still has it as it was made.
        collector.advance(&made.uid().unwrap()).await.unwrap();
        assert_eq!(api.get_opt("a").await.unwrap().is_some(), stays, "{what} changed");
    }
}

#[tokio::test]
async fn an_object_that_took_the_name_meanwhile_is_not_deleted() {
    let (mut collector, api, resource) = collector().await;
    let mut object = DynamicObject::new("a", &resource);
    object.metadata.owner_references = Some(vec![owner("gone", "g")]);
    let made = api.create(&PostParams::default(), &object).await.unwrap();
    collector.graph.upsert(&key(&resource), &made.metadata);
    api.delete("a", &DeleteParams::default()).await.unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
    collector.advance(&made.uid().unwrap()).await.unwrap();
    assert!(api.get_opt("a").await.unwrap().is_some());
}
