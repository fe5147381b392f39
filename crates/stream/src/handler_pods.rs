//! Where the node agent of each node is reached: the addresses of virt-handler's pods, kept current by a watch.

use std::net::IpAddr;

use fv_api::meta::labels;
use fv_runtime::{Cache, reflect_in};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher;
use kube::{Client, Resource};
use tokio_util::sync::CancellationToken;

/// What is kept of a handler's pod.
#[derive(Clone, Debug)]
struct HandlerPod {
    node: Option<String>,
    address: Option<IpAddr>,
    ready: bool,
    /// A pod on its way out is asked only when there is no other.
    leaving: bool,
}

impl HandlerPod {
    fn of(pod: &Pod) -> Self {
        let status = pod.status.as_ref();
        let conditions = status.and_then(|s| s.conditions.as_deref()).unwrap_or_default();
        Self {
            node: pod.spec.as_ref().and_then(|s| s.node_name.clone()),
            address: status.and_then(|s| s.pod_ip.as_deref()).and_then(|ip| ip.parse().ok()),
            ready: conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"),
            leaving: pod.meta().deletion_timestamp.is_some(),
        }
    }
}

/// The handler pods by node; cheap to clone.
#[derive(Clone)]
pub struct HandlerPods {
    pods: Cache<HandlerPod>,
}

/// Why a node's agent is not asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoHandler {
    #[error("no virt-handler pod runs on node {0}")]
    None(String),
    #[error("the virt-handler pod on node {0} has no address yet")]
    NoAddress(String),
}

impl HandlerPods {
    /// Watches pods with label `kubevirt.io=virt-handler` of `namespace` until `shutdown`. Returns at once;
    /// [`HandlerPods::synced`] waits for the first list.
    pub fn start(client: Client, namespace: &str, shutdown: CancellationToken) -> Self {
        let pods: Cache<HandlerPod> = Cache::indexed(|pod| pod.node.as_deref());
        let (cache, namespace) = (pods.clone(), namespace.to_owned());
        tokio::spawn(async move {
            let config = watcher::Config::default().labels(&format!("{}={}", labels::APP, labels::APP_HANDLER));
            reflect_in::<Pod, _>(client, &namespace, config, cache, |pod| HandlerPod::of(&pod), |_| {}, shutdown).await;
        });
        Self { pods }
    }

    /// Waits until all pods are known.
    pub async fn synced(&self) {
        self.pods.synced().await;
    }

    /// The address of the agent of `node`: of a ready pod if there is one. A pod that is not ready is tried all the same, since it
    /// may be its other parts that are not.
    ///
    /// # Errors
    /// [`NoHandler`] when there is nothing to connect to.
    pub fn address(&self, node: &str) -> Result<IpAddr, NoHandler> {
        let mut pods = self.pods.by_index(node);
        pods.sort_by_key(|pod| (pod.leaving, !pod.ready, pod.address.is_none()));
        let address = pods.iter().find_map(|pod| pod.address);
        match (pods.is_empty(), address) {
            (_, Some(address)) => Ok(address),
            (true, None) => Err(NoHandler::None(node.to_owned())),
            (false, None) => Err(NoHandler::NoAddress(node.to_owned())),
        }
    }
}
