//! The server, its objects, and the node agent.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::Request;
use fv_api::{VirtualMachine, VirtualMachineInstance};
use fv_apiserver::registry::AggregatedResource;
use fv_apiserver::tls::{Kubeconfig, Pki, ServerTls, listen, serve_tls};
use fv_apiserver::{AggregatedApi, ApiServer, ApiServerBuilder, Store, UserInfo};
use fv_stream::agent::{AgentError, AgentQuery, DomainVerb, DuplexStream, NodeAgent, StreamTarget, VmiRef};
use fv_virt_api::VirtApi;
use http::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::client::Body;
use kube::config::{AuthInfo, KubeConfigOptions};
use kube::{Client, Config};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::DuplexStream as Pipe;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt;

pub(crate) const BASE: &str = "/apis/subresources.kubevirt.io/v1";

/// A node agent that notes what it is asked and hands the guests' ends of streams to the test.
pub(crate) struct FakeAgent {
    pub(crate) acts: Mutex<Vec<(String, DomainVerb)>>,
    /// What the next act or stream is refused with.
    pub(crate) refusal: Mutex<Option<AgentError>>,
    guests: mpsc::UnboundedSender<Pipe>,
}

#[async_trait::async_trait]
impl NodeAgent for FakeAgent {
    async fn act(&self, node: &str, vmi: &VmiRef, verb: DomainVerb) -> Result<(), AgentError> {
        if let Some(error) = self.refusal.lock().take() {
            return Err(error);
        }
        self.acts.lock().push((format!("{node}/{}/{}", vmi.namespace, vmi.name), verb));
        Ok(())
    }

    async fn query(&self, _: &str, _: &VmiRef, query: AgentQuery) -> Result<Value, AgentError> {
        Ok(json!({"asked": format!("{query:?}")}))
    }

    async fn domain_xml(&self, _: &str, _: &VmiRef) -> Result<String, AgentError> {
        Ok("<domain/>".into())
    }

    async fn open(&self, _: &str, _: &VmiRef, target: StreamTarget) -> Result<Box<dyn DuplexStream>, AgentError> {
        if let Some(error) = self.refusal.lock().take() {
            return Err(error);
        }
        if target == (StreamTarget::Vnc { preserve_session: true }) {
            return Err(AgentError::Busy("Active VNC connection. Request denied.".into()));
        }
        let (ours, guest) = tokio::io::duplex(64 * 1024);
        self.guests.send(guest).map_err(|e| AgentError::Internal(e.to_string()))?;
        Ok(Box::new(ours))
    }
}

pub(crate) struct World {
    _server: ApiServer,
    pub(crate) client: Client,
    pub(crate) anonymous: Client,
    pub(crate) agent: Arc<FakeAgent>,
    /// The guest's end of each stream that is opened.
    pub(crate) guests: mpsc::UnboundedReceiver<Pipe>,
    _stop: DropGuard,
    _home: tempfile::TempDir,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    /// The message of a refusal, which must be a well-formed `Status`.
    #[track_caller]
    pub(crate) fn refusal(&self, code: u16, reason: &str) -> String {
        let status = self.json();
        assert_eq!((self.code, status["code"].as_u64()), (code, Some(u64::from(code))), "{}", self.text);
        assert_eq!(
            (&status["kind"], &status["apiVersion"], &status["status"]),
            (&json!("Status"), &json!("v1"), &json!("Failure"))
        );
        assert_eq!(status["reason"], reason, "{}", self.text);
        status["message"].as_str().unwrap().to_string()
    }
}

pub(crate) type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

