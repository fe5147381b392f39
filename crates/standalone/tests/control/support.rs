//! An API server in memory and what the tests put into it.

use std::future::Future;
use std::time::Duration;

use fv_apiserver::{ApiServer, ApiServerBuilder, Store, UserInfo};
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Long enough for a loaded machine; nothing waits this long when all is well.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Cluster {
    pub(crate) server: ApiServer,
    pub(crate) client: Client,
}

/// A running part; it is asked to end when dropped.
pub(crate) struct Part {
    stop: DropGuard,
    task: tokio::task::JoinHandle<()>,
}

impl Part {
    pub(crate) async fn stop(self) {
        drop(self.stop);
        self.task.await.unwrap();
    }
}

impl Cluster {
    pub(crate) async fn new() -> Self {
        let server = ApiServerBuilder::new(Store::memory()).build().await.unwrap();
        let client = server.client_as(UserInfo::admin("admin"));
        Self { server, client }
    }

    /// One that knows guests, too.
    pub(crate) async fn with_guests() -> Self {
        let mut builder = ApiServerBuilder::new(Store::memory());
        for definition in fv_api::crd::all().unwrap() {
            builder = builder.crd(serde_json::to_value(definition).unwrap());
        }
        let server = builder.build().await.unwrap();
        let client = server.client_as(UserInfo::admin("admin"));
        Self { server, client }
    }

    pub(crate) fn run<F, Fut>(&self, user: &str, part: F) -> Part
    where
        F: FnOnce(Client, CancellationToken) -> Fut,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let task = tokio::spawn(part(self.server.client_as(UserInfo::admin(user)), stop.clone()));
        Part { stop: stop.drop_guard(), task }
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    pub(crate) fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    pub(crate) fn api(&self, api_version: &str, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    pub(crate) fn config_maps(&self) -> Api<DynamicObject> {
        self.api("v1", "ConfigMap", Some("default"))
    }

    /// A node with two CPUs, 1 GiB of memory and room for `pods` pods.
    pub(crate) async fn add_node(&self, pods: u32) {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}});
        self.nodes().create(&PostParams::default(), &from(node)).await.unwrap();
        let amounts = json!({"cpu": "2", "memory": "1Gi", "pods": pods.to_string()});
        let status = json!({"status": {"capacity": amounts, "allocatable": amounts}});
        self.nodes().patch_status("n1", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    }

    pub(crate) async fn events_of(&self, pod: &str) -> Vec<Event> {
        let all = Api::<Event>::namespaced(self.client.clone(), "default").list(&ListParams::default()).await.unwrap();
        all.items.into_iter().filter(|e| e.involved_object.name.as_deref() == Some(pod)).collect()
    }
}

pub(crate) fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

pub(crate) fn pod(name: &str, spec: &Value) -> Pod {
    let mut full = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    json_patch::merge(&mut full["spec"], spec);
    from(full)
}

pub(crate) fn asking(name: &str, memory: &str) -> Pod {
    let resources = json!({"requests": {"memory": memory}});
    pod(name, &json!({"containers": [{"name": "c", "image": "i", "resources": resources}]}))
}

/// Makes an object and returns it with what the server filled in.
pub(crate) async fn create(api: &Api<DynamicObject>, value: Value) -> DynamicObject {
    api.create(&PostParams::default(), &from(value)).await.unwrap()
}

pub(crate) fn config_map(name: &str, owners: &[&DynamicObject], finalizers: &[&str]) -> Value {
    let owners: Vec<Value> = owners
        .iter()
        .map(|owner| {
            let types = owner.types.clone().unwrap();
            json!({"apiVersion": types.api_version, "kind": types.kind, "name": owner.name_any(), "uid": owner.uid(),
                "blockOwnerDeletion": true})
        })
        .collect();
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "ownerReferences": owners, "finalizers": finalizers}})
}

/// Asks again and again until there is an answer.
pub(crate) async fn until<T, F, Fut>(what: &str, mut ask: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn until_gone(api: &Api<DynamicObject>, name: &str) {
    until(&format!("{name} is gone"), || async { api.get_opt(name).await.unwrap().is_none().then_some(()) }).await;
}
