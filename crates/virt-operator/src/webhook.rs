//! Where the API server asks about writes to KubeVirt resources.

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use fv_admit::{KubeVirtRefusal, Workloads, create_kubevirt, delete_kubevirt, update_kubevirt};
use kube::Client;
use serde_json::{Value, json};

use crate::cluster::{ClusterError, kubevirts, name_of, workloads};

/// Routes `/kubevirt-validate-create`, `-update` and `-delete`, which take and give an `AdmissionReview` of `v1`.
pub fn router(client: Client) -> Router {
    Router::new()
        .route("/kubevirt-validate-create", post(create))
        .route("/kubevirt-validate-update", post(update))
        .route("/kubevirt-validate-delete", post(delete))
        .with_state(client)
}

async fn create(State(client): State<Client>, Json(review): Json<Value>) -> Json<Value> {
    let others = kubevirts(&client).await.map(|all| all.iter().map(name_of).collect::<Vec<_>>());
    answer(&review, others.map(|others| create_kubevirt(&review["request"]["object"], &others)))
}

async fn update(Json(review): Json<Value>) -> Json<Value> {
    let request = &review["request"];
    answer(&review, Ok(update_kubevirt(&request["oldObject"], &request["object"])))
}

async fn delete(State(client): State<Client>, Json(review): Json<Value>) -> Json<Value> {
    let counted = workloads(&client).await.map(|all| Workloads {
        machines: all.iter().filter(|workload| workload.kind == "VirtualMachine").count(),
        instances: all.iter().filter(|workload| workload.kind == "VirtualMachineInstance").count(),
    });
    answer(&review, counted.map(|counted| delete_kubevirt(&review["request"]["oldObject"], counted)))
}

/// What cannot be judged is refused: it may be asked again.
fn answer(review: &Value, verdict: Result<Result<(), KubeVirtRefusal>, ClusterError>) -> Json<Value> {
    let mut response = json!({"uid": review["request"]["uid"]});
    let refusal = |code: u16, message: String, causes: Option<Value>| {
        let mut status = json!({"message": message, "code": code});
        if let Some(causes) = causes {
            status["reason"] = json!("Invalid");
            status["details"] = json!({"causes": causes});
        }
        status
    };
    let status = match verdict {
        Ok(Ok(())) => None,
        Ok(Err(KubeVirtRefusal::Request(message))) => Some(refusal(400, message, None)),
        Ok(Err(KubeVirtRefusal::Fields(causes))) => {
            let message = causes.iter().map(|cause| cause.message.as_str()).collect::<Vec<_>>().join(", ");
            let causes = causes
                .iter()
                .map(|cause| json!({"reason": cause.reason.as_str(), "message": cause.message, "field": cause.field}));
            Some(refusal(422, message, Some(causes.collect())))
        }
        Err(error) => Some(refusal(500, format!("cannot judge the write: {error}"), None)),
    };
    response["allowed"] = json!(status.is_none());
    if let Some(status) = status {
        response["status"] = status;
    }
    Json(json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http_body_util::BodyExt as _;
    use kube::client::Body as ClientBody;
    use tower::ServiceExt as _;

    use super::*;

    /// A client whose API server has one KubeVirt resource and one machine.
    fn client() -> Client {
        let service = tower::service_fn(|request: axum::http::Request<ClientBody>| async move {
            let items = match request.uri().path() {
                "/apis/kubevirt.io/v1/kubevirts" => {
                    json!([{"apiVersion": "kubevirt.io/v1", "kind": "KubeVirt", "spec": {},
                        "metadata": {"name": "kubevirt", "namespace": "kubevirt"}}])
                }
                "/apis/kubevirt.io/v1/virtualmachines" => {
                    json!([{"metadata": {"name": "a", "namespace": "b", "uid": "c"}}])
                }
                _ => json!([]),
            };
            let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items});
            Ok::<_, std::convert::Infallible>(axum::http::Response::new(Body::from(list.to_string())))
        });
        Client::new(service, "default")
    }

    async fn ask(path: &str, request: Value) -> Value {
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
        let request = axum::http::Request::post(path)
            .header("content-type", "application/json")
            .body(Body::from(review.to_string()))
            .unwrap();
        let response = router(client()).oneshot(request).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice::<Value>(&body).unwrap()["response"].clone()
    }

    fn kubevirt(spec: Value) -> Value {
        json!({"apiVersion": "kubevirt.io/v1", "kind": "KubeVirt", "metadata": {"name": "second", "namespace": "kubevirt"}, "spec": spec})
    }

    #[tokio::test]
    async fn a_second_resource_is_refused() {
        let answer = ask("/kubevirt-validate-create", json!({"uid": "1", "object": kubevirt(json!({}))})).await;
        assert_eq!(
            answer,
            json!({"uid": "1", "allowed": false, "status": {"message": "Kubevirt is already created", "code": 400}})
        );
    }

    #[tokio::test]
    async fn a_change_is_judged_by_its_fields() {
        let request = |object| json!({"uid": "2", "oldObject": kubevirt(json!({})), "object": kubevirt(object)});
        let good = ask("/kubevirt-validate-update", request(json!({"imageTag": "v2"}))).await;
        assert_eq!(good, json!({"uid": "2", "allowed": true}));
        let bad = ask("/kubevirt-validate-update", request(json!({"uninstallStrategy": "Never"}))).await;
        assert_eq!((&bad["allowed"], &bad["status"]["code"]), (&json!(false), &json!(422)));
        assert_eq!(bad["status"]["details"]["causes"][0]["field"], "spec.uninstallStrategy");
    }

    #[tokio::test]
    async fn a_removal_under_machines_is_refused_when_asked_to() {
        let request =
            |strategy: &str| json!({"uid": "3", "oldObject": kubevirt(json!({"uninstallStrategy": strategy}))});
        let refused = ask("/kubevirt-validate-delete", request("BlockUninstallIfWorkloadsExist")).await;
        assert_eq!(refused["allowed"], false);
        assert!(refused["status"]["message"].as_str().unwrap().contains("there are still Virtual Machines present"));
        assert_eq!(ask("/kubevirt-validate-delete", request("RemoveWorkloads")).await["allowed"], true);
    }
}
