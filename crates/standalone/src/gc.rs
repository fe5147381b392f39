//! The owner-reference garbage collector: watches the metadata of everything served, deletes what nobody owns any more, and carries
//! out foreground and orphaning deletions. What to do is decided in [`graph`]; nothing is deleted because it was not seen, only
//! because the API said its owner is gone.

pub mod graph;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::discovery::{ApiResource, Discovery, Scope, verbs};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::graph::{Graph, Node, Step};
use crate::events::{Note, record_about};

const COMPONENT: &str = "garbage-collector-controller";

/// How long a failed step waits before it is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// Kinds may come and go (custom resources): how often discovery is asked while no definition changed.
const REDISCOVER: Duration = Duration::from_secs(30);

enum Seen {
    Present {
        resource: String,
        meta: Box<ObjectMeta>,
    },
    Gone {
        resource: String,
        uid: String,
    },
    /// A complete list was read: whatever is not in it does not exist.
    Listed {
        resource: String,
        uids: HashSet<String>,
    },
}

struct Kind {
    resource: ApiResource,
    namespaced: bool,
    /// Ends the watch when dropped.
    _watch: DropGuard,
}

/// Runs until `shutdown`.
pub async fn run(client: Client, shutdown: CancellationToken) {
    let (sender, mut seen) = mpsc::channel(256);
    let mut collector = Collector { client, graph: Graph::default(), kinds: BTreeMap::new(), sender };
    let mut queue: BTreeSet<String> = BTreeSet::new();
    let mut rediscover = tokio::time::interval(REDISCOVER);
    let mut retry = tokio::time::interval(RETRY);
    let mut failed: HashSet<String> = HashSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = rediscover.tick() => collector.discover().await,
            _ = retry.tick(), if !failed.is_empty() => queue.extend(failed.drain()),
            Some(event) = seen.recv() => {
                if collector.concerns_definitions(&event) {
                    rediscover.reset_after(Duration::from_millis(100));
                }
                queue.extend(collector.take_in(event));
            }
        }
        while let Some(uid) = queue.pop_first() {
            if let Err(error) = collector.advance(&uid).await {
                tracing::warn!(%uid, %error, "garbage collection of an object failed; it is tried again");
                failed.insert(uid);
            }
        }
    }
}

struct Collector {
    client: Client,
    graph: Graph,
    kinds: BTreeMap<String, Kind>,
    sender: mpsc::Sender<Seen>,
}

impl Collector {
    /// Starts a watch for every kind that can be deleted, ends those of kinds no longer served.
    async fn discover(&mut self) {
        let discovery = match Discovery::new(self.client.clone()).run().await {
            Ok(discovery) => discovery,
            Err(error) => return tracing::warn!(%error, "discovery failed; it is tried again"),
        };
        let mut served = HashMap::new();
        for group in discovery.groups() {
            for (resource, capabilities) in group.recommended_resources() {
                let collectable = capabilities.supports_operation(verbs::DELETE)
                    && capabilities.supports_operation(verbs::LIST)
                    && capabilities.supports_operation(verbs::WATCH);
                if collectable && resource.kind != "Event" {
                    served.insert(key(&resource), (resource, capabilities.scope == Scope::Namespaced));
                }
            }
        }
        let graph = &mut self.graph;
        self.kinds.retain(|key, _| {
            let keep = served.contains_key(key);
            if !keep {
                // Nothing follows from it: an owner of a kind that is not served is not known to be gone.
                for uid in graph.of_resource(key) {
                    graph.remove(&uid);
                }
            }
            keep
        });
        for (key, (resource, namespaced)) in served {
            if self.kinds.contains_key(&key) {
                continue;
            }
            let stop = CancellationToken::new();
            tokio::spawn(watch(self.client.clone(), key.clone(), resource.clone(), self.sender.clone(), stop.clone()));
            self.kinds.insert(key, Kind { resource, namespaced, _watch: stop.drop_guard() });
        }
    }

    fn concerns_definitions(&self, event: &Seen) -> bool {
        let (Seen::Present { resource, .. } | Seen::Gone { resource, .. } | Seen::Listed { resource, .. }) = event;
        resource == "apiextensions.k8s.io/customresourcedefinitions"
    }

    fn take_in(&mut self, event: Seen) -> Vec<String> {
        match event {
            Seen::Present { resource, meta } => self.graph.upsert(&resource, &meta),
            Seen::Gone { uid, .. } => self.graph.remove(&uid),
            Seen::Listed { resource, uids } => {
                let stale: Vec<_> =
                    self.graph.of_resource(&resource).into_iter().filter(|u| !uids.contains(u)).collect();
                let mut changed: Vec<_> = stale.iter().flat_map(|uid| self.graph.remove(uid)).collect();
                // The kind may be a new one, whose objects could not be asked for before.
                changed.extend(self.graph.of_unseen_owners());
                changed
            }
        }
    }

