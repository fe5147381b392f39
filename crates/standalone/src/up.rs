//! `ferrovirt up`: everything in one process, started in the order in which one needs the other.

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, bail};
use futures::FutureExt;
use futures::future::BoxFuture;
use fv_api::config::ClusterConfig;
pub use fv_api::config::HOST_DISK;
use fv_api::meta::users;
use fv_apiserver::registry::AggregatedResource;
use fv_apiserver::tls::{Kubeconfig, Pki, ServerTls, listen, serve_tls};
use fv_apiserver::{AggregatedApi, ApiServer, ApiServerBuilder, Store, UserInfo};
use fv_disk::{GcPolicy, ImageStore, RegistryConfig, StoreConfig};
use fv_host::lock::{Acquired, FileLock};
use fv_hypervisor::daemon::{DaemonConfig, DaemonKind, LibvirtEndpoint, ensure_libvirtd};
use fv_hypervisor::{Hypervisor, LibvirtConfig, LibvirtHypervisor};
use fv_metrics::live;
use fv_runtime::metrics::Exporter;
use fv_virt_api::VirtApi;
use fv_virt_handler::{HandlerConfig, VOLUMES_DIR};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::KubevirtAdmission;
use crate::instance::{Instance, Running};
use crate::late::Late;
use crate::node::{Machine, architecture, register};
use crate::podrunner::programs::Programs;
use crate::podrunner::{PodLogReader, PodRunner, PodRunnerConfig, open_network};
use crate::storage::Directories;
use crate::supervise::keep;
use crate::{definitions, disruption, gc, namespaces, quotas, scheduler, storage};

/// Group that QEMU runs in, as upstream.
const QEMU_GID: u32 = 107;
/// How long libvirt may take to answer at the start.
const LIBVIRT_PATIENCE: Duration = Duration::from_secs(60);

/// When starting up is over, and how often memory is given back from then on.
const MEMORY_SETTLED: Duration = Duration::from_secs(5);
const MEMORY_RETURN: Duration = Duration::from_secs(60);

/// What the user asked for.
#[derive(Clone, Debug)]
pub struct UpOptions {
    pub data_dir: PathBuf,
    pub listen: SocketAddr,
    /// Where to write the kubeconfig; by default in the data directory.
    pub kubeconfig: Option<PathBuf>,
    /// Registries (`host:port`) reached by plain http.
    pub insecure_registries: Vec<String>,
    /// Whether hostDisk volumes are allowed.
    pub host_disk: bool,
    /// The virt-launcher binary.
    pub launcher: PathBuf,
    /// This program, which becomes containers and the libvirt supervisor.
    pub program: PathBuf,
    /// Whether a libvirtd of the system may be used.
    pub system_libvirt: bool,
}

/// What `up` tells the user when it is ready.
#[derive(Clone, Debug)]
pub struct Ready {
    pub server: String,
    pub kubeconfig: PathBuf,
    pub libvirt: String,
    /// Whether guests run in software emulation.
    pub emulation: bool,
    pub node: String,
}

/// Runs the instance until `shutdown`. Guests and pods go on afterwards.
///
/// # Errors
/// What is missing or in the way, with the remedy.
pub async fn up(options: UpOptions, shutdown: CancellationToken, ready: impl FnOnce(&Ready)) -> anyhow::Result<()> {
    let instance = Instance::open(&options.data_dir)
        .with_context(|| format!("use the data directory {}", options.data_dir.display()))?;
    let _lock = lock(&instance)?;
    // Of an earlier run that was killed.
    Running::remove(&instance);
    let failure = Failure::default();
    let Up { tasks, handler, report } = tokio::select! {
        // Whatever is half made now is found again by the next start.
        () = shutdown.cancelled() => bail!("asked to stop before it was ready"),
        started = start(&instance, &options, &shutdown, &failure) => started?,
    };
    let state = Running::this_process(report.server.clone(), report.kubeconfig.clone())?;
    state.write(&instance).context("write the state file")?;
    ready(&report);

    shutdown.cancelled().await;
    tasks.close();
    tasks.wait().await;
    handler.stopped().await;
    Running::remove(&instance);
    failure.into_result()
}

