//! The API server under load: through TLS against the running instance, and in process.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use fv_apiserver::{ApiServerBuilder, Store, UserInfo};
use http::{Method, Request};
use http_body_util::BodyExt;
use kube::client::ConfigExt;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::floor::{BareServer, bare_router, sqlite_rows};
use crate::instance::{Instance, Options};
use crate::load::{Outcome, Target, address_of};
use crate::stats::{median, rate, ratio, time};
use crate::table::{Row, Table};

/// Concurrent clients.
const CLIENTS: usize = 64;
/// Lists of each kind, one after the other.
const LISTS: usize = 100;
/// Clients that watch while others write.
const WATCHERS: usize = 10;
pub(crate) const OBJECTS: &str = "/api/v1/namespaces/bench/configmaps";

/// An object of about a kibibyte.
pub(crate) fn object(name: &str) -> Bytes {
    let filler = "A line of configuration that somebody wrote.\n".repeat(18);
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"app": "bench", "shard": name.len().to_string()}},
        "data": {"settings": filler},
    });
    Bytes::from(object.to_string())
}

pub(crate) fn namespace() -> Bytes {
    Bytes::from(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bench"}}).to_string())
}

pub(crate) fn create(prefix: &'static str) -> impl Fn(usize) -> (Method, String, Bytes) + Send + Sync + 'static {
    move |index| (Method::POST, OBJECTS.to_string(), object(&format!("{prefix}-{index}")))
}

fn bare(
    method: Method,
    answer: usize,
    body: Bytes,
) -> impl Fn(usize) -> (Method, String, Bytes) + Send + Sync + 'static {
    move |_| (method.clone(), format!("/bytes/{answer}"), body.clone())
}

/// A line whose figure is requests a second.
fn throughput(what: String, ours: &Outcome, floor: f64, floor_is: &str, aim: &str) -> Row {
    Row {
        what,
        ours: format!("{}, median {}, p99 {}", rate(ours.per_second), time(ours.median), time(ours.p99)),
        floor: format!("{} {floor_is}", rate(floor)),
        against: ratio(ours.per_second, floor),
        aim: aim.into(),
    }
}

/// A line whose figure is a time.
fn latency(what: String, ours: f64, floor: f64, floor_is: &str) -> Row {
    Row {
        what,
        ours: time(ours),
        floor: format!("{} {floor_is}", time(floor)),
        against: ratio(ours, floor),
        aim: String::new(),
    }
}

/// Rows a second of SQLite, one and many to a commit; what both parts are compared with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Durable {
    one: f64,
    many: f64,
}

impl Durable {
    pub(crate) fn measure(dir: &Path) -> Result<Self> {
        let size = object("sample-1234").len() + 250;
        Ok(Self { one: sqlite_rows(dir, size, 1, 300)?, many: sqlite_rows(dir, size, CLIENTS, 150)? })
    }
}