    async fn advance(&mut self, uid: &str) -> kube::Result<()> {
        let mut step = self.graph.step(uid);
        self.report_misplaced(uid).await;
        if let Step::LookUp(owners) = &step {
            let mut gone = HashSet::new();
            for owner in owners {
                if self.is_gone(uid, owner).await? {
                    gone.insert(owner.uid.clone());
                }
            }
            step = self.graph.settle(uid, &gone);
        }
        match step {
            Step::Keep | Step::LookUp(_) => Ok(()),
            Step::Delete { foreground } => self.delete(uid, foreground).await,
            Step::DropOwners(owners) => self.forget_owners(uid, &owners).await,
            Step::OrphanDependents(dependents) => {
                for dependent in dependents {
                    self.forget_owners(&dependent, &[uid.to_string()]).await?;
                }
                Ok(())
            }
            Step::RemoveFinalizer(finalizer) => {
                // The watches of two kinds know no order, and after a start some have not listed yet. Once the finalizer is gone so is
                // the owner, and dependents that were overlooked would be collected as orphans of nobody: so ask once more.
                let overlooked = self.dependents_now(uid).await?;
                for (resource, meta) in &overlooked {
                    self.graph.upsert(resource, meta);
                }
                match self.graph.step(uid) {
                    Step::RemoveFinalizer(_) => self.remove_finalizer(uid, finalizer).await,
                    Step::OrphanDependents(dependents) => {
                        for dependent in dependents {
                            self.forget_owners(&dependent, &[uid.to_string()]).await?;
                        }
                        Ok(())
                    }
                    _ => {
                        for dependent in overlooked.iter().filter_map(|(_, meta)| meta.uid.clone()) {
                            Box::pin(self.advance(&dependent)).await?;
                        }
                        Ok(())
                    }
                }
            }
        }
    }

