//! The storage of the embedded engine: claims are bound to volumes as Kubernetes' controller binds them, and a provisioner of ours
//! makes directories for those of its classes. Level-triggered: whenever a claim, volume, class, pod or guest changes, every claim
//! and volume is looked at again; each is moved on by one write, guarded by its version.

mod apply;
mod claim;
mod classes;
mod directories;
pub(crate) mod matching;
mod protect;
mod volume;
pub(crate) mod words;
pub(crate) mod writes;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use fv_api::VirtualMachineInstance;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::Api;
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Client, ResourceExt};
use tokio_util::sync::CancellationToken;

pub use self::directories::Directories;
use self::words::{DEFAULT_CLASS, annotation};

/// How long what failed waits.
const RETRY: Duration = Duration::from_secs(2);

/// What the API says, for the decisions.
pub(crate) struct World {
    claims: HashMap<(String, String), Arc<PersistentVolumeClaim>>,
    volumes: BTreeMap<String, Arc<PersistentVolume>>,
    classes: BTreeMap<String, Arc<StorageClass>>,
    pods: Vec<Arc<Pod>>,
}

impl World {
    pub(crate) fn new(
        claims: Vec<Arc<PersistentVolumeClaim>>,
        volumes: Vec<Arc<PersistentVolume>>,
        classes: Vec<Arc<StorageClass>>,
        pods: Vec<Arc<Pod>>,
    ) -> Self {
        let key = |claim: &PersistentVolumeClaim| (claim.namespace().unwrap_or_default(), claim.name_any());
        Self {
            claims: claims.into_iter().map(|c| (key(&c), c)).collect(),
            volumes: volumes.into_iter().map(|v| (v.name_any(), v)).collect(),
            classes: classes.into_iter().map(|c| (c.name_any(), c)).collect(),
            pods,
        }
    }

    pub(crate) fn claim(&self, namespace: &str, name: &str) -> Option<&PersistentVolumeClaim> {
        self.claims.get(&(namespace.to_owned(), name.to_owned())).map(AsRef::as_ref)
    }

    pub(crate) fn volume(&self, name: &str) -> Option<&PersistentVolume> {
        self.volumes.get(name).map(AsRef::as_ref)
    }

    pub(crate) fn volumes(&self) -> impl Iterator<Item = &PersistentVolume> {
        self.volumes.values().map(AsRef::as_ref)
    }

    pub(crate) fn class(&self, name: &str) -> Option<&StorageClass> {
        self.classes.get(name).map(AsRef::as_ref)
    }

    /// The newest of the default classes, the first by name of those as new.
    fn default_class(&self) -> Option<String> {
        let defaults = self.classes.values().filter(|c| annotation(&c.metadata, DEFAULT_CLASS) == Some("true"));
        let newest = defaults.max_by_key(|c| (c.creation_timestamp(), std::cmp::Reverse(c.name_any())));
        newest.map(|class| class.name_any())
    }

    /// The pods without a node that name the claim.
    fn unscheduled_users(&self, claim: &PersistentVolumeClaim) -> Vec<String> {
        let waits = |pod: &&Arc<Pod>| {
            let node = pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).unwrap_or_default();
            node.is_empty() && pod.namespace() == claim.namespace() && protect::names(pod, &claim.name_any())
        };
        let mut names: Vec<String> = self.pods.iter().filter(waits).map(|pod| pod.name_any()).collect();
        names.sort();
        names
    }
}

/// Runs until `shutdown`; API failures are retried, never fatal.
pub async fn run(client: Client, directories: Directories, node: String, shutdown: CancellationToken) {
    let (claims, claim_writer) = reflector::store::<PersistentVolumeClaim>();
    let (volumes, volume_writer) = reflector::store::<PersistentVolume>();
    let (classes, class_writer) = reflector::store::<StorageClass>();
    let (pods, pod_writer) = reflector::store::<Pod>();
    let config = watcher::Config::default;
    let streams = [
        watcher(Api::all(client.clone()), config()).default_backoff().reflect(claim_writer).map(|_| ()).boxed(),
        watcher(Api::all(client.clone()), config()).default_backoff().reflect(volume_writer).map(|_| ()).boxed(),
        watcher(Api::all(client.clone()), config()).default_backoff().reflect(class_writer).map(|_| ()).boxed(),
        watcher(Api::all(client.clone()), config()).default_backoff().reflect(pod_writer).map(|_| ()).boxed(),
        // That a guest is gone may free its claim; which are there is asked when it counts.
        watcher(Api::<PartialObjectMeta<VirtualMachineInstance>>::all(client.clone()), config())
            .default_backoff()
            .map(|_| ())
            .boxed(),
    ];
    let mut changes = futures::stream::select_all(streams);
    let mut hands = apply::Hands::new(client.clone(), directories, node);
    let mut class_made = false;
    let mut failed = true;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            change = changes.next() => if change.is_none() { return },
            () = tokio::time::sleep(RETRY), if failed => {}
        }
        // A burst of changes is one change.
        while let Some(Some(())) = changes.next().now_or_never() {}
        if !class_made {
            class_made = match classes::make_default(&client).await {
                Ok(()) => true,
                Err(error) => {
                    tracing::warn!(%error, "the default storage class could not be made; it is tried again");
                    false
                }
            };
        }
        // Before the first complete lists, what is not there is only not seen yet.
        let ready = claims.wait_until_ready().now_or_never().is_some()
            && volumes.wait_until_ready().now_or_never().is_some()
            && classes.wait_until_ready().now_or_never().is_some()
            && pods.wait_until_ready().now_or_never().is_some();
        if !ready {
            failed = !class_made;
            continue;
        }
        let world = World::new(claims.state(), volumes.state(), classes.state(), pods.state());
        failed = hands.pass(&world).await | !class_made;
    }
}
