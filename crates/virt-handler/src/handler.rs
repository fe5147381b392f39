//! The handler of a node: finds every VM that concerns it and gives each its task.
//!
//! What concerns it comes from three places, all of which outlive this process: the API (VMIs assigned to the node), libvirt (domains
//! of this instance) and the node directory (records). A VM known from any of them has a task.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use fv_api::VirtualMachineInstance;
use fv_api::config::ClusterConfig;
use fv_api::meta::labels;
use fv_disk::ImageStore;
use fv_host::network::NetworkSetup;
use fv_hypervisor::daemon::{DaemonConfig, LibvirtEndpoint, keep_libvirtd};
use fv_hypervisor::{Hypervisor, HypervisorEvent};
use fv_plan::{EventKind, EventSpec, ObjectKey, ObjectRef};
use fv_runtime::{Clock, Recorder};
use k8s_openapi::api::core::v1::Pod;
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, broadcast, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use uuid::Uuid;

use crate::cluster::Cluster;
use crate::disks::LocalDisks;
use crate::engine::{Node, Shared, VmiSlot};
use crate::node;
use crate::ports::{NodeCgroups, NodeDisks, NodeNetwork};
use crate::sandbox::PodSandboxes;
use crate::store::{RecordStore, StoreError, make_dir};
use crate::task::{Message, Task};
use crate::vm::decide::Trouble;
use crate::vm::record::Record;
use crate::volumes::DirectoryVolumes;

mod agent;
mod reclaim;

/// How soon domains are listed again after that failed.
const LIST_AGAIN: Duration = Duration::from_secs(5);

/// How a handler is set up.
#[derive(Clone, Debug)]
pub struct HandlerConfig {
    /// Name of this node's Node object.
    pub node_name: String,
    /// Id of this Ferrovirt instance.
    pub instance_id: String,
    /// `D`: records and disks live in `D/node`.
    pub data_dir: PathBuf,
    /// `R`: sockets live in `R/vmis`, network namespaces in `R/netns`.
    pub run_dir: PathBuf,
    /// Until [`Handler::set_cluster_config`] says otherwise.
    pub cluster: ClusterConfig,
    /// Where guests' DNS settings come from.
    pub resolv_conf: PathBuf,
    /// Size at which a console log is replaced; two are kept.
    pub console_log_bytes: u64,
    /// The private libvirtd to start again when it dies; `None`: somebody else looks after it.
    pub keep_daemon: Option<(DaemonConfig, LibvirtEndpoint)>,
    /// libvirt's resource partition of guests.
    pub partition: Option<String>,
    /// Whether to keep the Node object's heartbeat and labels.
    pub heartbeat: bool,
    pub clock: Clock,
    /// The root directory of the kubelet that runs launcher pods; `None`: the pod runner does. With a kubelet, secrets are what it
    /// mounted into the pod, and are not asked for.
    pub kubelet_dir: Option<PathBuf>,
}

impl HandlerConfig {
    /// The usual settings.
    pub fn new(
        node_name: impl Into<String>,
        instance_id: impl Into<String>,
        data_dir: impl Into<PathBuf>,
        run_dir: impl Into<PathBuf>,
        cluster: ClusterConfig,
    ) -> Self {
        Self {
            node_name: node_name.into(),
            instance_id: instance_id.into(),
            data_dir: data_dir.into(),
            run_dir: run_dir.into(),
            cluster,
            resolv_conf: "/etc/resolv.conf".into(),
            console_log_bytes: 2 << 20,
            keep_daemon: None,
            partition: None,
            heartbeat: true,
            clock: Clock::System,
            kubelet_dir: None,
        }
    }
}

/// Why a handler could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("open the node directory")]
    Store(#[from] StoreError),
}

/// Below the run directory: where images in volumes of launcher pods are mounted. libvirt has to see what is mounted there.
pub const VOLUMES_DIR: &str = "volumes";

/// Ports of a handler that tests replace.
pub struct Ports {
    pub network: Arc<dyn NodeNetwork>,
    pub disks: Arc<dyn NodeDisks>,
    /// `None`: libvirt puts QEMU where [`HandlerConfig::partition`] says.
    pub cgroups: Option<Arc<dyn NodeCgroups>>,
}

