//! kube-rs: its runtime's watcher, also while the server is killed and started again, and its finalizer helper.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use fv_conformance::servers::Processes;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::reflector::{self, Store};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Config, ResourceExt as _};
use serde_json::json;

const NAMESPACE: &str = "kube-rs";
const FINALIZER: &str = "conformance.ferrovirt.io/cleanup";
/// Nothing here takes longer unless it hangs.
const DEADLINE: Duration = Duration::from_secs(120);

/// Works with a server, which is killed and started again meanwhile.
pub(crate) async fn against(server: &mut Processes, line: impl Fn(&str)) -> Result<()> {
    let file = Kubeconfig::read_from(server.kubeconfig())?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)?;
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}}))?;
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await.context("make a namespace")?;
    let api: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
    watched(&api, server).await.context("watcher")?;
    line("watchers, with and without streaming lists, agree with the server before and after its restart");
    finalized(&api).await.context("finalizer")?;
    line("the finalizer ran once, before its object went");
    Ok(())
}

fn map(name: &str, value: &str) -> Result<ConfigMap> {
    Ok(serde_json::from_value(json!({"metadata": {"name": name}, "data": {"k": value}}))?)
}

/// Two reflectors follow what is written.
async fn watched(api: &Api<ConfigMap>, server: &mut Processes) -> Result<()> {
    let follow = |config: watcher::Config| {
        let (reader, writer) = reflector::store();
        let events = reflector::reflector(writer, watcher(api.clone(), config)).default_backoff().touched_objects();
        (reader, tokio::spawn(events.for_each(|_| async {})))
    };
    let (listed, first) = follow(watcher::Config::default());
    let (streamed, second) = follow(watcher::Config::default().streaming_lists());
    for round in 0..2 {
        for n in 0..20 {
            api.create(&PostParams::default(), &map(&format!("{round}-{n}"), "new")?).await?;
        }
        for n in 0..20 {
            let change = Patch::Merge(json!({"data": {"k": "changed"}}));
            api.patch(&format!("{round}-{n}"), &PatchParams::default(), &change).await?;
        }
        for n in (0..20).step_by(2) {
            api.delete(&format!("{round}-{n}"), &DeleteParams::default()).await?;
        }
        agree(api, &listed).await.with_context(|| format!("round {round}, by lists"))?;
        agree(api, &streamed).await.with_context(|| format!("round {round}, by streaming lists"))?;
        if round == 0 {
            server.kill().await?;
            server.start()?;
            server.ready().await?;
        }
    }
    first.abort();
    second.abort();
    Ok(())
}

/// Waits until a reflector holds what the server has.
async fn agree(api: &Api<ConfigMap>, held: &Store<ConfigMap>) -> Result<()> {
    let state = |maps: &mut dyn Iterator<Item = &ConfigMap>| -> BTreeSet<(String, Option<String>)> {
        maps.map(|map| (map.name_any(), map.resource_version())).collect()
    };
    let begin = Instant::now();
    loop {
        let there = api.list(&ListParams::default()).await?.items;
        let seen = held.state();
        let (there, seen) = (state(&mut there.iter()), state(&mut seen.iter().map(AsRef::as_ref)));
        if there == seen {
            return Ok(());
        }
        let differing: Vec<_> = there.symmetric_difference(&seen).collect();
        ensure!(begin.elapsed() < DEADLINE, "the watcher and the server still differ in {differing:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A controller holds an object until it has cleaned up.
async fn finalized(api: &Api<ConfigMap>) -> Result<()> {
    let cleaned = Arc::new(AtomicUsize::new(0));
    let (own, count) = (api.clone(), cleaned.clone());
    let controller = Controller::new(api.clone(), watcher::Config::default().labels("managed=yes")).run(
        move |object, _| {
            let (api, count) = (own.clone(), count.clone());
            async move {
                finalizer(&api, FINALIZER, object, |event| async move {
                    if let Event::Cleanup(_) = event {
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                    Ok::<_, Infallible>(Action::await_change())
                })
                .await
            }
        },
        |_, _, _| Action::requeue(Duration::from_millis(100)),
        Arc::new(()),
    );
    let controller = tokio::spawn(controller.for_each(|_| async {}));
    let mut managed = map("managed", "v")?;
    managed.labels_mut().insert("managed".into(), "yes".into());
    api.create(&PostParams::default(), &managed).await?;
    let held = |map: Option<&ConfigMap>| map.is_some_and(|map| map.finalizers().iter().any(|f| f == FINALIZER));
    let made = tokio::time::timeout(DEADLINE, await_condition(api.clone(), "managed", held)).await;
    let uid = made.context("no finalizer")??.and_then(|map| map.uid()).context("the object went")?;
    ensure!(cleaned.load(Ordering::SeqCst) == 0, "cleaned up before the deletion");
    api.delete("managed", &DeleteParams::default()).await?;
    let gone = await_condition(api.clone(), "managed", conditions::is_deleted(&uid));
    tokio::time::timeout(DEADLINE, gone).await.context("the object stays")??;
    let times = cleaned.load(Ordering::SeqCst);
    ensure!(times == 1, "cleaned up {times} times");
    controller.abort();
    Ok(())
}
