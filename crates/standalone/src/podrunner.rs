//! The pod runner: what kubelet and container runtime are to a cluster, for our own pods only. Each runs as host processes in a network
//! namespace made by CNI plugins. One task owns one pod; what a restart must know stands in the pod's directory, and processes
//! are found again by pid and start time.

pub mod cni;
mod container;
mod exec;
mod logs;
mod network;
pub mod programs;
mod readiness;
mod sandbox;
mod status;
mod volumes;
mod worker;

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use fv_virt_handler::sandbox::{PodSandbox, PodSandboxes, SandboxError};
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::cni::PodNetwork;
pub use self::container::GO;
pub use self::logs::PodLogReader;
pub use self::network::{NetworkError, open_network, remove_network};
use self::programs::Programs;
pub(crate) use self::sandbox::remove_tree;
use crate::instance::Instance;

/// Name the runner's events carry; users look for kubelet's.
const COMPONENT: &str = "kubelet";

/// What the runner needs to know.
#[derive(Clone, Debug)]
pub struct PodRunnerConfig {
    pub instance: Instance,
    /// Name of the Node object whose pods are run.
    pub node_name: String,
    /// Our own program; `<init> internal-container SPEC` becomes the container's process.
    pub init: PathBuf,
    pub programs: Programs,
    pub network: PodNetwork,
}

/// The runner. Cheap to clone.
#[derive(Clone)]
pub struct PodRunner {
    config: Arc<PodRunnerConfig>,
    client: Client,
}

/// What the API says of a pod now; `Gone` only after a watch or a complete list said so.
#[derive(Clone, Debug)]
enum Wanted {
    Pod(Arc<Pod>),
    Gone,
}

impl PodRunner {
    /// A runner for the pods bound to `config.node_name`.
    pub fn new(config: PodRunnerConfig, client: Client) -> Self {
        Self { config: Arc::new(config), client }
    }

    /// Runs until `shutdown`; the pods' processes go on and are taken over by the next run.
    pub async fn run(&self, shutdown: CancellationToken) {
        let selector = format!("spec.nodeName={}", self.config.node_name);
        let api = Api::<Pod>::all(self.client.clone());
        let mut events = std::pin::pin!(watcher(api, watcher::Config::default().fields(&selector)).default_backoff());
        let mut pods: HashMap<String, watch::Sender<Wanted>> = HashMap::new();
        let mut tasks: JoinSet<String> = JoinSet::new();
        let mut listed: HashSet<String> = HashSet::new();
        loop {
            let event = tokio::select! {
                () = shutdown.cancelled() => break,
                Some(done) = tasks.join_next(), if !tasks.is_empty() => {
                    if let Ok(uid) = done {
                        // A pod may have come back under the same name, never under the same UID.
                        pods.remove(&uid);
                    }
                    continue;
                }
                event = events.next() => event,
            };
            match event {
                None => break,
                Some(Err(error)) => tracing::debug!(%error, "the pod watch failed; it is started again"),
                Some(Ok(Event::Init)) => listed.clear(),
                Some(Ok(Event::InitApply(pod))) => {
                    listed.extend(pod.uid());
                    self.take_in(pod, &mut pods, &mut tasks, &shutdown);
                }
                Some(Ok(Event::Apply(pod))) => self.take_in(pod, &mut pods, &mut tasks, &shutdown),
                Some(Ok(Event::Delete(pod))) => {
                    if let Some(sender) = pod.uid().and_then(|uid| pods.get(&uid)) {
                        sender.send_replace(Wanted::Gone);
                    }
                }
                Some(Ok(Event::InitDone)) => {
                    for uid in self.known_uids(&pods).into_iter().filter(|uid| !listed.contains(uid)) {
                        self.set(uid, Wanted::Gone, &mut pods, &mut tasks, &shutdown);
                    }
                }
            }
        }
        // The workers end with the same token; their pods go on.
        while tasks.join_next().await.is_some() {}
    }

    fn take_in(
        &self,
        pod: Pod,
        pods: &mut HashMap<String, watch::Sender<Wanted>>,
        tasks: &mut JoinSet<String>,
        shutdown: &CancellationToken,
    ) {
        let Some(uid) = pod.uid() else { return };
        self.set(uid, Wanted::Pod(Arc::new(pod)), pods, tasks, shutdown);
    }

