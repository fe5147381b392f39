//! An API server with our kinds, a running virt-controller, and the parts of a cluster that tests play themselves.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use fv_api::config::ClusterConfig;
use fv_api::meta::users;
use fv_api::{VirtualMachine, VirtualMachineInstance};
use fv_apiserver::{ApiServer, ApiServerBuilder, Store, UserInfo};
use fv_virt_controller::Options;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::wait::await_condition;
use kube::{Api, Client, Resource, ResourceExt};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::{Layer, ServiceExt};

/// Long enough for a loaded machine; nothing waits this long when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const NODE: &str = "n1";

pub(crate) struct Cluster {
    pub(crate) server: ApiServer,
    pub(crate) client: Client,
    node: Client,
    /// What the controllers changed: verb and kind, without events.
    changes: Arc<Mutex<Vec<String>>>,
}

/// A running virt-controller.
pub(crate) struct Controller {
    stop: CancellationToken,
    task: JoinHandle<Result<(), fv_virt_controller::RunError>>,
}

impl Controller {
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("no panic").expect("a clean end");
    }

    /// Ends without a chance to finish anything.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let mut builder = ApiServerBuilder::new(Store::memory());
        for definition in fv_api::crd::all().expect("CRDs") {
            builder = builder.crd(serde_json::to_value(definition).expect("json"));
        }
        let server = builder.build().await.expect("a server");
        let client = server.client_as(UserInfo::admin("admin"));
        let node = server.client_as(UserInfo::admin(users::VIRT_HANDLER));
        Self { server, client, node, changes: Arc::default() }
    }

    pub(crate) fn controller(&self) -> Controller {
        let client = self.recorded_client();
        let stop = CancellationToken::new();
        // As if it had been there all the time, so that what nodes have not said counts.
        let options = Options { since: Some(jiff::Timestamp::UNIX_EPOCH), ..Options::default() };
        let task = tokio::spawn(fv_virt_controller::run_with(client, ClusterConfig::default(), options, stop.clone()));
        Controller { stop, task }
    }

    fn recorded_client(&self) -> Client {
        let changes = self.changes.clone();
        let service = Extension(UserInfo::admin(users::VIRT_CONTROLLER)).layer(self.server.router());
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let path = request.uri().path();
            let place = (request.method() != http::Method::GET && !path.contains("/events")).then(|| {
                let kinds = ["virtualmachineinstances", "virtualmachines", "pods"];
                let kind = kinds.into_iter().find(|kind| path.contains(&format!("/{kind}"))).unwrap_or_default();
                let part = if path.ends_with("/status") { "/status" } else { "" };
                let mut changes = changes.lock();
                changes.push(format!("{} {kind}{part}", request.method()));
                changes.len() - 1
            });
            let (answer, changes) = (service.clone().oneshot(request.map(axum::body::Body::new)), changes.clone());
            async move {
                let answer = answer.await?;
                if let Some(place) = place.filter(|_| !answer.status().is_success()) {
                    changes.lock()[place].push_str(&format!(": {}", answer.status().as_u16()));
                }
                Ok::<_, std::convert::Infallible>(answer)
            }
        });
        Client::new(service, "default")
    }

    pub(crate) fn changes(&self) -> Vec<String> {
        self.changes.lock().clone()
    }

    pub(crate) fn api<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), "default")
    }

    pub(crate) async fn create_vm(&self, strategy: &str) -> VirtualMachine {
        let vm = json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "demo"},
            "spec": {"runStrategy": strategy, "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"domain": {"devices": {}, "memory": {"guest": "64Mi"}}}}},
        });
        let vm = serde_json::from_value(vm).expect("a VM");
        self.api().create(&PostParams::default(), &vm).await.expect("created")
    }

    /// Waits until `condition` holds of the object called `name`.
    pub(crate) async fn wait<K>(&self, what: &str, name: &str, condition: impl Fn(Option<&K>) -> bool) -> Option<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        let api = self.api::<K>();
        let found = Box::pin(await_condition(api.clone(), name, move |object: Option<&K>| condition(object)));
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(answer) => answer.unwrap_or_else(|error| panic!("waiting until {what}: {error}")),
            Err(_) => panic!("never: {what}; last seen: {:#?}", api.get_opt(name).await),
        }
    }

    pub(crate) async fn vmi(
        &self,
        what: &str,
        condition: impl Fn(&VirtualMachineInstance) -> bool,
    ) -> VirtualMachineInstance {
        let found = self.wait(what, "demo", |vmi: Option<&VirtualMachineInstance>| vmi.is_some_and(&condition)).await;
        found.expect("the instance")
    }

    pub(crate) async fn phase(&self, phase: &str) -> VirtualMachineInstance {
        self.vmi(&format!("the instance is {phase}"), |vmi| phase_of(vmi) == phase).await
    }

    pub(crate) async fn vm_says(&self, word: &str) -> VirtualMachine {
        let says = |vm: &VirtualMachine| {
            vm.status.as_ref().and_then(|status| status.printable_status.as_deref()) == Some(word)
        };
        self.wait(&format!("the VM says {word}"), "demo", |vm: Option<&VirtualMachine>| vm.is_some_and(says))
            .await
            .expect("the VM")
    }

    pub(crate) async fn gone<K>(&self, name: &str)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        self.wait(&format!("{name} is gone"), name, |object: Option<&K>| object.is_none()).await;
    }

    pub(crate) async fn pods(&self) -> Vec<Pod> {
        self.api::<Pod>().list(&ListParams::default()).await.expect("a list").items
    }

    /// Waits for a pod other than `not`.
    pub(crate) async fn a_pod(&self, not: Option<&Pod>) -> Pod {
        let known = not.and_then(|pod| pod.uid());
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(pod) = self.pods().await.into_iter().find(|pod| pod.uid() != known) {
                return pod;
            }
            assert!(tokio::time::Instant::now() < deadline, "no pod was made");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The scheduler's and the kubelet's part: bound, containers ready.
    pub(crate) async fn run_pod(&self, pod: &Pod) {
        let api = self.api::<Pod>();
        let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod.name_any()}, "target": {"kind": "Node", "name": NODE}});
        let _: Value =
            api.create_subresource("binding", &pod.name_any(), &PostParams::default(), &binding).await.expect("bound");
        let status = json!({"status": {"phase": "Running", "qosClass": "Burstable", "containerStatuses": [
            {"name": "compute", "ready": true, "image": "x", "imageID": "x", "restartCount": 0}]}});
        api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(status)).await.expect("running");
    }

    /// The kubelet's part when the readiness gate opens.
    pub(crate) async fn pod_becomes_ready(&self, pod: &Pod) {
        let gate = |pod: &Pod| {
            let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions.clone().any(|c| c.type_ == "kubevirt.io/virtual-machine-unpaused" && c.status == "True")
        };
        let pod = self
            .wait("the gate opens", &pod.name_any(), |pod: Option<&Pod>| pod.is_some_and(gate))
            .await
            .expect("the pod");
        let mut conditions = pod.status.clone().and_then(|status| status.conditions).unwrap_or_default();
        conditions.retain(|condition| condition.type_ != "Ready");
        let mut all = serde_json::to_value(conditions).expect("json");
        all.as_array_mut().expect("a list").push(json!({"type": "Ready", "status": "True"}));
        let status = json!({"status": {"conditions": all}});
        self.api::<Pod>()
            .patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(status))
            .await
            .expect("ready");
    }

    /// The kubelet's part at the end: waits for the deletion mark, then lets the pod go.
    pub(crate) async fn pod_ends(&self, pod: &Pod) {
        let marked = |pod: Option<&Pod>| pod.is_none_or(|pod| pod.metadata.deletion_timestamp.is_some());
        self.wait("the pod is deleted", &pod.name_any(), marked).await;
        self.lose_pod(pod).await;
    }

    /// The pod vanishes at once.
    pub(crate) async fn lose_pod(&self, pod: &Pod) {
        let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        match self.api::<Pod>().delete(&pod.name_any(), &now).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => panic!("delete pod: {error}"),
        }
    }

    /// The node agent's part: a phase, with its time, and conditions beside the controller's own.
    pub(crate) async fn node_reports(&self, phase: &str, condition: Option<(&str, &str)>) {
        let api: Api<VirtualMachineInstance> = Api::namespaced(self.node.clone(), "default");
        loop {
            let vmi = api.get("demo").await.expect("the instance");
            let mut status = serde_json::to_value(vmi.status.clone().unwrap_or_default()).expect("json");
            if status["phase"] != phase {
                status["phase"] = phase.into();
                let mut steps = status["phaseTransitionTimestamps"].as_array().cloned().unwrap_or_default();
                steps.push(json!({"phase": phase, "phaseTransitionTimestamp": "2026-01-01T00:00:00Z"}));
                status["phaseTransitionTimestamps"] = steps.into();
            }
            if let Some((type_, word)) = condition {
                let mut all = status["conditions"].as_array().cloned().unwrap_or_default();
                all.retain(|condition| condition["type"] != type_);
                all.push(json!({"type": type_, "status": word}));
                status["conditions"] = all.into();
            }
            let patch = json!({"metadata": {"resourceVersion": vmi.resource_version()}, "status": status});
            match api.patch("demo", &PatchParams::default(), &Patch::Merge(patch)).await {
                Ok(_) => return,
                Err(kube::Error::Api(status)) if status.is_conflict() => {}
                Err(error) => panic!("report: {error}"),
            }
        }
    }

    /// From a created VM to a running guest; returns its pod.
    pub(crate) async fn bring_up(&self) -> Pod {
        let pod = self.a_pod(None).await;
        self.phase("Scheduling").await;
        self.run_pod(&pod).await;
        self.phase("Scheduled").await;
        self.node_reports("Running", None).await;
        self.pod_becomes_ready(&pod).await;
        self.vm_says("Running").await;
        pod
    }

    /// The node agent's and the kubelet's part of taking an instance down.
    pub(crate) async fn take_down(&self, pod: &Pod) {
        self.vmi("it is deleted", |vmi| vmi.metadata.deletion_timestamp.is_some()).await;
        self.node_reports("Succeeded", Some(("DomainDeleted", "True"))).await;
        self.pod_ends(pod).await;
    }

    pub(crate) async fn patch_vm(&self, patch: Value) {
        self.api::<VirtualMachine>()
            .patch("demo", &PatchParams::default(), &Patch::Merge(patch))
            .await
            .expect("patched");
    }

    pub(crate) async fn request(&self, requests: Value) {
        let patch = json!({"status": {"stateChangeRequests": requests}});
        let api = self.api::<VirtualMachine>();
        api.patch_status("demo", &PatchParams::default(), &Patch::Merge(patch)).await.expect("requested");
    }
}

pub(crate) fn phase_of(vmi: &VirtualMachineInstance) -> &str {
    vmi.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}
