//! The node agent as a program of its own, one per node of a cluster.
//!
//! The API verbs it uses (its cluster role):
//!
//! | group | resources | verbs |
//! |---|---|---|
//! | `kubevirt.io` | `virtualmachineinstances` | list, watch, get, patch |
//! | `kubevirt.io` | `kubevirts` | list, watch |
//! | core | `nodes` | get, patch |
//! | core | `nodes/status` | patch |
//! | core | `pods` | list, watch |
//! | core | `events` | create, get, patch |
//!
//! It starts no daemon: without libvirt on the node it says what is missing and waits; when another daemon takes the place of the one
//! it uses, it ends.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fv_api::config::{ClusterConfig, Engine};
use fv_disk::{GcPolicy, ImageStore, StoreConfig};
use fv_host::cgroup::Hierarchy;
use fv_host::netns::NetNs;
use fv_host::network::NetworkSetup;
use fv_hypervisor::daemon::LibvirtEndpoint;
use fv_hypervisor::{Hypervisor, LibvirtConfig, LibvirtHypervisor};
use fv_metrics::live;
use fv_runtime::certificates::{Authorities, CertificateError, Identity, RELOAD_EVERY, keep_reloading};
use fv_runtime::health::Health;
use fv_runtime::metrics::Exporter;
use fv_runtime::tls::{ClientCertificates, serve, server_config};
use fv_runtime::{Clock, Recorder};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::libvirt::{PATIENCE, Watcher, find_libvirt};
use super::node::{NodeKeeper, Virtualization};
use super::replacement::Replaced;
use super::{ContainerVolumes, KubeletCgroups, KubeletDisks, KubeletSandboxes};
use crate::cluster::Cluster;
use crate::disks::LocalDisks;
use crate::{Handler, HandlerConfig, Ports, StartError, VOLUMES_DIR, start_with};

/// How long work may take to end when the program ends itself.
const END: Duration = Duration::from_secs(20);
const DEADLINE: Duration = Duration::from_secs(10);

/// What the program is told.
#[derive(Clone, Debug)]
pub struct Options {
    pub node_name: String,
    /// Namespace of the installation.
    pub namespace: String,
    /// Where to listen: the pod's address.
    pub address: IpAddr,
    /// Port of health and metrics.
    pub port: u16,
    /// Port of the node agent's API.
    pub agent_port: u16,
    /// `tls.crt` and `tls.key` of the server.
    pub tls_dir: PathBuf,
    /// Authorities of virt-api's client certificate.
    pub ca_file: PathBuf,
    pub state_dir: PathBuf,
    pub run_dir: PathBuf,
    pub kubelet_dir: PathBuf,
}

