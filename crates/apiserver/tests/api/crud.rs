//! Create, get, update.

use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn created_object_gets_identity_and_is_read_back() {
    let server = server().await;
    let made = post(&server, MAPS, &config_map("a", "1")).await;
    assert_eq!(made.code, 201);
    let made = made.ok();
    assert_eq!(made["metadata"]["namespace"], "default");
    for field in ["uid", "creationTimestamp", "resourceVersion"] {
        assert!(made["metadata"][field].is_string(), "{field}");
    }
    assert_eq!(get(&server, &format!("{MAPS}/a")).await.ok(), made);
    assert_eq!(get(&server, &format!("{MAPS}/b")).await.fails(404, "NotFound"), "configmaps \"b\" not found");
    let message = post(&server, MAPS, &config_map("a", "2")).await.fails(409, "AlreadyExists");
    assert_eq!(message, "configmaps \"a\" already exists");
}

#[tokio::test]
async fn generated_names_are_unique_and_keep_their_prefix() {
    let server = server().await;
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..50 {
        let made = post(&server, MAPS, &json!({"metadata": {"generateName": "pre-"}})).await.ok();
        let name = made["metadata"]["name"].as_str().unwrap().to_owned();
        assert!(name.starts_with("pre-") && name.len() == 9, "{name}");
        names.insert(name);
    }
    assert_eq!(names.len(), 50);
}

#[tokio::test]
async fn bad_names_and_places_are_refused() {
    let server = server().await;
    let message = post(&server, MAPS, &config_map("Foo_", "1")).await.fails(422, "Invalid");
    assert!(
        message.starts_with(
            "ConfigMap \"Foo_\" is invalid: metadata.name: Invalid value: \"Foo_\": a lowercase RFC 1123 subdomain"
        ),
        "{message}"
    );
    let message = post(&server, MAPS, &json!({"metadata": {}})).await.fails(422, "Invalid");
    assert!(message.contains("name or generateName is required"), "{message}");
    let answer = post(&server, "/api/v1/namespaces/none/configmaps", &config_map("a", "1")).await;
    assert_eq!(answer.fails(404, "NotFound"), "namespaces \"none\" not found");
    let other = json!({"metadata": {"name": "a", "namespace": "kube-system"}});
    post(&server, MAPS, &other).await.fails(400, "BadRequest");
    post(&server, "/api/v1/configmaps", &config_map("a", "1")).await.fails(405, "MethodNotAllowed");
    post(&server, MAPS, &widget("a", 1)).await.fails(400, "BadRequest");
}

#[tokio::test]
async fn updates_are_guarded_by_resource_version() {
    let server = server().await;
    let mut map = post(&server, MAPS, &config_map("a", "1")).await.ok();
    let path = format!("{MAPS}/a");
    map["data"]["k"] = json!("2");
    let second = put(&server, &path, &map).await.ok();
    assert_ne!(second["metadata"]["resourceVersion"], map["metadata"]["resourceVersion"]);
    map["data"]["k"] = json!("3");
    assert_eq!(
        put(&server, &path, &map).await.fails(409, "Conflict"),
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the \
         latest version and try again"
    );
    // Without a version a built-in object is replaced; the same again changes nothing.
    let third = put(&server, &path, &config_map("a", "4")).await.ok();
    let fourth = put(&server, &path, &config_map("a", "4")).await.ok();
    assert_eq!(third, fourth);
    assert_eq!(third["metadata"]["uid"], second["metadata"]["uid"]);
    let mut stranger = config_map("a", "5");
    stranger["metadata"]["uid"] = json!("not-mine");
    put(&server, &path, &stranger).await.fails(409, "Conflict");
    put(&server, &path, &config_map("b", "1")).await.fails(400, "BadRequest");
    put(&server, &format!("{MAPS}/zz"), &config_map("zz", "1")).await.fails(404, "NotFound");
    put(&server, &format!("{WIDGETS}/zz"), &widget("zz", 1)).await.fails(404, "NotFound");
}

