//! What one request, or many at once, may ask for.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use fv_apiserver::{ApiServer, ApiServerBuilder, Limits, Store, UserInfo};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tower::ServiceExt as _;

use crate::pods::{Echo, bind};
use crate::support::*;

const GADGETS: &str = "/apis/test.dev/v1/gadgets";

async fn limited(limits: Limits) -> ApiServer {
    ApiServerBuilder::new(Store::memory()).crd(gadgets()).limits(limits).build().await.unwrap()
}

/// Sends a request without reading its answer.
fn start(server: &ApiServer, method: Method, path: &str, body: Body) -> JoinHandle<Response<Body>> {
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    let mut request = request.body(body).unwrap();
    request.extensions_mut().insert(UserInfo::admin("test"));
    let router = server.router();
    tokio::spawn(async move { router.oneshot(request).await.unwrap() })
}

/// A body that comes when it is let go.
fn later(text: String) -> (oneshot::Sender<()>, Body) {
    let (send, go) = oneshot::channel::<()>();
    let body = futures::stream::once(async move {
        let _ = go.await;
        Ok::<_, std::convert::Infallible>(text)
    });
    (send, Body::from_stream(body))
}

async fn is_refused_for_now(response: Response<Body>) {
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (429, &http::HeaderValue::from_static("1"))
    );
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
    let text = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(text, "Too many requests, please try again later.\n");
}

#[tokio::test]
async fn writes_beyond_the_limit_are_asked_to_come_again_and_others_go_on() {
    let server = limited(Limits { writing: 1, waiting: 0, ..Limits::default() }).await;
    let (go, body) = later(config_map("slow", "1").to_string());
    let slow = start(&server, Method::POST, MAPS, body);
    tokio::task::yield_now().await;
    let refused = start(&server, Method::POST, MAPS, Body::from(config_map("a", "1").to_string()));
    is_refused_for_now(refused.await.unwrap()).await;
    get(&server, MAPS).await.ok();
    assert_eq!(get(&server, "/readyz").await.code, 200);
    let own: Api<ConfigMap> = Api::default_namespaced(client(&server));
    let map = serde_json::from_value(config_map("own", "1")).unwrap();
    own.create(&PostParams::default(), &map).await.expect("our own components have no limit");
    go.send(()).unwrap();
    assert_eq!(slow.await.unwrap().status(), 201);
    post(&server, MAPS, &config_map("a", "1")).await.ok();
}

#[tokio::test(start_paused = true)]
async fn a_write_that_finds_no_place_waits_for_one_a_quarter_of_its_time() {
    let server = limited(Limits { writing: 1, ..Limits::default() }).await;
    let (go, body) = later(config_map("slow", "1").to_string());
    let slow = start(&server, Method::POST, MAPS, body);
    tokio::task::yield_now().await;
    let write = |name: &str, query: &str| {
        start(&server, Method::POST, &format!("{MAPS}{query}"), Body::from(config_map(name, "1").to_string()))
    };
    let began = tokio::time::Instant::now();
    is_refused_for_now(write("a", "").await.unwrap()).await;
    assert_eq!(began.elapsed().as_secs(), 15);
    assert_eq!(write("a", "?timeout=2s").await.unwrap().status(), 504, "its time was over before");
    let waiting = write("a", "");
    tokio::time::sleep(Duration::from_secs(5)).await;
    go.send(()).unwrap();
    assert_eq!(
        (slow.await.unwrap().status(), waiting.await.unwrap().status()),
        (StatusCode::CREATED, StatusCode::CREATED)
    );
}

#[tokio::test]
async fn a_large_answer_has_its_place_until_it_is_taken() {
    let server = limited(Limits { reading: 1, waiting: 0, ..Limits::default() }).await;
    for n in 0..20 {
        post(&server, MAPS, &config_map(&format!("m{n}"), &"x".repeat(10_000))).await.ok();
    }
    let list = start(&server, Method::GET, MAPS, Body::empty()).await.unwrap();
    is_refused_for_now(start(&server, Method::GET, MAPS, Body::empty()).await.unwrap()).await;
    let watch = start(&server, Method::GET, &format!("{MAPS}?watch=1"), Body::empty()).await.unwrap();
    assert_eq!(watch.status(), 200, "watches are counted apart");
    list.into_body().collect().await.unwrap();
    // The place is given back by a task.
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    get(&server, MAPS).await.ok();
}

#[tokio::test(start_paused = true)]
async fn an_answer_nobody_takes_gives_its_place_back_in_the_end() {
    let server = limited(Limits { reading: 1, ..Limits::default() }).await;
    for n in 0..20 {
        post(&server, MAPS, &config_map(&format!("m{n}"), &"x".repeat(10_000))).await.ok();
    }
    let _list = start(&server, Method::GET, MAPS, Body::empty()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(61)).await;
    get(&server, MAPS).await.ok();
}

