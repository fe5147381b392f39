//! The cluster's settings, as every component of a cluster gets them: what the program was started with, and over it what the
//! KubeVirt resource says.

use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use fv_api::KubeVirt;
use fv_api::config::ClusterConfig;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The settings now in force, and word when they change.
pub type Settings = watch::Receiver<Arc<ClusterConfig>>;

/// Settings that stay as they are.
pub fn fixed(config: ClusterConfig) -> Settings {
    watch::channel(Arc::new(config)).1
}

/// Follows the KubeVirt resource of `namespace` until `shutdown`. Returns when it was read for the first time: nothing is decided on
/// settings that nobody asked for. `None` when told to stop before that. While it cannot be read or understood the last settings stay.
pub async fn follow(
    client: Client,
    namespace: &str,
    base: ClusterConfig,
    shutdown: CancellationToken,
) -> Option<Settings> {
    let api: Api<KubeVirt> = Api::namespaced(client, namespace);
    let (sender, settings) = watch::channel(Arc::new(base.clone()));
    let (read, mut first) = watch::channel(false);
    let stop = shutdown.clone();
    tokio::spawn(async move {
        let mut events = pin!(watch_objects(api, watcher::Config::default()).default_backoff());
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return,
                event = events.next() => event,
            };
            match event {
                Some(Ok(Event::Apply(kubevirt) | Event::InitApply(kubevirt))) => take(&sender, &kubevirt, &base),
                Some(Ok(Event::InitDone)) => {
                    read.send_replace(true);
                }
                // Without the resource we are being removed, or it is being made anew: nothing to go by.
                Some(Ok(Event::Delete(_) | Event::Init)) => {}
                Some(Err(error)) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, "watching the KubeVirt resource failed; trying again");
                }
                None => return,
            }
        }
    });
    tokio::select! {
        () = shutdown.cancelled() => None,
        read = first.wait_for(|read| *read) => read.is_ok().then_some(settings),
    }
}

fn take(settings: &watch::Sender<Arc<ClusterConfig>>, kubevirt: &KubeVirt, base: &ClusterConfig) {
    match ClusterConfig::from_kubevirt(kubevirt, base) {
        Ok(config) => {
            settings.send_if_modified(|current| {
                let changed = **current != config;
                if changed {
                    *current = Arc::new(config);
                }
                changed
            });
        }
        Err(error) => tracing::warn!(%error, "the configuration is not understood; the last one stays"),
    }
}
