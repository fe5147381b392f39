//! Deletion: finalizers, propagation, preconditions, grace, collections, namespaces.

use http::Method;
use serde_json::{Value, json};

use crate::support::*;

fn finalizers(object: &Value) -> Value {
    object["metadata"]["finalizers"].clone()
}

#[tokio::test]
async fn deletion_answers_with_a_status_and_removes() {
    let server = server().await;
    let made = post(&server, MAPS, &config_map("a", "1")).await.ok();
    let answer = delete(&server, &format!("{MAPS}/a"), &Value::Null).await.ok();
    assert_eq!(answer["status"], "Success");
    assert_eq!(answer["details"]["uid"], made["metadata"]["uid"]);
    delete(&server, &format!("{MAPS}/a"), &Value::Null).await.fails(404, "NotFound");
}

#[tokio::test]
async fn finalizers_keep_an_object_until_the_last_one_goes() {
    let server = server().await;
    let path = format!("{WIDGETS}/a");
    let mut object = widget("a", 1);
    object["metadata"]["finalizers"] = json!(["x.io/a", "x.io/b"]);
    post(&server, WIDGETS, &object).await.ok();
    let marked = delete(&server, &path, &Value::Null).await.ok();
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
    assert_eq!(marked["metadata"]["generation"], 2);
    let again = delete(&server, &path, &Value::Null).await.ok();
    assert_eq!(again["metadata"]["resourceVersion"], marked["metadata"]["resourceVersion"]);
    let more = json!({"metadata": {"finalizers": ["x.io/a", "x.io/b", "x.io/c"]}});
    let message = merge(&server, &path, &more).await.fails(422, "Invalid");
    assert!(
        message.contains(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{\"x.io/c\"}"
        ),
        "{message}"
    );
    let revive = json!({"metadata": {"deletionTimestamp": null, "finalizers": ["x.io/a"]}});
    let one = merge(&server, &path, &revive).await.ok();
    assert!(one["metadata"]["deletionTimestamp"].is_string());
    merge(&server, &path, &json!({"metadata": {"finalizers": null}})).await.ok();
    get(&server, &path).await.fails(404, "NotFound");
}

#[tokio::test]
async fn propagation_policies_leave_work_for_the_garbage_collector() {
    let server = server().await;
    for (policy, finalizer) in [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")] {
        post(&server, MAPS, &config_map("a", "1")).await.ok();
        let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy});
        let marked = delete(&server, &format!("{MAPS}/a"), &options).await.ok();
        assert_eq!(finalizers(&marked), json!([finalizer]));
        // A later word of Background overrides it.
        delete(&server, &format!("{MAPS}/a?propagationPolicy=Background"), &Value::Null).await.ok();
        get(&server, &format!("{MAPS}/a")).await.fails(404, "NotFound");
    }
    post(&server, MAPS, &config_map("a", "1")).await.ok();
    let bad = json!({"propagationPolicy": "Sideways"});
    delete(&server, &format!("{MAPS}/a"), &bad).await.fails(422, "Invalid");
}

#[tokio::test]
async fn preconditions_are_honoured() {
    let server = server().await;
    let made = post(&server, MAPS, &config_map("a", "1")).await.ok();
    let path = format!("{MAPS}/a");
    delete(&server, &path, &json!({"preconditions": {"uid": "other"}})).await.fails(409, "Conflict");
    delete(&server, &path, &json!({"preconditions": {"resourceVersion": "1"}})).await.fails(409, "Conflict");
    let good = json!({"preconditions": {"uid": made["metadata"]["uid"], "resourceVersion": made["metadata"]["resourceVersion"]}});
    delete(&server, &path, &good).await.ok();
}

#[tokio::test]
async fn collections_are_deleted_by_selector() {
    let server = server().await;
    for (name, label) in [("a", "x"), ("b", "y"), ("c", "x")] {
        let mut map = config_map(name, "1");
        map["metadata"]["labels"] = json!({"l": label});
        post(&server, MAPS, &map).await.ok();
    }
    let gone = delete(&server, &format!("{MAPS}?labelSelector=l%3Dx"), &Value::Null).await.ok();
    assert_eq!(gone["items"].as_array().unwrap().len(), 2);
    let left = get(&server, MAPS).await.ok();
    assert_eq!(left["items"].as_array().unwrap().len(), 1);
    delete(&server, "/api/v1/namespaces", &Value::Null).await.fails(405, "MethodNotAllowed");
}