#[tokio::test]
async fn watches_beyond_the_limit_are_asked_to_come_again() {
    let server = limited(Limits { streaming: 2, ..Limits::default() }).await;
    let watch = || start(&server, Method::GET, &format!("{MAPS}?watch=1"), Body::empty());
    let (first, _second) = (watch().await.unwrap(), watch().await.unwrap());
    is_refused_for_now(watch().await.unwrap()).await;
    drop(first);
    assert_eq!(watch().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_log_that_is_read_is_counted_among_the_watches() {
    let limits = Limits { streaming: 1, ..Limits::default() };
    let server = ApiServerBuilder::new(Store::memory()).pod_logs(Arc::new(Echo)).limits(limits).build().await.unwrap();
    post(&server, PODS, &pod("a")).await.ok();
    bind(&server, "a").await.ok();
    let read = || start(&server, Method::GET, &format!("{PODS}/a/log"), Body::empty());
    let first = read().await.unwrap();
    is_refused_for_now(read().await.unwrap()).await;
    first.into_body().collect().await.unwrap();
    assert_eq!(read().await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_request_ends_when_its_time_is_over_and_a_watch_does_not() {
    let server = server().await;
    for (query, seconds) in
        [("", 60), ("?timeout=5s", 5), ("?timeout=1h", 60), ("?timeout=0s", 60), ("?timeout=-1s", 60)]
    {
        let began = tokio::time::Instant::now();
        let (_never, body) = later(String::new());
        let response = start(&server, Method::POST, &format!("{MAPS}{query}"), body).await.unwrap();
        assert_eq!((response.status().as_u16(), began.elapsed().as_secs()), (504, seconds), "{query}");
        let status: Value = serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
        assert_eq!(status["reason"], "Timeout");
        assert_eq!(status["message"], "Timeout: request did not complete within the allotted timeout");
    }
    let wrong = get(&server, &format!("{MAPS}?timeout=soon")).await.fails(400, "BadRequest");
    assert_eq!(wrong, "invalid timeout specified in the request URL - time: invalid duration \"soon\"");
    let watch = start(&server, Method::GET, &format!("{MAPS}?watch=1&timeout=1s&timeoutSeconds=600"), Body::empty());
    let mut body = watch.await.unwrap().into_body();
    assert!(tokio::time::timeout(Duration::from_secs(500), body.frame()).await.is_err(), "the watch ended");
}

#[tokio::test]
async fn json_patches_have_a_size() {
    let server = server().await;
    post(&server, MAPS, &config_map("a", "1")).await.ok();
    let patch = |count: usize| {
        let test = json!({"op": "test", "path": "/data/k", "value": "1"});
        Value::from(vec![test; count]).to_string()
    };
    let path = format!("{MAPS}/a");
    call(&server, Method::PATCH, &path, "application/json-patch+json", patch(10_000)).await.ok();
    let refused = call(&server, Method::PATCH, &path, "application/json-patch+json", patch(10_001)).await;
    let message = refused.fails(413, "RequestEntityTooLarge");
    assert!(message.ends_with("The allowed maximum operations in a JSON patch is 10000, got 10001"), "{message}");
}

#[tokio::test]
async fn no_patch_grows_or_nests_an_object_without_bound() {
    let server = server().await;
    let nest = |levels: usize| (0..levels).fold(json!({}), |value, _| json!({"a": value}));
    let gadget =
        |spec: Value| json!({"apiVersion": "test.dev/v1", "kind": "Gadget", "metadata": {"name": "g"}, "spec": spec});
    for deep in [200, 5000] {
        let body = gadget(json!({}))
            .to_string()
            .replace("\"spec\":{}", &format!("\"spec\":{}{}", "[".repeat(deep), "]".repeat(deep)));
        call(&server, Method::POST, GADGETS, "application/json", body.clone()).await.fails(400, "BadRequest");
        call(&server, Method::POST, GADGETS, "application/yaml", body).await.fails(400, "BadRequest");
    }
    post(&server, GADGETS, &gadget(nest(110))).await.ok();
    let path = format!("{GADGETS}/g");
    let json_patch = async |patch: Value| {
        call(&server, Method::PATCH, &path, "application/json-patch+json", patch.to_string()).await
    };
    let deeper = json!([{"op": "copy", "from": "/spec", "path": format!("/spec{}/b", "/a".repeat(110))}]);
    json_patch(deeper).await.fails(422, "Invalid");
    let doubling = (0..60).map(|n| json!({"op": "copy", "from": "/spec", "path": format!("/spec/copy{n}")})).collect();
    json_patch(doubling).await.fails(422, "Invalid");
    assert_eq!(get(&server, &path).await.ok()["spec"], nest(110), "it is as before");
    let list = Api::<ConfigMap>::default_namespaced(client(&server)).list(&ListParams::default()).await;
    list.expect("the server goes on");
}

#[tokio::test]
async fn objects_have_a_size_whether_made_at_once_or_bit_by_bit() {
    let server = server().await;
    let gadget = |size: usize| json!({"apiVersion": "test.dev/v1", "kind": "Gadget", "metadata": {"name": "g"}, "spec": "x".repeat(size)});
    assert_eq!(
        post(&server, GADGETS, &gadget(1_600_000)).await.fails_without_reason(500),
        "etcdserver: request is too large"
    );
    post(&server, GADGETS, &gadget(1_400_000)).await.ok();
    let more = merge(&server, &format!("{GADGETS}/g"), &json!({"more": "x".repeat(300_000)})).await;
    assert_eq!(more.fails_without_reason(500), "etcdserver: request is too large");
}

#[tokio::test]
async fn yaml_that_unfolds_is_refused() {
    let server = server().await;
    let mut bomb =
        "apiVersion: test.dev/v1\nkind: Gadget\nmetadata: {name: bomb}\na0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..10 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(",");
        bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    call(&server, Method::POST, GADGETS, "application/yaml", bomb.clone()).await.fails(400, "BadRequest");
    let path = format!("{GADGETS}/bomb?fieldManager=m");
    call(&server, Method::PATCH, &path, "application/apply-patch+yaml", bomb).await.fails(400, "BadRequest");
}

#[tokio::test]
async fn a_large_list_is_whole_and_says_how_long_it_is() {
    let server = server().await;
    for n in 0..300 {
        post(&server, MAPS, &config_map(&format!("m{n:03}"), &"x".repeat(1000))).await.ok();
    }
    let response = start(&server, Method::GET, MAPS, Body::empty()).await.unwrap();
    let length: usize = response.headers()["content-length"].to_str().unwrap().parse().unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body.len(), length);
    let list: Value = serde_json::from_slice(&body).unwrap();
    let names = |list: &Value| -> Vec<String> {
        list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].to_string()).collect()
    };
    assert_eq!(names(&list), (0..300).map(|n| format!("\"m{n:03}\"")).collect::<Vec<_>>());
    let selected = get(&server, &format!("{MAPS}?fieldSelector=metadata.name!=m000")).await.ok();
    assert_eq!(names(&selected).len(), 299);
    let request = Request::builder().uri(MAPS).header("accept", "application/json;as=Table;g=meta.k8s.io;v=v1");
    let table = send(&server, request.body(Body::empty()).unwrap()).await.ok();
    assert_eq!(table["rows"].as_array().unwrap().len(), 300);
}

/// Clients outside send what is most work, as much of it as they can, while one of our components waits for changes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heavy_requests_keep_no_watch_of_ours_waiting() {
    let server = server().await;
    for n in 0..600 {
        let labels: serde_json::Map<String, Value> = (0..30).map(|l| (format!("l{l}"), json!("v"))).collect();
        let map = json!({"metadata": {"name": format!("m{n}"), "labels": labels}, "data": {"k": "v"}});
        post(&server, MAPS, &map).await.ok();
    }
    let large: serde_json::Map<String, Value> = (0..40_000).map(|n| (format!("key-{n}"), json!("value"))).collect();
    let large = Arc::new(json!({"metadata": {"name": "large"}, "data": large}).to_string());
    let requests = [
        (Method::POST, MAPS.to_owned(), "application/json", large.clone()),
        (Method::PATCH, format!("{MAPS}/m1?fieldManager=x"), "application/apply-patch+yaml", large.clone()),
        (Method::PATCH, format!("{MAPS}/m2"), "application/strategic-merge-patch+json", large.clone()),
        (Method::GET, MAPS.to_owned(), "", Arc::default()),
    ];
    let stop = tokio_util::sync::CancellationToken::new();
    let hostile: Vec<_> = (0..32)
        .map(|n| {
            let (server, stop, (method, path, content_type, body)) =
                (server.clone(), stop.clone(), requests[n % 4].clone());
            tokio::spawn(async move {
                while !stop.is_cancelled() {
                    let request = Request::builder()
                        .method(method.clone())
                        .uri(&path)
                        .header("content-type", content_type)
                        .header(
                            "accept",
                            "application/json;as=Table;g=meta.k8s.io;v=v1;includeObject=Object, application/json",
                        );
                    let request = request.body(Body::from(body.as_bytes().to_vec())).unwrap();
                    tokio::select! {
                        _ = send(&server, request) => {}
                        () = stop.cancelled() => {}
                    }
                }
            })
        })
        .collect();
    let own: Api<ConfigMap> = Api::namespaced(client(&server), "kube-system");
    let mut slowest = Duration::ZERO;
    for n in 0..40 {
        let watch = own.watch(&kube::api::WatchParams::default(), "").await.unwrap();
        let mut watch = std::pin::pin!(watch);
        let began = std::time::Instant::now();
        let name = format!("own-{n}");
        let map = serde_json::from_value(config_map(&name, "1")).unwrap();
        own.create(&PostParams::default(), &map).await.unwrap();
        loop {
            use futures::TryStreamExt as _;
            if let Some(kube::api::WatchEvent::Added(seen)) = watch.try_next().await.unwrap()
                && seen.metadata.name.as_ref() == Some(&name)
            {
                break;
            }
        }
        slowest = slowest.max(began.elapsed());
    }
    stop.cancel();
    for task in hostile {
        task.await.unwrap();
    }
    // Each heavy request takes longer than that here; with one for every worker nothing else would run.
    assert!(slowest < Duration::from_secs(10), "a change was seen after {slowest:?}");
}