/// What runs.
struct Up {
    tasks: TaskTracker,
    handler: fv_virt_handler::Handler,
    report: Ready,
}

/// Why the process ends although nobody asked it to; the first reason counts.
#[derive(Clone, Default)]
struct Failure(Arc<OnceLock<String>>);

impl Failure {
    fn of(&self, part: &str, shutdown: &CancellationToken) {
        tracing::error!(part, "ended although nobody asked it to; everything stops, `ferrovirt up` starts it again");
        let _ = self.0.set(format!("{part} ended although nobody asked it to; see the log"));
        shutdown.cancel();
    }

    fn into_result(self) -> anyhow::Result<()> {
        self.0.get().map_or(Ok(()), |why| Err(anyhow::anyhow!(why.clone())))
    }
}

async fn start(
    instance: &Instance,
    options: &UpOptions,
    shutdown: &CancellationToken,
    failure: &Failure,
) -> anyhow::Result<Up> {
    if !options.launcher.is_file() {
        bail!(
            "the program virt-launcher is not at {}: install it beside ferrovirt, or give --launcher",
            options.launcher.display()
        );
    }
    let listener = listen(options.listen).await?;
    let address = listener.local_addr().context("read the address listened on")?;
    let store = Store::open(&instance.store_dir())?;
    let network = open_network(instance).await.context("set up the pod network")?;
    // Before libvirt, which has to see what is mounted there later.
    share_volumes(&instance.run_dir.join(VOLUMES_DIR)).context("prepare for images in volumes")?;
    let libvirt = start_libvirt(instance, options).await?;
    let hypervisor: Arc<dyn Hypervisor> = {
        let hypervisor = LibvirtHypervisor::new(LibvirtConfig::new(&libvirt.endpoint, instance.id.clone()));
        hypervisor.await_connected(LIBVIRT_PATIENCE).await.context("connect to libvirt")?;
        hypervisor
    };
    let emulation = !fv_hypervisor::kvm::kvm_usable();
    let cluster = ClusterConfig {
        use_emulation: emulation,
        default_architecture: architecture().into(),
        host_disk: options.host_disk,
        ..ClusterConfig::default()
    };

    let (late, exporter) = (Late::default(), Exporter::new());
    let server = api_server(instance, store, &cluster, &late, &exporter).await?;
    let client = |user: &str| server.client_as(UserInfo::admin(user));
    let machine = Machine::read(&instance.data_dir, network.gateway().to_string());
    let node = machine.hostname.clone();
    register(&client("system:node"), &node, &machine).await.context("register the node")?;

    let tasks = TaskTracker::new();
    let runner = PodRunner::new(
        PodRunnerConfig {
            instance: instance.clone(),
            node_name: node.clone(),
            init: options.program.clone(),
            programs: Programs { launcher_image: cluster.launcher_image.clone(), launcher: options.launcher.clone() },
            network,
        },
        client("system:node"),
    );
    let images = Arc::new(image_store(instance, options)?);
    let handler = fv_virt_handler::start(
        HandlerConfig {
            keep_daemon: (libvirt.endpoint.kind == DaemonKind::Private)
                .then(|| (libvirt.config.clone(), libvirt.endpoint.clone())),
            partition: libvirt.endpoint.partition.clone(),
            ..HandlerConfig::new(&node, &instance.id, &instance.data_dir, &instance.run_dir, cluster.clone())
        },
        client(users::VIRT_HANDLER),
        hypervisor,
        Arc::clone(&images),
        Arc::new(runner.clone()),
        shutdown.clone(),
    )
    .await
    .context("start virt-handler")?;
    exporter.add(Arc::new(handler.clone()));
    late.fill(fv_virt_api::router(VirtApi::new(client(users::VIRT_API), Arc::new(handler.clone()))));
    for gauge in [&live::API_READY, &live::CONTROLLER_READY, &live::HANDLER_READY] {
        live::set(gauge, true);
    }
    let keep = |name, part: Box<dyn FnMut() -> BoxFuture<'static, ()> + Send>| {
        tasks.spawn(keep(name, shutdown.clone(), part));
    };
    let (collected, stop) = (images, shutdown.clone());
    keep(
        "image collection",
        Box::new(move || {
            fv_virt_handler::images::collect(Arc::clone(&collected), GcPolicy::default(), stop.clone()).boxed()
        }),
    );
    let stop = shutdown.clone();
    keep("memory", Box::new(move || give_memory_back(stop.clone()).boxed()));
    let (c, stop) = (client("system:kube-scheduler"), shutdown.clone());
    keep("scheduler", Box::new(move || scheduler::run(c.clone(), stop.clone()).boxed()));
    let (c, stop) = (client("system:persistent-volume-controller"), shutdown.clone());
    let (directories, here) = (Directories::new(instance.volumes_dir()), node.clone());
    keep("storage", Box::new(move || storage::run(c.clone(), directories.clone(), here.clone(), stop.clone()).boxed()));
    let (c, stop) = (client("system:garbage-collector"), shutdown.clone());
    keep("garbage collector", Box::new(move || gc::run(c.clone(), stop.clone()).boxed()));
    let (c, stop) = (client("system:namespace-controller"), shutdown.clone());
    keep("namespace controller", Box::new(move || namespaces::run(c.clone(), stop.clone()).boxed()));
    let (c, stop) = (client("system:disruption-controller"), shutdown.clone());
    keep("disruption controller", Box::new(move || disruption::run(c.clone(), stop.clone()).boxed()));
    let (c, stop) = (client("system:resourcequota-controller"), shutdown.clone());
    keep("quota controller", Box::new(move || quotas::run(c.clone(), stop.clone()).boxed()));
    let stop = shutdown.clone();
    keep(
        "pod runner",
        Box::new(move || {
            let (runner, stop) = (runner.clone(), stop.clone());
            async move { runner.run(stop).await }.boxed()
        }),
    );
    let controllers = fv_virt_controller::Options::default();
    exporter.add(Arc::new(controllers.machines.clone()));
    let (c, stop) = (client(users::VIRT_CONTROLLER), shutdown.clone());
    keep(
        "virt-controller",
        Box::new(move || {
            let (c, cluster, options, stop) = (c.clone(), cluster.clone(), controllers.clone(), stop.clone());
            async move {
                if let Err(error) = fv_virt_controller::run_with(c, cluster, options, stop).await {
                    tracing::error!(error = &error as &dyn std::error::Error, "virt-controller failed");
                }
            }
            .boxed()
        }),
    );

    let serving = Serving { tasks: &tasks, shutdown, failure };
    let (kubeconfig, server) = publish(instance, options, &server, listener, address, &serving)?;
    let report = Ready { server, kubeconfig, libvirt: libvirt.endpoint.uri, emulation, node };
    Ok(Up { tasks, handler, report })
}

