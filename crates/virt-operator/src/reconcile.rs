//! The leader's work: look, decide, act, until nothing is left to do; then wait until something changes.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use fv_api::meta::labels;
use fv_api::{KubeVirt, VirtualMachineInstance};
use fv_plan::Requeue;
use fv_plan::operator::{decide, in_order};
use fv_render::install::{MANAGED_BY, MANAGER, ObjectId};
use fv_runtime::Clock;
use kube::core::{DynamicObject, PartialObjectMeta};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::Settings;
use crate::cluster::{ClusterError, kubevirts, name_of, observe};
use crate::execute::{ExecuteError, Executor};
use crate::kinds::KINDS;

/// Changes come in bunches; this long is waited for the rest of one.
const BUNCH: Duration = Duration::from_millis(200);
/// After a failure.
const RETRY: Duration = Duration::from_secs(5);
/// Watches may have gaps that nobody tells of.
const LONGEST: Duration = Duration::from_secs(600);
/// How often the cluster is asked whether it serves an optional kind by now.
const ABSENT: Duration = Duration::from_secs(60);
/// Looks in one go; an installation takes about ten. More means that something works against us.
const MOST_LOOKS: usize = 50;

/// Why a look failed.
#[derive(Debug, thiserror::Error)]
enum PassError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Execute(#[from] ExecuteError),
}

/// What one process remembers; another starts without.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Generations of objects as this process wrote them.
    pub(crate) written: BTreeMap<ObjectId, i64>,
    /// How the last attempt to act failed.
    pub(crate) failure: Option<String>,
    /// Machines with outdated launchers, once that is known.
    pub(crate) outdated: Arc<Mutex<Option<usize>>>,
}

/// Works until `shutdown`.
pub(crate) async fn run(client: Client, settings: Settings, clock: Clock, shutdown: CancellationToken) {
    let changed = Arc::new(Notify::new());
    let mut memory = Memory::default();
    watch(&client, &settings.namespace, &changed, &shutdown);
    let api = Api::<PartialObjectMeta<VirtualMachineInstance>>::all(client.clone());
    let config = watcher::Config::default().labels(labels::OUTDATED_LAUNCHER_IMAGE);
    let stream = watcher(api, config).default_backoff();
    tokio::spawn(count(stream, memory.outdated.clone(), changed.clone(), shutdown.clone()));
    while !shutdown.is_cancelled() {
        let wait = match all(&client, &settings, &mut memory, clock).await {
            Ok(Requeue::After(delay)) => delay.min(LONGEST),
            Ok(Requeue::OnChange) => LONGEST,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot make the cluster as it should be; trying again"
                );
                RETRY
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
            () = changed.notified() => tokio::time::sleep(BUNCH).await,
        }
    }
}

/// Looks after the first KubeVirt resource; the others are told that they are not followed.
async fn all(client: &Client, settings: &Settings, memory: &mut Memory, clock: Clock) -> Result<Requeue, PassError> {
    let mut requeue = Requeue::OnChange;
    for look in 0..MOST_LOOKS {
        let mut known = in_order(kubevirts(client).await?, &settings.namespace).into_iter();
        let Some(first) = known.next() else {
            memory.written.clear();
            return Ok(Requeue::OnChange);
        };
        let elder = name_of(&first);
        let followed = Box::pin(one(client, settings, first, Vec::new(), memory, clock)).await;
        for other in known {
            Box::pin(one(client, settings, other, vec![elder.clone()], &mut Memory::default(), clock)).await?;
        }
        let (is_idle, next) = followed?;
        requeue = next;
        if is_idle {
            return Ok(requeue);
        }
        tracing::debug!(look, "looking again");
    }
    tracing::warn!(
        looks = MOST_LOOKS,
        "there is always something left to do: somebody may be changing what we install"
    );
    Ok(requeue)
}