impl World {
    pub(crate) async fn new() -> Self {
        let (guests_sender, guests) = mpsc::unbounded_channel();
        let agent = Arc::new(FakeAgent { acts: Mutex::default(), refusal: Mutex::default(), guests: guests_sender });
        let place: Arc<OnceLock<Router>> = Arc::default();
        let late = Arc::clone(&place);
        let router = Router::new().fallback(move |request: Request| {
            let router = late.get().unwrap().clone();
            async move { router.oneshot(request).await }
        });
        let resource = |name: &&str| AggregatedResource {
            name: (*name).to_string(),
            singular: String::new(),
            kind: String::new(),
            namespaced: true,
            verbs: Vec::new(),
        };
        let resources: Vec<_> = fv_virt_api::resources::NAMES.iter().map(resource).collect();
        let versions = fv_virt_api::VERSIONS.iter().map(|v| ((*v).to_string(), resources.clone())).collect();
        let group = fv_virt_api::GROUP.to_string();
        let mut builder = ApiServerBuilder::new(Store::memory()).aggregate(AggregatedApi { group, versions, router });
        for definition in fv_api::crd::all().unwrap() {
            builder = builder.crd(serde_json::to_value(definition).unwrap());
        }
        let server = builder.build().await.unwrap();
        let own = server.client_as(UserInfo::admin(fv_api::meta::users::VIRT_API));
        place.set(fv_virt_api::router(VirtApi::new(own, agent.clone()))).unwrap();

        let home = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        let pki = Pki::open(&home.path().join("pki"), now).unwrap();
        let admin = pki.client("admin", "tester", "system:masters", now).unwrap();
        let ca = pki.ca_certificate().to_string();
        let tls = Arc::new(ServerTls::new(pki, vec!["127.0.0.1".into()], now).unwrap());
        let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let kubeconfig =
            Kubeconfig { name: "t", listen: listener.local_addr().unwrap(), ca_certificate: &ca, client: &admin }
                .to_yaml();
        let stop = CancellationToken::new();
        tokio::spawn(serve_tls(listener, server.router(), tls, stop.clone()));
        let parsed = kube::config::Kubeconfig::from_yaml(&kubeconfig).unwrap();
        let mut config = Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await.unwrap();
        // A refusal is what the tests want to see.
        config.default_retry = false;
        let mut nobody = config.clone();
        nobody.auth_info = AuthInfo::default();
        Self {
            _server: server,
            client: Client::try_from(config).unwrap(),
            anonymous: Client::try_from(nobody).unwrap(),
            agent,
            guests,
            _stop: stop.drop_guard(),
            _home: home,
        }
    }

    pub(crate) fn vms(&self) -> Api<VirtualMachine> {
        Api::namespaced(self.client.clone(), "default")
    }

    pub(crate) fn vmis(&self) -> Api<VirtualMachineInstance> {
        Api::namespaced(self.client.clone(), "default")
    }

    pub(crate) async fn add_vm(&self, name: &str, strategy: &str, created: bool) {
        let vm = json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": name},
            "spec": {"runStrategy": strategy, "template": {"spec": {"domain": {"devices": {}}}}}});
        self.vms().create(&PostParams::default(), &serde_json::from_value(vm).unwrap()).await.unwrap();
        let status = json!({"status": {"created": created}});
        let params = kube::api::PatchParams::default();
        self.vms().patch_status(name, &params, &kube::api::Patch::Merge(&status)).await.unwrap();
    }

    /// A VMI on node n1 whose guest has the address 127.0.0.1; `extra` is merged in.
    pub(crate) async fn add_vmi(&self, name: &str, extra: Value) {
        let mut vmi = json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": name},
            "spec": {"domain": {"devices": {}}, "terminationGracePeriodSeconds": 30},
            "status": {"phase": "Running", "nodeName": "n1", "interfaces": [{"ipAddress": "127.0.0.1"}]}});
        json_patch::merge(&mut vmi, &extra);
        self.vmis().create(&PostParams::default(), &serde_json::from_value(vmi).unwrap()).await.unwrap();
    }

    pub(crate) async fn call(&self, method: Method, path: &str, body: &str) -> Answer {
        call(&self.client, method, path, body).await
    }

    /// `sub` of the VM or VMI: `virtualmachines/demo/start`.
    pub(crate) async fn put(&self, sub: &str, body: &str) -> Answer {
        self.call(Method::PUT, &format!("{BASE}/namespaces/default/{sub}"), body).await
    }

    pub(crate) async fn get(&self, sub: &str) -> Answer {
        self.call(Method::GET, &format!("{BASE}/namespaces/default/{sub}"), "").await
    }

    /// Opens a stream; what was refused comes back as an answer.
    pub(crate) async fn open(&self, sub: &str, protocol: Option<&str>) -> Result<(Socket, Option<String>), Answer> {
        let mut request = http::Request::get(format!("{BASE}/namespaces/default/{sub}"))
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        if let Some(protocol) = protocol {
            request = request.header("sec-websocket-protocol", protocol);
        }
        let response = self.client.send(request.body(Body::empty()).unwrap()).await.unwrap();
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(answer(response).await);
        }
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let selected = response.headers().get("sec-websocket-protocol").map(|p| p.to_str().unwrap().to_string());
        let upgraded = hyper::upgrade::on(response).await.unwrap();
        Ok((WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await, selected))
    }
}

pub(crate) async fn call(client: &Client, method: Method, path: &str, body: &str) -> Answer {
    let request = http::Request::builder().method(method).uri(path).body(Body::from(body.as_bytes().to_vec())).unwrap();
    answer(client.send(request).await.unwrap()).await
}

async fn answer(response: http::Response<Body>) -> Answer {
    let code = response.status().as_u16();
    let bytes = response.into_body().collect_bytes().await.unwrap();
    Answer { code, text: String::from_utf8(bytes.to_vec()).unwrap() }
}