pub(crate) fn lock(instance: &Instance) -> anyhow::Result<FileLock> {
    instance.make_run_dir().with_context(|| format!("make the run directory {}", instance.run_dir.display()))?;
    let path = instance.lock_file();
    match FileLock::try_acquire(&path).with_context(|| format!("lock {}", path.display()))? {
        Acquired::Lock(lock) => Ok(lock),
        Acquired::HeldBy(pid) => {
            let pid = pid.map_or_else(|| "unknown".to_string(), |pid| pid.to_string());
            bail!(
                "the data directory {} is in use by another ferrovirt (pid {pid}): stop it with `ferrovirt down --data-dir {}`, \
                 or give another --data-dir",
                instance.data_dir.display(),
                instance.data_dir.display()
            )
        }
    }
}

/// A directory whose mounts show in the private libvirtd's namespace as well.
fn share_volumes(dir: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o711).create(dir)?;
    fv_host::mount::share(dir)
}

struct Libvirt {
    endpoint: LibvirtEndpoint,
    config: DaemonConfig,
}

/// The daemon's settings for an instance.
pub fn daemon_config(instance: &Instance) -> DaemonConfig {
    DaemonConfig::new(instance.libvirt_dir(), &instance.run_dir, &instance.id)
}

async fn start_libvirt(instance: &Instance, options: &UpOptions) -> anyhow::Result<Libvirt> {
    let mut config = daemon_config(instance);
    config.use_system = options.system_libvirt;
    config.supervisor.program = options.program.clone();
    let wanted = config.clone();
    let endpoint =
        tokio::task::spawn_blocking(move || ensure_libvirtd(&wanted)).await?.context("have a libvirt daemon")?;
    Ok(Libvirt { endpoint, config })
}