/// Starts the handler of this node. Returns at once: guests are looked after as soon as their facts are there. `shutdown` ends the handler
/// and touches no guest.
pub async fn start(
    config: HandlerConfig,
    client: Client,
    hypervisor: Arc<dyn Hypervisor>,
    images: Arc<ImageStore>,
    sandboxes: Arc<dyn PodSandboxes>,
    shutdown: CancellationToken,
) -> Result<Handler, StartError> {
    let volumes = Arc::new(DirectoryVolumes::new(config.data_dir.join("pods")));
    let ports = Ports {
        network: Arc::new(NetworkSetup::new(config.run_dir.join("netns"))),
        disks: Arc::new(LocalDisks::new(
            images,
            config.data_dir.join("node/disks"),
            volumes,
            config.run_dir.join(VOLUMES_DIR),
        )),
        cgroups: None,
    };
    start_with(config, client, hypervisor, ports, sandboxes, shutdown).await
}

/// [`start`] with other ports.
pub async fn start_with(
    config: HandlerConfig,
    client: Client,
    hypervisor: Arc<dyn Hypervisor>,
    ports: Ports,
    sandboxes: Arc<dyn PodSandboxes>,
    shutdown: CancellationToken,
) -> Result<Handler, StartError> {
    let (store, found) = {
        let config = config.clone();
        let open = move || {
            // QEMU's users have to get through to their own disks and sockets, and see nothing on the way.
            for dir in ["node", "node/disks"] {
                make_dir(&config.data_dir.join(dir), 0o711)?;
            }
            for dir in ["vmis", VOLUMES_DIR] {
                make_dir(&config.run_dir.join(dir), 0o711)?;
            }
            let store = RecordStore::open(config.data_dir.join("node/vmis"), &config.instance_id)?;
            let found = store.load()?;
            Ok::<_, StoreError>((store, found))
        };
        tokio::task::spawn_blocking(open).await.map_err(|error| StoreError::Io {
            step: "open",
            path: "node".into(),
            source: std::io::Error::other(error),
        })??
    };
    let (recorder, _) = Recorder::start(client.clone(), "virt-handler", config.clock);
    let node = Arc::new(Node {
        cluster: Cluster::new(client),
        hypervisor,
        network: ports.network,
        disks: ports.disks,
        sandboxes,
        cgroups: ports.cgroups,
        store,
        recorder,
        settings: RwLock::new(Arc::new(config.cluster.clone())),
        config,
    });
    let mut damaged = HashMap::new();
    for (uid, error) in found.damaged {
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        tracing::error!(uid, error = %error, source, "VM is not looked after");
        let message = format!("{error}: {source}");
        node.recorder.record(EventSpec {
            about: node_reference(&node.config.node_name),
            kind: EventKind::Warning,
            reason: Trouble::DamagedRecord.reason(),
            message: format!("VirtualMachineInstance with uid {uid}: {message}"),
        });
        damaged.insert(uid, Damaged { message, name: None });
    }
    let handler = Handler {
        inner: Arc::new(Inner {
            node,
            tasks: Mutex::new(HashMap::new()),
            damaged: Mutex::new(damaged),
            synced: AtomicBool::new(false),
            tracker: TaskTracker::new(),
            shutdown,
        }),
    };
    for record in found.records {
        let (uid, namespace, name) = (record.uid.clone(), record.namespace.clone(), record.name.clone());
        handler.ensure(&uid, &namespace, &name, Some(record));
    }
    handler.run();
    Ok(handler)
}

/// A Node object, for events about it. Like kubelet's, they carry its name as its uid.
pub(crate) fn node_reference(name: &str) -> ObjectRef {
    ObjectRef { api_version: "v1", kind: "Node", key: ObjectKey::new("", name), uid: name.to_owned() }
}

/// The handler of a node. Cheap to clone; dropping it changes nothing, its shutdown token ends it.
#[derive(Clone)]
pub struct Handler {
    inner: Arc<Inner>,
}

