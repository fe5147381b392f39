//! Lists: selectors, paging, resource versions, representations.

use fv_apiserver::ApiServer;
use http::Request;
use serde_json::{Value, json};

use crate::support::*;

async fn fill(server: &ApiServer, count: usize) {
    for n in 0..count {
        let mut map = config_map(&format!("m{n:03}"), "x");
        map["metadata"]["labels"] = json!({"parity": if n % 2 == 0 { "even" } else { "odd" }});
        post(server, MAPS, &map).await.ok();
    }
}

fn names(list: &Value) -> Vec<String> {
    list["items"].as_array().unwrap().iter().map(|o| o["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn pages_show_one_moment_whatever_happens_between_them() {
    let server = server().await;
    fill(&server, 25).await;
    let first = get(&server, &format!("{MAPS}?limit=10")).await.ok();
    assert_eq!(first["metadata"]["remainingItemCount"], 15);
    let mut seen = names(&first);
    let revision = first["metadata"]["resourceVersion"].clone();
    // Everything changes while the client pages.
    delete(&server, &format!("{MAPS}/m015"), &Value::Null).await.ok();
    post(&server, MAPS, &config_map("m012a", "x")).await.ok();
    merge(&server, &format!("{MAPS}/m020"), &json!({"data": {"k": "new"}})).await.ok();
    let mut token = first["metadata"]["continue"].as_str().unwrap().to_owned();
    loop {
        let page = get(&server, &format!("{MAPS}?limit=10&continue={token}")).await.ok();
        assert_eq!(page["metadata"]["resourceVersion"], revision);
        for item in page["items"].as_array().unwrap() {
            assert_eq!(item["data"]["k"], "x");
        }
        seen.extend(names(&page));
        match page["metadata"].get("continue") {
            Some(next) => token = next.as_str().unwrap().to_owned(),
            None => break,
        }
    }
    let expected: Vec<String> = (0..25).map(|n| format!("m{n:03}")).collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn expired_page_says_how_to_go_on() {
    let server = server().await;
    fill(&server, 5).await;
    let first = get(&server, &format!("{MAPS}?limit=2")).await.ok();
    let token = first["metadata"]["continue"].as_str().unwrap();
    // More history than is kept.
    let big = "x".repeat(1_000_000);
    for n in 0..12 {
        merge(&server, &format!("{MAPS}/m000"), &json!({"data": {"k": format!("{n}{big}")}})).await.ok();
    }
    let expired = get(&server, &format!("{MAPS}?limit=2&continue={token}")).await;
    let token = expired.body["metadata"]["continue"].as_str().unwrap().to_owned();
    expired.fails(410, "Expired");
    let rest = get(&server, &format!("{MAPS}?continue={token}")).await.ok();
    assert_eq!(names(&rest), ["m002", "m003", "m004"]);
    get(&server, &format!("{MAPS}?continue=rubbish")).await.fails(400, "BadRequest");
}

#[tokio::test]
async fn selectors_choose() {
    let server = server().await;
    fill(&server, 6).await;
    let list = get(&server, &format!("{MAPS}?labelSelector=parity%20in%20(odd)")).await.ok();
    assert_eq!(names(&list), ["m001", "m003", "m005"]);
    let list = get(&server, &format!("{MAPS}?labelSelector=parity%3Deven&limit=2")).await.ok();
    assert_eq!(names(&list), ["m000", "m002"]);
    assert!(list["metadata"].get("remainingItemCount").is_none());
    let list =
        get(&server, "/api/v1/configmaps?fieldSelector=metadata.name%3Dm002,metadata.namespace%3Ddefault").await.ok();
    assert_eq!(names(&list), ["m002"]);
    get(&server, &format!("{MAPS}?labelSelector=a%20b")).await.fails(400, "BadRequest");
    let message = get(&server, &format!("{MAPS}?fieldSelector=data.k%3Dx")).await.fails(400, "BadRequest");
    assert_eq!(message, "\"data.k\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"");
}

#[tokio::test(start_paused = true)]
async fn resource_versions_are_honoured() {
    let server = server().await;
    let made = post(&server, MAPS, &config_map("a", "1")).await.ok();
    let then = made["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    merge(&server, &format!("{MAPS}/a"), &json!({"data": {"k": "2"}})).await.ok();
    let exact = get(&server, &format!("{MAPS}?resourceVersion={then}&resourceVersionMatch=Exact")).await.ok();
    assert_eq!(exact["items"][0]["data"]["k"], "1");
    let newer = get(&server, &format!("{MAPS}?resourceVersion={then}&resourceVersionMatch=NotOlderThan")).await.ok();
    assert_eq!(newer["items"][0]["data"]["k"], "2");
    get(&server, &format!("{MAPS}?resourceVersion=0")).await.ok();
    get(&server, &format!("{MAPS}?resourceVersion=99999")).await.fails(504, "Timeout");
    get(&server, &format!("{MAPS}?resourceVersion=x")).await.fails(400, "BadRequest");
    get(&server, &format!("{MAPS}?resourceVersionMatch=Exact")).await.fails(422, "Invalid");
    get(&server, &format!("{MAPS}?limit=x")).await.fails(400, "BadRequest");
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_is_to_come_is_waited_for_and_refused_when_it_does_not_come() {
    let server = server().await;
    let made = post(&server, MAPS, &config_map("a", "1")).await.ok();
    let now: u64 = made["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    let future = now + 100;
    for (path, waits) in [
        (format!("{MAPS}?resourceVersion={future}"), true),
        (format!("{MAPS}?resourceVersion={future}&resourceVersionMatch=NotOlderThan&limit=1"), true),
        (format!("{MAPS}/a?resourceVersion={future}"), true),
        (format!("{MAPS}?resourceVersion={future}&resourceVersionMatch=Exact"), false),
        (format!("{MAPS}?resourceVersion={future}&limit=1"), false),
    ] {
        let began = tokio::time::Instant::now();
        let answer = get(&server, &path).await;
        assert_eq!(began.elapsed().as_secs(), if waits { 3 } else { 0 }, "{path}");
        let details = &answer.body["details"];
        assert_eq!(details["causes"][0]["reason"], "ResourceVersionTooLarge", "{path}: {details}");
        assert_eq!(details["retryAfterSeconds"], 1, "{path}");
        let message = answer.fails(504, "Timeout");
        assert_eq!(message, format!("Timeout: Too large resource version: {future}, current: {now}"), "{path}");
    }
    let path = format!("{MAPS}?resourceVersion={}", now + 1);
    let (list, _) = tokio::join!(get(&server, &path), async {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        post(&server, MAPS, &config_map("b", "1")).await.ok()
    });
    assert_eq!(names(&list.ok()), ["a", "b"]);
}

async fn accept(server: &ApiServer, path: &str, accept: &str) -> Answer {
    let request = Request::builder().uri(path).header("accept", accept).body(axum::body::Body::empty()).unwrap();
    send(server, request).await
}

#[tokio::test]
async fn tables_and_metadata_are_views_of_the_same_list() {
    let server = server().await;
    fill(&server, 2).await;
    let table = accept(&server, MAPS, "application/json;as=Table;v=v1;g=meta.k8s.io").await.ok();
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["rows"].as_array().unwrap().len(), 2);
    assert_eq!(table["rows"][0]["object"]["metadata"]["name"], "m000");
    let partial = accept(&server, MAPS, "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io").await.ok();
    assert_eq!(partial["kind"], "PartialObjectMetadataList");
    assert!(partial["items"][0].get("data").is_none());
    accept(&server, MAPS, "application/vnd.kubernetes.protobuf").await.fails(406, "NotAcceptable");
    let yaml = accept(&server, &format!("{MAPS}/m000"), "application/yaml").await.ok();
    assert!(yaml.as_str().unwrap().contains("name: m000"), "{yaml}");
}