/// Why the program cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    #[error("read the certificates")]
    Certificates(#[from] CertificateError),
    #[error("set up TLS")]
    Tls(#[from] rustls::Error),
    #[error("listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("open the image store")]
    Images(#[from] fv_disk::StoreError),
    #[error("look at the node's control groups")]
    Cgroups(#[source] std::io::Error),
    #[error("start the handler")]
    Start(#[from] StartError),
    #[error(transparent)]
    Replaced(#[from] Replaced),
    #[error("work on the node did not finish")]
    Aborted(#[from] tokio::task::JoinError),
}

/// Runs the node agent until `shutdown`; guests go on. `devices` says whether the kubelet knows of our devices.
pub async fn run(
    options: Options,
    client: Client,
    devices: watch::Receiver<bool>,
    shutdown: CancellationToken,
) -> Result<(), ProgramError> {
    let tasks = TaskTracker::new();
    let _end = shutdown.clone().drop_guard();
    let (identity, authorities) = (Identity::open(&options.tls_dir)?, Authorities::open(&options.ca_file)?);
    tasks.spawn(keep_reloading(
        vec![Arc::clone(&identity) as _, Arc::clone(&authorities) as _],
        RELOAD_EVERY,
        shutdown.clone(),
    ));
    let (health, exporter) = (Health::measured(&live::HANDLER_READY), Exporter::new());
    let open = server_config(Arc::clone(&identity), ClientCertificates::Ignored)?;
    let listener = listen(options.address, options.port).await?;
    tasks.spawn(serve(listener, health.router().merge(exporter.router()), open, shutdown.clone()));

    let (facts, virtualization) = watch::channel(Virtualization::default());
    let (recorder, _) = Recorder::start(client.clone(), "virt-handler", Clock::System);
    let keeper = NodeKeeper {
        client: client.clone(),
        name: options.node_name.clone(),
        recorder,
        kubelet_dir: options.kubelet_dir.clone(),
        devices,
        virtualization,
    };
    tasks.spawn(keeper.run(shutdown.clone()));

    let os_image = os_image(&client, &options.node_name).await;
    let Some(endpoint) = find_libvirt(&facts, &os_image, &shutdown).await? else {
        tasks.close();
        tasks.wait().await;
        return Ok(());
    };
    tracing::info!(uri = endpoint.uri, "libvirt of the node found");
    let instance = instance_id(&options);
    let hypervisor = LibvirtHypervisor::new(LibvirtConfig::new(&endpoint, instance.clone()));
    // It answered a moment ago: not being connected yet is nothing to tell anybody.
    if let Err(error) = hypervisor.await_connected(PATIENCE).await {
        tracing::warn!(%error, "libvirt went away while it was connected to");
    }
    let hypervisor: Arc<dyn Hypervisor> = hypervisor;
    let watcher = Watcher::new(Arc::clone(&hypervisor), endpoint.clone(), facts, os_image);
    let mut watching = tokio::spawn(watcher.run(shutdown.clone()));

    let store = StoreConfig::new(options.state_dir.join("images"));
    let store = Arc::new(tokio::task::spawn_blocking(move || ImageStore::open(store)).await??);
    tasks.spawn(crate::images::collect(Arc::clone(&store), GcPolicy::default(), shutdown.clone()));
    let handler = start_handler(&options, &client, &endpoint, instance, hypervisor, store, &shutdown).await?;
    tasks.spawn(follow_settings(client.clone(), options.namespace.clone(), handler.clone(), shutdown.clone()));
    exporter.add(Arc::new(handler.clone()));
    let agent = fv_stream::node_server::router(Arc::new(handler.clone()), &options.node_name);
    let closed = server_config(identity, ClientCertificates::Required(authorities))?;
    let listener = listen(options.address, options.agent_port).await?;
    tasks.spawn(serve(listener, agent, closed, shutdown.clone()));

    let why = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        ended = &mut watching => ended?.map_err(ProgramError::from),
    };
    if let Err(error) = &why {
        tracing::error!(%error, "the node agent ends, to start anew with the libvirt of the node; guests go on");
    }
    shutdown.cancel();
    tasks.close();
    let ended = async {
        tasks.wait().await;
        handler.stopped().await;
    };
    match why {
        Ok(()) => ended.await,
        // Nobody else would end what waits for a daemon that is gone.
        Err(_) => drop(tokio::time::timeout(END, ended).await),
    }
    why
}

async fn listen(address: IpAddr, port: u16) -> Result<TcpListener, ProgramError> {
    let address = SocketAddr::new(address, port);
    TcpListener::bind(address).await.map_err(|source| ProgramError::Listen { address, source })
}

/// Tells the domains of this installation on this node from all others'. It survives the loss of every directory.
fn instance_id(options: &Options) -> String {
    let digest = Sha256::digest(format!("{}/{}", options.namespace, options.node_name).as_bytes());
    hex::encode(&digest[..4])
}

/// What the kubelet says the node's system is; only for advice.
async fn os_image(client: &Client, node: &str) -> String {
    let api: Api<Node> = Api::all(client.clone());
    match tokio::time::timeout(DEADLINE, api.get(node)).await {
        Ok(Ok(node)) => node.status.and_then(|status| status.node_info).map(|info| info.os_image).unwrap_or_default(),
        _ => String::new(),
    }
}

async fn start_handler(
    options: &Options,
    client: &Client,
    endpoint: &LibvirtEndpoint,
    instance: String,
    hypervisor: Arc<dyn Hypervisor>,
    images: Arc<ImageStore>,
    shutdown: &CancellationToken,
) -> Result<Handler, ProgramError> {
    let cluster = Cluster::new(client.clone());
    let socket = endpoint.socket.clone();
    // libvirtd opens taps, so they are made where it is.
    let network =
        NetworkSetup::new(options.run_dir.join("netns")).with_host(Arc::new(move || NetNs::of_listener(&socket)));
    let volumes = Arc::new(ContainerVolumes::new(cluster.clone()));
    let places = options.run_dir.join(VOLUMES_DIR);
    let local = LocalDisks::new(images, options.state_dir.join("node/disks"), volumes, places);
    let hierarchy = Hierarchy::detect().map_err(ProgramError::Cgroups)?;
    let ports = Ports {
        network: Arc::new(network),
        disks: Arc::new(KubeletDisks::new(local, cluster)),
        cgroups: Some(Arc::new(KubeletCgroups::new(hierarchy, options.run_dir.join("cgroups")))),
    };
    let config = HandlerConfig {
        heartbeat: false,
        kubelet_dir: Some(options.kubelet_dir.clone()),
        ..HandlerConfig::new(&options.node_name, instance, &options.state_dir, &options.run_dir, base_settings())
    };
    let sandboxes = Arc::new(KubeletSandboxes::new(&options.kubelet_dir));
    Ok(start_with(config, client.clone(), hypervisor, ports, sandboxes, shutdown.clone()).await?)
}

fn base_settings() -> ClusterConfig {
    ClusterConfig { engine: Engine::Kubernetes, ..ClusterConfig::default() }
}

/// Keeps the handler's settings those of the KubeVirt resource.
async fn follow_settings(client: Client, namespace: String, handler: Handler, shutdown: CancellationToken) {
    let followed = fv_runtime::settings::follow(client, &namespace, base_settings(), shutdown.clone()).await;
    let Some(mut settings) = followed else { return };
    loop {
        let config = ClusterConfig::clone(&settings.borrow_and_update());
        handler.set_cluster_config(config);
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = settings.changed() => if changed.is_err() { return },
        }
    }
}
