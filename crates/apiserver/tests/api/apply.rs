//! Server-side apply.

use http::Method;
use serde_json::{Value, json};

use crate::support::*;

fn map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data})
}

fn path() -> String {
    format!("{MAPS}/a")
}

#[tokio::test]
async fn apply_creates_changes_prunes_and_leaves_alone() {
    let server = server().await;
    let created = apply(&server, &path(), "m", "", &map(json!({"a": "1", "b": "2"}))).await;
    assert_eq!(created.code, 201);
    let created = created.ok();
    assert_eq!(owners(&created), [("m Apply".to_owned(), json!({"f:data": {"f:a": {}, "f:b": {}}}))]);
    let entry = &created["metadata"]["managedFields"][0];
    assert_eq!((&entry["apiVersion"], &entry["fieldsType"]), (&json!("v1"), &json!("FieldsV1")));
    entry["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let before = server.store().revision();
    let same = apply(&server, &path(), "m", "", &map(json!({"a": "1", "b": "2"}))).await;
    assert_eq!((same.code.as_u16(), server.store().revision()), (200, before), "nothing changed, nothing is written");
    assert_eq!(same.ok(), created);
    let pruned = apply(&server, &path(), "m", "", &map(json!({"a": "3"}))).await.ok();
    assert_eq!(pruned["data"], json!({"a": "3"}));
    assert_eq!(pruned["metadata"]["uid"], created["metadata"]["uid"]);
    let bare = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    let gone = apply(&server, &path(), "m", "", &bare).await.ok();
    assert_eq!((gone.get("data"), gone["metadata"].get("managedFields")), (None, None));
}

#[tokio::test]
async fn conflicts_are_told_with_owner_and_field() {
    let server = server().await;
    apply(&server, &path(), "one", "", &map(json!({"a": "1", "b": "2"}))).await.ok();
    let patch = format!("{}?fieldManager=two", path());
    merge(&server, &patch, &json!({"data": {"b": "3"}})).await.ok();
    let answer = apply(&server, &path(), "three", "", &map(json!({"a": "x"}))).await;
    assert_eq!(
        answer.body,
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "Apply failed with 1 conflict: conflict with \"one\": .data.a",
            "reason": "Conflict",
            "details": {"causes": [{
                "reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".data.a",
            }]},
            "code": 409,
        })
    );
    let answer = apply(&server, &path(), "three", "", &map(json!({"a": "x", "b": "x"}))).await;
    assert_eq!(answer.body["details"]["causes"][1]["message"], "conflict with \"two\" using v1");
    let message = answer.fails(409, "Conflict");
    assert_eq!(
        message,
        "Apply failed with 2 conflicts: conflicts with \"one\":\n- .data.a\nconflicts with \"two\" using v1:\n- .data.b"
    );
    let forced = apply(&server, &path(), "three", "&force=true", &map(json!({"a": "x", "b": "x"}))).await.ok();
    assert_eq!(owners(&forced), [("three Apply".to_owned(), json!({"f:data": {"f:a": {}, "f:b": {}}}))]);
    apply(&server, &path(), "one", "", &map(json!({"a": "x"}))).await.ok();
    apply(&server, &path(), "three", "", &map(json!({}))).await.ok();
    assert_eq!(get(&server, &path()).await.ok()["data"], json!({"a": "x"}), "another applier still has it");
}

#[tokio::test]
async fn what_an_apply_must_be_is_checked() {
    let server = server().await;
    let call_apply = async |query: &str, body: &str| {
        call(&server, Method::PATCH, &format!("{MAPS}/a{query}"), "application/apply-patch+yaml", body).await
    };
    let good = map(json!({"a": "1"})).to_string();
    let message = call_apply("", &good).await.fails(422, "Invalid");
    assert_eq!(
        message,
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
    );
    let long = "x".repeat(129);
    let message = call_apply(&format!("?fieldManager={long}"), &good).await.fails(422, "Invalid");
    assert!(message.contains("fieldManager: Too long"), "{message}");
    let message = call_apply("?fieldManager=a%0Ab", &good).await.fails(422, "Invalid");
    assert!(message.contains("invalid character U+000A (at position 1)"), "{message}");
    for (body, text) in [
        ("{", "error decoding YAML"),
        ("- a", "error decoding YAML"),
        ("kind: ConfigMap\nmetadata: {name: a}\n", "invalid object type: /, Kind=ConfigMap"),
        (
            "apiVersion: test.dev/v1\nkind: Widget\nmetadata: {name: a}\n",
            "invalid object type: test.dev/v1, Kind=Widget",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, managedFields: []}\n",
            "metadata.managedFields must be nil",
        ),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n", "does not match the name on the URL"),
    ] {
        let message = call_apply("?fieldManager=m", body).await.fails(400, "BadRequest");
        assert!(message.contains(text), "{body}: {message}");
    }
    let typo = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndtaa: {a: b}\n";
    let message = call_apply("?fieldManager=m", typo).await.fails_without_reason(500);
    assert_eq!(
        message,
        "failed to create typed patch object (/a; /v1, Kind=ConfigMap): .dtaa: field not declared in schema"
    );
    let twice = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"a":"1","a":"2"}}"#;
    let message = call_apply("?fieldManager=m&fieldValidation=Strict", twice).await.fails(400, "BadRequest");
    assert!(message.contains("duplicate field \"data.a\""), "{message}");
    let warned = call_apply("?fieldManager=m", twice).await;
    assert!(warned.warnings[0].contains("duplicate field"), "{:?}", warned.warnings);
    let force = merge(&server, &format!("{MAPS}/a?force=true"), &json!({})).await.fails(422, "Invalid");
    assert!(force.contains("force: Forbidden: may not be specified for non-apply patch"), "{force}");
    get(&server, &format!("{MAPS}/b")).await.fails(404, "NotFound");
}