/// Through TLS, as any client comes; what all objects take as JSON at the end, in bytes.
pub(crate) async fn through_tls(
    instance: &Instance,
    options: &Options,
    durable: Durable,
    server: &BareServer,
    table: &mut Table,
) -> Result<usize> {
    let objects = options.objects;
    let tls = instance.config.rustls_client_config().context("TLS of the kubeconfig")?;
    let ours = Target { address: address_of(&instance.config.cluster_url)?, tls: Arc::new(tls) };
    let floor = server.target()?;
    let sent = object("sample-1234");

    let mut connection = ours.connect().await?;
    connection.send(Method::POST, "/api/v1/namespaces", namespace()).await?;
    let stored = connection.send(Method::POST, OBJECTS, object("sample-0")).await?.len();
    let one = ours.many(1, 300, create("one")).await?;
    let bare_one = floor.many(1, 300, bare(Method::POST, stored, sent.clone())).await?;
    table.row(latency(
        "create, 1 client, median".into(),
        one.median,
        bare_one.median + 1.0 / durable.one,
        "(bare endpoint + SQLite commit)",
    ));
    let many = ours.many(CLIENTS, objects.saturating_sub(301).max(CLIENTS), create("many")).await?;
    let bare_many = floor.many(CLIENTS, objects / 2, bare(Method::POST, stored, sent)).await?;
    table.row(throughput(
        format!("create, {CLIENTS} clients"),
        &many,
        1.0 / (1.0 / bare_many.per_second + 1.0 / durable.many),
        "(bare endpoint + SQLite)",
        "≥ 2000/s",
    ));

    let get = move |index: usize| {
        (Method::GET, format!("{OBJECTS}/many-{}", index % objects.saturating_sub(301).max(CLIENTS)), Bytes::new())
    };
    let got = ours.many(CLIENTS, objects, get).await?;
    let bare_got = floor.many(CLIENTS, objects, bare(Method::GET, stored, Bytes::new())).await?;
    table.row(throughput(format!("get, {CLIENTS} clients"), &got, bare_got.per_second, "(bare endpoint)", ""));

    for (what, query) in [
        (format!("list of {objects}, 1 client"), String::new()),
        ("list, page of 500, 1 client".into(), "?limit=500".into()),
    ] {
        let path = format!("{OBJECTS}{query}");
        // A connection that was idle during the load may have been closed.
        let size = ours.connect().await?.send(Method::GET, &path, Bytes::new()).await?.len();
        let listed = ours.many(1, LISTS, move |_| (Method::GET, path.clone(), Bytes::new())).await?;
        let bare_listed = floor.many(1, LISTS, bare(Method::GET, size, Bytes::new())).await?;
        table.row(throughput(what, &listed, bare_listed.per_second, "(bare endpoint, same bytes)", ""));
    }
    watches(&ours, bare_one.median + 1.0 / durable.one, many.per_second, table).await?;
    Ok(ours.connect().await?.send(Method::GET, OBJECTS, Bytes::new()).await?.len())
}

/// From a create to what watchers see.
async fn watches(ours: &Target, floor: f64, creates: f64, table: &mut Table) -> Result<()> {
    let mut one = Watch::open(ours).await?;
    let mut writer = ours.connect().await?;
    let mut latencies = Vec::new();
    for index in 0..200 {
        let sent = Instant::now();
        writer.send(Method::POST, OBJECTS, object(&format!("seen-{index}"))).await?;
        one.events(1).await?;
        latencies.push(sent.elapsed().as_secs_f64());
    }
    drop(one);
    table.row(latency(
        "create → seen by a watch, median".into(),
        median(&latencies),
        floor,
        "(bare endpoint + SQLite commit)",
    ));

    const EVENTS: usize = 2000;
    let mut watchers = JoinSet::new();
    for _ in 0..WATCHERS {
        let mut watch = Watch::open(ours).await?;
        watchers.spawn(async move { watch.events(EVENTS).await });
    }
    let begin = Instant::now();
    ours.many(CLIENTS, EVENTS, create("fan")).await?;
    while let Some(done) = watchers.join_next().await {
        done??;
    }
    let took = begin.elapsed().as_secs_f64();
    #[allow(clippy::cast_precision_loss)]
    let (events, delivered) = (EVENTS as f64 / took, (EVENTS * WATCHERS) as f64 / took);
    table.row(Row {
        what: format!("create with {WATCHERS} watches, {CLIENTS} clients"),
        ours: format!("{}, {} events delivered", rate(events), rate(delivered)),
        floor: format!("{} (ours without watches)", rate(creates)),
        against: ratio(events, creates),
        aim: String::new(),
    });
    Ok(())
}

/// A watch, read as bytes.
struct Watch {
    body: hyper::body::Incoming,
}

impl Watch {
    async fn open(target: &Target) -> Result<Self> {
        let mut connection = target.connect().await?;
        let list = connection.send(Method::GET, &format!("{OBJECTS}?limit=1"), Bytes::new()).await?;
        let list: Value = serde_json::from_slice(&list)?;
        let from = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let path = format!("{OBJECTS}?watch=1&resourceVersion={from}&timeoutSeconds=300");
        Ok(Self { body: connection.open(Method::GET, &path, Bytes::new()).await? })
    }

