//! A node in a temporary directory: API server, scripted hypervisor, recorded network and disks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fv_api::VirtualMachineInstance;
use fv_api::config::ClusterConfig;
use fv_api::meta::users;
use fv_apiserver::{ApiServer, ApiServerBuilder, Store, UserInfo};
use fv_domain::{DiskFormat, DiskSource, SourceKind};
use fv_host::link::LinkStats;
use fv_host::network::NetworkError;
use fv_hypervisor::fake::FakeHypervisor;
use fv_netplan::{MacAddr, NetPlan, PodNetworkFacts};
use fv_stream::agent::VmiRef;
use fv_virt_handler::disks::PrepareError;
use fv_virt_handler::ports::{DiskRequest, NodeDisks, NodeNetwork, PreparedDisks};
use fv_virt_handler::probe::Dial;
use fv_virt_handler::sandbox::{PodSandbox, PodSandboxes, SandboxError};
use fv_virt_handler::{Handler, HandlerConfig, Ports};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) const NODE: &str = "node1";
/// Only bounds failures: other tests run beside these on slow machines.
const PATIENCE: Duration = Duration::from_secs(120);

/// Launcher pods of the node, as the pod runner would know them.
#[derive(Default)]
pub(crate) struct Pods {
    shares: Mutex<HashMap<String, tempfile::TempDir>>,
}

impl Pods {
    pub(crate) fn add(&self, uid: &str) -> PathBuf {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        self.shares.lock().insert(uid.to_owned(), dir);
        path
    }

    pub(crate) fn remove(&self, uid: &str) {
        self.shares.lock().remove(uid);
    }

    pub(crate) fn share(&self, uid: &str) -> PathBuf {
        self.shares.lock()[uid].path().to_owned()
    }
}

#[async_trait::async_trait]
impl PodSandboxes for Pods {
    async fn locate(&self, pod_uid: &str) -> Result<Option<PodSandbox>, SandboxError> {
        let shares = self.shares.lock();
        let Some(share) = shares.get(pod_uid) else { return Ok(None) };
        let netns = std::fs::File::open("/proc/self/ns/net").unwrap().into();
        Ok(Some(PodSandbox { netns, share_dir: share.path().to_owned(), resolv_conf: None }))
    }
}

/// What was asked of network and disks, in order.
#[derive(Default)]
pub(crate) struct Recorded {
    pub(crate) calls: Mutex<Vec<String>>,
    /// While set, images cannot be pulled.
    pub(crate) pull_hangs: Mutex<bool>,
    pub(crate) disks_fail: Mutex<bool>,
    pub(crate) network_fails: Mutex<bool>,
    /// The pod's address.
    pub(crate) address: Mutex<Option<String>>,
    /// VMs that hold disks, besides those of the handler under test.
    pub(crate) holders: Mutex<BTreeSet<String>>,
}

impl Recorded {
    fn note(&self, call: &str) {
        self.calls.lock().push(call.to_owned());
    }

    pub(crate) fn count(&self, call: &str) -> usize {
        self.calls.lock().iter().filter(|c| *c == call).count()
    }
}

struct FakeNetwork(Arc<Recorded>);

#[async_trait::async_trait]
impl Dial for FakeNetwork {
    /// The guest's servers are on loopback.
    async fn dial(&self, address: SocketAddr) -> std::io::Result<TcpStream> {
        TcpStream::connect((Ipv4Addr::LOCALHOST, address.port())).await
    }
}

#[async_trait::async_trait]
impl NodeNetwork for FakeNetwork {
    async fn pod_facts(&self, _: &str, _: BorrowedFd<'_>) -> Result<PodNetworkFacts, NetworkError> {
        if *self.0.network_fails.lock() {
            return Err(NetworkError::NoMac { interface: "eth0".into() });
        }
        Ok(PodNetworkFacts {
            interface: "eth0".into(),
            mac: MacAddr([2, 0, 0, 0, 0, 9]),
            mtu: 1500,
            addresses: vec![self.0.address.lock().as_deref().unwrap_or("10.244.0.7/24").parse().unwrap()],
            routes: Vec::new(),
        })
    }

    async fn ensure(&self, _: &NetPlan, _: BorrowedFd<'_>) -> Result<(), NetworkError> {
        self.0.note("network ensure");
        Ok(())
    }

    async fn create_taps(&self, _: &NetPlan) -> Result<(), NetworkError> {
        self.0.note("taps create");
        Ok(())
    }

    async fn attach_taps(&self, _: &NetPlan) -> Result<(), NetworkError> {
        self.0.note("taps attach");
        Ok(())
    }

    async fn release(&self, _: &str) -> Result<(), NetworkError> {
        self.0.note("network release");
        Ok(())
    }