#[tokio::test]
async fn revision_and_uid_are_preconditions() {
    let server = server().await;
    let mut config = map(json!({"a": "1"}));
    config["metadata"]["uid"] = json!("7b1c5f3e-0000-0000-0000-000000000000");
    let message = apply(&server, &path(), "m", "", &config).await.fails(409, "Conflict");
    assert!(message.contains("uid mismatch: the provided object specified uid"), "{message}");
    let made = apply(&server, &path(), "m", "", &map(json!({"a": "1"}))).await.ok();
    config["metadata"]["uid"] = made["metadata"]["uid"].clone();
    config["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
    config["data"] = json!({"a": "2"});
    apply(&server, &path(), "m", "", &config).await.ok();
    apply(&server, &path(), "m", "", &config).await.fails(409, "Conflict");
}

#[tokio::test]
async fn dry_run_stores_nothing() {
    let server = server().await;
    let tried = apply(&server, &path(), "m", "&dryRun=All", &map(json!({"a": "1"}))).await;
    assert_eq!(tried.code, 201);
    assert_eq!(owners(&tried.ok()).len(), 1);
    get(&server, &path()).await.fails(404, "NotFound");
    let made = apply(&server, &path(), "m", "", &map(json!({"a": "1"}))).await.ok();
    let tried = apply(&server, &path(), "m", "&dryRun=All", &map(json!({"a": "2"}))).await.ok();
    assert_eq!(tried["data"]["a"], "2");
    assert_eq!(get(&server, &path()).await.ok(), made);
}

#[tokio::test]
async fn list_items_are_owned_one_by_one() {
    let server = server().await;
    let containers = |list: Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": list}});
    let path = format!("{PODS}/p");
    let ports = json!([{"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}]);
    let config = containers(json!([{"name": "c", "image": "i", "ports": ports}]));
    let made = apply(&server, &path, "m", "", &config).await.ok();
    let fields = &owners(&made)[0].1["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"];
    assert_eq!(
        *fields,
        json!({".": {}, "f:image": {}, "f:name": {}, "f:ports": {
            "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}},
            "k:{\"containerPort\":80,\"protocol\":\"UDP\"}": {".": {}, "f:containerPort": {}, "f:protocol": {}},
        }})
    );
    let other = containers(json!([{"name": "c", "image": "j"}]));
    let message = apply(&server, &path, "n", "", &other).await.fails(409, "Conflict");
    assert_eq!(message, "Apply failed with 1 conflict: conflict with \"m\": .spec.containers[name=\"c\"].image");
    let twice = containers(json!([{"name": "c", "image": "i"}, {"name": "c", "image": "i"}]));
    let message = apply(&server, &path, "n", "", &twice).await.fails_without_reason(500);
    assert!(message.ends_with(".spec.containers: duplicate entries for key [name=\"c\"]"), "{message}");
    let meta = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "finalizers": ["test.dev/a"]}});
    let with = apply(&server, &path, "f", "", &meta).await.ok();
    assert_eq!(with["metadata"]["finalizers"], json!(["test.dev/a"]));
    let finalizers = json!({"f:metadata": {"f:finalizers": {"v:\"test.dev/a\"": {}}}});
    assert!(owners(&with).contains(&("f Apply".to_owned(), finalizers)), "{:?}", owners(&with));
}

#[tokio::test]
async fn custom_objects_follow_their_schema_in_every_version() {
    let server = server().await;
    let path = format!("{WIDGETS}/w");
    let made = apply(&server, &path, "m", "", &widget("w", 3)).await.ok();
    assert_eq!(owners(&made), [("m Apply".to_owned(), json!({"f:spec": {"f:size": {}}}))]);
    let old_path = path.replace("/v1/", "/v1alpha1/");
    let mut old = widget("w", 4);
    old["apiVersion"] = json!("test.dev/v1alpha1");
    let message = apply(&server, &old_path, "n", "", &old).await.fails(409, "Conflict");
    assert!(message.contains("conflict with \"m\": .spec.size"), "{message}");
    let moved = apply(&server, &old_path, "m", "", &old).await.ok();
    assert_eq!(moved["metadata"]["managedFields"][0]["apiVersion"], "test.dev/v1alpha1");
    let bare = json!({"apiVersion": "test.dev/v1", "kind": "Widget", "metadata": {"name": "w"}});
    let back = apply(&server, &path, "m", "", &bare).await.ok();
    assert_eq!(back.get("spec"), None, "a struct goes with the last that is in it");
    let mut unknown = widget("w", 1);
    unknown["spec"]["siez"] = json!(1);
    let message = apply(&server, &path, "m", "", &unknown).await.fails_without_reason(500);
    assert_eq!(
        message,
        "failed to create typed patch object (/w; test.dev/v1, Kind=Widget): .spec.siez: field not declared in schema"
    );
    let gadgets = "/apis/test.dev/v1/gadgets/g";
    let free = json!({"apiVersion": "test.dev/v1", "kind": "Gadget", "metadata": {"name": "g", "labels": {"a": "b"}}, "any": {"x": [1], "y": {"z": 1}}});
    let made = apply(&server, gadgets, "m", "", &free).await.ok();
    let expected =
        json!({"f:metadata": {"f:labels": {"f:a": {}}}, "f:any": {".": {}, "f:x": {}, "f:y": {".": {}, "f:z": {}}}});
    assert_eq!(owners(&made)[0].1, expected);
}

#[tokio::test]
async fn status_is_applied_apart() {
    let server = server().await;
    let path = format!("{WIDGETS}/w");
    let mut config = widget("w", 3);
    config["status"] = json!({"phase": "Up"});
    apply(&server, &format!("{path}/status"), "s", "", &config).await.fails(404, "NotFound");
    let made = apply(&server, &path, "m", "", &config).await.ok();
    assert_eq!((made.get("status"), owners(&made).len()), (None, 1));
    let status = apply(&server, &format!("{path}/status"), "m", "", &config).await.ok();
    assert_eq!(status["status"]["phase"], "Up");
    assert_eq!(
        owners(&status),
        [
            ("m Apply".to_owned(), json!({"f:spec": {"f:size": {}}})),
            ("m Apply/status".to_owned(), json!({"f:status": {"f:phase": {}}})),
        ]
    );
    let taken =
        json!({"apiVersion": "test.dev/v1", "kind": "Widget", "metadata": {"name": "w"}, "status": {"phase": "Down"}});
    let message = apply(&server, &format!("{path}/status"), "o", "", &taken).await.fails(409, "Conflict");
    assert_eq!(message, "Apply failed with 1 conflict: conflict with \"m\" with subresource \"status\": .status.phase");
}

#[tokio::test]
async fn scale_is_applied_to_the_field_behind_it() {
    let server = server().await;
    let path = format!("{WIDGETS}/w");
    apply(&server, &path, "m", "", &widget("w", 3)).await.ok();
    let scale = |n: i64| json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "w"}, "spec": {"replicas": n}});
    let scaled = apply(&server, &format!("{path}/scale"), "s", "", &scale(4)).await.ok();
    assert_eq!(scaled["spec"]["replicas"], 4);
    let after = get(&server, &path).await.ok();
    assert_eq!(owners(&after)[1], ("s Apply/scale".to_owned(), json!({"f:spec": {"f:replicas": {}}})));
    apply(&server, &format!("{path}/scale"), "t", "", &scale(5)).await.fails(409, "Conflict");
    merge(&server, &format!("{path}/scale?fieldManager=u"), &json!({"spec": {"replicas": 6}})).await.ok();
    let after = get(&server, &path).await.ok();
    assert_eq!(owners(&after).last().unwrap(), &("u Update/scale".to_owned(), json!({"f:spec": {"f:replicas": {}}})));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_applies_all_take_effect() {
    let server = server().await;
    let tasks: Vec<_> = (0..8)
        .map(|n| {
            let server = server.clone();
            tokio::spawn(async move {
                let config = map(json!({format!("k{n}"): "1"}));
                apply(&server, &path(), &format!("m{n}"), "", &config).await.ok();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let all = get(&server, &path()).await.ok();
    assert_eq!((all["data"].as_object().unwrap().len(), owners(&all).len()), (8, 8));
}
