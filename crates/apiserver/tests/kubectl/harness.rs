//! A served instance and a kubectl that talks to it.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use fv_apiserver::tls::{Kubeconfig, Pki, ServerTls, listen, serve_tls};
use fv_apiserver::{ApiServerBuilder, LogOptions, LogStream, PodLogs, Status, Store};
use jiff::Timestamp;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

/// Nothing here takes longer unless it hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// A server with its own directory, port and kubeconfig.
pub(crate) struct Served {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) address: std::net::SocketAddr,
    kubectl: PathBuf,
    minor: u32,
    shutdown: CancellationToken,
    task: Option<tokio::task::JoinHandle<()>>,
}

/// What a kubectl said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) ok: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// Standard output of a run that must have succeeded.
    #[track_caller]
    pub(crate) fn out(self) -> String {
        assert!(self.ok, "kubectl failed: {}{}", self.out, self.err);
        self.out
    }

    /// Standard error of a run that must have failed.
    #[track_caller]
    pub(crate) fn refused(self) -> String {
        assert!(!self.ok, "kubectl succeeded: {}{}", self.out, self.err);
        self.err
    }
}

struct EchoLogs;

#[async_trait]
impl PodLogs for EchoLogs {
    async fn logs(&self, pod: &Value, options: LogOptions) -> Result<LogStream, Status> {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let line = format!("{name}/{} tail={:?}\nsecond\n", options.container, options.tail_lines);
        Ok(futures::stream::iter([Ok(Bytes::from(line))]).boxed())
    }
}

/// `$FERROVIRT_KUBECTL`, or the kubectl in PATH.
fn find_kubectl() -> PathBuf {
    if let Some(path) = std::env::var_os("FERROVIRT_KUBECTL") {
        return path.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join("kubectl"))
        .find(|file| file.is_file())
        .expect("these tests drive the real kubectl: put one into PATH or name it in FERROVIRT_KUBECTL")
}

/// The minor version of the kubectl: Debian 12 has 1.20, and both that and a current one must work.
fn minor_of(kubectl: &PathBuf) -> u32 {
    static MINOR: OnceLock<u32> = OnceLock::new();
    *MINOR.get_or_init(|| {
        let said = std::process::Command::new(kubectl).args(["version", "--client", "-o", "json"]).output().unwrap();
        let version: Value = serde_json::from_slice(&said.stdout).unwrap();
        let minor = version["clientVersion"]["minor"].as_str().unwrap();
        minor.trim_end_matches('+').parse().unwrap()
    })
}

impl Served {
    pub(crate) async fn start() -> Served {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let server = ApiServerBuilder::new(store).pod_logs(Arc::new(EchoLogs)).build().await.unwrap();
        let now = Timestamp::now();
        let pki = Pki::open(&dir.path().join("pki"), now).unwrap();
        let client = pki.client("admin", "kubernetes-admin", "system:masters", now).unwrap();
        let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        Kubeconfig { name: "test", listen: address, ca_certificate: pki.ca_certificate(), client: &client }
            .write(&dir.path().join("kubeconfig"))
            .unwrap();
        let tls = Arc::new(ServerTls::new(pki, vec![], now).unwrap());
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(serve_tls(listener, server.router(), tls, shutdown.clone()));
        let kubectl = find_kubectl();
        let minor = minor_of(&kubectl);
        Served { dir, address, kubectl, minor, shutdown, task: Some(task) }
    }

    /// Whether the kubectl is of this minor version or a later one, for what came to kubectl itself only then.
    pub(crate) fn since(&self, minor: u32) -> bool {
        self.minor >= minor
    }

    /// Merges a patch into the status of an object.
    pub(crate) async fn patch_status(&self, plural: &str, name: &str, patch: &str) {
        if self.since(24) {
            self.run(&["patch", plural, name, "--subresource=status", "--type=merge", "-p", patch]).await.out();
            return;
        }
        let object = self.run(&["get", plural, name, "-o", "json"]).await.out();
        let mut object: Value = serde_json::from_str(&object).unwrap();
        json_patch::merge(&mut object, &serde_json::from_str(patch).unwrap());
        let root = match object["apiVersion"].as_str().unwrap() {
            "v1" => "api/v1".to_owned(),
            grouped => format!("apis/{grouped}"),
        };
        let path = format!("/{root}/namespaces/default/{plural}/{name}/status");
        self.run_with(&["replace", "--raw", &path, "-f", "-"], &object.to_string()).await.out();
    }

    /// A server that knows the `Widget` kind.
    pub(crate) async fn with_widgets() -> Served {
        let served = Served::start().await;
        served.run_with(&["create", "-f", "-"], WIDGETS).await.out();
        served.run(&["wait", "--for=condition=Established", "crd/widgets.example.com", "--timeout=10s"]).await.out();
        served
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("KUBECONFIG", self.dir.path().join("kubeconfig"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Starts a kubectl that goes on until it is killed.
    pub(crate) fn spawn(&self, args: &[&str]) -> tokio::process::Child {
        self.command(args).spawn().unwrap()
    }

    pub(crate) async fn run(&self, args: &[&str]) -> Said {
        self.run_with(args, "").await
    }

    pub(crate) async fn run_with(&self, args: &[&str], input: &str) -> Said {
        self.finish(self.command(args), input).await
    }

    pub(crate) async fn run_env(&self, args: &[&str], key: &str, value: &str) -> Said {
        let mut command = self.command(args);
        command.env(key, value);
        self.finish(command, "").await
    }

    async fn finish(&self, mut command: Command, input: &str) -> Said {
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        let feed = tokio::spawn(async move {
            // A kubectl that fails early does not read its input.
            let _ = stdin.write_all(input.as_bytes()).await;
        });
        let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await.expect("kubectl hangs").unwrap();
        feed.await.unwrap();
        Said {
            ok: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Stops the server and waits until it is gone.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        if let Some(task) = self.task.take() {
            task.await.unwrap();
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// A widget manifest.
pub(crate) fn widget(name: &str, spec: &str) -> String {
    format!("apiVersion: example.com/v1\nkind: Widget\nmetadata:\n  name: {name}\nspec: {spec}\n")
}

/// A definition that uses most of what a schema can say.
pub(crate) const WIDGETS: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, shortNames: [wd], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns:
    - {name: Phase, type: string, jsonPath: .status.phase}
    - {name: Ready, type: string, jsonPath: ".status.conditions[?(@.type=='Ready')].status"}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
    - {name: Size, type: integer, jsonPath: .spec.size, priority: 1}
    schema:
      openAPIV3Schema:
        description: A widget is what is tested with.
        type: object
        required: [spec]
        properties:
          spec:
            description: What is wanted.
            type: object
            required: [size]
            properties:
              size: {type: integer, format: int32, minimum: 1, maximum: 100, description: How large it is.}
              color: {type: string, enum: [red, green], default: red, description: Its color.}
              tags: {type: array, x-kubernetes-list-type: set, items: {type: string}}
              parts:
                type: array
                description: What it is made of.
                items:
                  type: object
                  required: [name]
                  properties: {name: {type: string, description: Which part.}, port: {x-kubernetes-int-or-string: true}}
          status:
            type: object
            properties:
              phase: {type: string}
              conditions:
                type: array
                items: {type: object, properties: {type: {type: string}, status: {type: string}}}
"#;