    /// The objects that name `uid` as an owner now, as the API tells.
    async fn dependents_now(&self, uid: &str) -> kube::Result<Vec<(String, ObjectMeta)>> {
        let Some(owner) = self.graph.get(uid) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for (key, kind) in &self.kinds {
            let api: Api<DynamicObject> = match &owner.namespace {
                Some(_) if !kind.namespaced => continue,
                Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &kind.resource),
                None => Api::all_with(self.client.clone(), &kind.resource),
            };
            let objects = match api.list_metadata(&ListParams::default()).await {
                Ok(objects) => objects.items,
                // The kind is being withdrawn, with all its objects.
                Err(kube::Error::Api(status)) if status.code == 404 => continue,
                Err(error) => return Err(error),
            };
            let owned = objects.into_iter().filter(|o| o.owner_references().iter().any(|r| r.uid == uid));
            found.extend(owned.map(|o| (key.clone(), o.metadata)));
        }
        Ok(found)
    }

    /// Tells of owners that an object cannot have. What it does not have keeps it no longer than if they were gone.
    async fn report_misplaced(&self, uid: &str) {
        let Some(node) = self.graph.get(uid).filter(|node| !node.deleting) else { return };
        let Some(kind) = self.kinds.get(&node.resource) else { return };
        for owner in self.graph.misplaced(uid) {
            let namespace = node.namespace.as_deref().unwrap_or_default();
            let message = format!(
                "ownerRef [{}/{}, namespace: {namespace}, name: {}, uid: {}] does not exist in namespace {namespace:?}",
                owner.api_version, owner.kind, owner.name, owner.uid
            );
            let about = ObjectReference {
                api_version: Some(kind.resource.api_version.clone()),
                kind: Some(kind.resource.kind.clone()),
                name: Some(node.name.clone()),
                namespace: node.namespace.clone(),
                uid: Some(uid.to_owned()),
                ..ObjectReference::default()
            };
            let note = Note::warning("OwnerRefInvalidNamespace", "GarbageCollection", &message);
            record_about(&self.client, COMPONENT, about, note).await;
        }
    }

    fn api(&self, node: &Node) -> Option<Api<DynamicObject>> {
        let kind = self.kinds.get(&node.resource)?;
        Some(match &node.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &kind.resource),
            None => Api::all_with(self.client.clone(), &kind.resource),
        })
    }

    /// Whether the API says, now, that the owner does not exist: no object of its name, or one with another UID.
    async fn is_gone(&self, dependent: &str, owner: &OwnerReference) -> kube::Result<bool> {
        let group = owner.api_version.rsplit_once('/').map_or("", |(group, _)| group);
        // An owner of a kind that is not served is not known to be gone.
        let Some(kind) = self.kinds.values().find(|k| k.resource.group == group && k.resource.kind == owner.kind)
        else {
            return Ok(false);
        };
        let namespace = self.graph.get(dependent).and_then(|n| n.namespace.clone());
        let api: Api<DynamicObject> = match (kind.namespaced, namespace) {
            (true, Some(namespace)) => Api::namespaced_with(self.client.clone(), &namespace, &kind.resource),
            // A cluster-scoped object cannot be owned by a namespaced one; Kubernetes leaves it alone.
            (true, None) => return Ok(false),
            (false, _) => Api::all_with(self.client.clone(), &kind.resource),
        };
        Ok(api.get_metadata_opt(&owner.name).await?.is_none_or(|found| found.uid().as_ref() != Some(&owner.uid)))
    }

    /// Deletes an object as it is now, if it still has the owners it was judged by. Who changes it meanwhile is seen by the watch, and
    /// it is judged anew.
    async fn delete(&self, uid: &str, foreground: bool) -> kube::Result<()> {
        let Some(node) = self.graph.get(uid) else { return Ok(()) };
        let Some(api) = self.api(node) else { return Ok(()) };
        let Some(current) = api.get_metadata_opt(&node.name).await? else { return Ok(()) };
        if current.uid().as_deref() != Some(uid) || current.owner_references() != node.owners {
            return Ok(());
        }
        // Who asked for a policy when making the object gets it.
        let asked = |finalizer: &str| current.finalizers().iter().any(|f| f == finalizer);
        let params = match (asked(graph::ORPHAN), foreground || asked(graph::FOREGROUND)) {
            (true, _) => DeleteParams::orphan(),
            (false, true) => DeleteParams::foreground(),
            (false, false) => DeleteParams::background(),
        };
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: current.resource_version() };
        let params = DeleteParams { preconditions: Some(preconditions), ..params };
        gone_is_fine(api.delete(&node.name, &params).await.map(drop))
    }

    async fn forget_owners(&self, uid: &str, owners: &[String]) -> kube::Result<()> {
        let Some(node) = self.graph.get(uid) else { return Ok(()) };
        let Some(api) = self.api(node) else { return Ok(()) };
        let Some(current) = api.get_metadata_opt(&node.name).await? else { return Ok(()) };
        let kept: Vec<_> = current.owner_references().iter().filter(|o| !owners.contains(&o.uid)).collect();
        let patch = json!({"metadata": {
            "uid": uid, "resourceVersion": current.resource_version(), "ownerReferences": kept,
        }});
        gone_is_fine(api.patch_metadata(&node.name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop))
    }

    async fn remove_finalizer(&self, uid: &str, finalizer: &str) -> kube::Result<()> {
        let Some(node) = self.graph.get(uid) else { return Ok(()) };
        let Some(api) = self.api(node) else { return Ok(()) };
        let Some(current) = api.get_metadata_opt(&node.name).await? else { return Ok(()) };
        let kept: Vec<_> = current.finalizers().iter().filter(|f| *f != finalizer).collect();
        let patch = json!({"metadata": {
            "uid": uid, "resourceVersion": current.resource_version(), "finalizers": kept,
        }});
        gone_is_fine(api.patch_metadata(&node.name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop))
    }
}

fn key(resource: &ApiResource) -> String {
    format!("{}/{}", resource.group, resource.plural)
}

/// Not found is what we wanted. A conflict means that the object, or another of its name, was written meanwhile: it is tried again.
fn gone_is_fine(outcome: kube::Result<()>) -> kube::Result<()> {
    match outcome {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other,
    }
}

async fn watch(
    client: Client,
    key: String,
    resource: ApiResource,
    sender: mpsc::Sender<Seen>,
    stop: CancellationToken,
) {
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &resource);
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
    let mut listed = HashSet::new();
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return,
            event = events.next() => event,
        };
        let seen = match event {
            None => return,
            Some(Err(error)) => {
                tracing::debug!(resource = %key, %error, "a metadata watch failed; it is started again");
                continue;
            }
            Some(Ok(Event::Init)) => {
                listed.clear();
                continue;
            }
            Some(Ok(Event::InitApply(object))) => {
                listed.extend(object.uid());
                Seen::Present { resource: key.clone(), meta: Box::new(object.metadata) }
            }
            Some(Ok(Event::InitDone)) => Seen::Listed { resource: key.clone(), uids: std::mem::take(&mut listed) },
            Some(Ok(Event::Apply(object))) => Seen::Present { resource: key.clone(), meta: Box::new(object.metadata) },
            Some(Ok(Event::Delete(object))) => match object.uid() {
                Some(uid) => Seen::Gone { resource: key.clone(), uid },
                None => continue,
            },
        };
        if sender.send(seen).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
