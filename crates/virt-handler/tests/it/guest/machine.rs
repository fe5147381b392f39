//! One test's node: daemon, directories, namespaces, pods made by hand.

use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use fv_api::VirtualMachineInstance;
use fv_api::config::ClusterConfig;
use fv_api::meta::users;
use fv_apiserver::{ApiServer, UserInfo};
use fv_disk::{ImageStore, RegistryConfig, StoreConfig, no_progress};
use fv_host::netns::NetNs;
use fv_host::network::NetworkSetup;
use fv_hypervisor::daemon::{DaemonConfig, LibvirtEndpoint, SupervisorCommand, ensure_libvirtd, stop_libvirtd};
use fv_hypervisor::{Hypervisor, LibvirtConfig, LibvirtHypervisor};
use fv_stream::agent::{DuplexStream, VmiRef};
use fv_virt_handler::disks::LocalDisks;
use fv_virt_handler::ports::NodeCgroups;
use fv_virt_handler::sandbox::{PodSandbox, PodSandboxes, SandboxError};
use fv_virt_handler::volumes::DirectoryVolumes;
use fv_virt_handler::{Handler, HandlerConfig, Ports, VOLUMES_DIR};
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use crate::support::{NODE, api_server, schedule, uuid};

/// Guests are emulated, and other tests run beside them.
const PATIENCE: Duration = Duration::from_secs(120);
const IMAGE: &str = "registry.example/demo:v1";

#[derive(Default)]
pub(crate) struct Pods(Mutex<HashMap<String, (PathBuf, PathBuf)>>);

#[async_trait::async_trait]
impl PodSandboxes for Pods {
    async fn locate(&self, pod_uid: &str) -> Result<Option<PodSandbox>, SandboxError> {
        let pods = self.0.lock();
        let Some((netns, share)) = pods.get(pod_uid) else { return Ok(None) };
        let netns =
            std::fs::File::open(netns).map_err(|source| SandboxError::Read { pod_uid: pod_uid.to_owned(), source })?;
        Ok(Some(PodSandbox { netns: netns.into(), share_dir: share.clone(), resolv_conf: None }))
    }
}

pub(crate) struct Running {
    pub(crate) handler: Handler,
    shutdown: CancellationToken,
}

impl Running {
    pub(crate) async fn end(self) {
        self.shutdown.cancel();
        self.handler.stopped().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A failed test's handler must not start libvirtd again behind the back of the clean-up.
        self.shutdown.cancel();
        let stopped = async { tokio::time::timeout(Duration::from_secs(300), self.handler.stopped()).await };
        let _ = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(stopped));
    }
}

pub(crate) struct Machine {
    api: ApiServer,
    pub(crate) images: Arc<ImageStore>,
    hypervisor: Arc<LibvirtHypervisor>,
    endpoint: LibvirtEndpoint,
    pods: Arc<Pods>,
    // The last field: what is in it goes last.
    place: Place,
}

/// Where a machine lives; its drop removes all that was made there, however far the making came.
struct Place {
    daemon: DaemonConfig,
    data: tempfile::TempDir,
    run: tempfile::TempDir,
}

/// Builds the demo guest (or copies it from the build's cache) into `dir`.
fn demo_guest(dir: &Path) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _building = ONE_AT_A_TIME.lock();
    let path = dir.join("guest.qcow2");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest/build.sh");
    let status = Command::new(&script).arg(&path).status().unwrap_or_else(|e| panic!("{}: {e}", script.display()));
    assert!(status.success(), "guest/build.sh failed");
    path
}