struct Inner {
    node: Arc<Node>,
    tasks: Mutex<HashMap<String, TaskHandle>>,
    /// VMs whose record cannot be read, by uid: left alone altogether.
    damaged: Mutex<HashMap<String, Damaged>>,
    /// The VMIs of this node have been listed once.
    synced: AtomicBool,
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

struct Damaged {
    message: String,
    /// Namespace and name, once its VMI was seen.
    name: Option<(String, String)>,
}

#[derive(Clone)]
struct TaskHandle {
    messages: mpsc::UnboundedSender<Message>,
    shared: Arc<Shared>,
    vnc: crate::vnc::ExclusiveSession,
}

/// A VM with something an operator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TroubledVm {
    pub uid: String,
    /// Empty while they are not known, as the name is: the record is damaged, and no VMI with this uid was seen.
    pub namespace: String,
    pub name: String,
    pub trouble: Trouble,
}

impl Handler {
    /// VMs with troubles that the handler does not act on by itself, orphans first of all.
    pub fn troubles(&self) -> Vec<TroubledVm> {
        let tasks = self.inner.tasks.lock();
        let troubled = tasks.values().filter_map(|task| {
            let trouble = (*task.shared.trouble.lock())?;
            let shared = &task.shared;
            Some(TroubledVm {
                uid: shared.uid.clone(),
                namespace: shared.namespace.clone(),
                name: shared.name.clone(),
                trouble,
            })
        });
        let mut found: Vec<_> = troubled.collect();
        drop(tasks);
        found.extend(self.inner.damaged.lock().iter().map(|(uid, damaged)| {
            let (namespace, name) = damaged.name.clone().unwrap_or_default();
            TroubledVm { uid: uid.clone(), namespace, name, trouble: Trouble::DamagedRecord }
        }));
        found
    }

    pub(crate) fn node_name(&self) -> &str {
        &self.inner.node.config.node_name
    }

    pub(crate) fn hypervisor(&self) -> &dyn Hypervisor {
        &*self.inner.node.hypervisor
    }

    pub(crate) fn network(&self) -> &dyn NodeNetwork {
        &*self.inner.node.network
    }

    /// The VMIs of this node that are there.
    pub(crate) fn present(&self) -> Vec<Arc<VirtualMachineInstance>> {
        self.inner.tasks.lock().values().filter_map(|task| task.shared.present()).collect()
    }

    /// Settings for guests that start from now on.
    pub fn set_cluster_config(&self, config: ClusterConfig) {
        *self.inner.node.settings.write() = Arc::new(config);
    }

    /// The last output of a guest's console.
    pub fn console_recent(&self, uid: &str) -> Option<Vec<u8>> {
        let task = self.inner.tasks.lock().get(uid).cloned()?;
        let console = task.shared.console.lock().clone()?;
        Some(console.recent())
    }

    /// Stops a guest whose VMI is gone, as an operator asks for it: the power button, then the end of `grace`. False: no such guest.
    pub fn stop_orphan(&self, uid: &str, grace: Duration) -> bool {
        let Some(task) = self.inner.tasks.lock().get(uid).cloned() else { return false };
        *task.shared.stop_request.lock() = Some(i64::try_from(grace.as_secs()).unwrap_or(i64::MAX));
        task.messages.send(Message::Look).is_ok()
    }

    /// Waits until everything has ended after the shutdown token was cancelled.
    pub async fn stopped(&self) {
        self.inner.shutdown.cancelled().await;
        self.inner.tracker.close();
        self.inner.tracker.wait().await;
    }