    /// Reads so many events; a watch sends one on a line.
    async fn events(&mut self, count: usize) -> Result<()> {
        let mut seen = 0;
        while seen < count {
            let frame = tokio::time::timeout(Duration::from_secs(60), self.body.frame());
            let frame = frame.await.context("a watch fell silent")?.context("a watch ended early")??;
            seen += frame.data_ref().map_or(0, |data| data.iter().filter(|byte| **byte == b'\n').count());
        }
        Ok(())
    }
}

/// The same router without connections.
pub(crate) async fn in_process(dir: &Path, options: &Options, durable: Durable, table: &mut Table) -> Result<()> {
    let objects = options.objects;
    let store_dir = dir.join("in-process");
    let server = ApiServerBuilder::new(Store::open(&store_dir)?).build().await?;
    let router = server.router();
    ask(&router, Method::POST, "/api/v1/namespaces", namespace()).await?;
    let created = call_many(&router, CLIENTS, objects, create("object")).await?;
    table.row(throughput(
        format!("create, {CLIENTS} clients"),
        &created,
        durable.many,
        &format!("(SQLite, {CLIENTS} rows a commit)"),
        "≥ 2000/s",
    ));
    let get = move |index: usize| (Method::GET, format!("{OBJECTS}/object-{}", index % objects), Bytes::new());
    let got = call_many(&router, CLIENTS, objects * 2, get).await?;
    let size = ask(&router, Method::GET, &format!("{OBJECTS}/object-0"), Bytes::new()).await?.len();
    let bare_got = call_many(&bare_router(), CLIENTS, objects * 2, bare(Method::GET, size, Bytes::new())).await?;
    table.row(throughput(format!("get, {CLIENTS} clients"), &got, bare_got.per_second, "(bare router)", ""));
    let list = |_| (Method::GET, OBJECTS.to_string(), Bytes::new());
    let listed = call_many(&router, 1, LISTS, list).await?;
    let answer = ask(&router, Method::GET, OBJECTS, Bytes::new()).await?;
    table.row(throughput(
        format!("list of {objects}, 1 client"),
        &listed,
        copies(&answer),
        "(copy of the same bytes)",
        "",
    ));
    drop(server);
    let _ = std::fs::remove_dir_all(&store_dir);
    Ok(())
}

/// Copies of an answer into fresh memory a second: what any server has to do at the least to give it.
fn copies(answer: &[u8]) -> f64 {
    let begin = Instant::now();
    for _ in 0..LISTS {
        black_box(black_box(answer).to_vec());
    }
    #[allow(clippy::cast_precision_loss)]
    let count = LISTS as f64;
    count / begin.elapsed().as_secs_f64()
}

async fn ask(router: &Router, method: Method, path: &str, body: Bytes) -> Result<Bytes> {
    let mut request = Request::builder()
        .method(method.clone())
        .uri(path)
        .header("content-type", "application/json")
        .header("accept", "application/json")
        .body(Body::from(body))?;
    request.extensions_mut().insert(UserInfo::admin("bench"));
    let response = router.clone().oneshot(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    ensure!(status.is_success(), "{method} {path}: {status}: {}", String::from_utf8_lossy(&body));
    Ok(body)
}

/// Sends `count` requests from `clients` tasks, each waiting for its answer before the next.
async fn call_many<F>(router: &Router, clients: usize, count: usize, request: F) -> Result<Outcome>
where
    F: Fn(usize) -> (Method, String, Bytes) + Send + Sync + 'static,
{
    let next = Arc::new(AtomicUsize::new(0));
    let request = Arc::new(request);
    let mut workers = JoinSet::new();
    let begin = Instant::now();
    for _ in 0..clients {
        let (router, next, request) = (router.clone(), next.clone(), request.clone());
        workers.spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    return anyhow::Ok(latencies);
                }
                let (method, path, body) = request(index);
                let sent = Instant::now();
                ask(&router, method, &path, body).await?;
                latencies.push(sent.elapsed().as_secs_f64());
            }
        });
    }
    let mut latencies = Vec::with_capacity(count);
    while let Some(done) = workers.join_next().await {
        latencies.extend(done??);
    }
    Ok(Outcome::of(&latencies, begin.elapsed()))
}
