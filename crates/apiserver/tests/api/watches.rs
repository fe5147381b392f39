//! Watches.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::BodyDataStream;
use futures::{StreamExt as _, TryStreamExt as _};
use fv_apiserver::{ApiServer, UserInfo};
use http::Request;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PostParams, WatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::support::*;

/// A watch read line by line.
/// The events of a watch.
pub(crate) struct Lines {
    body: BodyDataStream,
    rest: Vec<u8>,
}

impl Lines {
    pub(crate) async fn open(server: &ApiServer, path: &str) -> Lines {
        let mut request = Request::builder().uri(path).body(axum::body::Body::empty()).unwrap();
        request.extensions_mut().insert(UserInfo::admin("test"));
        let response = server.router().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        Lines { body: response.into_body().into_data_stream(), rest: Vec::new() }
    }

    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            self.rest.extend_from_slice(&self.body.try_next().await.unwrap()?);
        }
    }

    pub(crate) async fn expect(&mut self, kind: &str, name: &str) -> Value {
        let event = self.next().await.unwrap();
        assert_eq!(
            (event["type"].as_str(), event["object"]["metadata"]["name"].as_str()),
            (Some(kind), Some(name)),
            "{event}"
        );
        event["object"].clone()
    }
}

#[tokio::test]
async fn watch_shows_what_there_is_and_every_change_in_order() {
    let server = server().await;
    post(&server, MAPS, &config_map("a", "1")).await.ok();
    let mut lines = Lines::open(&server, &format!("{MAPS}?watch=true")).await;
    lines.expect("ADDED", "a").await;
    post(&server, MAPS, &config_map("b", "1")).await.ok();
    merge(&server, &format!("{MAPS}/a"), &json!({"data": {"k": "2"}})).await.ok();
    delete(&server, &format!("{MAPS}/a"), &Value::Null).await.ok();
    lines.expect("ADDED", "b").await;
    assert_eq!(lines.expect("MODIFIED", "a").await["data"]["k"], "2");
    let gone = lines.expect("DELETED", "a").await;
    assert_eq!(gone["metadata"]["resourceVersion"], server.store().revision().to_string());
}

#[tokio::test]
async fn other_namespaces_and_names_are_not_seen() {
    let server = server().await;
    let mut lines = Lines::open(&server, &format!("{MAPS}?watch=1&fieldSelector=metadata.name%3Dmine")).await;
    post(&server, "/api/v1/namespaces/kube-system/configmaps", &config_map("mine", "1")).await.ok();
    post(&server, MAPS, &config_map("other", "1")).await.ok();
    post(&server, MAPS, &config_map("mine2", "1")).await.ok();
    post(&server, MAPS, &config_map("mine", "1")).await.ok();
    assert_eq!(lines.expect("ADDED", "mine").await["metadata"]["namespace"], "default");
}

#[tokio::test]
async fn leaving_a_selector_looks_like_deletion() {
    let server = server().await;
    let mut lines = Lines::open(&server, &format!("{MAPS}?watch=1&labelSelector=on")).await;
    post(&server, MAPS, &config_map("a", "1")).await.ok();
    for labels in [json!({"on": "1"}), json!({"on": "2"}), json!({"on": null})] {
        merge(&server, &format!("{MAPS}/a"), &json!({"metadata": {"labels": labels}})).await.ok();
    }
    delete(&server, &format!("{MAPS}/a"), &Value::Null).await.ok();
    post(&server, MAPS, &config_map("z", "1")).await.ok();
    merge(&server, &format!("{MAPS}/z"), &json!({"metadata": {"labels": {"on": "1"}}})).await.ok();
    lines.expect("ADDED", "a").await;
    lines.expect("MODIFIED", "a").await;
    let left = lines.expect("DELETED", "a").await;
    assert_eq!(left["metadata"]["labels"]["on"], "2");
    lines.expect("ADDED", "z").await;
}

#[tokio::test(start_paused = true)]
async fn timeout_and_bookmarks_follow_the_clock() {
    let server = server().await;
    let started = tokio::time::Instant::now();
    let mut lines = Lines::open(&server, &format!("{MAPS}?watch=1&timeoutSeconds=90&allowWatchBookmarks=true")).await;
    let first = lines.next().await.unwrap();
    assert_eq!(first["type"], "BOOKMARK");
    assert_eq!(started.elapsed(), Duration::from_secs(60));
    assert_eq!(first["object"]["metadata"]["resourceVersion"], server.store().revision().to_string());
    post(&server, "/api/v1/namespaces/default/secrets", &json!({"metadata": {"name": "s"}})).await.ok();
    // The end tells once more how far the watch has come: the secret is behind it.
    let last = lines.next().await.unwrap();
    assert_eq!(last["object"]["metadata"]["resourceVersion"], server.store().revision().to_string());
    assert_eq!(lines.next().await, None);
    assert_eq!(started.elapsed(), Duration::from_secs(90));
}

#[tokio::test]
async fn streaming_list_ends_with_its_bookmark() {
    let server = server().await;
    post(&server, MAPS, &config_map("a", "1")).await.ok();
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut lines = Lines::open(&server, &format!("{MAPS}?{query}")).await;
    lines.expect("ADDED", "a").await;
    let mark = lines.next().await.unwrap();
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    post(&server, MAPS, &config_map("b", "1")).await.ok();
    lines.expect("ADDED", "b").await;
    get(&server, &format!("{MAPS}?watch=1&sendInitialEvents=true")).await.fails(422, "Invalid");
}