fn image_store(instance: &Instance, options: &UpOptions) -> anyhow::Result<ImageStore> {
    let registry = RegistryConfig { plain_http: options.insecure_registries.clone(), ..RegistryConfig::default() };
    open_images(instance, registry)
}

/// Opens the image store of an instance.
///
/// # Errors
/// The directory cannot be used.
pub fn open_images(instance: &Instance, registry: RegistryConfig) -> anyhow::Result<ImageStore> {
    const GIB: u64 = 1 << 30;
    let config = StoreConfig {
        root: instance.images_dir(),
        gid: QEMU_GID,
        max_image_bytes: 1024 * GIB,
        reserve_bytes: GIB / 2,
        registry,
    };
    ImageStore::open(config).context("open the image store")
}

/// Returns freed memory to the machine now and then: what starting up and rare large answers took is held by the allocator
/// otherwise.
async fn give_memory_back(shutdown: CancellationToken) {
    let start = tokio::time::Instant::now() + MEMORY_SETTLED;
    let mut due = tokio::time::interval_at(start, MEMORY_RETURN);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = due.tick() => fv_host::memory::give_back(),
        }
    }
}

async fn api_server(
    instance: &Instance,
    store: Store,
    cluster: &ClusterConfig,
    late: &Late,
    exporter: &Exporter,
) -> anyhow::Result<ApiServer> {
    let resources: Vec<AggregatedResource> = fv_virt_api::resources::NAMES
        .iter()
        .map(|name| AggregatedResource {
            name: (*name).to_string(),
            singular: String::new(),
            kind: String::new(),
            namespaced: true,
            verbs: Vec::new(),
        })
        .collect();
    let versions = fv_virt_api::VERSIONS.iter().map(|v| ((*v).to_string(), resources.clone())).collect();
    let mut builder = ApiServerBuilder::new(store)
        .admission(Arc::new(KubevirtAdmission::new(cluster.clone())))
        .pod_logs(Arc::new(PodLogReader::new(instance.clone())))
        .path("/metrics", exporter.router())
        .aggregate(AggregatedApi { group: fv_virt_api::GROUP.into(), versions, router: late.router() });
    for definition in fv_api::crd::all().context("generate the CRDs")? {
        builder = builder.crd(serde_json::to_value(definition).context("write a CRD as JSON")?);
    }
    Ok(builder.crd(definitions::network_attachments()).build().await?)
}

/// What the listener runs under.
struct Serving<'a> {
    tasks: &'a TaskTracker,
    shutdown: &'a CancellationToken,
    failure: &'a Failure,
}

/// Serves the API over TLS and writes the administrator's kubeconfig.
fn publish(
    instance: &Instance,
    options: &UpOptions,
    server: &ApiServer,
    listener: TcpListener,
    address: SocketAddr,
    serving: &Serving<'_>,
) -> anyhow::Result<(PathBuf, String)> {
    let now = Timestamp::now();
    let pki = Pki::open(&instance.pki_dir(), now)?;
    let admin = pki.client("admin", "system:admin", "system:masters", now)?;
    let authority = pki.ca_certificate().to_string();
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let names = vec!["localhost".to_string(), "127.0.0.1".into(), "::1".into(), address.ip().to_string(), hostname];
    let tls = Arc::new(ServerTls::new(pki, names, now)?);
    let kubeconfig = Kubeconfig {
        name: &format!("ferrovirt-{}", instance.id),
        listen: address,
        ca_certificate: &authority,
        client: &admin,
    };
    let path = options.kubeconfig.clone().unwrap_or_else(|| instance.data_dir.join("kubeconfig"));
    kubeconfig.write(&path)?;
    let (shutdown, failure) = (serving.shutdown.clone(), serving.failure.clone());
    let serve = serve_tls(listener, server.router(), tls, shutdown.clone());
    serving.tasks.spawn(async move {
        let outcome = AssertUnwindSafe(serve).catch_unwind().await;
        if outcome.is_err() || !shutdown.is_cancelled() {
            failure.of("the API server's listener", &shutdown);
        }
    });
    Ok((path, kubeconfig.server()))
}
