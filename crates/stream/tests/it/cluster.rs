//! Handler pods on an API server, and a handler that serves.

use std::sync::Arc;
use std::time::Duration;

use fv_api::meta::common_names::{HANDLER_CLIENT, HANDLER_SERVER};
use fv_apiserver::{ApiServer, ApiServerBuilder, Store, UserInfo};
use fv_runtime::certificates::{Authorities, Identity};
use fv_runtime::tls::{ClientCertificates, client_config, serve, server_config};
use fv_stream::{HandlerPods, RemoteNodes, node_server};
use fv_testkit::certificates::{Authority, Mounted};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::io::DuplexStream as Pipe;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::agent::FakeAgent;

pub(crate) const NODE: &str = "n1";

pub(crate) struct Cluster {
    server: ApiServer,
    authority: Authority,
    mounts: Vec<Mounted>,
    port: u16,
    pub(crate) agent: Arc<FakeAgent>,
    /// The guest's side of each console that is opened.
    pub(crate) guests: mpsc::UnboundedReceiver<Pipe>,
    pub(crate) handler: CancellationToken,
}

impl Cluster {
    /// One node whose handler serves.
    pub(crate) async fn start() -> Self {
        let server = ApiServerBuilder::new(Store::memory()).build().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (agent, guests) = FakeAgent::new();
        let authority = Authority::new("cluster");
        let mut cluster = Self {
            server,
            authority,
            mounts: Vec::new(),
            port,
            agent: Arc::new(agent),
            guests,
            handler: CancellationToken::new(),
        };
        let (identity, authorities) = cluster.identity(HANDLER_SERVER);
        let config = server_config(identity, ClientCertificates::Required(authorities)).unwrap();
        let router = node_server::router(cluster.agent.clone(), NODE);
        tokio::spawn(serve(listener, router, config, cluster.handler.clone()));
        let namespaces: Api<Namespace> = Api::all(cluster.client());
        let kubevirt = serde_json::from_value(json!({"metadata": {"name": "kubevirt"}})).unwrap();
        namespaces.create(&PostParams::default(), &kubevirt).await.unwrap();
        cluster.add_handler("virt-handler-a", NODE, true).await;
        cluster
    }

    fn client(&self) -> kube::Client {
        self.server.client_as(UserInfo::admin("virt-api"))
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client(), "kubevirt")
    }

    fn identity(&mut self, common_name: &str) -> (Arc<Identity>, Arc<Authorities>) {
        let pair = Mounted::pair(&self.authority.issue(common_name, &[]));
        let bundle = Mounted::bundle(&[&self.authority]);
        let read = (Identity::open(pair.path()).unwrap(), Authorities::open(&bundle.bundle_file()).unwrap());
        self.mounts.extend([pair, bundle]);
        read
    }

    pub(crate) async fn add_handler(&self, name: &str, node: &str, has_address: bool) {
        let pod = json!({
            "metadata": {"name": name, "labels": {"kubevirt.io": "virt-handler"}},
            "spec": {"nodeName": node, "containers": [{"name": "virt-handler", "image": "i"}]},
        });
        let pod = serde_json::from_value(pod).unwrap();
        self.pods().create(&PostParams::default(), &pod).await.unwrap();
        if has_address {
            let status = json!({"status": {"podIP": "127.0.0.1",
                "conditions": [{"type": "Ready", "status": "True"}]}});
            let params = PatchParams::default();
            self.pods().patch_status(name, &params, &Patch::Merge(&status)).await.unwrap();
        }
    }

    pub(crate) async fn remove_handler(&self, name: &str) {
        self.pods().delete(name, &DeleteParams::default().grace_period(0)).await.unwrap();
    }

    /// virt-api's view, with a certificate of this name.
    pub(crate) async fn nodes_as(&mut self, common_name: &str) -> RemoteNodes {
        let (identity, authorities) = self.identity(common_name);
        let tls = client_config(identity, authorities, HANDLER_SERVER).unwrap();
        let pods = HandlerPods::start(self.client(), "kubevirt", CancellationToken::new());
        pods.synced().await;
        RemoteNodes::new(pods, self.port, tls)
    }

    pub(crate) async fn nodes(&mut self) -> RemoteNodes {
        self.nodes_as(HANDLER_CLIENT).await
    }
}

/// Waits for a watch to have brought something.
pub(crate) async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let patience = Duration::from_secs(30);
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(patience, found).await.expect("it did not come")
}
