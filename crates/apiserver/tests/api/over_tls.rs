//! kube-rs with its runtime's helpers over TLS, by the kubeconfig that an administrator gets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use fv_apiserver::tls::{Kubeconfig, Pki, ServerTls, listen, serve_tls};
use fv_apiserver::{ApiServer, ApiServerBuilder, Limits, LogOptions, LogStream, PodLogs, Status, Store};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DeleteParams, LogParams, Patch, PatchParams, PostParams};
use kube::client::ConfigExt as _;
use kube::config::KubeConfigOptions;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{Event as Finalized, finalizer};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::support::*;

/// Nothing here takes longer unless it hangs.
const LIMIT: Duration = Duration::from_secs(120);
const CLEANUP: &str = "test.dev/cleanup";

struct Lines;

#[async_trait::async_trait]
impl PodLogs for Lines {
    async fn logs(&self, pod: &Value, options: LogOptions) -> Result<LogStream, Status> {
        let text = format!("{} of {}\n", options.container, pod["metadata"]["name"].as_str().unwrap());
        Ok(futures::stream::iter([Ok(Bytes::from(text))]).boxed())
    }
}

/// A server on a directory, listening.
struct Served {
    server: ApiServer,
    address: SocketAddr,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Served {
    async fn start(dir: &Path, address: SocketAddr) -> Served {
        Self::start_within(Limits::default(), dir, address).await
    }

    async fn start_within(limits: Limits, dir: &Path, address: SocketAddr) -> Served {
        let store = Store::open(&dir.join("store")).unwrap();
        let builder = ApiServerBuilder::new(store).crd(widgets()).pod_logs(Arc::new(Lines)).limits(limits);
        let server = builder.build().await.unwrap();
        let now = Timestamp::now();
        let pki = Pki::open(&dir.join("pki"), now).unwrap();
        let client = pki.client("admin", "kubernetes-admin", "system:masters", now).unwrap();
        let listener = listen(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        Kubeconfig { name: "test", listen: address, ca_certificate: pki.ca_certificate(), client: &client }
            .write(&dir.join("kubeconfig"))
            .unwrap();
        let tls = Arc::new(ServerTls::new(pki, vec![], now).unwrap());
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(serve_tls(listener, server.router(), tls, shutdown.clone()));
        Served { server, address, shutdown, task }
    }

    /// Stops it, so that its store can be opened again.
    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }
}

async fn config(dir: &Path) -> kube::Config {
    let kubeconfig = kube::config::Kubeconfig::read_from(dir.join("kubeconfig")).unwrap();
    kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap()
}

async fn connect(dir: &Path) -> Client {
    Client::try_from(config(dir).await).unwrap()
}

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn map(name: &str, value: &str) -> ConfigMap {
    serde_json::from_value(config_map(name, value)).unwrap()
}

/// Names and values.
type State = BTreeMap<String, String>;

/// Follows all config maps of the namespace and keeps what a cache would hold; an event that such a cache could not explain fails.
fn follow(api: Api<ConfigMap>, config: watcher::Config) -> (watch::Receiver<State>, tokio::task::JoinHandle<()>) {
    let (sender, receiver) = watch::channel(State::new());
    let task = tokio::spawn(async move {
        let mut events = std::pin::pin!(watcher(api, config).default_backoff());
        let (mut fresh, mut newest) = (State::new(), 0_u64);
        let value = |map: &ConfigMap| map.data.as_ref().map(|data| data["k"].clone()).unwrap_or_default();
        while let Some(event) = events.next().await {
            // While the server is away there are errors; the watcher goes on by itself.
            let Ok(event) = event else { continue };
            if let watcher::Event::Apply(map) | watcher::Event::Delete(map) = &event {
                let revision = map.resource_version().unwrap().parse().unwrap();
                assert!(revision > newest, "{} came again", map.name_any());
                newest = revision;
            }
            match event {
                watcher::Event::Init => fresh = State::new(),
                watcher::Event::InitApply(map) => {
                    newest = newest.max(map.resource_version().unwrap().parse().unwrap());
                    let before = fresh.insert(map.name_any(), value(&map));
                    assert_eq!(before, None, "{} was listed twice", map.name_any());
                }
                watcher::Event::InitDone => sender.send_modify(|state| *state = std::mem::take(&mut fresh)),
                watcher::Event::Apply(map) => sender.send_modify(|state| {
                    state.insert(map.name_any(), value(&map));
                }),
                watcher::Event::Delete(map) => sender.send_modify(|state| {
                    assert!(state.remove(&map.name_any()).is_some(), "{} was not there", map.name_any());
                }),
            }
        }
    });
    (receiver, task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_lose_and_repeat_nothing_when_the_server_starts_anew() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path(), ANY).await;
    let address = served.address;
    let api: Api<ConfigMap> = Api::default_namespaced(connect(dir.path()).await);
    for n in 0..10 {
        api.create(&PostParams::default(), &map(&format!("m{n}"), "1")).await.unwrap();
    }
    let configs = [
        watcher::Config::default().page_size(3),
        watcher::Config::default().streaming_lists(),
        watcher::Config::default().fields("metadata.name!=nobody").streaming_lists(),
    ];
    let mut followers: Vec<_> = configs.into_iter().map(|config| follow(api.clone(), config)).collect();
    let mut all_see = async |expected: &State| {
        for (state, _) in &mut followers {
            let seen = tokio::time::timeout(LIMIT, state.wait_for(|state| state == expected)).await.is_ok();
            assert!(seen, "they see {:?}, not {expected:?}", *state.borrow());
        }
    };
    let mut expected: State = (0..10).map(|n| (format!("m{n}"), "1".to_owned())).collect();
    all_see(&expected).await;
    let merge = |value: &str| Patch::Merge(json!({"data": {"k": value}}));
    api.patch("m1", &PatchParams::default(), &merge("2")).await.unwrap();
    api.delete("m2", &DeleteParams::default()).await.unwrap();
    expected.insert("m1".into(), "2".into());
    expected.remove("m2");
    all_see(&expected).await;

    served.stop().await;
    let served = Served::start(dir.path(), address).await;
    let api: Api<ConfigMap> = Api::default_namespaced(connect(dir.path()).await);
    api.patch("m3", &PatchParams::default(), &merge("3")).await.unwrap();
    api.delete("m4", &DeleteParams::default()).await.unwrap();
    api.create(&PostParams::default(), &map("m5b", "1")).await.unwrap();
    expected.insert("m3".into(), "3".into());
    expected.remove("m4");
    expected.insert("m5b".into(), "1".into());
    all_see(&expected).await;
    for (_, task) in followers {
        assert!(!task.is_finished(), "a follower met what it could not explain");
        task.abort();
    }
    served.stop().await;
}

#[derive(Debug, thiserror::Error)]
#[error("never")]
struct Never;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_with_a_finalizer_cleans_up_once_before_the_object_goes() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path(), ANY).await;
    let client = connect(dir.path()).await;
    let api: Api<ConfigMap> = Api::default_namespaced(client);
    let cleaned = Arc::new(AtomicUsize::new(0));
    let (own, count) = (api.clone(), cleaned.clone());
    let controller = Controller::new(api.clone(), watcher::Config::default().labels("managed=yes")).run(
        move |object, _| {
            let (api, count) = (own.clone(), count.clone());
            async move {
                finalizer(&api, CLEANUP, object, |event| async move {
                    if let Finalized::Cleanup(_) = event {
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                    Ok::<_, Never>(Action::await_change())
                })
                .await
            }
        },
        |_, _, _| Action::requeue(Duration::from_millis(100)),
        Arc::new(()),
    );
    let controller = tokio::spawn(controller.for_each(|_| async {}));
    let managed = json!({"metadata": {"name": "a", "labels": {"managed": "yes"}}, "data": {"k": "v"}});
    api.create(&PostParams::default(), &serde_json::from_value(managed).unwrap()).await.unwrap();
    let held = |map: Option<&ConfigMap>| map.is_some_and(|map| map.finalizers().iter().any(|f| f == CLEANUP));
    let made = tokio::time::timeout(LIMIT, await_condition(api.clone(), "a", held)).await.unwrap().unwrap().unwrap();
    assert_eq!(cleaned.load(Ordering::SeqCst), 0);
    api.delete("a", &DeleteParams::default()).await.unwrap();
    let uid = made.uid().unwrap();
    let gone = conditions::is_deleted(&uid);
    tokio::time::timeout(LIMIT, await_condition(api.clone(), "a", gone)).await.unwrap().unwrap();
    assert_eq!(cleaned.load(Ordering::SeqCst), 1);
    assert!(api.get_opt("a").await.unwrap().is_none());
    controller.abort();
    served.stop().await;
}

