//! virt-api behind a real kube-apiserver: CRDs, webhooks, the aggregated API, and who may what.
//!
//! Needs etcd in PATH and kube-apiserver in `$FERROVIRT_KUBERNETES_DIR` (default `~/.cache/ferrovirt/kubernetes-v1.35.4`), so it is run
//! by name: `cargo test -p fv-virt-api --test kubernetes -- --ignored`.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // helpers of tests fail by panicking, like the tests themselves

mod cluster;
mod objects;
mod pruning;

use http::Method;
use serde_json::{Value, json};

use cluster::{Cluster, until};

const VMS: &str = "/apis/kubevirt.io/v1/namespaces/default/virtualmachines";
const VMIS: &str = "/apis/kubevirt.io/v1/namespaces/default/virtualmachineinstances";
const BASE: &str = "/apis/subresources.kubevirt.io/v1";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a built kube-apiserver and etcd; see the head of this file"]
async fn virt_api_serves_a_real_cluster() {
    let cluster = Cluster::start().await;
    definitions_are_structural(&cluster).await;
    nothing_is_pruned(&cluster).await;
    // Of laxer days: it could not be created with webhooks.
    let mut lax = objects::vmi("external");
    lax["spec"]["evictionStrategy"] = json!("External");
    lax["status"] = json!({"phase": "Running", "nodeName": "n1"});
    cluster.admin(Method::POST, VMIS, &lax).await.ok();
    cluster.serve().await;
    defaults_and_refusals(&cluster).await;
    statuses_belong_to_components(&cluster).await;
    discovery(&cluster).await;
    rights(&cluster).await;
    nobody_is_believed_without_the_proxys_certificate(&cluster).await;
    evictions(&cluster).await;
}

