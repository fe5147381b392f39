//! Claims, volumes and storage classes.

use serde_json::{Value, json};

use crate::support::*;

const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
const VOLUMES: &str = "/api/v1/persistentvolumes";
const CLASSES: &str = "/apis/storage.k8s.io/v1/storageclasses";

fn claim(name: &str) -> Value {
    json!({"metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1.5Gi"}}}})
}

fn class(name: &str, default: bool) -> Value {
    json!({"metadata": {"name": name, "annotations": {"storageclass.kubernetes.io/is-default-class": default.to_string()}},
        "provisioner": "example.com/x", "allowVolumeExpansion": true})
}

#[tokio::test]
async fn a_new_claim_is_pending_protected_and_gets_the_default_class() {
    let server = server().await;
    let bare = post(&server, CLAIMS, &claim("bare")).await.ok();
    assert_eq!(bare["spec"].get("storageClassName"), None);
    post(&server, CLASSES, &class("slow", false)).await.ok();
    post(&server, CLASSES, &class("fast", true)).await.ok();
    let made = post(&server, CLAIMS, &claim("a")).await.ok();
    assert_eq!(made["spec"]["storageClassName"], "fast");
    assert_eq!(made["spec"]["volumeMode"], "Filesystem");
    assert_eq!(made["spec"]["resources"]["requests"]["storage"], "1536Mi");
    assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    assert_eq!(made["status"], json!({"phase": "Pending"}));
    let mut none = claim("none");
    none["spec"]["storageClassName"] = json!("");
    assert_eq!(post(&server, CLAIMS, &none).await.ok()["spec"]["storageClassName"], "");
}

#[tokio::test]
async fn only_a_bound_claim_of_an_expandable_class_grows() {
    let server = server().await;
    post(&server, CLASSES, &class("fast", true)).await.ok();
    post(&server, CLAIMS, &claim("a")).await.ok();
    let path = format!("{CLAIMS}/a");
    let ask = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
    let message = merge(&server, &path, &ask("2Gi")).await.fails(422, "Invalid");
    assert!(message.contains("spec is immutable after creation except resources.requests"), "{message}");
    let bound = json!({"status": {"phase": "Bound", "capacity": {"storage": "1536Mi"}}});
    merge(&server, &format!("{path}/status"), &bound).await.ok();
    assert_eq!(merge(&server, &path, &ask("2Gi")).await.ok()["spec"]["resources"]["requests"]["storage"], "2Gi");
    let message = merge(&server, &path, &ask("1Gi")).await.fails(422, "Invalid");
    assert!(message.contains("field can not be less than status.capacity"), "{message}");
    merge(&server, &format!("{CLASSES}/fast"), &json!({"allowVolumeExpansion": false})).await.ok();
    let message = merge(&server, &path, &ask("3Gi")).await.fails(403, "Forbidden");
    assert!(message.contains("the storageclass that provisions the pvc must support resize"), "{message}");
}

#[tokio::test]
async fn a_volume_needs_one_source_which_then_stays() {
    let server = server().await;
    let volume = |source: Value| {
        let mut spec = json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}});
        spec.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
        json!({"metadata": {"name": "v"}, "spec": spec})
    };
    let message = post(&server, VOLUMES, &volume(json!({}))).await.fails(422, "Invalid");
    assert!(message.contains("spec: Required value: must specify a volume type"), "{message}");
    let made = post(&server, VOLUMES, &volume(json!({"hostPath": {"path": "/x"}}))).await.ok();
    assert_eq!(made["spec"]["persistentVolumeReclaimPolicy"], "Retain");
    assert_eq!(made["metadata"]["finalizers"], json!(["kubernetes.io/pv-protection"]));
    assert!(made["status"]["lastPhaseTransitionTime"].is_string());
    let moved = json!({"spec": {"hostPath": {"path": "/y"}}});
    let message = merge(&server, &format!("{VOLUMES}/v"), &moved).await.fails(422, "Invalid");
    assert!(message.contains("spec.persistentvolumesource is immutable"), "{message}");
}

#[tokio::test]
async fn claims_and_volumes_are_printed_as_kubectl_knows_them() {
    let server = server().await;
    post(&server, CLASSES, &class("fast", true)).await.ok();
    post(&server, CLAIMS, &claim("a")).await.ok();
    let table = |path: &str| {
        let request =
            http::Request::get(path.to_owned()).header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
        send(&server, request.body(axum::body::Body::empty()).unwrap())
    };
    let claims = table(CLAIMS).await.ok();
    let cells = claims["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(cells[..7], ["a", "Pending", "", "", "", "fast", "<unset>"]);
    let classes = table(CLASSES).await.ok();
    let cells = classes["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(cells[..4], ["fast (default)", "example.com/x", "Delete", "Immediate"]);
    assert_eq!(cells[4], true);
}
