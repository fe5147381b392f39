//! Patches.

use http::Method;
use serde_json::{Value, json};

use crate::support::*;

async fn patch(server: &fv_apiserver::ApiServer, path: &str, kind: &str, body: &Value) -> Answer {
    call(server, Method::PATCH, path, &format!("application/{kind}"), body.to_string()).await
}

#[tokio::test]
async fn json_patch_tests_and_changes() {
    let server = server().await;
    post(&server, MAPS, &config_map("a", "1")).await.ok();
    let path = format!("{MAPS}/a");
    let good =
        json!([{"op": "test", "path": "/data/k", "value": "1"}, {"op": "replace", "path": "/data/k", "value": "2"}]);
    assert_eq!(patch(&server, &path, "json-patch+json", &good).await.ok()["data"]["k"], "2");
    patch(&server, &path, "json-patch+json", &good).await.fails(422, "Invalid");
    patch(&server, &path, "json-patch+json", &json!({"op": "add"})).await.fails(400, "BadRequest");
    let rename = json!([{"op": "replace", "path": "/metadata/name", "value": "b"}]);
    patch(&server, &path, "json-patch+json", &rename).await.fails(400, "BadRequest");
    patch(&server, &path, "json-patch+json", &json!([{"op": "replace", "path": "", "value": 1}]))
        .await
        .fails(400, "BadRequest");
}

#[tokio::test]
async fn merge_patch_can_be_conditional() {
    let server = server().await;
    let made = post(&server, MAPS, &config_map("a", "1")).await.ok();
    let path = format!("{MAPS}/a");
    let version = made["metadata"]["resourceVersion"].clone();
    let body = json!({"metadata": {"resourceVersion": version}, "data": {"k": null, "n": "1"}});
    let after = merge(&server, &path, &body).await.ok();
    assert_eq!(after["data"], json!({"n": "1"}));
    merge(&server, &path, &body).await.fails(409, "Conflict");
    merge(&server, &path, &json!([])).await.fails(400, "BadRequest");
}

#[tokio::test]
async fn strategic_merge_is_for_built_in_kinds() {
    let server = server().await;
    post(&server, PODS, &pod("a")).await.ok();
    let body = json!({"spec": {"containers": [{"name": "c", "image": "new"}]}, "metadata": {"labels": {"a": "b"}}});
    let after = patch(&server, &format!("{PODS}/a"), "strategic-merge-patch+json", &body).await.ok();
    assert_eq!(after["spec"]["containers"][0]["image"], "new");
    assert_eq!(after["spec"]["containers"].as_array().unwrap().len(), 1);
    post(&server, WIDGETS, &widget("a", 1)).await.ok();
    let path = format!("{WIDGETS}/a");
    patch(&server, &path, "strategic-merge-patch+json", &body).await.fails(415, "UnsupportedMediaType");
    patch(&server, &path, "json", &body).await.fails(415, "UnsupportedMediaType");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_patches_all_take_effect() {
    let server = server().await;
    post(&server, MAPS, &config_map("a", "1")).await.ok();
    let tasks: Vec<_> = (0..8)
        .map(|n| {
            let server = server.clone();
            tokio::spawn(async move {
                let path = format!("{MAPS}/a");
                let key = format!("k{n}");
                merge(&server, &path, &json!({"data": {key: "1"}})).await.ok();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let map = get(&server, &format!("{MAPS}/a")).await.ok();
    assert_eq!(map["data"].as_object().unwrap().len(), 9);
}

#[tokio::test]
async fn unchanged_patch_writes_nothing() {
    let server = server().await;
    post(&server, WIDGETS, &widget("a", 1)).await.ok();
    let before = server.store().revision();
    merge(&server, &format!("{WIDGETS}/a"), &json!({"spec": {"size": 1}})).await.ok();
    assert_eq!(server.store().revision(), before);
}

#[tokio::test]
async fn scale_is_a_view_of_replicas() {
    let server = server().await;
    let mut object = widget("a", 1);
    object["spec"]["replicas"] = json!(2);
    post(&server, WIDGETS, &object).await.ok();
    let path = format!("{WIDGETS}/a/scale");
    assert_eq!(get(&server, &path).await.ok()["spec"]["replicas"], 2);
    let scaled = merge(&server, &path, &json!({"spec": {"replicas": 5}})).await.ok();
    assert_eq!((&scaled["kind"], &scaled["spec"]["replicas"]), (&json!("Scale"), &json!(5)));
    assert_eq!(get(&server, &format!("{WIDGETS}/a")).await.ok()["spec"]["replicas"], 5);
    merge(&server, &path, &json!({"spec": {"replicas": -5}})).await.fails(422, "Invalid");
}

#[tokio::test]
async fn scale_is_checked_as_a_whole_object_is() {
    let server = server().await;
    let made = post(&server, WIDGETS, &widget("a", 1)).await.ok();
    let path = format!("{WIDGETS}/a/scale");
    let scale = |more: Value, replicas: Value| {
        let mut meta = json!({"name": "a"});
        meta.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": meta, "spec": {"replicas": replicas}})
    };
    // Without replicas a patch has to set them.
    let message = merge(&server, &path, &json!({"metadata": {"labels": {"a": "b"}}})).await.fails(400, "BadRequest");
    assert_eq!(message, "the spec replicas field \".spec.replicas\" cannot be empty");
    let scaled = put(&server, &path, &scale(json!({}), json!(2))).await.ok();
    let other_kind = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}});
    for (wanted, code, reason) in [
        (scale(json!({"name": "b"}), json!(3)), 400, "BadRequest"),
        (scale(json!({"name": null}), json!(3)), 400, "BadRequest"),
        (scale(json!({"namespace": "other"}), json!(3)), 400, "BadRequest"),
        (other_kind, 400, "BadRequest"),
        (scale(json!({}), json!("3")), 400, "BadRequest"),
        (scale(json!({}), json!(3_000_000_000_u32)), 400, "BadRequest"),
        (scale(json!({}), json!(-1)), 422, "Invalid"),
        (scale(json!({"resourceVersion": made["metadata"]["resourceVersion"]}), json!(3)), 409, "Conflict"),
        (scale(json!({"uid": "another"}), json!(3)), 409, "Conflict"),
    ] {
        put(&server, &path, &wanted).await.fails(code, reason);
    }
    let message = merge(&server, &path, &json!({"spec": {"replicas": -1}})).await.fails(422, "Invalid");
    assert!(message.ends_with(".spec.replicas: Invalid value: -1: should be a non-negative integer"), "{message}");
    merge(&server, &path, &json!({"metadata": {"name": "b"}})).await.fails(400, "BadRequest");
    let again = json!({"resourceVersion": scaled["metadata"]["resourceVersion"], "uid": scaled["metadata"]["uid"]});
    assert_eq!(put(&server, &path, &scale(again, json!(4))).await.ok()["spec"]["replicas"], 4);
    let mut negative = widget("b", 1);
    negative["spec"]["replicas"] = json!(-1);
    post(&server, WIDGETS, &negative).await.fails(422, "Invalid");
}