async fn definitions_are_structural(cluster: &Cluster) {
    for definition in objects::definitions() {
        let name = definition["metadata"]["name"].as_str().unwrap().to_owned();
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        cluster.admin(Method::POST, path, &definition).await.ok();
        let conditions = until("the definition is established", async || {
            let stored = cluster.admin(Method::GET, &format!("{path}/{name}"), &Value::Null).await.ok();
            let conditions = stored["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|c| c["type"] == "Established" && c["status"] == "True").then_some(conditions)
        })
        .await;
        assert!(
            !conditions.iter().any(|c| c["type"] == "NonStructuralSchema" && c["status"] == "True"),
            "{conditions:?}"
        );
    }
}

/// Of what our schemas name, and of labels and the like where they leave it open. No webhook judges yet.
async fn nothing_is_pruned(cluster: &Cluster) {
    for definition in objects::definitions() {
        let filled = pruning::filled(&definition);
        let resource = definition["spec"]["names"]["plural"].as_str().unwrap();
        let version = filled["apiVersion"].as_str().unwrap();
        let path = format!("/apis/{version}/namespaces/default/{resource}?dryRun=All&fieldValidation=Strict");
        let mut kept = cluster.admin(Method::POST, &path, &filled).await.ok();
        // What a status subresource has is not taken from a creation.
        if kept.get("status").is_none() {
            kept["status"] = filled["status"].clone();
        }
        assert_eq!(pruning::lost(&filled, &kept, resource), Vec::<String>::new());
    }
}

async fn defaults_and_refusals(cluster: &Cluster) {
    let stored = cluster.admin(Method::POST, VMS, &objects::vm("good")).await.ok();
    let spec = &stored["spec"]["template"]["spec"];
    assert_eq!(spec["architecture"], "amd64");
    assert!(spec["domain"]["machine"]["type"].is_string() && spec["domain"]["firmware"]["uuid"].is_string(), "{spec}");
    assert_eq!(spec["volumes"], objects::vm("good")["spec"]["template"]["spec"]["volumes"], "nothing is pruned");

    let mut bad = objects::vm("bad");
    bad["spec"]["template"]["spec"]["domain"]["devices"]["gpus"] = json!([{"name": "g", "deviceName": "x/y"}]);
    bad["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(-1);
    let answer = cluster.admin(Method::POST, VMS, &bad).await;
    let status = &answer.body;
    assert_eq!((answer.code, &status["reason"]), (422, &json!("Invalid")), "{status}");
    let message = status["message"].as_str().unwrap();
    assert!(
        message.starts_with("admission webhook \"virtualmachine-validator.kubevirt.io\" denied the request: "),
        "{message}"
    );
    let causes = status["details"]["causes"].as_array().unwrap();
    let fields: Vec<&str> = causes.iter().map(|c| c["field"].as_str().unwrap()).collect();
    for field in ["domain.devices.gpus", "terminationGracePeriodSeconds"] {
        assert!(fields.iter().any(|f| f.contains(field)), "{field}: {fields:?}");
    }
    let warned = cluster.admin(Method::POST, VMS, &objects::running_vm("warned")).await;
    assert!(warned.warnings.iter().any(|w| w.contains("spec.running is deprecated")), "{:?}", warned.warnings);

    let vmi = cluster.admin(Method::POST, VMIS, &objects::vmi("demo")).await.ok();
    assert_eq!(vmi["status"]["phase"], "Pending");
    assert_eq!(vmi["metadata"]["finalizers"], json!(["kubevirt.io/foregroundDeleteVirtualMachine"]));
}

async fn statuses_belong_to_components(cluster: &Cluster) {
    let path = format!("{VMIS}/demo");
    let running = json!({"status": {"phase": "Running", "nodeName": "n1"}});
    let written = cluster.call("handler", Method::PATCH, &path, &running).await.ok();
    assert_eq!(written["status"]["phase"], "Running");
    let forged = json!({"metadata": {"labels": {"a": "b"}}, "status": {"phase": "Failed", "nodeName": "n2"}});
    let kept = cluster.call("owner", Method::PATCH, &path, &forged).await.ok();
    assert_eq!((&kept["status"]["phase"], &kept["status"]["nodeName"]), (&json!("Running"), &json!("n1")));
    assert_eq!(kept["metadata"]["labels"]["a"], "b");
    let changed = cluster.call("owner", Method::PATCH, &path, &json!({"spec": {"hostname": "other"}})).await;
    assert_eq!(changed.code, 422, "{}", changed.body);
    assert_eq!(changed.body["details"]["causes"][0]["message"], "update of VMI object is restricted");
}

async fn discovery(cluster: &Cluster) {
    let list = cluster.admin(Method::GET, BASE, &Value::Null).await.ok();
    assert_eq!(list["groupVersion"], "subresources.kubevirt.io/v1");
    assert!(list["resources"].as_array().unwrap().iter().any(|r| r["name"] == "virtualmachines/start"));
    let group = cluster.admin(Method::GET, "/apis/subresources.kubevirt.io", &Value::Null).await.ok();
    assert_eq!(group["preferredVersion"]["version"], "v1");
    for path in [format!("{BASE}/version"), format!("{BASE}/healthz"), "/apis/subresources.kubevirt.io/v1alpha3".into()]
    {
        cluster.admin(Method::GET, &path, &Value::Null).await.ok();
    }
    let openapi = "/openapi/v3/apis/subresources.kubevirt.io/v1";
    until("OpenAPI is aggregated", async || {
        (cluster.admin(Method::GET, openapi, &Value::Null).await.code == 200).then_some(())
    })
    .await;
}

async fn rights(cluster: &Cluster) {
    let start = format!("{BASE}/namespaces/default/virtualmachines/good/start");
    let info = format!("{BASE}/namespaces/default/virtualmachineinstances/demo/guestosinfo");
    let none = Value::Null;
    // Who may look gets as far as the guest: there is no agent in it.
    let looked = cluster.call("viewer", Method::GET, &info, &none).await;
    assert_eq!(looked.code, 404, "{}", looked.text);
    assert!(looked.text.contains("VMI does not have guest agent connected"), "{}", looked.text);
    // Denied by the aggregation layer's own authorization or by ours: never started.
    let denied = cluster.call("viewer", Method::PUT, &start, &none).await;
    assert!([401, 403].contains(&denied.code), "{} {}", denied.code, denied.text);
    let stranger = cluster.call("stranger", Method::GET, &info, &none).await;
    assert!([401, 403].contains(&stranger.code), "{} {}", stranger.code, stranger.text);
    let vm = cluster.admin(Method::GET, &format!("{VMS}/good"), &none).await.ok();
    assert_eq!(vm["spec"]["runStrategy"], "Halted");
    let started = cluster.call("owner", Method::PUT, &start, &none).await;
    assert_eq!((started.code, started.text.as_str()), (202, ""));
    let vm = cluster.admin(Method::GET, &format!("{VMS}/good"), &none).await.ok();
    assert_eq!(vm["spec"]["runStrategy"], "Always");
    let again = cluster.call("owner", Method::PUT, &start, &none).await;
    assert_eq!((again.code, &again.body["reason"]), (409, &json!("Conflict")));
    // The node's agent is away: said so, at once.
    let pause = format!("{BASE}/namespaces/default/virtualmachineinstances/demo/pause");
    let away = cluster.call("owner", Method::PUT, &pause, &none).await;
    assert_eq!(away.code, 500, "{}", away.text);
    assert!(away.text.contains("no virt-handler pod runs on node n1"), "{}", away.text);
}

async fn nobody_is_believed_without_the_proxys_certificate(cluster: &Cluster) {
    let path = format!("{BASE}/namespaces/default/virtualmachines/good/stop");
    for certificate in [None, Some("front-proxy-imposter")] {
        let (code, text) = cluster.directly(certificate, &path).await;
        assert_eq!((code, text.as_str()), (401, "request is not authenticated"), "{certificate:?}");
    }
    // The very certificate is believed, and then asked about: a member of nothing may nothing.
    let (code, text) = cluster.directly(Some("front-proxy-client"), &path).await;
    assert_eq!(code, 401, "{text}");
    assert_ne!(text, "request is not authenticated");
    let vm = cluster.admin(Method::GET, &format!("{VMS}/good"), &Value::Null).await.ok();
    assert_eq!(vm["spec"]["runStrategy"], "Always");
}

async fn evictions(cluster: &Cluster) {
    let pods = "/api/v1/namespaces/default/pods";
    for name in ["external", "demo"] {
        let vmi = cluster.admin(Method::GET, &format!("{VMIS}/{name}"), &Value::Null).await.ok();
        let uid = vmi["metadata"]["uid"].as_str().unwrap();
        cluster.admin(Method::POST, pods, &objects::launcher(name, uid)).await.ok();
    }
    let evict = async |name: &str| {
        let pod = format!("virt-launcher-{name}-abcde");
        let body =
            json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": "default"}});
        cluster.admin(Method::POST, &format!("{pods}/{pod}/eviction"), &body).await
    };
    let refused = evict("external").await;
    let message = refused.body["message"].as_str().unwrap_or_default();
    assert_eq!(refused.code, 429, "{}", refused.text);
    assert!(
        message.ends_with(r#"denied the request: Eviction triggered evacuation of VMI "default/external""#),
        "{message}"
    );
    let vmi = cluster.admin(Method::GET, &format!("{VMIS}/external"), &Value::Null).await.ok();
    assert_eq!(vmi["status"]["evacuationNodeName"], "n1");
    let again = evict("external").await;
    let message = again.body["message"].as_str().unwrap_or_default();
    assert!(
        message.contains(r#"Evacuation in progress: Eviction triggered evacuation of VMI "default/external""#),
        "{message}"
    );
    let allowed = evict("demo").await;
    assert_eq!(allowed.code, 201, "{}", allowed.text);
}