fn open_to_all(dir: tempfile::TempDir) -> tempfile::TempDir {
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// Runs `ip` inside a namespace.
fn ip(netns: &Path, arguments: &str) {
    let words: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
    let output = NetNs::open(netns).unwrap().run(move || Command::new("ip").args(&words).output()).unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Machine {
    pub(crate) async fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = format!("{:08x}", (std::process::id() << 8) | 0x80 | COUNT.fetch_add(1, Ordering::Relaxed));
        let data = open_to_all(tempfile::Builder::new().prefix("fv-vh-").tempdir_in("/var/tmp").unwrap());
        let run = open_to_all(tempfile::Builder::new().prefix("fv-vh-").tempdir_in("/run").unwrap());
        let mut daemon = DaemonConfig::new(data.path().join("libvirt"), run.path(), id);
        daemon.use_system = false;
        daemon.supervisor = SupervisorCommand::test_function("guest::libvirtd_supervisor");
        let place = Place { daemon, data, run };
        let (daemon, data, run) = (&place.daemon, &place.data, &place.run);
        std::fs::create_dir(run.path().join(VOLUMES_DIR)).unwrap();
        fv_host::mount::share(&run.path().join(VOLUMES_DIR)).unwrap();
        let config = daemon.clone();
        let endpoint = tokio::task::spawn_blocking(move || ensure_libvirtd(&config)).await.unwrap();
        let endpoint = endpoint.unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)));
        let hypervisor = LibvirtHypervisor::new(LibvirtConfig::new(&endpoint, daemon.instance_id.clone()));
        hypervisor.await_connected(Duration::from_secs(180)).await.unwrap();
        let store = StoreConfig {
            root: data.path().join("images"),
            gid: 107,
            max_image_bytes: 1 << 32,
            reserve_bytes: 0,
            registry: RegistryConfig::default(),
        };
        let scratch = data.path().to_owned();
        let images = tokio::task::spawn_blocking(move || {
            let images = ImageStore::open(store).unwrap();
            images.import(IMAGE, &demo_guest(&scratch), &no_progress()).unwrap();
            Arc::new(images)
        })
        .await
        .unwrap();
        let node = run.path().join("node.netns");
        NetNs::ensure_at(&node).unwrap();
        ip(&node, "link set lo up");
        ip(&node, "link add br0 type bridge");
        ip(&node, "addr add 10.88.0.1/24 dev br0");
        ip(&node, "link set br0 up");
        Self { api: api_server().await, images, hypervisor, endpoint, pods: Arc::new(Pods::default()), place }
    }

    /// A launcher pod with this address on the node's bridge; returns its uid.
    pub(crate) fn pod(&mut self, name: &str, address: &str) -> String {
        let uid = uuid::Uuid::new_v4().to_string();
        let netns = self.place.run.path().join(format!("{uid}.pod"));
        let share = self.place.data.path().join(format!("share-{name}"));
        std::fs::create_dir(&share).unwrap();
        NetNs::ensure_at(&netns).unwrap();
        let node = self.place.run.path().join("node.netns");
        let peer = format!("v{name}");
        ip(&node, &format!("link add {peer} type veth peer name eth0 netns {}", netns.display()));
        ip(&node, &format!("link set {peer} master br0 up"));
        ip(&netns, "link set lo up");
        ip(&netns, &format!("addr add {address}/24 dev eth0"));
        ip(&netns, "link set eth0 up");
        ip(&netns, "route add default via 10.88.0.1");
        self.pods.0.lock().insert(uid.clone(), (netns, share));
        uid
    }

    /// The directory of a volume of a pod.
    pub(crate) fn volume(&self, pod: &str, name: &str) -> PathBuf {
        let path = self.place.data.path().join("pods").join(pod).join("volumes").join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    pub(crate) fn share(&self, pod: &str) -> PathBuf {
        self.pods.0.lock()[pod].1.clone()
    }

    pub(crate) fn console_log(&self, pod: &str) -> String {
        std::fs::read(self.share(pod).join("console.log"))
            .map(|b| String::from_utf8_lossy(&b).into_owned())
            .unwrap_or_default()
    }

    pub(crate) fn remove_pod(&mut self, uid: &str) {
        if let Some((netns, _)) = self.pods.0.lock().remove(uid) {
            NetNs::remove_at(&netns).unwrap();
        }
    }

    pub(crate) async fn start_handler(&self) -> Running {
        self.start_handler_with(None).await
    }

    /// One that puts QEMU into groups of its own choice.
    pub(crate) async fn start_handler_with(&self, cgroups: Option<Arc<dyn NodeCgroups>>) -> Running {
        let shutdown = CancellationToken::new();
        let cluster = ClusterConfig { use_emulation: true, ..ClusterConfig::default() };
        let config = HandlerConfig {
            heartbeat: false,
            keep_daemon: Some((self.place.daemon.clone(), self.endpoint.clone())),
            partition: Some(self.place.daemon.partition()),
            ..HandlerConfig::new(
                NODE,
                &self.place.daemon.instance_id,
                self.place.data.path(),
                self.place.run.path(),
                cluster,
            )
        };
        let client = self.api.client_as(UserInfo::admin(users::VIRT_HANDLER));
        let (hypervisor, images) = (Arc::clone(&self.hypervisor), Arc::clone(&self.images));
        let pods = Arc::clone(&self.pods);
        let volumes = Arc::new(DirectoryVolumes::new(config.data_dir.join("pods")));
        let ports = Ports {
            network: Arc::new(NetworkSetup::new(config.run_dir.join("netns"))),
            disks: Arc::new(LocalDisks::new(
                images,
                config.data_dir.join("node/disks"),
                volumes,
                config.run_dir.join(VOLUMES_DIR),
            )),
            cgroups,
        };
        let handler =
            fv_virt_handler::start_with(config, client, hypervisor, ports, pods, shutdown.clone()).await.unwrap();
        Running { handler, shutdown }
    }

    pub(crate) fn vmis(&self) -> Api<VirtualMachineInstance> {
        Api::namespaced(self.api.client_as(UserInfo::admin(users::VIRT_CONTROLLER)), "default")
    }

    pub(crate) async fn schedule(&self, name: &str, pod: &str, change: impl FnOnce(&mut Value)) -> VmiRef {
        schedule(&self.vmis(), name, pod, |v| {
            v["spec"]["terminationGracePeriodSeconds"] = 60.into();
            v["spec"]["domain"]["devices"]["disks"] = serde_json::json!([
                {"name": "root", "disk": {"bus": "virtio"}},
                {"name": "seed", "disk": {"bus": "virtio"}},
                {"name": "scratch", "disk": {"bus": "virtio"}},
            ]);
            v["spec"]["domain"]["memory"]["guest"] = "128Mi".into();
            v["spec"]["volumes"] = serde_json::json!([
                {"name": "root", "containerDisk": {"image": IMAGE}},
                {"name": "seed", "cloudInitNoCloud": {
                    "userData": "#cloud-config\nhostname: cloudy\npassword: ferro\nchpasswd: { expire: False }\n"}},
                {"name": "scratch", "emptyDisk": {"capacity": "64Mi"}},
            ]);
            change(v);
        })
        .await
    }

    pub(crate) async fn reach(&self, vmi: &VmiRef, wanted: &str) {
        self.wait(&format!("phase {wanted}"), vmi, |vmi| crate::support::phase(vmi) == wanted).await;
    }

    pub(crate) async fn condition(&self, vmi: &VmiRef, type_: &str, there: bool) {
        self.wait(&format!("{type_} {there}"), vmi, |vmi| {
            let conditions = vmi.status.iter().flat_map(|s| &s.conditions);
            conditions.filter(|c| c.type_ == type_ && c.status == "True").count() == usize::from(there)
        })
        .await;
    }

    async fn wait(&self, what: &str, vmi: &VmiRef, done: impl Fn(&VirtualMachineInstance) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let now = self.vmis().get(&vmi.name).await.unwrap();
            if done(&now) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "no {what}: {:#?}", now.status);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn patch(&self, vmi: &VmiRef, patch: Value) {
        self.vmis().patch(&vmi.name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    pub(crate) async fn delete(&self, vmi: &VmiRef) {
        self.vmis().delete(&vmi.name, &DeleteParams::default()).await.unwrap();
    }

    pub(crate) fn records(&self) -> usize {
        std::fs::read_dir(self.place.data.path().join("node/vmis")).unwrap().count()
    }

    pub(crate) async fn qemu_pid(&self, vmi: &VmiRef) -> u32 {
        self.hypervisor.get(uuid(vmi)).await.unwrap().pid.unwrap()
    }

    /// Kills libvirtd without warning and waits until there is a new one.
    pub(crate) async fn kill_libvirtd(&self) {
        use rustix::process::{Pid, Signal, kill_process};
        let pid = self.endpoint.pid.unwrap();
        let mut events = self.hypervisor.events();
        kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
        let back = async {
            loop {
                if let Ok(fv_hypervisor::HypervisorEvent::Connected) = events.recv().await {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, back).await.expect("libvirtd did not come back");
    }

    /// The web page of the guest, seen from the node.
    pub(crate) async fn page(&self, address: &str) -> String {
        let node = self.place.run.path().join("node.netns");
        let address: std::net::SocketAddr = format!("{address}:80").parse().unwrap();
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let netns = NetNs::open(&node).unwrap();
            let fetched = netns
                .run_async(move || {
                    use std::io::{Read, Write};
                    let mut stream = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
                    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
                    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
                    let mut text = Vec::new();
                    stream.read_to_end(&mut text)?;
                    Ok::<_, std::io::Error>(String::from_utf8_lossy(&text).into_owned())
                })
                .await;
            match fetched {
                Ok(text) if !text.is_empty() => return text,
                other => assert!(std::time::Instant::now() < deadline, "no page from {address}: {other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// All that VMs leave on the node: files, namespaces, links.
    pub(crate) fn traces(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for dir in ["node/vmis", "node/disks"] {
            collect(&self.place.data.path().join(dir), &mut found);
        }
        for dir in ["vmis", "netns", VOLUMES_DIR] {
            collect(&self.place.run.path().join(dir), &mut found);
        }
        found.extend(self.place.taps());
        found
    }
}

fn collect(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        found.insert(entry.path().display().to_string());
    }
}

impl Place {
    /// Network devices of the node that belong to a user of this instance. Other tests' guests are theirs.
    fn taps(&self) -> Vec<String> {
        let slot = u32::from_str_radix(&self.daemon.instance_id, 16).unwrap() % 10_000;
        let links = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
        let ours = links.filter(|link| {
            let owner = std::fs::read_to_string(link.path().join("owner")).unwrap_or_default();
            let owner = owner.trim().parse::<u32>();
            owner.is_ok_and(|owner| owner.wrapping_sub(1_000_000_000) / 100_000 == slot)
        });
        ours.map(|link| link.file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What a failed test left running: QEMU processes whose command line names this test's directories.
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).into_owned();
            let ours = command.contains("guest=fv-") && command.contains(&*self.run.path().to_string_lossy());
            if let (true, Some(pid)) = (ours, rustix::process::Pid::from_raw(pid)) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                // Its cgroup cannot go before it.
                let deadline = std::time::Instant::now() + Duration::from_secs(180);
                let lives = || std::fs::read(entry.path().join("cmdline")).is_ok_and(|text| !text.is_empty());
                while lives() && std::time::Instant::now() < deadline {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
        if let Err(error) = stop_libvirtd(&self.daemon) {
            eprintln!("{error}");
        }
        let _ = fv_host::mount::unmount_lazily(&self.run.path().join(VOLUMES_DIR));
        let files = std::fs::read_dir(self.run.path()).into_iter().flatten().flatten().map(|e| e.path());
        let netns = std::fs::read_dir(self.run.path().join("netns")).into_iter().flatten().flatten().map(|e| e.path());
        for path in files.chain(netns) {
            if path.is_file() {
                let _ = NetNs::remove_at(&path);
            }
        }
        for tap in self.taps() {
            let _ = Command::new("ip").args(["link", "del", &tap]).output();
        }
    }
}

/// How long a console may be silent before return is pressed again.
const NUDGE: Duration = Duration::from_secs(15);

/// A user at the serial console.
pub(crate) struct Terminal {
    stream: Box<dyn DuplexStream>,
    seen: String,
    commands: u32,
}

impl Terminal {
    pub(crate) fn new(stream: Box<dyn DuplexStream>) -> Self {
        Self { stream, seen: String::new(), commands: 0 }
    }

    pub(crate) async fn send(&mut self, line: &str) {
        self.stream.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Reads until `wanted` appears and forgets everything up to its end.
    async fn expect(&mut self, wanted: &str) -> String {
        let reading = async {
            let mut buffer = [0u8; 4096];
            loop {
                if let Some(at) = self.seen.find(wanted) {
                    let before = self.seen[..at].to_owned();
                    self.seen.drain(..at + wanted.len());
                    return before;
                }
                let length = self.stream.read(&mut buffer).await.unwrap();
                assert!(length > 0, "console ended while waiting for {wanted:?}");
                self.seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
        };
        match tokio::time::timeout(PATIENCE, reading).await {
            Ok(before) => before,
            Err(_) => panic!("no {wanted:?} on the console; seen: {}", self.seen),
        }
    }

    pub(crate) async fn log_in(&mut self, user: &str, password: &str) {
        self.expect("login: ").await;
        self.send(user).await;
        self.expect("assword: ").await;
        self.send(password).await;
        self.expect("# ").await;
    }

    /// A prompt on a console someone else left logged in.
    pub(crate) async fn wake(&mut self) {
        self.send("").await;
        self.expect("# ").await;
    }

    /// Presses return again while nothing comes: an emulated serial port can sit on what was typed until the next byte. What was lost on
    /// the way there does not come back by it.
    async fn nudge_until(&mut self, wanted: &str) {
        let begun = std::time::Instant::now();
        while !self.seen.contains(wanted) && begun.elapsed() < PATIENCE {
            let mut buffer = [0u8; 4096];
            match tokio::time::timeout(NUDGE, self.stream.read(&mut buffer)).await {
                Ok(length) => {
                    let length = length.unwrap();
                    assert!(length > 0, "console ended while waiting for {wanted:?}");
                    self.seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
                }
                Err(_) => self.send("").await,
            }
        }
        self.expect(wanted).await;
    }

    /// Runs a command and returns what it prints.
    pub(crate) async fn run(&mut self, command: &str) -> String {
        self.commands += 1;
        let mark = format!("<{}>", self.commands);
        // The echoed command line holds the mark in pieces, its output whole.
        self.send(&format!("echo '<''{0}>'; {command}; echo '<''{0}>'", self.commands)).await;
        self.nudge_until(&mark).await;
        self.expect(&mark).await.trim().to_owned()
    }
}