    async fn counters(&self, _: &str, _: &str) -> Result<Option<LinkStats>, NetworkError> {
        Ok(Some(LinkStats { rx_bytes: 4200, ..LinkStats::default() }))
    }
}

struct FakeDisks(Arc<Recorded>);

#[async_trait::async_trait]
impl NodeDisks for FakeDisks {
    async fn prepare(&self, request: &DiskRequest) -> Result<PreparedDisks, PrepareError> {
        self.0.note("disks prepare");
        if *self.0.pull_hangs.lock() {
            std::future::pending::<()>().await;
        }
        if *self.0.disks_fail.lock() {
            return Err(PrepareError::Unsupported { volume: "root".into() });
        }
        let source = |name: &String| DiskSource {
            kind: SourceKind::File,
            path: format!("/nowhere/{name}.qcow2"),
            format: DiskFormat::Qcow2,
            read_only: false,
            direct_io: false,
            preallocated: false,
        };
        let sources: BTreeMap<_, _> =
            request.vmi.spec.volumes.iter().map(|v| (v.name.clone(), source(&v.name))).collect();
        Ok(PreparedDisks { sources, efi: None })
    }

    async fn release(&self, uid: &str) -> Result<(), PrepareError> {
        self.0.note("disks release");
        self.0.holders.lock().remove(uid);
        Ok(())
    }

    async fn holders(&self) -> Result<BTreeSet<String>, PrepareError> {
        Ok(self.0.holders.lock().clone())
    }
}

/// One node with everything around it scripted.
pub(crate) struct World {
    pub(crate) api: ApiServer,
    pub(crate) hypervisor: Arc<FakeHypervisor>,
    pub(crate) pods: Arc<Pods>,
    pub(crate) recorded: Arc<Recorded>,
    pub(crate) data: tempfile::TempDir,
    run: tempfile::TempDir,
}

/// A handler and the token that ends it.
pub(crate) struct Running {
    pub(crate) handler: Handler,
    shutdown: CancellationToken,
}