    fn set(
        &self,
        uid: String,
        wanted: Wanted,
        pods: &mut HashMap<String, watch::Sender<Wanted>>,
        tasks: &mut JoinSet<String>,
        shutdown: &CancellationToken,
    ) {
        if let Some(sender) = pods.get(&uid) {
            sender.send_replace(wanted);
            return;
        }
        let (sender, receiver) = watch::channel(wanted);
        pods.insert(uid.clone(), sender);
        let (runner, shutdown) = (self.clone(), shutdown.clone());
        tasks.spawn(async move {
            // A worker that panicked begins again from what is on disk; its pod is never left alone.
            loop {
                let worker = worker::Worker::new(runner.clone(), uid.clone(), receiver.clone());
                let run = AssertUnwindSafe(worker.run()).catch_unwind();
                tokio::select! {
                    () = shutdown.cancelled() => return uid,
                    outcome = run => if outcome.is_ok() { return uid },
                }
                tracing::error!(pod = %uid, "the worker of a pod panicked; it begins again");
                tokio::select! {
                    () = shutdown.cancelled() => return uid,
                    () = tokio::time::sleep(worker::RETRY) => {}
                }
            }
        });
    }

    /// Pods with a directory here or a task.
    fn known_uids(&self, pods: &HashMap<String, watch::Sender<Wanted>>) -> Vec<String> {
        let directories = std::fs::read_dir(self.config.instance.pods_dir()).into_iter().flatten().flatten();
        let mut uids: Vec<String> = directories.filter_map(|e| e.file_name().into_string().ok()).collect();
        uids.extend(pods.keys().cloned());
        uids.sort();
        uids.dedup();
        uids
    }
}

#[async_trait::async_trait]
impl PodSandboxes for PodRunner {
    async fn locate(&self, pod_uid: &str) -> Result<Option<PodSandbox>, SandboxError> {
        let paths = sandbox::Paths::of(&self.config.instance, pod_uid);
        let read = |source| SandboxError::Read { pod_uid: pod_uid.to_string(), source };
        let netns = match std::fs::File::open(&paths.netns) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(read(error)),
        };
        let share_dir = paths.volume("private");
        if !paths.record.exists() || !share_dir.exists() || !volumes::are_mounted(&paths).map_err(read)? {
            return Ok(None);
        }
        Ok(Some(PodSandbox { netns: netns.into(), share_dir, resolv_conf: None }))
    }
}

/// Ends every pod of an instance that no runner looks after any more: processes, namespaces, directories.
///
/// # Errors
/// Something cannot be ended; repeating it goes on.
pub async fn forget_pods(instance: &Instance, network: Option<&PodNetwork>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(instance.pods_dir()).into_iter().flatten().flatten() {
        let Ok(uid) = entry.file_name().into_string() else { continue };
        let paths = sandbox::Paths::of(instance, &uid);
        container::kill_all(&paths).await?;
        match network {
            Some(network) => sandbox::release_network(&paths, &uid, network).await?,
            None => sandbox::remove_netns(&paths)?,
        }
        sandbox::remove_dirs(&paths)?;
    }
    // Namespaces whose pod directory is gone already: mounted, they would hold the run directory.
    for entry in std::fs::read_dir(instance.netns_dir()).into_iter().flatten().flatten() {
        let Ok(uid) = entry.file_name().into_string() else { continue };
        let paths = sandbox::Paths::of(instance, &uid);
        match network {
            Some(network) => sandbox::release_network(&paths, &uid, network).await?,
            None => sandbox::remove_netns(&paths)?,
        }
    }
    Ok(())
}

/// kubelet's back-off between two starts of a container: nothing, then 10 s doubling up to five minutes.
fn restart_delay(restarts: i32) -> Duration {
    match u32::try_from(restarts).unwrap_or(0) {
        0 => Duration::ZERO,
        n => Duration::from_secs((10 << (n - 1).min(5)).min(300)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_back_off_like_kubelets() {
        let seconds: Vec<u64> = (0..8).map(|n| restart_delay(n).as_secs()).collect();
        assert_eq!(seconds, [0, 10, 20, 40, 80, 160, 300, 300]);
    }
}