#[tokio::test]
async fn custom_resource_update_needs_a_version() {
    let server = server().await;
    post(&server, WIDGETS, &widget("a", 1)).await.ok();
    let message = put(&server, &format!("{WIDGETS}/a"), &widget("a", 2)).await.fails(422, "Invalid");
    assert!(
        message.contains("metadata.resourceVersion: Invalid value: 0: must be specified for an update"),
        "{message}"
    );
}

#[tokio::test]
async fn generation_counts_changes_of_the_spec_only() {
    let server = server().await;
    let path = format!("{WIDGETS}/a");
    let made = post(&server, WIDGETS, &widget("a", 1)).await.ok();
    assert_eq!(made["metadata"]["generation"], 1);
    let labelled = merge(&server, &path, &json!({"metadata": {"labels": {"x": "y"}, "generation": 9}})).await.ok();
    assert_eq!(labelled["metadata"]["generation"], 1);
    let resized = merge(&server, &path, &json!({"spec": {"size": 2}})).await.ok();
    assert_eq!(resized["metadata"]["generation"], 2);
    let reported = merge(&server, &format!("{path}/status"), &json!({"status": {"phase": "x"}})).await.ok();
    assert_eq!(reported["metadata"]["generation"], 2);
    // Without a status subresource everything but metadata counts.
    let gadget = json!({"apiVersion": "test.dev/v1", "kind": "Gadget", "metadata": {"name": "g"}});
    post(&server, "/apis/test.dev/v1/gadgets", &gadget).await.ok();
    let reported = merge(&server, "/apis/test.dev/v1/gadgets/g", &json!({"status": {"a": 1}})).await.ok();
    assert_eq!(reported["metadata"]["generation"], 2);
}

#[tokio::test]
async fn status_and_spec_are_written_apart() {
    let server = server().await;
    let path = format!("{WIDGETS}/a");
    let mut with_status = widget("a", 1);
    with_status["status"] = json!({"phase": "mine"});
    let made = post(&server, WIDGETS, &with_status).await.ok();
    assert!(made.get("status").is_none());
    let both = json!({"spec": {"size": 7}, "status": {"phase": "p"}, "metadata": {"labels": {"a": "b"}}});
    let after = merge(&server, &format!("{path}/status"), &both).await.ok();
    assert_eq!((&after["spec"]["size"], &after["status"]["phase"]), (&json!(1), &json!("p")));
    assert!(after["metadata"].get("labels").is_none());
    let after = merge(&server, &path, &both).await.ok();
    assert_eq!((&after["spec"]["size"], &after["status"]["phase"]), (&json!(7), &json!("p")));
    let after = merge(&server, &path, &json!({"status": {"phase": "z"}})).await.ok();
    assert_eq!(after["status"]["phase"], "p");
    get(&server, "/apis/test.dev/v1/gadgets/x/status").await.finds_no_path();
}

#[tokio::test]
async fn dry_run_stores_nothing() {
    let server = server().await;
    let revision = server.store().revision();
    let made = post(&server, &format!("{MAPS}?dryRun=All"), &config_map("a", "1")).await.ok();
    assert!(made["metadata"]["uid"].is_string());
    get(&server, &format!("{MAPS}/a")).await.fails(404, "NotFound");
    post(&server, &format!("{MAPS}?dryRun=Some"), &config_map("a", "1")).await.fails(422, "Invalid");
    assert_eq!(server.store().revision(), revision);
    post(&server, MAPS, &config_map("a", "1")).await.ok();
    let revision = server.store().revision();
    let changed = merge(&server, &format!("{MAPS}/a?dryRun=All"), &json!({"data": {"k": "2"}})).await.ok();
    assert_eq!(changed["data"]["k"], "2");
    delete(&server, &format!("{MAPS}/a"), &json!({"dryRun": ["All"]})).await.ok();
    assert_eq!(server.store().revision(), revision);
}