    fn run(&self) {
        let inner = &self.inner;
        let guarded = |future: futures::future::BoxFuture<'static, ()>| {
            let shutdown = inner.shutdown.clone();
            inner.tracker.spawn(async move {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = future => {}
                }
            });
        };
        let handler = self.clone();
        let listed = Arc::new(Notify::new());
        let reclaim = Arc::clone(&listed);
        guarded(Box::pin(async move { handler.watch_vmis(&listed).await }));
        let handler = self.clone();
        guarded(Box::pin(async move {
            reclaim.notified().await;
            handler.reclaim_disks().await;
        }));
        let handler = self.clone();
        guarded(Box::pin(async move { handler.watch_domains().await }));
        if let Some((daemon, endpoint)) = inner.node.config.keep_daemon.clone() {
            guarded(Box::pin(keep_libvirtd(daemon, endpoint, |endpoint| {
                tracing::warn!(uri = endpoint.uri, pid = endpoint.pid, "libvirtd started again");
            })));
        }
        if inner.node.config.kubelet_dir.is_some() {
            let handler = self.clone();
            guarded(Box::pin(async move { handler.watch_pods().await }));
        }
        if inner.node.config.heartbeat {
            let (client, name) = (inner.node.cluster.client().clone(), inner.node.config.node_name.clone());
            inner.tracker.spawn(node::beat(client, name, Arc::clone(&inner.node.hypervisor), inner.shutdown.clone()));
        }
    }

    /// The task of a VM, begun if there is none. `None`: the VM is not to be touched.
    fn ensure(&self, uid: &str, namespace: &str, name: &str, record: Option<Record>) -> Option<TaskHandle> {
        if self.is_damaged(uid, namespace, name) {
            return None;
        }
        let Ok(uuid) = Uuid::parse_str(uid) else {
            tracing::error!(uid = %uid.escape_debug(), "VMI uid is no UUID; it is left alone");
            return None;
        };
        let mut tasks = self.inner.tasks.lock();
        if let Some(task) = tasks.get(uid) {
            return Some(task.clone());
        }
        let shared = Arc::new(Shared::new(uid, uuid, namespace, name));
        if self.inner.synced.load(Ordering::Acquire) {
            // Not in the list of this node's VMIs, or it would have its task: ask for it by name.
            *shared.vmi.lock() = VmiSlot::Doubtful;
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        let handle =
            TaskHandle { messages: sender, shared: Arc::clone(&shared), vnc: crate::vnc::ExclusiveSession::default() };
        tasks.insert(uid.to_owned(), handle.clone());
        drop(tasks);
        let span = tracing::info_span!("vm", vmi = %format_args!("{namespace}/{name}"), uid);
        let task = Task::new(Arc::clone(&self.inner.node), shared, record, receiver);
        let (inner, key) = (Arc::clone(&self.inner), uid.to_owned());
        let may_end = move |messages: &mpsc::UnboundedReceiver<Message>| {
            // Under the lock that senders look tasks up with: nobody can send to a task that is ending.
            let mut tasks = inner.tasks.lock();
            let idle = messages.is_empty();
            if idle {
                tasks.remove(&key);
            }
            idle
        };
        self.inner.tracker.spawn(task.run(self.inner.shutdown.clone(), may_end).instrument(span));
        Some(handle)
    }

    /// Whether a VM's record is damaged; the first time its name is known, its user is told.
    fn is_damaged(&self, uid: &str, namespace: &str, name: &str) -> bool {
        let mut damaged = self.inner.damaged.lock();
        let Some(found) = damaged.get_mut(uid) else { return false };
        if found.name.is_none() {
            found.name = Some((namespace.to_owned(), name.to_owned()));
            self.inner.node.recorder.record(EventSpec {
                about: ObjectRef {
                    api_version: "kubevirt.io/v1",
                    kind: "VirtualMachineInstance",
                    key: ObjectKey::new(namespace, name),
                    uid: uid.to_owned(),
                },
                kind: EventKind::Warning,
                reason: Trouble::DamagedRecord.reason(),
                message: format!("{} ({})", Trouble::DamagedRecord.message(), found.message),
            });
        }
        true
    }

    /// Tells the task of a VM something, if it has one. Sent under the lock: a task does not end with a message in its queue.
    fn tell(&self, uid: &str, message: Message) -> bool {
        let tasks = self.inner.tasks.lock();
        tasks.get(uid).is_some_and(|task| task.messages.send(message).is_ok())
    }

    fn tell_all(&self) {
        for task in self.inner.tasks.lock().values() {
            let _ = task.messages.send(Message::Look);
        }
    }

    async fn watch_vmis(&self, reclaim: &Notify) {
        let api: Api<VirtualMachineInstance> = Api::all(self.inner.node.cluster.client().clone());
        let selector = format!("{}={}", labels::NODE_NAME, self.inner.node.config.node_name);
        let stream = watcher(api, watcher::Config::default().labels(&selector)).default_backoff();
        let mut stream = pin!(stream);
        let mut listed = HashSet::new();
        while let Some(event) = stream.next().await {
            match event {
                Ok(watcher::Event::Init) => listed.clear(),
                Ok(watcher::Event::InitApply(vmi)) => {
                    listed.extend(vmi.metadata.uid.clone());
                    self.vmi_seen(vmi);
                }
                Ok(watcher::Event::InitDone) => {
                    self.inner.synced.store(true, Ordering::Release);
                    self.doubt_all_but(&listed);
                    reclaim.notify_one();
                }
                Ok(watcher::Event::Apply(vmi)) => self.vmi_seen(vmi),
                Ok(watcher::Event::Delete(vmi)) => self.vmi_lost(&vmi),
                Err(error) => tracing::warn!(error = %error, "watching VMIs failed; trying again"),
            }
        }
    }

    /// Has the task of a VM look when its launcher pod changed: a sandbox that was made anew has another network namespace. Says nothing
    /// by itself, so it does not matter who made the pod.
    async fn watch_pods(&self) {
        let api: Api<PartialObjectMeta<Pod>> = Api::all(self.inner.node.cluster.client().clone());
        let config = watcher::Config::default()
            .labels(&format!("{}={}", labels::APP, labels::APP_LAUNCHER))
            .fields(&format!("spec.nodeName={}", self.inner.node.config.node_name));
        let mut pods = pin!(watcher(api, config).default_backoff().touched_objects());
        while let Some(event) = pods.next().await {
            match event {
                Ok(pod) => {
                    if let Some(uid) = pod.metadata.labels.as_ref().and_then(|all| all.get(labels::CREATED_BY)) {
                        self.tell(uid, Message::Look);
                    }
                }
                Err(error) => tracing::warn!(error = %error, "watching launcher pods failed; trying again"),
            }
        }
    }

    fn vmi_seen(&self, vmi: VirtualMachineInstance) {
        let Some(uid) = vmi.metadata.uid.clone() else { return };
        let (namespace, name) = crate::cluster::names(&vmi);
        // A task that was about to end may be gone before it is told: then a new one is.
        for _ in 0..3 {
            let Some(task) = self.ensure(&uid, namespace, name, None) else { return };
            if !task.shared.offer(vmi.clone()) || self.tell(&uid, Message::Look) {
                return;
            }
        }
    }

    fn vmi_lost(&self, vmi: &VirtualMachineInstance) {
        let Some(uid) = vmi.metadata.uid.as_deref() else { return };
        let task = self.inner.tasks.lock().get(uid).cloned();
        if let Some(task) = task {
            task.shared.doubt();
            self.tell(uid, Message::Look);
        }
    }

    fn doubt_all_but(&self, listed: &HashSet<String>) {
        for (uid, task) in self.inner.tasks.lock().iter() {
            if !listed.contains(uid) {
                task.shared.doubt();
                let _ = task.messages.send(Message::Look);
            }
        }
    }

    async fn watch_domains(&self) {
        let hypervisor = Arc::clone(&self.inner.node.hypervisor);
        let mut events = hypervisor.events();
        let mut listed = self.list_domains().await;
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                // A list that failed although there is a connection is not followed by another event.
                () = tokio::time::sleep(LIST_AGAIN), if !listed => {
                    listed = self.list_domains().await;
                    continue;
                }
            };
            match event {
                Ok(HypervisorEvent::Connected) => listed = self.list_domains().await,
                Ok(HypervisorEvent::Disconnected { reason }) => {
                    tracing::warn!(reason, "no connection to libvirt; guests go on");
                    self.tell_all();
                }
                Ok(HypervisorEvent::Domain(event)) => {
                    self.tell(&event.uuid.to_string(), Message::Domain(event.kind));
                }
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "domain events lost; looking at all domains");
                    listed = self.list_domains().await;
                }
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    /// Gives every domain of this instance its task, and has every task look. False when they cannot be listed.
    async fn list_domains(&self) -> bool {
        let listed = match self.inner.node.hypervisor.list().await {
            Ok(domains) => {
                for domain in domains {
                    let metadata = &domain.metadata;
                    self.ensure(&metadata.vmi_uid.to_string(), &metadata.namespace, &metadata.name, None);
                }
                true
            }
            // Tasks ask for their own domain meanwhile.
            Err(error) => {
                tracing::debug!(error = %error, "domains cannot be listed");
                false
            }
        };
        self.tell_all();
        listed
    }
}