/// One look at one resource. True when there was nothing to do.
async fn one(
    client: &Client,
    settings: &Settings,
    kubevirt: KubeVirt,
    elders: Vec<String>,
    memory: &mut Memory,
    clock: Clock,
) -> Result<(bool, Requeue), PassError> {
    let observed = observe(client, settings, kubevirt, elders, memory).await?;
    if observed.is_anothers() {
        let kubevirt = name_of(&observed.kubevirt);
        tracing::warn!(kubevirt, "another operator follows this KubeVirt resource: it is left alone");
    }
    let plan = decide(&observed, clock.now());
    let executor = Executor {
        client: client.clone(),
        namespace: &settings.namespace,
        kubevirt: &observed.kubevirt,
        now: clock.now(),
    };
    let mut failure = None;
    for effect in &plan.effects {
        match executor.execute(effect).await {
            Ok(now_at) => memory.written.extend(now_at),
            Err(error) if error.is_stale() => return Ok((false, plan.requeue)),
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    let is_news = failure.as_ref().map(ToString::to_string) != memory.failure;
    memory.failure = failure.as_ref().map(ToString::to_string);
    // A failure is told first, by looking again with it in mind; the second time in a row it ends this go.
    match failure {
        Some(_) if is_news => return Ok((false, plan.requeue)),
        Some(_) | None => {}
    }
    let is_idle = plan.effects.is_empty() && plan.status.is_none();
    if let Some(status) = plan.status {
        match executor.write_status(status).await {
            Err(error) if error.is_stale() => return Ok((false, plan.requeue)),
            other => other?,
        }
    }
    match failure {
        Some(error) => Err(error.into()),
        None if is_news => Ok((false, plan.requeue)),
        None => Ok((is_idle, plan.requeue)),
    }
}

/// Tells of every change of a KubeVirt resource and of what an operator manages.
fn watch(client: &Client, namespace: &str, changed: &Arc<Notify>, shutdown: &CancellationToken) {
    let config = watcher::Config::default().labels(&format!("{MANAGED_BY}={MANAGER}"));
    for kind in KINDS {
        // Only metadata: a change is all that is of interest.
        let api = kind.api::<PartialObjectMeta<DynamicObject>>(client.clone(), namespace);
        let stream = watcher(api, config.clone()).default_backoff();
        let absent = if kind.is_optional() { ABSENT } else { Duration::ZERO };
        tokio::spawn(tell(stream, absent, changed.clone(), shutdown.clone()));
    }
    let api = Api::<PartialObjectMeta<KubeVirt>>::all(client.clone());
    let stream = watcher(api, watcher::Config::default()).default_backoff();
    tokio::spawn(tell(stream, Duration::ZERO, changed.clone(), shutdown.clone()));
}

/// Counts what a watch shows, and tells when there are more or fewer; other changes of theirs are many and mean nothing here. Of a kind that is
/// not served there is none.
async fn count<K: Resource<DynamicType = ()>>(
    stream: impl futures::Stream<Item = Result<watcher::Event<K>, watcher::Error>>,
    counted: Arc<Mutex<Option<usize>>>,
    changed: Arc<Notify>,
    shutdown: CancellationToken,
) {
    let mut stream = std::pin::pin!(stream);
    let (mut known, mut listed) = (HashSet::new(), HashSet::new());
    let key = |object: &K| (object.namespace(), object.name_any());
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => return,
            event = stream.next() => event,
        };
        match event {
            None => return,
            Some(Ok(watcher::Event::Init)) => {
                listed.clear();
                continue;
            }
            Some(Ok(watcher::Event::InitApply(object))) => {
                listed.insert(key(&object));
                continue;
            }
            Some(Ok(watcher::Event::InitDone)) => known = std::mem::take(&mut listed),
            Some(Ok(watcher::Event::Apply(object))) => {
                known.insert(key(&object));
            }
            Some(Ok(watcher::Event::Delete(object))) => {
                known.remove(&key(&object));
            }
            Some(Err(error)) if is_absent(&error) => {
                set(&counted, 0, &changed);
                // Each attempt begins with an event, so the stream's own patience never grows.
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(ABSENT) => {}
                }
                continue;
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "a watch broke and begins again");
                continue;
            }
        }
        set(&counted, known.len(), &changed);
    }
}

