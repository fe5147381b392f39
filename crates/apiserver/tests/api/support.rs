//! A server in memory and plain requests to it.

use std::sync::Arc;

use fv_apiserver::{Admission, ApiServer, ApiServerBuilder, Store, UserInfo};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

pub(crate) async fn server() -> ApiServer {
    ApiServerBuilder::new(Store::memory()).crd(widgets()).crd(gadgets()).build().await.unwrap()
}

pub(crate) async fn server_with(admission: Arc<dyn Admission>) -> ApiServer {
    ApiServerBuilder::new(Store::memory()).crd(widgets()).admission(admission).build().await.unwrap()
}

pub(crate) fn client(server: &ApiServer) -> kube::Client {
    server.client_as(UserInfo::admin("test"))
}

/// A definition with two versions, a status subresource and scale.
pub(crate) fn widgets() -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "size": {"type": "integer", "minimum": 0, "default": 1},
            "colour": {"type": "string"},
            "replicas": {"type": "integer"},
        }},
        "status": {"type": "object", "properties": {"phase": {"type": "string"}, "replicas": {"type": "integer"}}},
    }}});
    let subresources = json!({
        "status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.test.dev"},
        "spec": {
            "group": "test.dev", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "shortNames": ["wd"]},
            "versions": [
                {"name": "v1", "served": true, "storage": true, "schema": schema, "subresources": subresources},
                {"name": "v1alpha1", "served": true, "storage": false, "deprecated": true, "schema": schema,
                 "subresources": subresources},
            ],
        },
    })
}

/// A cluster-scoped definition without subresources.
pub(crate) fn gadgets() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "gadgets.test.dev"},
        "spec": {
            "group": "test.dev", "scope": "Cluster",
            "names": {"plural": "gadgets", "singular": "gadget", "kind": "Gadget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            }}}],
        },
    })
}

pub(crate) fn config_map(name: &str, data: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": data}})
}

pub(crate) fn widget(name: &str, size: i64) -> Value {
    json!({"apiVersion": "test.dev/v1", "kind": "Widget", "metadata": {"name": name}, "spec": {"size": size}})
}

pub(crate) fn gadget(name: &str) -> Value {
    json!({"apiVersion": "test.dev/v1", "kind": "Gadget", "metadata": {"name": name}})
}

pub(crate) fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

/// An answer, parsed.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: StatusCode,
    pub(crate) warnings: Vec<String>,
    pub(crate) body: Value,
}

impl Answer {
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!(self.code.is_success(), "{}: {}", self.code, self.body);
        self.body
    }

    /// The path is not served at all.
    #[track_caller]
    pub(crate) fn finds_no_path(self) {
        assert_eq!((self.code.as_u16(), &self.body), (404, &json!("404 page not found\n")));
    }

    #[track_caller]
    pub(crate) fn fails(self, code: u16, reason: &str) -> String {
        assert_eq!(self.code.as_u16(), code, "{}", self.body);
        assert_eq!(self.body["kind"], "Status");
        assert_eq!(self.body["reason"], reason, "{}", self.body);
        assert_eq!(self.body["code"], code);
        self.body["message"].as_str().unwrap().to_owned()
    }
}

impl Answer {
    /// A failure for which Kubernetes has a code and no reason.
    #[track_caller]
    pub(crate) fn fails_without_reason(self, code: u16) -> String {
        assert_eq!((self.code.as_u16(), self.body.get("reason")), (code, None), "{}", self.body);
        self.body["message"].as_str().unwrap().to_owned()
    }
}

pub(crate) async fn send(server: &ApiServer, request: Request<axum::body::Body>) -> Answer {
    let mut request = request;
    request.extensions_mut().insert(UserInfo::admin("test"));
    let response = server.router().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes)));
    let warnings = parts.headers.get_all("warning").iter().map(|w| w.to_str().unwrap().to_owned()).collect();
    Answer { code: parts.status, warnings, body }
}

pub(crate) async fn call(
    server: &ApiServer,
    method: Method,
    path: &str,
    content_type: &str,
    body: impl Into<Vec<u8>>,
) -> Answer {
    let request = Request::builder().method(method).uri(path).header("content-type", content_type);
    send(server, request.body(axum::body::Body::from(body.into())).unwrap()).await
}

pub(crate) async fn get(server: &ApiServer, path: &str) -> Answer {
    call(server, Method::GET, path, "", "").await
}

pub(crate) async fn post(server: &ApiServer, path: &str, body: &Value) -> Answer {
    call(server, Method::POST, path, "application/json", body.to_string()).await
}

pub(crate) async fn put(server: &ApiServer, path: &str, body: &Value) -> Answer {
    call(server, Method::PUT, path, "application/json", body.to_string()).await
}

pub(crate) async fn merge(server: &ApiServer, path: &str, body: &Value) -> Answer {
    call(server, Method::PATCH, path, "application/merge-patch+json", body.to_string()).await
}

/// Applies a configuration; `query` goes on after the manager.
pub(crate) async fn apply(server: &ApiServer, path: &str, manager: &str, query: &str, config: &Value) -> Answer {
    let path = format!("{path}?fieldManager={manager}{query}");
    call(server, Method::PATCH, &path, "application/apply-patch+yaml", config.to_string()).await
}

/// The owners of an object: manager, operation and subresource, and their fields.
pub(crate) fn owners(object: &Value) -> Vec<(String, Value)> {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let name = |entry: &Value| {
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let subresource =
            if entry.get("subresource").is_some() { format!("/{}", text("subresource")) } else { String::new() };
        format!("{} {}{subresource}", text("manager"), text("operation"))
    };
    entries.iter().map(|entry| (name(entry), entry["fieldsV1"].clone())).collect()
}

pub(crate) async fn delete(server: &ApiServer, path: &str, options: &Value) -> Answer {
    let body = if options.is_null() { String::new() } else { options.to_string() };
    call(server, Method::DELETE, path, "application/json", body).await
}

pub(crate) const MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";
pub(crate) const WIDGETS: &str = "/apis/test.dev/v1/namespaces/default/widgets";
pub(crate) const GADGETS: &str = "/apis/test.dev/v1/gadgets";
