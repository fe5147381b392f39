//! A node, pods and guests out of network namespaces; everything is gone when it is dropped.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use fv_api::VirtualMachineInstance;
use fv_host::link::Links;
use fv_host::netns::NetNs;
use fv_host::network::NetworkSetup;
use fv_netplan::{DnsFacts, MacAddr, NetPlan, PlanInput};
use serde_json::{Value, json};

/// Something "outside", behind the node.
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
pub(crate) const NODE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) node: NetNs,
    pub(crate) setup: NetworkSetup,
    vms: Vec<String>,
}

pub(crate) struct Launcher(pub(crate) Child);

impl Drop for Launcher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let (setup, vms) = (self.setup.clone(), self.vms.clone());
        // A runtime of its own: this may run while a panic unwinds out of another one.
        let _ = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            for uid in vms {
                let _ = runtime.block_on(setup.release(&uid));
            }
        })
        .join();
        for path in NetNs::list(self.dir.path()).unwrap_or_default() {
            let _ = NetNs::remove_at(&path);
        }
    }
}

pub(crate) fn unique_uid() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    format!("{:08x}-{:04x}-{nanos:x}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn vmi(uid: &str, interface: Value) -> VirtualMachineInstance {
    serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": "demo", "namespace": "default", "uid": uid},
        "spec": {
            "domain": {"devices": {"interfaces": [interface]}},
            "networks": [{"name": "default", "pod": {}}],
        },
    }))
    .unwrap()
}

impl World {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The launcher, another user, passes through.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let node = NetNs::ensure_at(&dir.path().join("node")).unwrap();
        let links = Links::in_netns(&node).await.unwrap();
        let lo = links.require("lo").await.unwrap();
        links.set_addresses(&lo, &[format!("{OUTSIDE}/32").parse().unwrap()]).await.unwrap();
        links.set_up(&lo, true).await.unwrap();
        links.add_bridge("cni0", None, 1500).await.unwrap();
        let bridge = links.require("cni0").await.unwrap();
        links.set_addresses(&bridge, &[format!("{NODE}/24").parse().unwrap()]).await.unwrap();
        links.set_up(&bridge, true).await.unwrap();
        let setup = NetworkSetup::new(dir.path().join("vm"));
        Self { dir, node, setup, vms: Vec::new() }
    }

    /// A pod as CNI leaves it: eth0 with an address, a default route, its other end on the node's bridge.
    pub(crate) async fn pod(&self, name: &str, address: Ipv4Addr) -> NetNs {
        let pod = NetNs::ensure_at(&self.dir.path().join(name)).unwrap();
        let links = Links::in_netns(&pod).await.unwrap();
        links.add_veth("eth0", 1450, name, self.node.as_fd()).await.unwrap();
        for name in ["lo", "eth0"] {
            links.set_up(&links.require(name).await.unwrap(), true).await.unwrap();
        }
        let eth0 = links.require("eth0").await.unwrap();
        links.set_addresses(&eth0, &[format!("{address}/24").parse().unwrap()]).await.unwrap();
        links.add_route(&eth0, "0.0.0.0/0".parse().unwrap(), Some(NODE)).await.unwrap();
        let node = Links::in_netns(&self.node).await.unwrap();
        let (port, bridge) = (node.require(name).await.unwrap(), node.require("cni0").await.unwrap());
        node.set_master(&port, &bridge).await.unwrap();
        node.set_up(&port, true).await.unwrap();
        pod
    }

    /// What the handler does: facts, plan, ensure, dhcp.json.
    pub(crate) async fn plan(
        &mut self,
        vmi: &VirtualMachineInstance,
        pod: &NetNs,
        previous: Option<&NetPlan>,
    ) -> NetPlan {
        let uid = vmi.metadata.uid.clone().unwrap();
        self.vms.push(uid.clone());
        let facts = self.setup.pod_facts(&uid, pod.as_fd()).await.unwrap();
        let dns = DnsFacts::parse("nameserver 10.96.0.10\nsearch default.svc.cluster.local\n");
        let input = PlanInput { vmi, pod: &facts, dns: &dns, vcpus: 1, owner_uid: 0, owner_gid: 0, previous };
        let plan = fv_netplan::plan(input).unwrap();
        let share = self.share_dir(&uid);
        fs::write(share.join("dhcp.json.new"), serde_json::to_vec(&plan.dhcp).unwrap()).unwrap();
        fs::rename(share.join("dhcp.json.new"), share.join("dhcp.json")).unwrap();
        plan
    }

    pub(crate) fn share_dir(&self, uid: &str) -> PathBuf {
        let share = self.dir.path().join(format!("share-{uid}"));
        fs::create_dir_all(&share).unwrap();
        share
    }

    /// The launcher as its pod runs it: user 107, no capabilities.
    pub(crate) fn launcher(&self, uid: &str, pod: &NetNs) -> Launcher {
        self.logged_launcher(uid, pod, Stdio::inherit())
    }

    pub(crate) fn logged_launcher(&self, uid: &str, pod: &NetNs, log: Stdio) -> Launcher {
        let share = self.share_dir(uid);
        let child = pod
            .run(move || {
                Command::new(env!("CARGO_BIN_EXE_virt-launcher"))
                    .args(["run", "--name", "demo", "--namespace", "default", "--uid", "u"])
                    .args(["--grace-period-seconds", "30", "--share-dir"])
                    .arg(share)
                    .uid(107)
                    .gid(107)
                    .current_dir("/")
                    .stdin(Stdio::null())
                    .stderr(log)
                    .spawn()
            })
            .unwrap();
        Launcher(child)
    }

    /// A guest whose wire is plugged into the VM's bridge, in place of a tap.
    pub(crate) async fn guest(&self, name: &str, plan: &NetPlan) -> Guest {
        let guest = NetNs::ensure_at(&self.dir.path().join(name)).unwrap();
        let links = Links::in_netns(&guest).await.unwrap();
        let vm = NetNs::open(&self.setup.vm_netns_path(&plan.vmi_uid)).unwrap();
        let interface = &plan.interfaces[0];
        links.add_veth("eth0", interface.mtu, "wire", vm.as_fd()).await.unwrap();
        let eth0 = links.require("eth0").await.unwrap();
        links.set_mac(&eth0, interface.guest_mac).await.unwrap();
        links.set_up(&links.require("lo").await.unwrap(), true).await.unwrap();
        links.set_up(&eth0, true).await.unwrap();
        let inside = Links::in_netns(&vm).await.unwrap();
        let (wire, bridge) =
            (inside.require("wire").await.unwrap(), inside.require(&interface.vm_bridge).await.unwrap());
        inside.set_master(&wire, &bridge).await.unwrap();
        inside.set_up(&wire, true).await.unwrap();
        Guest { netns: guest, dir: self.dir.path().to_owned(), name: name.to_owned() }
    }
}