#[tokio::test]
async fn field_validation_is_strict_warns_or_ignores() {
    let server = server().await;
    let mut odd = widget("a", 1);
    odd["spec"]["nope"] = json!(1);
    let message = post(&server, &format!("{WIDGETS}?fieldValidation=Strict"), &odd).await.fails(400, "BadRequest");
    assert!(message.contains("unknown field \"spec.nope\""), "{message}");
    let warned = post(&server, &format!("{WIDGETS}?fieldValidation=Warn"), &odd).await;
    assert_eq!(warned.warnings, ["299 - \"unknown field \\\"spec.nope\\\"\""]);
    assert!(warned.ok()["spec"].get("nope").is_none());
    odd["metadata"]["name"] = json!("b");
    assert!(post(&server, &format!("{WIDGETS}?fieldValidation=Ignore"), &odd).await.warnings.is_empty());
    post(&server, &format!("{WIDGETS}?fieldValidation=Maybe"), &odd).await.fails(422, "Invalid");
    let mut bad = widget("c", -1);
    let message = post(&server, WIDGETS, &bad).await.fails(422, "Invalid");
    assert!(message.starts_with("Widget.test.dev \"c\" is invalid: spec.size: Invalid value: -1"), "{message}");
    bad["spec"] = json!({});
    assert_eq!(post(&server, WIDGETS, &bad).await.ok()["spec"]["size"], 1);
}

#[tokio::test]
async fn secrets_fold_string_data() {
    let server = server().await;
    let path = "/api/v1/namespaces/default/secrets";
    let made = post(&server, path, &json!({"metadata": {"name": "s"}, "stringData": {"a": "b"}})).await.ok();
    assert_eq!(made["data"]["a"], "Yg==");
    assert!(made.get("stringData").is_none());
    assert_eq!(made["type"], "Opaque");
}

#[tokio::test]
async fn events_are_one_in_two_groups() {
    let server = server().await;
    let event = json!({
        "metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
        "reason": "Started", "message": "hello", "type": "Normal", "count": 3,
    });
    post(&server, "/api/v1/namespaces/default/events", &event).await.ok();
    let path = "/apis/events.k8s.io/v1/namespaces/default/events";
    let modern = get(&server, &format!("{path}/e")).await.ok();
    assert_eq!(modern["apiVersion"], "events.k8s.io/v1");
    assert_eq!((&modern["note"], &modern["regarding"]["name"]), (&json!("hello"), &json!("p")));
    let series = json!({"series": {"count": 4, "lastObservedTime": "2026-01-01T00:00:00.000000Z"}});
    merge(&server, &format!("{path}/e"), &series).await.ok();
    let core = get(&server, "/api/v1/namespaces/default/events?fieldSelector=involvedObject.name=p").await.ok();
    assert_eq!((&core["items"][0]["message"], &core["items"][0]["series"]["count"]), (&json!("hello"), &json!(4)));
    let message = merge(&server, &format!("{path}/e"), &json!({"note": "again"})).await.fails(422, "Invalid");
    assert!(message.contains("field is immutable"), "{message}");
    let none = get(&server, &format!("{path}?fieldSelector=regarding.name=x")).await.ok();
    assert_eq!(none["items"], json!([]));
}

#[tokio::test]
async fn an_update_makes_an_event_that_is_not_there_whatever_its_times() {
    let server = server().await;
    let events = "/api/v1/namespaces/default/events";
    let event = json!({
        "metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
        "reason": "R", "message": "m", "type": "Normal",
        "firstTimestamp": "2999-01-01T00:00:00Z", "lastTimestamp": "2999-01-01T00:00:00Z",
    });
    let path = format!("{events}/e");
    merge(&server, &path, &event).await.fails(404, "NotFound");
    let made = put(&server, &path, &event).await;
    assert_eq!(made.code, 201);
    assert_eq!(made.ok()["lastTimestamp"], "2999-01-01T00:00:00Z");
    let mut again = event.clone();
    again["message"] = json!("n");
    assert_eq!(put(&server, &path, &again).await.ok()["message"], "n");
    let newer = json!({
        "metadata": {"name": "f"}, "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
        "reason": "R", "note": "m", "type": "Normal", "action": "A", "eventTime": "2999-01-01T00:00:00.000000Z",
        "reportingController": "x.io/c", "reportingInstance": "c",
    });
    let made = put(&server, "/apis/events.k8s.io/v1/namespaces/default/events/f", &newer).await;
    assert_eq!(made.code, 201, "{}", made.body);
}
