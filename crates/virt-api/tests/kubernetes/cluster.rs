//! etcd, kube-apiserver, and virt-api in this process.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use fv_api::config::ClusterConfig;
use fv_api::meta::users;
use fv_testkit::certificates::{Authority, Mounted};
use fv_virt_api::program::{Options, serve_on};
use http::Method;
use kube::client::Body;
use kube::config::AuthInfo;
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::objects;

const VERSION: &str = "kubernetes-v1.35.4";

pub(crate) struct Cluster {
    server: String,
    proxy: Authority,
    ours: Authority,
    mounts: [Mounted; 3],
    listener: parking_lot::Mutex<Option<TcpListener>>,
    address: SocketAddr,
    stop: CancellationToken,
    _stop: DropGuard,
    _children: [Child; 2],
    _home: tempfile::TempDir,
}

pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) text: String,
    /// The text as JSON, where it is.
    pub(crate) body: Value,
    pub(crate) warnings: Vec<String>,
}

impl Answer {
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert!(self.code < 300, "{} {}", self.code, self.text);
        self.body
    }
}

/// Waits for something that another process brings about.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(90), found)
        .await
        .unwrap_or_else(|_| panic!("it did not come about: {what}"))
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// An address of this machine that is not loopback, which endpoints may not have.
fn address() -> std::net::IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.1:9").expect("a route, so that this machine has an address");
    socket.local_addr().unwrap().ip()
}

fn programs() -> PathBuf {
    match std::env::var_os("FERROVIRT_KUBERNETES_DIR") {
        Some(dir) => dir.into(),
        None => PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/ferrovirt").join(VERSION),
    }
}

fn run(command: &mut Command, log: &str) -> Child {
    command
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(log).unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|e| panic!("{e}: {command:?}"))
}

