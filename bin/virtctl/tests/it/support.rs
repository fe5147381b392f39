//! A server, and virtctl started against it.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::Request;
use fv_api::config::ClusterConfig;
use fv_api::{VirtualMachine, VirtualMachineInstance};
use fv_apiserver::tls::{Kubeconfig, Pki, ServerTls, listen, serve_tls};
use fv_apiserver::{AggregatedApi, ApiServer, ApiServerBuilder, Store, UserInfo};
use fv_standalone::admission::KubevirtAdmission;
use fv_stream::agent::{AgentError, AgentQuery, DomainVerb, DuplexStream, NodeAgent, StreamTarget, VmiRef};
use fv_virt_api::VirtApi;
use jiff::Timestamp;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::DuplexStream as Pipe;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt;

pub(crate) const VIRTCTL: &str = env!("CARGO_BIN_EXE_virtctl");

struct Agent {
    guests: mpsc::UnboundedSender<Pipe>,
    acts: Arc<Mutex<Vec<DomainVerb>>>,
}

#[async_trait::async_trait]
impl NodeAgent for Agent {
    async fn act(&self, _: &str, _: &VmiRef, verb: DomainVerb) -> Result<(), AgentError> {
        self.acts.lock().push(verb);
        Ok(())
    }

    async fn query(&self, _: &str, _: &VmiRef, _: AgentQuery) -> Result<Value, AgentError> {
        Ok(json!({"hostname": "guest"}))
    }

    async fn domain_xml(&self, _: &str, _: &VmiRef) -> Result<String, AgentError> {
        Ok("<domain/>".into())
    }

    async fn open(&self, _: &str, _: &VmiRef, _: StreamTarget) -> Result<Box<dyn DuplexStream>, AgentError> {
        let (ours, guest) = tokio::io::duplex(64 * 1024);
        self.guests.send(guest).map_err(|e| AgentError::Internal(e.to_string()))?;
        Ok(Box::new(ours))
    }
}

pub(crate) struct World {
    _server: ApiServer,
    pub(crate) client: Client,
    /// Speaks as virt-handler, who may write a VMI's status.
    handler: Client,
    pub(crate) guests: mpsc::UnboundedReceiver<Pipe>,
    pub(crate) acts: Arc<Mutex<Vec<DomainVerb>>>,
    pub(crate) kubeconfig: PathBuf,
    _stop: DropGuard,
    pub(crate) home: tempfile::TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        let (sender, guests) = mpsc::unbounded_channel();
        let acts = Arc::default();
        let place: Arc<OnceLock<Router>> = Arc::default();
        let late = Arc::clone(&place);
        let router = Router::new().fallback(move |request: Request| {
            let router = late.get().unwrap().clone();
            async move { router.oneshot(request).await }
        });
        let versions = fv_virt_api::VERSIONS.iter().map(|v| ((*v).to_string(), Vec::new())).collect();
        let mut builder = ApiServerBuilder::new(Store::memory())
            .admission(Arc::new(KubevirtAdmission::new(ClusterConfig::default())))
            .aggregate(AggregatedApi { group: fv_virt_api::GROUP.into(), versions, router });
        for definition in fv_api::crd::all().unwrap() {
            builder = builder.crd(serde_json::to_value(definition).unwrap());
        }
        let server = builder.build().await.unwrap();
        let own = server.client_as(UserInfo::admin(fv_api::meta::users::VIRT_API));
        let agent = Agent { guests: sender, acts: Arc::clone(&acts) };
        place.set(fv_virt_api::router(VirtApi::new(own, Arc::new(agent)))).unwrap();

        let home = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        let pki = Pki::open(&home.path().join("pki"), now).unwrap();
        let admin = pki.client("admin", "tester", "system:masters", now).unwrap();
        let ca = pki.ca_certificate().to_string();
        let tls = Arc::new(ServerTls::new(pki, vec!["127.0.0.1".into()], now).unwrap());
        let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let kubeconfig = home.path().join("kubeconfig");
        let listen = listener.local_addr().unwrap();
        Kubeconfig { name: "t", listen, ca_certificate: &ca, client: &admin }.write(&kubeconfig).unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(serve_tls(listener, server.router(), tls, stop.clone()));
        Self {
            client: server.client_as(UserInfo::admin("tester")),
            handler: server.client_as(UserInfo::admin(fv_api::meta::users::VIRT_HANDLER)),
            _server: server,
            guests,
            acts,
            kubeconfig,
            _stop: stop.drop_guard(),
            home,
        }
    }

    pub(crate) fn vms(&self) -> Api<VirtualMachine> {
        Api::namespaced(self.client.clone(), "default")
    }

    pub(crate) async fn add_vm(&self, strategy: &str) {
        let vm = json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "demo"},
            "spec": {"runStrategy": strategy, "template": {"spec": {"domain": {"devices": {}, "memory": {"guest": "64Mi"}}}}}});
        self.vms().create(&PostParams::default(), &serde_json::from_value(vm).unwrap()).await.unwrap();
        let status = json!({"status": {"created": true}});
        self.vms().patch_status("demo", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    }

    /// A VMI that runs, at 127.0.0.1.
    pub(crate) async fn add_vmi(&self, conditions: &Value) {
        let vmis = Api::<VirtualMachineInstance>::namespaced(self.handler.clone(), "default");
        let vmi = json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": "demo"},
            "spec": {"domain": {"devices": {}, "memory": {"guest": "64Mi"}}}});
        vmis.create(&PostParams::default(), &serde_json::from_value(vmi).unwrap()).await.unwrap();
        let status = json!({"status": {"phase": "Running", "nodeName": "n1", "conditions": conditions,
            "interfaces": [{"ipAddress": "127.0.0.1"}]}});
        vmis.patch("demo", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(VIRTCTL);
        command.args(args).env("KUBECONFIG", &self.kubeconfig).env("HOME", self.home.path()).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn spawn(&self, args: &[&str]) -> Child {
        self.command(args).spawn().unwrap()
    }

    /// Standard output of a command that succeeds.
    pub(crate) async fn says(&self, args: &[&str]) -> String {
        let output = self.command(args).stdin(Stdio::null()).output().await.unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        text(&output.stdout)
    }

    /// Standard error of a command that fails with exit code 1.
    pub(crate) async fn complains(&self, args: &[&str]) -> String {
        let output = self.command(args).stdin(Stdio::null()).output().await.unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
        text(&output.stderr)
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_string()
}

/// virtctl without a cluster.
pub(crate) fn alone(program: &str, args: &[&str]) -> Output {
    std::process::Command::new(program)
        .args(args)
        .env_remove("KUBECONFIG")
        .env("HOME", "/nonexistent")
        .output()
        .unwrap()
}