#[tokio::test]
async fn forgotten_and_unknown_revisions_are_gone() {
    let server = server().await;
    post(&server, MAPS, &config_map("a", "1")).await.ok();
    let then = server.store().revision();
    let big = "x".repeat(1_000_000);
    for n in 0..12 {
        merge(&server, &format!("{MAPS}/a"), &json!({"data": {"k": format!("{n}{big}")}})).await.ok();
    }
    for from in [then, 1_000_000] {
        let mut lines = Lines::open(&server, &format!("{MAPS}?watch=1&resourceVersion={from}")).await;
        let event = lines.next().await.unwrap();
        assert_eq!((event["type"].as_str(), event["object"]["code"].as_u64()), (Some("ERROR"), Some(410)), "{event}");
        assert_eq!(event["object"]["reason"], "Expired");
        assert!(event["object"]["message"].as_str().unwrap().starts_with("too old resource version: "));
        assert_eq!(lines.next().await, None);
    }
    get(&server, &format!("{MAPS}?watch=1&resourceVersion=x")).await.fails(422, "Invalid");
}

#[tokio::test]
async fn watcher_that_does_not_read_is_cut_off() {
    let server = server().await;
    post(&server, MAPS, &config_map("a", "1")).await.ok();
    let from = server.store().revision();
    let mut lines = Lines::open(&server, &format!("{MAPS}?watch=1&resourceVersion={from}")).await;
    let mut other = Lines::open(&server, &format!("{MAPS}?watch=1&resourceVersion={from}")).await;
    let big = "x".repeat(1_000_000);
    for n in 0..12 {
        merge(&server, &format!("{MAPS}/a"), &json!({"data": {"k": format!("{n}{big}")}})).await.ok();
        // Who reads along is not hurt.
        assert!(other.expect("MODIFIED", "a").await["data"]["k"].as_str().unwrap().starts_with(&format!("{n}x")));
    }
    let event = lines.next().await.unwrap();
    assert_eq!((event["type"].as_str(), event["object"]["code"].as_u64()), (Some("ERROR"), Some(410)));
}

#[tokio::test]
async fn thousands_of_watches_see_a_change() {
    let server = server().await;
    let from = server.store().revision();
    let path = format!("{MAPS}?watch=1&resourceVersion={from}");
    let mut all = Vec::new();
    for _ in 0..3000 {
        all.push(Lines::open(&server, &path).await);
    }
    for n in 0..3 {
        post(&server, MAPS, &config_map(&format!("a{n}"), "1")).await.ok();
        for lines in &mut all {
            lines.expect("ADDED", &format!("a{n}")).await;
        }
    }
}

/// Several writers, and watchers who break off and resume: each rebuilds exactly the final state, in order, without repetition.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resumed_watches_lose_and_repeat_nothing() {
    let server = server().await;
    let from = server.store().revision();
    let writers: Vec<_> = (0..4)
        .map(|w| {
            let server = server.clone();
            tokio::spawn(async move {
                let api: Api<ConfigMap> = Api::default_namespaced(server.client_as(UserInfo::admin("test")));
                for n in 0..60 {
                    let name = format!("w{w}-{}", n % 7);
                    let map: ConfigMap = serde_json::from_value(config_map(&name, &n.to_string())).unwrap();
                    if api.create(&PostParams::default(), &map).await.is_err() && n % 3 == 0 {
                        let _ = api.delete(&name, &Default::default()).await;
                    } else {
                        let _ = api.replace(&name, &PostParams::default(), &map).await;
                    }
                }
            })
        })
        .collect();
    let readers: Vec<_> = (1..4usize)
        .map(|chunk| {
            let server = server.clone();
            tokio::spawn(async move {
                let mut position = from;
                let mut state: BTreeMap<String, String> = BTreeMap::new();
                loop {
                    let path = format!("{MAPS}?watch=1&resourceVersion={position}&timeoutSeconds=600");
                    let mut lines = Lines::open(&server, &path).await;
                    for _ in 0..chunk * 5 {
                        let event = lines.next().await.unwrap();
                        let object = &event["object"];
                        let revision: u64 = object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
                        assert!(revision > position, "{revision} after {position}");
                        position = revision;
                        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
                        if name == "end" {
                            return state;
                        }
                        match event["type"].as_str().unwrap() {
                            "DELETED" => assert!(state.remove(&name).is_some()),
                            "ADDED" => assert!(state.insert(name, object["data"]["k"].to_string()).is_none()),
                            "MODIFIED" => assert!(state.insert(name, object["data"]["k"].to_string()).is_some()),
                            other => panic!("{other}"),
                        }
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let list = get(&server, MAPS).await.ok();
    post(&server, MAPS, &config_map("end", "")).await.ok();
    let expected: BTreeMap<String, String> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| (o["metadata"]["name"].as_str().unwrap().to_owned(), o["data"]["k"].to_string()))
        .collect();
    for reader in readers {
        assert_eq!(reader.await.unwrap(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn kube_watcher_follows_with_a_paused_clock() {
    let server = server().await;
    let api: Api<ConfigMap> = Api::default_namespaced(client(&server));
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let mut events = watcher(api.clone(), config).default_backoff().applied_objects().boxed();
        let name = format!("m{}", server.store().revision());
        post(&server, MAPS, &config_map(&name, "1")).await.ok();
        loop {
            let seen = tokio::time::timeout(Duration::from_secs(5), events.next()).await.unwrap().unwrap().unwrap();
            if seen.metadata.name.as_deref() == Some(name.as_str()) {
                break;
            }
        }
        merge(&server, &format!("{MAPS}/{name}"), &json!({"data": {"k": "2"}})).await.ok();
        let seen = events.next().await.unwrap().unwrap();
        assert_eq!(seen.data.unwrap()["k"], "2");
    }
    let stream = api.watch(&WatchParams::default().timeout(10), "0").await.unwrap();
    assert!(stream.try_collect::<Vec<_>>().await.unwrap().len() >= 2);
}
