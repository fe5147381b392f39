//! Admission of KubeVirt objects, as clients of the API meet it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use axum::body::Body;
use fv_api::config::ClusterConfig;
use fv_api::meta::users;
use fv_apiserver::{ApiServer, ApiServerBuilder, Store, UserInfo};
use fv_standalone::admission::KubevirtAdmission;
use http::{Method, Request};
use serde_json::{Value, json};
use tower::ServiceExt as _;

const VMS: &str = "/apis/kubevirt.io/v1/namespaces/default/virtualmachines";
const VMIS: &str = "/apis/kubevirt.io/v1/namespaces/default/virtualmachineinstances";

fn builder(store: &Store) -> ApiServerBuilder {
    let definitions = fv_api::crd::all().unwrap();
    definitions
        .iter()
        .fold(ApiServerBuilder::new(store.clone()), |builder, crd| builder.crd(serde_json::to_value(crd).unwrap()))
}

async fn server_over(store: &Store) -> ApiServer {
    let config = ClusterConfig { default_architecture: "amd64".into(), ..ClusterConfig::default() };
    builder(store).admission(Arc::new(KubevirtAdmission::new(config))).build().await.unwrap()
}

async fn server() -> ApiServer {
    server_over(&Store::memory()).await
}

struct Answer {
    code: u16,
    body: Value,
}

impl Answer {
    #[track_caller]
    fn ok(self) -> Value {
        assert!(self.code < 300, "{}", self.body);
        self.body
    }

    /// The causes of a 422 as (field, message).
    #[track_caller]
    fn refused(self) -> Vec<(String, String)> {
        assert_eq!((self.code, &self.body["reason"]), (422, &json!("Invalid")), "{}", self.body);
        let message = self.body["message"].as_str().unwrap();
        assert!(message.starts_with("admission webhook \"virtualmachine"), "{message}");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let causes = self.body["details"]["causes"].as_array().unwrap().iter();
        causes.map(|c| (text(&c["field"]), text(&c["message"]))).collect()
    }
}

async fn call_as(server: &ApiServer, user: &str, method: Method, path: &str, content: &str, body: &Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut request =
        Request::builder().method(method).uri(path).header("content-type", content).body(Body::from(body)).unwrap();
    request.extensions_mut().insert(UserInfo::admin(user));
    let response = server.router().oneshot(request).await.unwrap();
    let code = response.status().as_u16();
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    Answer { code, body: serde_json::from_slice(&bytes).unwrap() }
}

async fn call(server: &ApiServer, method: Method, path: &str, body: &Value) -> Answer {
    let content = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    call_as(server, "jane", method, path, content, body).await
}

async fn post(server: &ApiServer, path: &str, body: &Value) -> Answer {
    call(server, Method::POST, path, body).await
}

async fn merge(server: &ApiServer, path: &str, body: &Value) -> Answer {
    call(server, Method::PATCH, path, body).await
}

/// The plainest manifest there is.
fn machine(name: &str) -> Value {
    json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": name},
        "spec": {"running": false, "template": {"metadata": {"labels": {"kubevirt.io/domain": name}}, "spec": {
            "domain": {
                "devices": {"disks": [
                    {"name": "containerdisk", "disk": {"bus": "virtio"}},
                    {"name": "cloudinitdisk", "disk": {"bus": "virtio"}},
                ]},
                "resources": {"requests": {"memory": "64M"}},
            },
            "volumes": [
                {"name": "containerdisk", "containerDisk": {"image": "ferrovirt/demo-guest:latest"}},
                {"name": "cloudinitdisk", "cloudInitNoCloud": {"userDataBase64": "SGkuXG4="}},
            ],
        }}},
    })
}

/// The same with something that is not implemented.
fn refused_machine(name: &str) -> Value {
    let mut vm = machine(name);
    vm["spec"]["template"]["spec"]["domain"]["devices"]["gpus"] =
        json!([{"name": "g", "deviceName": "example.com/gpu"}]);
    vm
}

fn instance(name: &str) -> Value {
    let vm = machine(name);
    json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": name},
        "spec": vm["spec"]["template"]["spec"],
    })
}

/// Everything that is written in `given` is in `stored`, too.
fn check_contains(stored: &Value, given: &Value, path: &str) {
    match (stored, given) {
        (Value::Object(stored), Value::Object(given)) => {
            for (key, value) in given {
                let at = format!("{path}.{key}");
                check_contains(stored.get(key).unwrap_or_else(|| panic!("{at} is lost")), value, &at);
            }
        }
        (Value::Array(stored), Value::Array(given)) => {
            assert_eq!(stored.len(), given.len(), "{path}");
            stored.iter().zip(given).for_each(|(s, g)| check_contains(s, g, path));
        }
        _ => assert_eq!(stored, given, "{path}"),
    }
}

#[tokio::test]
async fn the_plainest_manifest_is_admitted_unchanged_apart_from_defaults() {
    let server = server().await;
    let stored = post(&server, VMS, &machine("plain")).await.ok();
    check_contains(&stored, &machine("plain"), "");
    let spec = &stored["spec"]["template"]["spec"];
    assert_eq!((&spec["architecture"], spec["domain"]["machine"]["type"].is_string()), (&json!("amd64"), true));
    assert_eq!(stored["metadata"]["generation"], 1);
    let stored = post(&server, VMIS, &instance("plain")).await.ok();
    check_contains(&stored, &instance("plain"), "");
    assert_eq!(stored["status"]["phase"], "Pending");
}