impl Running {
    pub(crate) async fn end(self) {
        self.shutdown.cancel();
        self.handler.stopped().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub(crate) async fn api_server() -> ApiServer {
    let mut builder = ApiServerBuilder::new(Store::memory());
    for crd in fv_api::crd::all().unwrap() {
        builder = builder.crd(serde_json::to_value(crd).unwrap());
    }
    builder.build().await.unwrap()
}

impl World {
    pub(crate) async fn new() -> Self {
        Self {
            api: api_server().await,
            hypervisor: FakeHypervisor::new("0000002a"),
            pods: Arc::new(Pods::default()),
            recorded: Arc::new(Recorded::default()),
            data: tempfile::tempdir().unwrap(),
            run: tempfile::tempdir().unwrap(),
        }
    }

    fn config(&self) -> HandlerConfig {
        let cluster = ClusterConfig { use_emulation: true, ..ClusterConfig::default() };
        HandlerConfig {
            heartbeat: false,
            ..HandlerConfig::new(NODE, "0000002a", self.data.path(), self.run.path(), cluster)
        }
    }

    pub(crate) async fn start_with(&self, client: kube::Client) -> Running {
        let shutdown = CancellationToken::new();
        let ports = Ports {
            cgroups: None,
            network: Arc::new(FakeNetwork(Arc::clone(&self.recorded))),
            disks: Arc::new(FakeDisks(Arc::clone(&self.recorded))),
        };
        let (hypervisor, pods) = (Arc::clone(&self.hypervisor), Arc::clone(&self.pods));
        let handler = fv_virt_handler::start_with(self.config(), client, hypervisor, ports, pods, shutdown.clone())
            .await
            .unwrap();
        Running { handler, shutdown }
    }

    pub(crate) async fn start(&self) -> Running {
        self.start_with(self.api.client_as(UserInfo::admin(users::VIRT_HANDLER))).await
    }

    pub(crate) fn vmis(&self) -> Api<VirtualMachineInstance> {
        Api::namespaced(self.api.client_as(UserInfo::admin(users::VIRT_CONTROLLER)), "default")
    }

    /// A VMI the controller has just handed over, with its launcher pod.
    pub(crate) async fn schedule(&self, name: &str, change: impl FnOnce(&mut Value)) -> VmiRef {
        let pod = Uuid::new_v4().to_string();
        self.pods.add(&pod);
        schedule(&self.vmis(), name, &pod, change).await
    }

    pub(crate) async fn get(&self, vmi: &VmiRef) -> VirtualMachineInstance {
        self.vmis().get(&vmi.name).await.unwrap()
    }

    pub(crate) async fn phase(&self, vmi: &VmiRef) -> String {
        phase(&self.get(vmi).await)
    }

    /// Waits for a phase.
    pub(crate) async fn reach(&self, vmi: &VmiRef, wanted: &str) {
        until(&format!("phase {wanted}"), async || self.phase(vmi).await == wanted).await;
    }

    pub(crate) async fn condition(&self, vmi: &VmiRef, type_: &str) -> Option<(String, String)> {
        let status = self.get(vmi).await.status.unwrap_or_default();
        let found = status.conditions.into_iter().find(|c| c.type_ == type_)?;
        Some((found.status, found.reason.unwrap_or_default()))
    }

    pub(crate) async fn delete(&self, vmi: &VmiRef) {
        self.vmis().delete(&vmi.name, &DeleteParams::default()).await.unwrap();
    }

    pub(crate) async fn deleted(&self, vmi: &VmiRef) {
        until("DomainDeleted", async || {
            self.condition(vmi, "DomainDeleted").await.is_some_and(|(status, _)| status == "True")
        })
        .await;
    }

    pub(crate) async fn patch(&self, vmi: &VmiRef, patch: Value) {
        self.vmis().patch(&vmi.name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    pub(crate) fn records(&self) -> usize {
        std::fs::read_dir(self.data.path().join("node/vmis")).unwrap().count()
    }

    fn pod_api(&self) -> Api<Pod> {
        Api::namespaced(self.api.client_as(UserInfo::admin(users::VIRT_CONTROLLER)), "default")
    }

    /// A launcher pod object of the VMI, which stays when it is deleted; returns its uid.
    pub(crate) async fn launcher_pod(&self, vmi: &VmiRef, name: &str) -> String {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "namespace": "default",
                "labels": {"kubevirt.io/created-by": vmi.uid},
                "finalizers": ["test.ferrovirt.io/stay"],
            },
            "spec": {"nodeName": NODE, "containers": [{"name": "compute", "image": "launcher"}]},
        });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        self.pod_api().create(&PostParams::default(), &pod).await.unwrap().metadata.uid.unwrap()
    }

    pub(crate) async fn delete_pod(&self, name: &str) {
        self.pod_api().delete(name, &DeleteParams::default()).await.unwrap();
    }

    pub(crate) async fn events(&self) -> Vec<String> {
        self.all_events().await.into_iter().filter_map(|event| event.reason).collect()
    }

    pub(crate) async fn all_events(&self) -> Vec<k8s_openapi::api::core::v1::Event> {
        let client = self.api.client_as(UserInfo::admin("test"));
        let api: Api<k8s_openapi::api::core::v1::Event> = Api::namespaced(client, "default");
        api.list(&Default::default()).await.unwrap().items
    }
}

pub(crate) fn phase(vmi: &VirtualMachineInstance) -> String {
    vmi.status.as_ref().and_then(|s| s.phase.clone()).unwrap_or_default()
}

pub(crate) async fn schedule(
    api: &Api<VirtualMachineInstance>,
    name: &str,
    pod_uid: &str,
    change: impl FnOnce(&mut Value),
) -> VmiRef {
    let mut object = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
        "metadata": {
            "name": name, "namespace": "default",
            "labels": {"kubevirt.io/nodeName": NODE},
            "finalizers": ["kubevirt.io/foregroundDeleteVirtualMachine"],
        },
        "spec": {
            "terminationGracePeriodSeconds": 20,
            "architecture": "amd64",
            "domain": {
                "cpu": {"cores": 1, "sockets": 1, "threads": 1},
                "memory": {"guest": "96Mi"},
                "machine": {"type": "q35"},
                "resources": {"requests": {"memory": "96Mi"}},
                "devices": {
                    "disks": [{"name": "root", "disk": {"bus": "virtio"}}],
                    "interfaces": [{"name": "default", "masquerade": {}, "model": "virtio"}],
                },
            },
            "networks": [{"name": "default", "pod": {}}],
            "volumes": [{"name": "root", "containerDisk": {"image": "registry.example/demo:v1"}}],
        },
        "status": {"phase": "Scheduled", "nodeName": NODE, "activePods": {pod_uid: NODE}},
    });
    change(&mut object);
    let vmi: VirtualMachineInstance = serde_json::from_value(object).unwrap();
    let made = api.create(&PostParams::default(), &vmi).await.unwrap();
    VmiRef { namespace: "default".into(), name: name.into(), uid: made.metadata.uid.unwrap() }
}

pub(crate) fn uuid(vmi: &VmiRef) -> Uuid {
    vmi.uid.parse().unwrap()
}

/// Waits until `done`, or panics naming `what`.
pub(crate) async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(waited.await.is_ok(), "no {what} within {PATIENCE:?}");
}

/// Lets the handler do what it would do, to show that it does nothing.
pub(crate) async fn let_it_act() {
    tokio::time::sleep(Duration::from_millis(2500)).await;
}
