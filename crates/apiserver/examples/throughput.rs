//! What the API server does in a second, in process, each figure beside a floor of the same run.
//!
//!     cargo run --release -p fv-apiserver --example throughput [objects]

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::cast_precision_loss)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use fv_apiserver::{ApiServerBuilder, Store, UserInfo};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use tokio::sync::{broadcast, mpsc};

const WRITERS: usize = 64;
const WATCHES: usize = 16;
const ROUNDS: usize = 200;

fn object(name: &str) -> ConfigMap {
    let mut object = ConfigMap::default();
    object.metadata.name = Some(name.to_owned());
    let line = "A line of configuration that somebody wrote.\n".repeat(18);
    object.data = Some(BTreeMap::from([("settings".to_owned(), line)]));
    object
}

fn line(what: &str, ours: f64, floor: f64, floor_is: &str, unit: &str) {
    println!("{what:<34}{ours:>10.2} {unit:<4} floor {floor:>10.2} {unit:<4} ({floor_is}), ratio {:.2}", ours / floor);
}

/// Durable rows a second of SQLite alone.
fn sqlite(dir: &std::path::Path, size: usize, batch: usize, commits: usize) -> f64 {
    let mut connection = rusqlite::Connection::open(dir.join(format!("floor-{batch}.db"))).unwrap();
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
    connection.pragma_update(None, "synchronous", "FULL").unwrap();
    connection.execute_batch("CREATE TABLE o(t TEXT, k TEXT, b BLOB, PRIMARY KEY (t, k)) STRICT").unwrap();
    let (body, begin) = (vec![b'x'; size], Instant::now());
    for commit in 0..commits {
        let transaction = connection.transaction().unwrap();
        for row in 0..batch {
            let key = format!("default/o{}", commit * batch + row);
            let mut insert = transaction.prepare_cached("INSERT INTO o VALUES ('core/configmaps', ?1, ?2)").unwrap();
            insert.execute(rusqlite::params![key, body]).unwrap();
        }
        transaction.commit().unwrap();
    }
    (commits * batch) as f64 / begin.elapsed().as_secs_f64()
}

fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * q) as usize]
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let objects: usize = std::env::args().nth(1).map_or(10_000, |n| n.parse().expect("a number of objects"));
    let dir = tempfile::tempdir().unwrap();
    let server = ApiServerBuilder::new(Store::open(&dir.path().join("store")).unwrap()).build().await.unwrap();
    let api: Api<ConfigMap> = Api::default_namespaced(server.client_as(UserInfo::admin("bench")));
    let size = serde_json::to_vec(&object("sample")).unwrap().len() + 250;
    let (one, many) = (sqlite(dir.path(), size, 1, 300), sqlite(dir.path(), size, WRITERS, 100));

    let next = Arc::new(AtomicUsize::new(0));
    let begin = Instant::now();
    let writers = (0..WRITERS).map(|_| {
        let (api, next) = (api.clone(), next.clone());
        tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= objects {
                    return;
                }
                api.create(&PostParams::default(), &object(&format!("o{number}"))).await.unwrap();
            }
        })
    });
    futures::future::join_all(writers).await.into_iter().for_each(|done| done.unwrap());
    let rate = objects as f64 / begin.elapsed().as_secs_f64();
    line("creates, 64 writers", rate, many, "SQLite, 64 rows a commit", "/s");
    println!("{:<34}{one:>10.2} /s", "  (SQLite, 1 row a commit)");

    let begin = Instant::now();
    let gets = futures::stream::iter(0..objects).map(|n| {
        let api = api.clone();
        async move { api.get(&format!("o{n}")).await.unwrap() }
    });
    gets.buffer_unordered(WRITERS).for_each(|_| async {}).await;
    let rate = objects as f64 / begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    for n in 0..objects {
        let stored = server.store().get("core/configmaps", &format!("default/o{n}")).unwrap();
        serde_json::from_slice::<ConfigMap>(&stored.body).unwrap();
    }
    line("gets", rate, objects as f64 / begin.elapsed().as_secs_f64(), "store and parse", "/s");

    let begin = Instant::now();
    let listed = api.list(&ListParams::default()).await.unwrap().items.len();
    let took = begin.elapsed();
    let begin = Instant::now();
    for stored in server.store().list("core/configmaps", "", None).unwrap().objects {
        serde_json::from_slice::<ConfigMap>(&stored.body).unwrap();
    }
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    line(&format!("list of {listed}, parsed"), ms(took), ms(begin.elapsed()), "store and parse", "ms");

    let (seen, mut arrivals) = mpsc::unbounded_channel();
    let version = api.list(&ListParams::default().limit(1)).await.unwrap().metadata.resource_version.unwrap();
    for _ in 0..WATCHES {
        let (api, seen, version) = (api.clone(), seen.clone(), version.clone());
        tokio::spawn(async move {
            let mut events = api.watch(&WatchParams::default(), &version).await.unwrap().boxed();
            while let Some(event) = events.try_next().await.unwrap() {
                if matches!(event, WatchEvent::Added(_)) && seen.send(Instant::now()).is_err() {
                    return;
                }
            }
        });
    }
    let mut latencies = Vec::new();
    for round in 0..ROUNDS {
        let sent = Instant::now();
        api.create(&PostParams::default(), &object(&format!("w{round}"))).await.unwrap();
        for _ in 0..WATCHES {
            latencies.push((arrivals.recv().await.unwrap() - sent).as_secs_f64() * 1e3);
        }
    }
    let (hop, _) = broadcast::channel::<Instant>(16);
    let (seen, mut arrivals) = mpsc::unbounded_channel();
    for _ in 0..WATCHES {
        let (mut hops, seen) = (hop.subscribe(), seen.clone());
        tokio::spawn(async move {
            while let Ok(sent) = hops.recv().await {
                let _ = seen.send(sent.elapsed());
            }
        });
    }
    let mut floors = Vec::new();
    for _ in 0..ROUNDS {
        hop.send(Instant::now()).unwrap();
        for _ in 0..WATCHES {
            floors.push(ms(arrivals.recv().await.unwrap()) + 1e3 / one);
        }
    }
    let floor_is = "SQLite commit and a channel";
    for (name, q) in [("p50", 0.5), ("p99", 0.99)] {
        let what = format!("create to {WATCHES} watches, {name}");
        line(&what, quantile(&mut latencies, q), quantile(&mut floors, q), floor_is, "ms");
    }
}
