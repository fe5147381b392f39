use std::convert::Infallible;

use axum::http::{Request, Response};
use kube::client::Body;

use super::*;

/// A cluster with nothing in it but one service account, and maybe a Prometheus operator.
fn cluster(has_prometheus_operator: bool, account: &'static str) -> Client {
    let service = tower::service_fn(move |request: Request<Body>| async move {
        let path = request.uri().path();
        let (code, text) = if path.starts_with("/apis/monitoring.coreos.com/") && !has_prometheus_operator {
            // As an API server answers for a group it does not know.
            (404, "404 page not found\n".to_owned())
        } else if path.contains("/namespaces/") && path.contains("/serviceaccounts/") {
            match path.ends_with(account) {
                true => (200, json!({"metadata": {"name": "prometheus"}}).to_string()),
                false => {
                    (404, json!({"kind": "Status", "code": 404, "reason": "NotFound", "message": "no"}).to_string())
                }
            }
        } else {
            (200, json!({"metadata": {}, "items": []}).to_string())
        };
        Ok::<_, Infallible>(Response::builder().status(code).body(Body::from(text.into_bytes())).unwrap())
    });
    Client::new(service, "default")
}

fn kubevirt(spec: Value) -> KubeVirt {
    serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1", "kind": "KubeVirt", "metadata": {"name": "kubevirt", "namespace": "kubevirt"}, "spec": spec
    }))
    .unwrap()
}

#[tokio::test]
async fn a_cluster_may_do_without_a_prometheus_operator_and_without_nothing_else() {
    for has_it in [false, true] {
        let (live, found) = managed(&cluster(has_it, "-"), "kubevirt").await.unwrap();
        assert!(live.is_empty());
        assert_eq!(found, has_it);
    }
    let nothing = tower::service_fn(|_: Request<Body>| async {
        let answer = Response::builder().status(404).body(Body::from(b"404 page not found\n".to_vec()));
        Ok::<_, Infallible>(answer.unwrap())
    });
    assert!(matches!(managed(&Client::new(nothing, "default"), "kubevirt").await, Err(ClusterError::List { .. })));
}

#[tokio::test]
async fn prometheus_is_where_its_service_account_is() {
    let place = |account, spec| async move {
        let found = prometheus(&cluster(true, account), &kubevirt(spec)).await.unwrap();
        found.map(|found| format!("{} {} {}", found.namespace, found.account, found.monitor_namespace))
    };
    let usual = "/namespaces/monitoring/serviceaccounts/prometheus-k8s";
    assert_eq!(place(usual, json!({})).await.as_deref(), Some("monitoring prometheus-k8s monitoring"));
    let own = json!({"monitorNamespace": "watchers", "monitorAccount": "prom", "serviceMonitorNamespace": "monitors"});
    let there = "/namespaces/watchers/serviceaccounts/prom";
    assert_eq!(place(there, own.clone()).await.as_deref(), Some("watchers prom monitors"));
    assert_eq!(place(usual, own).await, None, "what the resource says is not replaced by a guess");
    assert_eq!(place("-", json!({})).await, None);
}