/// Keeps a count, and tells when it is another.
fn set(counted: &Mutex<Option<usize>>, now: usize, changed: &Notify) {
    if counted.lock().replace(now) != Some(now) {
        changed.notify_one();
    }
}

/// Tells of changes. What the cluster does not serve is asked for again after `absent`: each attempt begins with an event, so the stream's own
/// patience never grows.
async fn tell<K>(
    stream: impl futures::Stream<Item = Result<watcher::Event<K>, watcher::Error>>,
    absent: Duration,
    changed: Arc<Notify>,
    shutdown: CancellationToken,
) {
    let mut stream = std::pin::pin!(stream);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            event = stream.next() => match event {
                // A list that is coming in is no change; its end may be one.
                Some(Ok(watcher::Event::Init | watcher::Event::InitApply(_))) => {}
                Some(Ok(_)) => changed.notify_one(),
                Some(Err(error)) => {
                    tracing::debug!(%error, "a watch broke and begins again");
                    if is_absent(&error) {
                        tokio::select! {
                            () = shutdown.cancelled() => return,
                            () = tokio::time::sleep(absent) => {}
                        }
                    }
                }
                None => return,
            },
        }
    }
}

/// Whether the cluster does not serve what was to be watched.
fn is_absent(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::http::{Request, Response};
    use futures::stream;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::client::Body;

    use super::*;

    #[tokio::test]
    async fn what_a_watch_shows_is_counted_and_told_when_there_are_more_or_fewer() {
        use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};
        let object = |name: &str| ConfigMap {
            metadata: kube::core::ObjectMeta { name: Some(name.into()), ..Default::default() },
            ..Default::default()
        };
        let (counted, changed) = (Arc::new(Mutex::new(None)), Arc::new(Notify::new()));
        for (events, count, is_told) in [
            (vec![Init, InitApply(object("a"))], None, false),
            (vec![Init, InitDone], Some(0), true),
            (vec![Init, InitApply(object("a")), InitApply(object("b")), InitDone, Apply(object("a"))], Some(2), true),
            // Another watch, which begins with the same.
            (vec![Init, InitApply(object("a")), InitApply(object("b")), InitDone, Apply(object("b"))], Some(2), false),
            (vec![Init, InitApply(object("a")), InitDone, Delete(object("a"))], Some(0), true),
        ] {
            let events = stream::iter(events.into_iter().map(Ok));
            super::count(events, counted.clone(), changed.clone(), CancellationToken::new()).await;
            assert_eq!(*counted.lock(), count);
            let told = tokio::time::timeout(Duration::from_millis(1), changed.notified()).await.is_ok();
            assert_eq!(told, is_told, "{count:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn kinds_the_cluster_does_not_serve_are_asked_for_now_and_then_and_are_no_change() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let nothing = tower::service_fn(move |_: Request<Body>| {
            count.fetch_add(1, Ordering::Relaxed);
            async {
                let answer = Response::builder().status(404).body(Body::from(b"404 page not found\n".to_vec()));
                Ok::<_, Infallible>(answer.unwrap())
            }
        });
        let kind = KINDS.iter().find(|kind| kind.is_optional()).unwrap();
        let api = kind.api::<PartialObjectMeta<DynamicObject>>(Client::new(nothing, "default"), "kubevirt");
        let stream = watcher(api, watcher::Config::default()).default_backoff();
        let (changed, shutdown) = (Arc::new(Notify::new()), CancellationToken::new());
        let told = tokio::spawn(tell(stream, ABSENT, changed.clone(), shutdown.clone()));
        assert!(tokio::time::timeout(10 * ABSENT, changed.notified()).await.is_err(), "nothing has changed");
        let asked = asked.load(Ordering::Relaxed);
        assert!((5..=11).contains(&asked), "asked {asked} times in ten minutes");
        shutdown.cancel();
        told.await.unwrap();
    }
}
