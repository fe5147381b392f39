//! One server from its start to its end under every load.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use fv_conformance::servers::{Processes, Program};
use http::Method;
use http_body_util::BodyExt;
use kube::client::ConfigExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Options;
use crate::api::{OBJECTS, create, namespace, object};
use crate::load::{Outcome, Target};
use crate::process;

/// Concurrent clients.
pub(super) const CLIENTS: usize = 64;
/// Lists that are timed one by one.
const LISTS: usize = 15;
/// Changes that every watch sees.
const CHANGES: usize = 40;
/// Gets one after another.
const GETS: usize = 1500;
/// How often a server that starts is asked.
const POLL: Duration = Duration::from_millis(2);
/// It has this long.
const START: Duration = Duration::from_secs(120);

/// One kind of request.
#[derive(Debug, Default)]
pub(super) struct Phase {
    pub(super) per_second: f64,
    pub(super) median: f64,
    pub(super) p99: f64,
    /// Requests in a second of one processor, of all processes of the server together.
    pub(super) per_core: f64,
}

/// What one round measured: seconds and kilobytes.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) ready: f64,
    pub(super) back: f64,
    pub(super) creates: Phase,
    pub(super) updates: Phase,
    pub(super) gets: Phase,
    pub(super) lists: Phase,
    pub(super) alone: Phase,
    pub(super) beside_lists: Phase,
    pub(super) watched: Phase,
    pub(super) rss: f64,
}

/// Starts a server with nothing stored, measures it, and ends it.
pub(super) async fn measure(program: Program, options: &Options) -> Result<Figures> {
    let mut server = Processes::new(program, &options.under).await?;
    let file = Kubeconfig::read_from(server.kubeconfig())?;
    let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    let tls = config.rustls_client_config().context("TLS of the kubeconfig")?;
    let target = Target { address: server.address(), tls: Arc::new(tls) };
    let mut figures = Figures::default();

    let begin = Instant::now();
    server.start()?;
    until(&target, "/readyz").await?;
    figures.ready = begin.elapsed().as_secs_f64();
    target.connect().await?.send(Method::POST, "/api/v1/namespaces", namespace()).await?;

    let count = options.objects;
    let pids = server.pids();
    figures.creates = phase(&pids, count, target.many(CLIENTS, count, create("object"))).await?;
    let update = |index: usize| (Method::PUT, format!("{OBJECTS}/object-{index}"), object(&format!("object-{index}")));
    figures.updates = phase(&pids, count, target.many(CLIENTS, count, update)).await?;
    figures.rss = pids.iter().map(|pid| process::memory(*pid).map(|m| m.rss)).sum::<Result<f64>>()?;
    let get = move |index: usize| (Method::GET, format!("{OBJECTS}/object-{}", index % count), Bytes::new());
    figures.gets = phase(&pids, 2 * count, target.many(CLIENTS, 2 * count, get)).await?;
    let list = |_| (Method::GET, OBJECTS.to_owned(), Bytes::new());
    figures.lists = phase(&pids, LISTS, target.many(1, LISTS, list)).await?;

    figures.alone = phase(&pids, GETS, target.many(1, GETS, get)).await?;
    let mut connection = target.connect().await?;
    let lists = async {
        loop {
            connection.send(Method::GET, OBJECTS, Bytes::new()).await?;
        }
    };
    figures.beside_lists = tokio::select! {
        phase = phase(&pids, GETS, target.many(1, GETS, get)) => phase?,
        ended = lists => return ended,
    };

    figures.watched = watched(&target, &pids, options.watchers).await?;

    let begin = Instant::now();
    server.kill().await?;
    server.start()?;
    until(&target, &format!("{OBJECTS}/object-0")).await?;
    figures.back = begin.elapsed().as_secs_f64();
    server.kill().await?;
    Ok(figures)
}

fn cpu(pids: &[u32]) -> Result<f64> {
    pids.iter().map(|pid| process::cpu_seconds(*pid)).sum()
}

async fn phase(pids: &[u32], count: usize, work: impl Future<Output = Result<Outcome>>) -> Result<Phase> {
    let before = cpu(pids)?;
    let outcome = work.await?;
    #[allow(clippy::cast_precision_loss)]
    let per_core = count as f64 / (cpu(pids)? - before);
    Ok(Phase { per_second: outcome.per_second, median: outcome.median, p99: outcome.p99, per_core })
}

/// Until a path can be read.
async fn until(target: &Target, path: &str) -> Result<()> {
    let answered = async {
        loop {
            if let Ok(mut connection) = target.connect().await
                && connection.send(Method::GET, path, Bytes::new()).await.is_ok()
            {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(START, answered).await.with_context(|| format!("{path} cannot be read after {START:?}"))
}

/// Changes one after another, each seen by every watch before the next; an operation is an event delivered.
async fn watched(target: &Target, pids: &[u32], watchers: usize) -> Result<Phase> {
    let mut connection = target.connect().await?;
    let list = connection.send(Method::GET, &format!("{OBJECTS}?limit=1"), Bytes::new()).await?;
    let list: Value = serde_json::from_slice(&list)?;
    let from = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    let path = format!("{OBJECTS}?watch=1&resourceVersion={from}&timeoutSeconds=600");
    let (seen, mut arrivals) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    for _ in 0..watchers {
        let mut body = target.connect().await?.open(Method::GET, &path, Bytes::new()).await?;
        let seen = seen.clone();
        tasks.spawn(async move {
            while let Some(Ok(frame)) = body.frame().await {
                let lines = frame.data_ref().map_or(0, |data| data.iter().filter(|byte| **byte == b'\n').count());
                let now = Instant::now();
                if (0..lines).any(|_| seen.send(now).is_err()) {
                    return;
                }
            }
        });
    }
    let change = |index: usize| object(&format!("watched-{index}"));
    let (mut latencies, mut before, mut begin) = (Vec::new(), 0.0, Instant::now());
    for index in 0..=CHANGES {
        // The first one only shows that every watch has begun.
        if index == 1 {
            (before, begin) = (cpu(pids)?, Instant::now());
            latencies.clear();
        }
        let sent = Instant::now();
        connection.send(Method::POST, OBJECTS, change(index)).await?;
        for _ in 0..watchers {
            let arrival = tokio::time::timeout(START, arrivals.recv()).await.context("a watch fell silent")?;
            latencies.push((arrival.context("every watch ended")? - sent).as_secs_f64());
        }
    }
    let outcome = Outcome::of(&latencies, begin.elapsed());
    #[allow(clippy::cast_precision_loss)]
    let per_core = latencies.len() as f64 / (cpu(pids)? - before);
    Ok(Phase { per_second: outcome.per_second, median: outcome.median, p99: outcome.p99, per_core })
}