#[tokio::test]
async fn unimplemented_fields_are_refused_with_their_path() {
    let server = server().await;
    let causes = post(&server, VMS, &refused_machine("gpu")).await.refused();
    let field = "spec.template.spec.domain.devices.gpus";
    let named = causes.iter().find(|(at, _)| at.starts_with(field)).unwrap_or_else(|| panic!("{causes:?}"));
    assert!(named.1.contains("is not supported yet by Ferrovirt"), "{named:?}");
    assert_eq!(call(&server, Method::GET, &format!("{VMS}/gpu"), &Value::Null).await.code, 404);
}

#[tokio::test]
async fn fields_under_their_old_names_are_refused_with_the_new_name() {
    let server = server().await;
    let mut old_names = machine("old");
    old_names["spec"]["template"]["spec"]["volumes"][0] =
        json!({"name": "containerdisk", "registryDisk": {"image": "ferrovirt/demo-guest:latest"}});
    let expected = [(
        "spec.template.spec.volumes[0].registryDisk".to_owned(),
        "spec.template.spec.volumes[0].registryDisk is not a field any more: use containerDisk".to_owned(),
    )];
    assert_eq!(post(&server, VMS, &old_names).await.refused(), expected);
    assert_eq!(post(&server, &format!("{VMS}?fieldValidation=Strict"), &old_names).await.refused(), expected);
    post(&server, VMS, &machine("old")).await.ok();
    let path = format!("{VMS}/old");
    assert_eq!(call(&server, Method::PUT, &path, &old_names).await.refused(), expected);
    let volumes =
        json!({"spec": {"template": {"spec": {"volumes": old_names["spec"]["template"]["spec"]["volumes"]}}}});
    assert_eq!(merge(&server, &path, &volumes).await.refused(), expected);
    // On its way out an object may say what it likes.
    merge(&server, &path, &json!({"metadata": {"finalizers": ["example.com/hold"]}})).await.ok();
    call(&server, Method::DELETE, &path, &Value::Null).await.ok();
    merge(&server, &path, &volumes).await.ok();
    merge(&server, &path, &json!({"metadata": {"finalizers": null}})).await.ok();
    assert_eq!(call(&server, Method::GET, &path, &Value::Null).await.code, 404);
}

#[tokio::test]
async fn objects_of_laxer_days_can_be_labelled_stopped_and_deleted() {
    let store = Store::memory();
    let lax = builder(&store).build().await.unwrap();
    let mut old = refused_machine("veteran");
    old["spec"]["running"] = json!(true);
    post(&lax, VMS, &old).await.ok();
    drop(lax);
    let server = server_over(&store).await;
    let path = format!("{VMS}/veteran");
    merge(&server, &path, &json!({"metadata": {"labels": {"a": "b"}}})).await.ok();
    let stopped = merge(&server, &path, &json!({"spec": {"running": false}})).await.ok();
    assert_eq!((&stopped["spec"]["running"], &stopped["metadata"]["labels"]["a"]), (&json!(false), &json!("b")));
    // What it already had does not excuse something new.
    let more = json!({"spec": {"template": {"spec": {"evictionStrategy": "LiveMigrate"}}}});
    let causes = merge(&server, &path, &more).await.refused();
    assert_eq!(causes.len(), 1, "{causes:?}");
    assert_eq!(causes[0].0, "spec.template.spec.evictionStrategy");
    call(&server, Method::DELETE, &path, &Value::Null).await.ok();
    assert_eq!(call(&server, Method::GET, &path, &Value::Null).await.code, 404);
}

#[tokio::test]
async fn only_components_write_the_status_of_an_instance() {
    let server = server().await;
    post(&server, VMIS, &instance("i")).await.ok();
    let path = format!("{VMIS}/i");
    let running = json!({"status": {"phase": "Running", "nodeName": "n"}});
    let kind = "application/merge-patch+json";
    let written = call_as(&server, users::VIRT_HANDLER, Method::PATCH, &path, kind, &running).await.ok();
    assert_eq!(written["status"]["phase"], "Running");
    let forged = json!({"metadata": {"labels": {"a": "b"}}, "status": {"phase": "Failed", "nodeName": "elsewhere"}});
    let answer = merge(&server, &path, &forged).await.ok();
    assert_eq!((&answer["status"]["phase"], &answer["status"]["nodeName"]), (&json!("Running"), &json!("n")));
    assert_eq!(answer["metadata"]["labels"]["a"], "b");
    let causes = merge(&server, &path, &json!({"spec": {"hostname": "other"}})).await.refused();
    assert_eq!(causes[0].1, "update of VMI object is restricted");
}

#[tokio::test]
async fn machines_of_v1alpha3_are_machines_of_v1() {
    let server = server().await;
    let mut old = machine("aged");
    old["apiVersion"] = json!("kubevirt.io/v1alpha3");
    let path = VMS.replace("/v1/", "/v1alpha3/");
    assert_eq!(post(&server, &path, &old).await.ok()["apiVersion"], "kubevirt.io/v1alpha3");
    let read = call(&server, Method::GET, &format!("{VMS}/aged"), &Value::Null).await.ok();
    assert_eq!(read["apiVersion"], "kubevirt.io/v1");
    check_contains(&read["spec"], &machine("aged")["spec"], "spec");
    assert!(read["spec"]["template"]["spec"]["domain"]["machine"]["type"].is_string());
    let mut refused = refused_machine("b");
    refused["apiVersion"] = json!("kubevirt.io/v1alpha3");
    post(&server, &path, &refused).await.refused();
}
