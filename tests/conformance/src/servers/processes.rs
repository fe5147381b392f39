//! A server in processes of its own, which can be killed and started again where it was.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use fv_apiserver::tls::{Kubeconfig, Pki, ServerTls, listen, serve_tls};
use fv_apiserver::{ApiServer, ApiServerBuilder, Store};
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::client::Client;

/// Which server.
#[derive(Debug, Clone)]
pub enum Program {
    /// Ours, in a process of this program (see [`serve`]).
    Ours(PathBuf),
    /// kube-apiserver and etcd.
    Real {
        /// Where `tests/cluster/build.sh` puts them.
        programs: PathBuf,
        /// Whether what is acknowledged is on disk, as ours always is.
        durable: bool,
        /// Whether kube-controller-manager collects garbage and empties namespaces.
        collector: bool,
    },
}

/// The processes of one server, with its directory and addresses. Dropping it kills them.
#[derive(Debug)]
pub struct Processes {
    program: Program,
    dir: TempDir,
    address: SocketAddr,
    etcd: [SocketAddr; 2],
    running: Vec<Child>,
    client: Client,
}

impl Processes {
    /// Makes the directory, the authority and the kubeconfig below `parent`; nothing runs yet.
    pub async fn new(program: Program, parent: &Path) -> Result<Processes> {
        let dir = tempfile::tempdir_in(parent).with_context(|| format!("make a directory in {}", parent.display()))?;
        let pki = Pki::open(&dir.path().join("pki"), Timestamp::now()).context("make an authority")?;
        let (address, etcd) = (free()?, [free()?, free()?]);
        let client = super::client(&pki, dir.path(), address).await?;
        let identity = super::identity(&pki)?;
        Kubeconfig { name: "oracle", listen: address, ca_certificate: pki.ca_certificate(), client: &identity }
            .write(&dir.path().join("kubeconfig"))
            .context("write the kubeconfig")?;
        if let Program::Real { .. } = &program {
            let server = pki.server(&[], Timestamp::now()).context("issue the server's certificate")?;
            for (name, content) in [
                ("server.crt", server.certificate.as_str()),
                ("server.key", &server.key),
                ("ca.crt", pki.ca_certificate()),
            ] {
                let path = dir.path().join(name);
                std::fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
            }
        }
        Ok(Processes { program, dir, address, etcd, running: Vec::new(), client })
    }

    /// Starts the processes; what an earlier life stored is still there.
    pub fn start(&mut self) -> Result<()> {
        let commands = match &self.program {
            Program::Ours(program) => vec![self.ours(program)],
            Program::Real { programs, durable, collector } => {
                let mut commands =
                    vec![self.etcd(&programs.join("etcd"), *durable), self.apiserver(&programs.join("kube-apiserver"))];
                if *collector {
                    commands.push(self.collector(&programs.join("kube-controller-manager")));
                }
                commands
            }
        };
        for (name, mut command) in commands {
            let output = || log(self.dir.path(), name);
            command.stdin(Stdio::null()).stdout(output()?).stderr(output()?).kill_on_drop(true);
            let program = command.as_std().get_program().to_os_string();
            self.running.push(command.spawn().with_context(|| format!("start {}", Path::new(&program).display()))?);
        }
        Ok(())
    }

    /// Kills them, without any warning.
    pub async fn kill(&mut self) -> Result<()> {
        for mut child in self.running.drain(..) {
            child.kill().await.context("kill a server")?;
        }
        Ok(())
    }

    /// Waits until the server says it is ready; fails when one of its processes ends.
    pub async fn ready(&mut self) -> Result<()> {
        let ended = futures::future::select_all(self.running.iter_mut().map(|child| Box::pin(child.wait())));
        let ready = tokio::select! {
            ready = super::ready(&self.client) => ready,
            (status, _, _) = ended => Err(anyhow::anyhow!("a process of the server ended: {status:?}")),
        };
        ready.with_context(|| self.words())
    }

    /// Talks to it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// For clients that are programs.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its processes.
    pub fn pids(&self) -> Vec<u32> {
        self.running.iter().filter_map(Child::id).collect()
    }