#[tokio::test]
async fn kube_rs_applies_patches_status_and_reads_logs() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path(), ANY).await;
    let client = connect(dir.path()).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let config = |value: &str| Patch::Apply(map("a", value));
    maps.patch("a", &PatchParams::apply("one"), &config("1")).await.unwrap();
    let refused = maps.patch("a", &PatchParams::apply("two"), &config("2")).await.unwrap_err();
    let kube::Error::Api(status) = refused else { panic!("{refused}") };
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    let causes = status.details.as_ref().unwrap().causes.iter().map(|cause| cause.field.clone()).collect::<Vec<_>>();
    assert_eq!(causes, [".data.k"]);
    let forced = maps.patch("a", &PatchParams::apply("two").force(), &config("2")).await.unwrap();
    assert_eq!(forced.data.as_ref().unwrap()["k"], "2");
    assert_eq!(forced.managed_fields().len(), 1, "the first manager owns nothing any more");

    let pods: Api<Pod> = Api::default_namespaced(client);
    let mut made = pod("p");
    made["spec"]["nodeName"] = json!("n");
    pods.create(&PostParams::default(), &serde_json::from_value(made).unwrap()).await.unwrap();
    let status =
        json!({"metadata": {"labels": {"l": "v"}}, "status": {"phase": "Running"}, "spec": {"nodeName": "other"}});
    let patched = pods.patch_status("p", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    assert_eq!(patched.status.unwrap().phase.as_deref(), Some("Running"));
    assert_eq!(patched.spec.unwrap().node_name.as_deref(), Some("n"));
    assert_eq!(pods.logs("p", &LogParams::default()).await.unwrap(), "c of p\n");
    let streamed = pods.log_stream("p", &LogParams { follow: true, ..LogParams::default() }).await.unwrap();
    let lines: Vec<String> = futures::AsyncBufReadExt::lines(streamed).try_collect().await.unwrap();
    assert_eq!(lines, ["c of p"]);
    served.stop().await;
}

