//! The KubeVirt resource on an API server, and what programs hear of it.

use std::time::Duration;

use fv_api::KubeVirt;
use fv_api::config::ClusterConfig;
use fv_apiserver::{ApiServerBuilder, Store, UserInfo};
use fv_runtime::settings::follow;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn settings_are_read_before_anything_is_decided_and_followed_from_then_on() {
    let definition = serde_json::to_value(fv_api::crd::kubevirt().unwrap()).unwrap();
    let server = ApiServerBuilder::new(Store::memory()).crd(definition).build().await.unwrap();
    let client = server.client_as(UserInfo::admin("component"));
    let api: Api<KubeVirt> = Api::namespaced(client.clone(), "default");
    let emulated = json!({"configuration": {"developerConfiguration": {"useEmulation": true}}});
    let kubevirt =
        json!({"apiVersion": "kubevirt.io/v1", "kind": "KubeVirt", "metadata": {"name": "kubevirt"}, "spec": emulated});
    api.create(&PostParams::default(), &serde_json::from_value(kubevirt).unwrap()).await.unwrap();
    let base = ClusterConfig { launcher_image: "mine:1".into(), ..ClusterConfig::default() };
    let stop = CancellationToken::new();
    let mut settings = follow(client, "default", base, stop.clone()).await.unwrap();
    let first = settings.borrow_and_update().clone();
    assert_eq!((first.use_emulation, first.launcher_image.as_str()), (true, "mine:1"));
    let patch = |network: &str| json!({"spec": {"imagePullPolicy": "Always", "configuration": {"network": {"defaultNetworkInterface": network}}}});
    // What is not understood changes nothing.
    api.patch("kubevirt", &PatchParams::default(), &Patch::Merge(&patch("carrier-pigeon"))).await.unwrap();
    api.patch("kubevirt", &PatchParams::default(), &Patch::Merge(&patch("masquerade"))).await.unwrap();
    tokio::time::timeout(Duration::from_secs(30), settings.changed()).await.unwrap().unwrap();
    let next = settings.borrow().clone();
    assert_eq!((next.use_emulation, next.launcher_pull_policy.as_str()), (true, "Always"));
    assert_eq!(next.default_network_interface, fv_api::config::DefaultBinding::Masquerade);
    stop.cancel();
    assert!(follow(server.client_as(UserInfo::admin("c")), "default", ClusterConfig::default(), stop).await.is_none());
}
