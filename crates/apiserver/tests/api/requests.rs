//! Requests which are wrong, odd or not about objects.

use axum::Router;
use axum::routing::get as route_get;
use fv_apiserver::registry::AggregatedResource;
use fv_apiserver::{AggregatedApi, ApiServerBuilder, Store, UserInfo};
use http::{Method, Request};
use serde_json::json;
use tower::ServiceExt as _;

use crate::support::*;

#[tokio::test]
async fn nobody_is_not_let_in() {
    let server = server().await;
    let request = |path: &str| Request::builder().uri(path).body(axum::body::Body::empty()).unwrap();
    let response = server.router().oneshot(request("/api/v1/namespaces")).await.unwrap();
    assert_eq!(response.status(), 401);
    assert_eq!(server.router().oneshot(request("/readyz")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn malformed_requests_are_told_so() {
    let server = server().await;
    let json_type = "application/json";
    for (path, content_type, body, code, reason) in [
        (MAPS, json_type, "", 400, "BadRequest"),
        (MAPS, json_type, "{", 400, "BadRequest"),
        (MAPS, json_type, "[]", 400, "BadRequest"),
        (MAPS, json_type, "{\"metadata\": 1}", 400, "BadRequest"),
        (MAPS, json_type, "{\"metadata\": {\"name\": \"a\"}, \"data\": [1]}", 400, "BadRequest"),
        (MAPS, json_type, "{\"metadata\": {\"name\": \"a\", \"labels\": {\"a\": 1}}}", 400, "BadRequest"),
        (MAPS, "application/vnd.kubernetes.protobuf", "x", 400, "BadRequest"),
        (MAPS, "text/plain", "x", 415, "UnsupportedMediaType"),
        (MAPS, "application/yaml", "a: [", 400, "BadRequest"),
        (WIDGETS, json_type, "{\"metadata\": {\"name\": \"a\"}}", 400, "BadRequest"),
        ("/api/v1/namespaces/default/services", json_type, "{}", 404, "NotFound"),
    ] {
        let answer = call(&server, Method::POST, path, content_type, body).await;
        assert_eq!(
            (answer.code.as_u16(), answer.body["reason"].as_str()),
            (code, Some(reason)),
            "{path} {body} {}",
            answer.body
        );
    }
    call(&server, Method::POST, "/nowhere", json_type, "{}").await.finds_no_path();
    let deep = format!("{{\"metadata\":{{\"name\":\"a\"}},\"data\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    call(&server, Method::POST, MAPS, json_type, deep).await.fails(400, "BadRequest");
    let large = vec![b' '; 4 << 20];
    call(&server, Method::POST, MAPS, json_type, large).await.fails(413, "RequestEntityTooLarge");
    call(&server, Method::PUT, MAPS, json_type, "{}").await.fails(405, "MethodNotAllowed");
    call(&server, Method::POST, &format!("{MAPS}/a"), json_type, "{}").await.fails(405, "MethodNotAllowed");
    call(&server, Method::TRACE, MAPS, json_type, "").await.fails(405, "MethodNotAllowed");
}

#[tokio::test]
async fn yaml_bodies_are_read() {
    let server = server().await;
    let body = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  k: \"1\"\n";
    let made = call(&server, Method::POST, MAPS, "application/yaml", body).await.ok();
    assert_eq!(made["data"]["k"], "1");
}

#[tokio::test]
async fn aggregated_groups_get_their_requests() {
    let who = |axum::Extension(user): axum::Extension<UserInfo>| async move { user.username };
    let api = AggregatedApi {
        group: "sub.test.dev".into(),
        versions: vec![(
            "v1".into(),
            vec![AggregatedResource {
                name: "things/poke".into(),
                singular: String::new(),
                kind: "Thing".into(),
                namespaced: true,
                verbs: vec!["get".into()],
            }],
        )],
        router: Router::new().route("/apis/sub.test.dev/v1/namespaces/{ns}/things/{name}/poke", route_get(who)),
    };
    let server = ApiServerBuilder::new(Store::memory()).aggregate(api).build().await.unwrap();
    let answer = get(&server, "/apis/sub.test.dev/v1/namespaces/a/things/b/poke").await;
    assert_eq!(answer.ok(), json!("test"));
    let groups = get(&server, "/apis").await.ok();
    assert!(groups["groups"].as_array().unwrap().iter().any(|g| g["name"] == "sub.test.dev"));
    let resources = get(&server, "/apis/sub.test.dev/v1").await.ok();
    assert_eq!(resources["resources"][0]["name"], "things/poke");
}

#[tokio::test]
async fn version_is_told() {
    let server = server().await;
    assert_eq!(get(&server, "/version").await.ok()["major"], "1");
}

#[tokio::test]
async fn checks_of_health_are_told_one_by_one() {
    let server = server().await;
    for (path, code, text) in [
        ("/livez", 200, "ok"),
        ("/livez/ping", 200, "ok"),
        ("/readyz/ping", 200, "ok"),
        ("/healthz/ping", 200, "ok"),
        ("/readyz/store", 200, "ok"),
        ("/livez?verbose", 200, "[+]ping ok\nlivez check passed\n"),
        ("/readyz?verbose=1&exclude=store", 200, "[+]ping ok\n[+]store excluded: ok\nreadyz check passed\n"),
        (
            "/livez?verbose&exclude=moon&exclude=ping",
            200,
            "[+]ping excluded: ok\nwarn: some health checks cannot be excluded: no matches for \"moon\"\nlivez check passed\n",
        ),
        ("/livez/moon", 404, "404 page not found\n"),
        ("/pods/ping", 404, "404 page not found\n"),
    ] {
        let answer = get(&server, path).await;
        assert_eq!((answer.code.as_u16(), &answer.body), (code, &json!(text)), "{path}");
    }
}