#[tokio::test]
async fn collection_delete_needs_a_namespace() {
    let server = server().await;
    post(&server, MAPS, &config_map("a", "1")).await.ok();
    post(&server, WIDGETS, &widget("a", 1)).await.ok();
    post(&server, GADGETS, &gadget("a")).await.ok();
    delete(&server, "/api/v1/configmaps", &Value::Null).await.fails(405, "MethodNotAllowed");
    delete(&server, "/api/v1/namespaces//configmaps", &Value::Null).await.fails(405, "MethodNotAllowed");
    for method in [Method::DELETE, Method::PUT, Method::PATCH, Method::POST] {
        call(&server, method, "/apis/test.dev/v1/widgets", "application/json", "{}").await.finds_no_path();
    }
    get(&server, &format!("{MAPS}/a")).await.ok();
    get(&server, &format!("{WIDGETS}/a")).await.ok();
    let gone = delete(&server, GADGETS, &Value::Null).await.ok();
    assert_eq!(gone["items"].as_array().unwrap().len(), 1, "what has no namespace has one collection");
    get(&server, &format!("{GADGETS}/a")).await.fails(404, "NotFound");
}

#[tokio::test]
async fn a_page_of_a_collection_is_deleted_and_the_rest_is_not() {
    let server = server().await;
    for (n, label) in [(0, "x"), (1, "y"), (2, "x"), (3, "y"), (4, "x"), (5, "x")] {
        let mut map = config_map(&format!("m{n}"), "1");
        map["metadata"]["labels"] = json!({"l": label});
        post(&server, MAPS, &map).await.ok();
    }
    let names = |list: &Value| -> Vec<String> {
        list["items"].as_array().unwrap().iter().map(|o| o["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let first = delete(&server, &format!("{MAPS}?limit=2&labelSelector=l%3Dx"), &Value::Null).await.ok();
    assert_eq!(names(&first), ["m0", "m2"]);
    assert_eq!(names(&get(&server, MAPS).await.ok()), ["m1", "m3", "m4", "m5"]);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let path = format!("{MAPS}?limit=1&labelSelector=l%3Dx&continue={token}");
    assert_eq!(names(&delete(&server, &path, &Value::Null).await.ok()), ["m4"]);
    let one = delete(&server, &format!("{MAPS}?fieldSelector=metadata.name%3Dm3"), &Value::Null).await.ok();
    assert_eq!(names(&one), ["m3"]);
    let whole = delete(&server, &format!("{MAPS}?limit=2"), &Value::Null).await.ok();
    assert_eq!((names(&whole), whole["metadata"].get("continue")), (vec!["m1".into(), "m5".into()], None));
    delete(&server, &format!("{MAPS}?continue=rubbish"), &Value::Null).await.fails(400, "BadRequest");
    delete(&server, &format!("{MAPS}?resourceVersionMatch=Exact"), &Value::Null).await.fails(422, "Invalid");
}

#[tokio::test]
async fn namespace_is_closed_while_terminating_and_goes_when_finalized() {
    let server = server().await;
    let path = "/api/v1/namespaces/n";
    let made = post(&server, "/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await.ok();
    assert_eq!(made["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(made["status"]["phase"], "Active");
    assert_eq!(made["metadata"]["labels"]["kubernetes.io/metadata.name"], "n");
    let marked = delete(&server, path, &Value::Null).await.ok();
    assert_eq!(marked["status"]["phase"], "Terminating");
    let message = post(&server, "/api/v1/namespaces/n/configmaps", &config_map("a", "1")).await.fails(403, "Forbidden");
    assert_eq!(
        message,
        "configmaps \"a\" is forbidden: unable to create new content in namespace n because it is being terminated"
    );
    let mut finalized = marked.clone();
    finalized["spec"] = json!({});
    put(&server, &format!("{path}/finalize"), &finalized).await.ok();
    get(&server, path).await.fails(404, "NotFound");
    let message = delete(&server, "/api/v1/namespaces/default", &Value::Null).await.fails(403, "Forbidden");
    assert_eq!(message, "namespaces \"default\" is forbidden: this namespace may not be deleted");
}