/// Sends a request whose body never ends; the code of the answer.
async fn endless(dir: &Path, address: SocketAddr) -> u16 {
    let tls = Arc::new(config(dir).await.rustls_client_config().unwrap());
    let stream = TcpStream::connect(address).await.unwrap();
    let mut stream = TlsConnector::from(tls).connect(address.ip().into(), stream).await.unwrap();
    let head =
        format!("POST {MAPS} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    std::str::from_utf8(&answer).unwrap().strip_prefix("HTTP/1.1 ").unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_client_ends_neither_the_server_nor_the_watches_of_our_own_components() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { writing: 20, time: Duration::from_secs(10), ..Limits::default() };
    let served = Served::start_within(limits, dir.path(), ANY).await;
    let client = connect(dir.path()).await;
    let own: Api<ConfigMap> = Api::namespaced(crate::support::client(&served.server), "kube-system");
    let (mut seen, follower) = follow(own.clone(), watcher::Config::default());

    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(served.address).await.unwrap());
    }
    let outside: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let deep = format!("{{\"metadata\":{}{}}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    let giant = Value::from(vec![json!({"op": "copy", "from": "", "path": "/data"}); 10_000]).to_string();
    let heavy: Vec<_> = (0..16)
        .map(|n| {
            let (body, media) = match n % 2 {
                0 => (deep.clone(), "application/merge-patch+json"),
                _ => (giant.clone(), "application/json-patch+json"),
            };
            let request = http::Request::patch(format!("{MAPS}/a")).header("content-type", media);
            let request = request.body(kube::client::Body::from(body.into_bytes())).unwrap();
            let client = client.clone();
            // One that is refused may find its connection closed before it has sent all.
            tokio::spawn(async move { client.send(request).await.map_or(429, |answer| answer.status().as_u16()) })
        })
        .collect();
    let (path, address) = (dir.path().to_owned(), served.address);
    let slow: Vec<_> = (0..40)
        .map(|_| {
            let path = path.clone();
            tokio::spawn(async move { endless(&path, address).await })
        })
        .collect();
    for n in 0..20 {
        let name = format!("own-{n}");
        own.create(&PostParams::default(), &map(&name, "1")).await.unwrap();
        let there = seen.wait_for(|state| state.contains_key(&name));
        assert!(tokio::time::timeout(Duration::from_secs(20), there).await.is_ok(), "{name} is not seen");
    }
    let mut codes = BTreeMap::<u16, usize>::new();
    for request in slow {
        *codes.entry(request.await.unwrap()).or_default() += 1;
    }
    assert!(codes.keys().eq(&[429, 504]), "those that had a place are ended, the others sent away: {codes:?}");
    for request in heavy {
        let code = request.await.unwrap();
        assert!(matches!(code, 400 | 404 | 422 | 429 | 504), "{code}");
    }
    outside.create(&PostParams::default(), &map("b", "1")).await.expect("afterwards all is as before");
    drop(silent);
    follower.abort();
    served.stop().await;
}
