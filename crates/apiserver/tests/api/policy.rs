//! Priorities, disruption budgets, quotas, limits and reviews.

use serde_json::{Value, json};

use crate::support::*;

const CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";
const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";
const LIMITS: &str = "/api/v1/namespaces/default/limitranges";

fn with(name: &str, spec: Value) -> Value {
    let mut pod = pod(name);
    pod["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    pod
}

#[tokio::test]
async fn a_pod_gets_the_priority_of_its_class_or_of_the_default() {
    let server = server().await;
    assert_eq!(post(&server, PODS, &pod("none")).await.ok()["spec"]["priority"], 0);
    let class = json!({"metadata": {"name": "high"}, "value": 100, "preemptionPolicy": "Never"});
    post(&server, CLASSES, &class).await.ok();
    let made = post(&server, PODS, &with("a", json!({"priorityClassName": "high"}))).await.ok();
    assert_eq!((&made["spec"]["priority"], &made["spec"]["preemptionPolicy"]), (&json!(100), &json!("Never")));
    let system = with("s", json!({"priorityClassName": "system-node-critical"}));
    assert_eq!(post(&server, PODS, &system).await.ok()["spec"]["priority"], 2_000_001_000);
    let message = post(&server, PODS, &with("b", json!({"priority": 7}))).await.fails(403, "Forbidden");
    assert!(message.contains("priority admission controller computed 0"), "{message}");
    let message = post(&server, PODS, &with("c", json!({"priorityClassName": "no"}))).await.fails(403, "Forbidden");
    assert!(message.contains("no PriorityClass with name no was found"), "{message}");

    let default = |name: &str| json!({"metadata": {"name": name}, "value": 5, "globalDefault": true});
    post(&server, CLASSES, &default("usual")).await.ok();
    let made = post(&server, PODS, &pod("d")).await.ok();
    assert_eq!((&made["spec"]["priority"], &made["spec"]["priorityClassName"]), (&json!(5), &json!("usual")));
    let message = post(&server, CLASSES, &default("other")).await.fails(403, "Forbidden");
    assert!(message.contains("PriorityClass usual is already marked as default"), "{message}");
    delete(&server, &format!("{CLASSES}/system-node-critical"), &Value::Null).await.fails(403, "Forbidden");
}

#[tokio::test]
async fn an_eviction_takes_what_the_budget_has_and_is_refused_beyond() {
    let server = server().await;
    for name in ["a", "b"] {
        let mut pod = with(name, json!({"nodeName": "n"}));
        pod["metadata"]["labels"] = json!({"app": "x"});
        post(&server, PODS, &pod).await.ok();
        let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        merge(&server, &format!("{PODS}/{name}/status"), &status).await.ok();
    }
    let budget =
        json!({"metadata": {"name": "p"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}}});
    post(&server, BUDGETS, &budget).await.ok();
    let evict = async |name: &str| {
        let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
        post(&server, &format!("{PODS}/{name}/eviction"), &body).await
    };
    let unseen = evict("a").await;
    assert_eq!(unseen.body["details"]["retryAfterSeconds"], 10);
    unseen.fails(429, "TooManyRequests");
    let status = json!({"status": {"observedGeneration": 1, "currentHealthy": 2, "desiredHealthy": 1,
        "disruptionsAllowed": 1, "expectedPods": 2}});
    merge(&server, &format!("{BUDGETS}/p/status"), &status).await.ok();
    evict("a").await.ok();
    let gone = get(&server, &format!("{PODS}/a")).await.ok();
    assert!(gone["metadata"]["deletionTimestamp"].is_string());
    let target = gone["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "DisruptionTarget");
    assert_eq!(target.unwrap()["reason"], "EvictionByEvictionAPI");
    let left = get(&server, &format!("{BUDGETS}/p")).await.ok();
    assert_eq!(left["status"]["disruptionsAllowed"], 0);
    assert!(left["status"]["disruptedPods"]["a"].is_string());
    let refused = evict("b").await;
    assert_eq!(refused.body["details"]["causes"][0]["reason"], "DisruptionBudget");
    refused.fails(429, "TooManyRequests");
    assert!(get(&server, &format!("{PODS}/b")).await.ok()["metadata"].get("deletionTimestamp").is_none());
}

#[tokio::test]
async fn a_quota_is_charged_and_then_refuses() {
    let server = server().await;
    post(&server, QUOTAS, &json!({"metadata": {"name": "q"}, "spec": {"hard": {"configmaps": "1"}}})).await.ok();
    post(&server, MAPS, &config_map("free", "x")).await.ok();
    let status = json!({"status": {"hard": {"configmaps": "1"}, "used": {"configmaps": "0"}}});
    merge(&server, &format!("{QUOTAS}/q/status"), &status).await.ok();
    post(&server, &format!("{MAPS}?dryRun=All"), &config_map("a", "x")).await.ok();
    post(&server, MAPS, &config_map("a", "x")).await.ok();
    assert_eq!(get(&server, &format!("{QUOTAS}/q")).await.ok()["status"]["used"]["configmaps"], "1");
    let message = post(&server, MAPS, &config_map("b", "x")).await.fails(403, "Forbidden");
    let expected = "configmaps \"b\" is forbidden: exceeded quota: q, requested: configmaps=1, used: configmaps=1, limited: configmaps=1";
    assert_eq!(message, expected);
}

#[tokio::test]
async fn limits_are_added_and_kept() {
    let server = server().await;
    let limits =
        json!([{"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "500m"}, "max": {"cpu": "2"}}]);
    post(&server, LIMITS, &json!({"metadata": {"name": "l"}, "spec": {"limits": limits}})).await.ok();
    let made = post(&server, PODS, &pod("a")).await.ok();
    let resources = &made["spec"]["containers"][0]["resources"];
    assert_eq!(resources, &json!({"requests": {"cpu": "500m"}, "limits": {"cpu": "1"}}));
    assert_eq!(made["status"]["qosClass"], "Burstable");
    let big = with("b", json!({"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "3"}}}]}));
    let message = post(&server, PODS, &big).await.fails(403, "Forbidden");
    assert!(message.contains("maximum cpu usage per Container is 2, but limit is 3"), "{message}");
}

#[tokio::test]
async fn reviews_are_answered_and_not_stored_and_tokens_refused() {
    let server = server().await;
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let review = post(&server, path, &json!({"kind": "SelfSubjectReview"})).await.ok();
    assert_eq!(review["status"]["userInfo"]["username"], "test");
    get(&server, path).await.fails(405, "MethodNotAllowed");
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let asked = json!({"spec": {"resourceAttributes": {"verb": "create", "resource": "pods"}}});
    assert_eq!(post(&server, path, &asked).await.ok()["status"], json!({"allowed": true}));
    post(&server, path, &json!({"spec": {}})).await.fails(422, "Invalid");
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    post(&server, accounts, &json!({"metadata": {"name": "a"}})).await.ok();
    let message = post(&server, &format!("{accounts}/a/token"), &json!({"spec": {}})).await.fails(403, "Forbidden");
    assert!(message.contains("issues no tokens"), "{message}");
    post(&server, &format!("{accounts}/b/token"), &json!({"spec": {}})).await.fails(404, "NotFound");
}