pub(crate) struct Guest {
    pub(crate) netns: NetNs,
    dir: PathBuf,
    name: String,
}

impl Guest {
    /// Boots: asks DHCP with an ordinary client and configures itself. Returns the client's variables.
    pub(crate) fn dhcp(&self) -> Vec<String> {
        let script = self.dir.join(format!("{}-udhcpc.sh", self.name));
        let lease = self.dir.join(format!("{}-lease", self.name));
        let text = format!(
            "#!/bin/sh\n[ \"$1\" = bound ] || exit 0\nset -e\n\
             ip addr flush dev $interface\nip addr add $ip/$mask dev $interface\nip link set dev $interface mtu $mtu\n\
             for r in $router; do ip route replace default via $r; done\nenv > {lease}.new\nmv {lease}.new {lease}\n",
            lease = lease.display()
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let output = self
            .netns
            .run(move || {
                Command::new("busybox")
                    .args(["udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "20", "-T", "1", "-O", "mtu", "-s"])
                    .arg(script)
                    .output()
            })
            .unwrap();
        assert!(output.status.success(), "udhcpc: {}", String::from_utf8_lossy(&output.stderr));
        fs::read_to_string(lease).unwrap().lines().map(str::to_owned).collect()
    }
}

/// A server that answers every connection with the peer's address.
pub(crate) fn serve(netns: &NetNs, port: u16) {
    let listener = netns.run(move || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            if let Ok(SocketAddr::V4(peer)) = stream.peer_addr() {
                let _ = stream.write_all(peer.ip().to_string().as_bytes());
            }
        }
    });
}

/// Connects from a namespace; the server's answer: who it takes us for.
pub(crate) fn call(netns: &NetNs, to: Ipv4Addr, port: u16) -> io::Result<String> {
    let to = SocketAddrV4::new(to, port);
    let patience = Duration::from_secs(60);
    let mut stream = netns.run(move || TcpStream::connect_timeout(&to.into(), patience))?;
    stream.set_read_timeout(Some(patience))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

pub(crate) async fn mac_of(netns: &NetNs, link: &str) -> MacAddr {
    Links::in_netns(netns).await.unwrap().require(link).await.unwrap().mac.unwrap()
}

/// Waits for a condition others bring about.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(120), "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}