    /// The last words of its programs.
    fn words(&self) -> String {
        let mut words = "the server's logs end with".to_owned();
        for name in ["etcd.log", "kube-apiserver.log", "kube-controller-manager.log", "ours.log"] {
            let text = std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(10)..].iter().for_each(|line| words.extend(["\n", line]));
        }
        words
    }

    fn ours(&self, program: &Path) -> (&'static str, Command) {
        let mut command = Command::new(program);
        command.arg("serve").arg(self.dir.path()).arg(self.address.to_string());
        ("ours", command)
    }

    fn etcd(&self, program: &Path, durable: bool) -> (&'static str, Command) {
        let [url, peer] = self.etcd.map(|address| format!("http://{address}"));
        let mut command = Command::new(program);
        command
            .args(["--log-level=error", "--data-dir"])
            .arg(self.dir.path().join("etcd"))
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")]);
        if !durable {
            command.arg("--unsafe-no-fsync");
        }
        ("etcd", command)
    }

    fn apiserver(&self, program: &Path) -> (&'static str, Command) {
        let file = |name: &str| self.dir.path().join(name).to_string_lossy().into_owned();
        let mut command = Command::new(program);
        command.args(
            [
                ("etcd-servers", format!("http://{}", self.etcd[0]).as_str()),
                ("bind-address", &self.address.ip().to_string()),
                ("secure-port", &self.address.port().to_string()),
                // Written into the endpoints of its own Service, where a loopback address is refused.
                ("advertise-address", "192.0.2.1"),
                ("tls-cert-file", &file("server.crt")),
                ("tls-private-key-file", &file("server.key")),
                ("client-ca-file", &file("ca.crt")),
                ("service-account-issuer", "https://kubernetes.default.svc"),
                ("service-account-key-file", &file("server.crt")),
                ("service-account-signing-key-file", &file("server.key")),
                ("service-cluster-ip-range", "10.96.0.0/16"),
                // Ours knows administrators only, and nobody makes service accounts here.
                ("authorization-mode", "AlwaysAllow"),
                ("disable-admission-plugins", "ServiceAccount"),
                ("enable-priority-and-fairness", "false"),
                ("max-requests-inflight", "0"),
                ("max-mutating-requests-inflight", "0"),
                // For sequences that wait until a revision is forgotten; others are done with theirs sooner.
                ("etcd-compaction-interval", "5s"),
            ]
            .map(|(name, value)| format!("--{name}={value}")),
        );
        ("kube-apiserver", command)
    }

    fn collector(&self, program: &Path) -> (&'static str, Command) {
        let mut command = Command::new(program);
        command
            .args(["--controllers=garbage-collector-controller,namespace-controller", "--leader-elect=false"])
            // It serves nothing, and goes on asking until the server is there.
            .args(["--secure-port=0", "--kube-api-qps=1000", "--kube-api-burst=1000", "--kubeconfig"])
            .arg(self.kubeconfig());
        ("kube-controller-manager", command)
    }
}

/// How a program is told to be our server: `PROGRAM serve …`, which does [`serve`].
#[derive(Debug, clap::Args)]
pub struct Serve {
    /// The directory of a [`Processes`].
    dir: PathBuf,
    /// Where to listen.
    address: SocketAddr,
}

/// Is our server, until the process is killed; `beside` starts what shall run beside it.
pub async fn serve(options: &Serve, beside: impl FnOnce(&ApiServer)) -> Result<()> {
    let store = Store::open(&options.dir.join("store")).context("open the store")?;
    let server = ApiServerBuilder::new(store).build().await.context("build the server")?;
    let pki = Pki::open(&options.dir.join("pki"), Timestamp::now()).context("read the authority")?;
    let tls = Arc::new(ServerTls::new(pki, Vec::new(), Timestamp::now()).context("set up TLS")?);
    let listener = listen(options.address).await.context("listen")?;
    beside(&server);
    serve_tls(listener, server.router(), tls, CancellationToken::new()).await;
    Ok(())
}

/// A loopback address nobody listens at.
fn free() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("look for a free port")?;
    listener.local_addr().context("look for a free port")
}

fn log(dir: &Path, name: &str) -> Result<File> {
    let path = dir.join(format!("{name}.log"));
    File::options().append(true).create(true).open(&path).with_context(|| format!("open {}", path.display()))
}