impl Cluster {
    /// A cluster that knows our service accounts, and users `owner`, `viewer` and `stranger`.
    pub(crate) async fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name).display().to_string();
        let (proxy, ours) = (Authority::new("front-proxy"), Authority::new("kubevirt"));
        let front = proxy.issue("front-proxy-client", &[]);
        std::fs::write(path("proxy-ca.crt"), proxy.certificate()).unwrap();
        std::fs::write(path("proxy.crt"), &front.certificate).unwrap();
        std::fs::write(path("proxy.key"), &front.key).unwrap();
        let tokens = format!(
            "admin,admin,1,system:masters\napi,{},2\nhandler,{},3\nowner,owner,4\nviewer,viewer,5\nstranger,stranger,6\n",
            users::VIRT_API,
            users::VIRT_HANDLER
        );
        std::fs::write(path("tokens.csv"), tokens).unwrap();
        let (etcd_port, peer_port, port) = (free_port(), free_port(), free_port());
        let (etcd_url, peer_url) = (format!("http://127.0.0.1:{etcd_port}"), format!("http://127.0.0.1:{peer_port}"));
        let etcd = run(
            Command::new(programs().join("etcd"))
                .args(["--unsafe-no-fsync", "--data-dir", &path("etcd")])
                .args(["--listen-client-urls", &etcd_url, "--advertise-client-urls", &etcd_url])
                .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
                .args(["--initial-cluster", &format!("default={peer_url}")]),
            &path("etcd.log"),
        );
        let ip = address();
        let flags = [
            ("etcd-servers", etcd_url),
            ("secure-port", port.to_string()),
            ("bind-address", "127.0.0.1".into()),
            ("advertise-address", ip.to_string()),
            ("cert-dir", path("certs")),
            ("token-auth-file", path("tokens.csv")),
            // Any key will do: no service account gets a token.
            ("service-account-issuer", "https://kubernetes.default.svc".into()),
            ("service-account-key-file", path("proxy.crt")),
            ("service-account-signing-key-file", path("proxy.key")),
            ("service-cluster-ip-range", "10.96.0.0/16".into()),
            ("authorization-mode", "RBAC".into()),
            ("disable-admission-plugins", "ServiceAccount".into()),
            ("requestheader-client-ca-file", path("proxy-ca.crt")),
            ("requestheader-allowed-names", "front-proxy-client".into()),
            ("requestheader-username-headers", "X-Remote-User".into()),
            ("requestheader-group-headers", "X-Remote-Group".into()),
            ("requestheader-extra-headers-prefix", "X-Remote-Extra-".into()),
            ("proxy-client-cert-file", path("proxy.crt")),
            ("proxy-client-key-file", path("proxy.key")),
            ("enable-aggregator-routing", "true".into()),
        ];
        let flags = flags.map(|(name, value)| format!("--{name}={value}"));
        let apiserver = run(Command::new(programs().join("kube-apiserver")).args(flags), &path("apiserver.log"));
        let listener = TcpListener::bind((ip, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let served = ours.issue("kubevirt.io:system:virt-api", &["virt-api.kubevirt.svc", &ip.to_string()]);
        let mounts = [
            Mounted::pair(&served),
            Mounted::pair(&ours.issue(fv_api::meta::common_names::HANDLER_CLIENT, &[])),
            Mounted::bundle(&[&ours]),
        ];
        let stop = CancellationToken::new();
        let cluster = Self {
            server: format!("https://127.0.0.1:{port}"),
            proxy,
            ours,
            mounts,
            listener: Some(listener).into(),
            address,
            _stop: stop.clone().drop_guard(),
            stop,
            _children: [etcd, apiserver],
            _home: home,
        };
        until("kube-apiserver is ready", async || {
            cluster.try_call("admin", Method::GET, "/readyz", &Value::Null).await.filter(|a| a.code == 200)
        })
        .await;
        let namespace = json!({"metadata": {"name": "kubevirt"}});
        cluster.admin(Method::POST, "/api/v1/namespaces", &namespace).await.ok();
        until("the default namespace", async || {
            let answer = cluster.admin(Method::GET, "/api/v1/namespaces/default", &Value::Null).await;
            (answer.code == 200).then_some(())
        })
        .await;
        for (resource, object) in objects::rights() {
            cluster.admin(Method::POST, &format!("/apis/rbac.authorization.k8s.io/v1/{resource}"), &object).await.ok();
        }
        cluster
    }

    /// Starts virt-api and tells the cluster of it.
    pub(crate) async fn serve(&self) {
        let options = Options {
            listen: self.address,
            namespace: "kubevirt".into(),
            tls_dir: self.mounts[0].path().to_owned(),
            handler_client_tls_dir: self.mounts[1].path().to_owned(),
            ca_file: self.mounts[2].bundle_file(),
            handler_port: 1,
        };
        let listener = self.listener.lock().take().unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let settings = fv_runtime::settings::fixed(ClusterConfig::default());
        tokio::spawn(serve_on(listener, options, self.client("api"), settings, self.stop.clone()));
        let bundle = base64::engine::general_purpose::STANDARD.encode(self.ours.certificate());
        for (path, object) in objects::service(self.address) {
            self.admin(Method::POST, path, &object).await.ok();
        }
        let services = "/apis/apiregistration.k8s.io/v1/apiservices";
        for version in ["v1", "v1alpha3"] {
            self.admin(Method::POST, services, &objects::api_service(version, &bundle)).await.ok();
            let path = format!("{services}/{version}.subresources.kubevirt.io");
            until("the APIService is available", async || {
                let service = self.admin(Method::GET, &path, &Value::Null).await.ok();
                let conditions = service["status"]["conditions"].as_array().cloned().unwrap_or_default();
                conditions.iter().any(|c| c["type"] == "Available" && c["status"] == "True").then_some(())
            })
            .await;
        }
        for (resource, object) in objects::webhooks(&format!("https://{}", self.address), &bundle) {
            let path = format!("/apis/admissionregistration.k8s.io/v1/{resource}");
            self.admin(Method::POST, &path, &object).await.ok();
        }
        // The API server takes webhooks up a moment later.
        let vms = "/apis/kubevirt.io/v1/namespaces/default/virtualmachines?dryRun=All";
        until("the webhooks are called", async || {
            let stored = self.admin(Method::POST, vms, &objects::vm("probe")).await.ok();
            stored["spec"]["template"]["spec"]["architecture"].is_string().then_some(())
        })
        .await;
    }

    fn client(&self, token: &str) -> Client {
        let mut config = Config::new(self.server.parse().unwrap());
        config.accept_invalid_certs = true;
        config.default_retry = false;
        config.auth_info = AuthInfo { token: Some(token.to_owned().into()), ..AuthInfo::default() };
        Client::try_from(config).unwrap()
    }

    async fn try_call(&self, user: &str, method: Method, path: &str, body: &Value) -> Option<Answer> {
        let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let text = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = http::Request::builder().method(method).uri(path).header("content-type", kind);
        let response = self.client(user).send(request.body(Body::from(text)).unwrap()).await.ok()?;
        let warnings = response.headers().get_all("warning").iter().map(|w| w.to_str().unwrap().to_owned()).collect();
        let code = response.status().as_u16();
        let bytes = response.into_body().collect_bytes().await.ok()?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Some(Answer { code, body: serde_json::from_str(&text).unwrap_or(Value::Null), text, warnings })
    }

    pub(crate) async fn call(&self, user: &str, method: Method, path: &str, body: &Value) -> Answer {
        self.try_call(user, method, path, body).await.expect("an answer")
    }

    pub(crate) async fn admin(&self, method: Method, path: &str, body: &Value) -> Answer {
        self.call("admin", method, path, body).await
    }

    /// Asks virt-api without kube-apiserver, as `mallory`, with a certificate of this name from the proxies' authority.
    pub(crate) async fn directly(&self, common_name: Option<&str>, path: &str) -> (u16, String) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut roots = rustls::RootCertStore::empty();
        let pem = |text: &str| {
            use rustls_pki_types::pem::PemObject;
            rustls_pki_types::CertificateDer::from_pem_slice(text.as_bytes()).unwrap()
        };
        roots.add(pem(self.ours.certificate())).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match common_name.map(|name| self.proxy.issue(name, &[])) {
            None => config.with_no_client_auth(),
            Some(pair) => {
                use rustls_pki_types::pem::PemObject;
                let key = rustls_pki_types::PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                config.with_client_auth_cert(vec![pem(&pair.certificate)], key).unwrap()
            }
        };
        let stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect(self.address.ip().into(), stream).await.unwrap();
        let request = format!(
            "PUT {path} HTTP/1.1\r\nhost: x\r\nx-remote-user: mallory\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}
