//! The network of a VM against the same without the part that is ours: the VM's own namespace and the veth pair to its pod.
//!
//! ```text
//! ours    node ─ veth ─ [pod: nftables masquerade, bridge] ─ veth ─ [VM: bridge] ─ tap
//! floor   node ─ veth ─ [pod: nftables masquerade, bridge] ─ tap
//! ```
//!
//! Once with a process of this program at the end, on a veth in place of the tap: an emulated guest is slower than anything before it, and
//! would hide it. And once with the demo guest, whose running QEMU keeps the very tap while it is moved to the pod's namespace and back.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::place::Place;
use super::{Options, place};
use crate::instance::run;
use crate::progress;
use crate::stats::{median, ratio, time};
use crate::table::{Row, Table};
use crate::vms::{self, PATIENCE};
use crate::wire::{Web, Wire};

/// Both ways are measured so many times, in turns.
const ROUNDS: usize = 3;
const PORT: u16 = 5201;
/// What masquerade gives the guest and itself.
const GUEST: &str = "10.0.2.2/24";
const GATEWAY: &str = "10.0.2.1";
const POD_BRIDGE: &str = "k6t-eth0";
const VM_BRIDGE: &str = "br-eth0";
const VETH: &str = "veth-eth0";
/// Our veth's end at the bridges.
const STAND_IN: &str = "fvbench";
/// A file that the demo guest serves, in MiB.
const FILE_MIB: u32 = 16;

pub(crate) async fn measure(place: &Place, options: &Options, table: &mut Table) -> Result<()> {
    progress("the network without a guest");
    let plain = plain_pod(place, options).await?;
    let (ours, floor) = without_guest(place, options).await?;
    table.section(&format!(
        "Network from the node to a process in a guest's place, medians of {ROUNDS} times {} s",
        options.seconds
    ));
    for (against, floor) in [("the same in the pod's namespace", &floor), ("a process in a plain pod", &plain)] {
        wire_rows(&ours, floor, against, table);
    }
    progress("the network with a guest");
    let (ours, floor) = with_guest(place, options).await?;
    table.section(&format!("Network from the node to the demo guest, medians of {ROUNDS}"));
    web_rows(&ours, &floor, table);
    Ok(())
}

fn wire_rows(ours: &[Wire], floor: &[Wire], against: &str, table: &mut Table) {
    let middle = |all: &[Wire], figure: fn(&Wire) -> f64| median(&all.iter().map(figure).collect::<Vec<_>>());
    let figures: [(&str, fn(&Wire) -> f64, fn(f64) -> String); 4] = [
        ("TCP to it", |wire| wire.to, gigabits),
        ("TCP from it", |wire| wire.from, gigabits),
        ("round trip of a byte, p50", |wire| wire.round_trip, time),
        ("round trip of a byte, p99", |wire| wire.round_trip_p99, time),
    ];
    for (what, figure, unit) in figures {
        let (ours, floor) = (middle(ours, figure), middle(floor, figure));
        table.row(Row {
            what: what.into(),
            ours: unit(ours),
            floor: format!("{} ({against})", unit(floor)),
            against: ratio(ours, floor),
            aim: String::new(),
        });
    }
}

fn web_rows(ours: &[Web], floor: &[Web], table: &mut Table) {
    let middle = |all: &[Web], figure: fn(&Web) -> f64| median(&all.iter().map(figure).collect::<Vec<_>>());
    let figures: [(&str, fn(&Web) -> f64, fn(f64) -> String); 3] = [
        ("its web server's file", |web| web.rate, megabytes),
        ("connect, p50", |web| web.connect, time),
        ("connect, p99", |web| web.connect_p99, time),
    ];
    for (what, figure, unit) in figures {
        let (ours, floor) = (middle(ours, figure), middle(floor, figure));
        table.row(Row {
            what: what.into(),
            ours: unit(ours),
            floor: format!("{} (its tap in the pod's namespace)", unit(floor)),
            against: ratio(ours, floor),
            aim: String::new(),
        });
    }
}

fn gigabits(bytes: f64) -> String {
    format!("{:.1} Gbit/s", bytes * 8.0 / 1e9)
}

fn megabytes(bytes: f64) -> String {
    format!("{:.1} MiB/s", bytes / f64::from(1 << 20))
}

// --- namespaces ------------------------------------------------------------------------------------------------------------

/// A network namespace, by a path that this machine sees.
#[derive(Debug, Clone)]
struct Netns(PathBuf);

impl Netns {
    fn of(pid: u32) -> Self {
        Self(format!("/proc/{pid}/ns/net").into())
    }

    /// A command in it, with this machine's files and processes.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.0.display())).arg("--").arg(program);
        command
    }

    /// `ip`, with words separated by spaces.
    fn ip(&self, words: &str) -> Result<String> {
        run(self.command("ip").args(words.split(' ')))
    }
}

/// This program, in a namespace, as the asking end.
fn asked<T: DeserializeOwned>(from: &Netns, words: &[String]) -> Result<T> {
    let program = std::env::current_exe()?;
    let text = run(from.command(&program.display().to_string()).args(words))?;
    serde_json::from_str(&text).with_context(|| format!("{words:?} said {text:?}"))
}

fn ask(place: &Place, options: &Options, address: SocketAddr) -> Result<Wire> {
    asked(
        &Netns::of(place.node_pid()?),
        &["ask".into(), address.to_string(), "--seconds".into(), options.seconds.to_string()],
    )
}

/// This program as the answering end; ends with its holder.
struct Answerer {
    child: tokio::process::Child,
    pid: u32,
}

impl Answerer {
    /// `launch` is what runs this program, such as `unshare --net`; empty for nothing.
    async fn start(mut launch: Vec<String>) -> Result<Self> {
        launch.push(std::env::current_exe()?.display().to_string());
        let mut command = tokio::process::Command::new(&launch[0]);
        command.args(&launch[1..]).args(["answer".to_owned(), format!("0.0.0.0:{PORT}")]);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn().context("start an end")?;
        let stdout = child.stdout.take().context("it has no output")?;
        BufReader::new(stdout).lines().next_line().await?.context("the answering end ended")?;
        let pid = child.id().context("the answering end ended")?;
        Ok(Self { child, pid })
    }

    async fn end(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}

// --- a plain pod -------------------------------------------------------------------------------------------------------------

async fn plain_pod(place: &Place, options: &Options) -> Result<Vec<Wire>> {
    let manifest = super::starts::pod("wire", &options.pause);
    vms::start(&place.client, &manifest, &[vms::POD_READY]).await?;
    let pod = vms::pods(&place.client).get("wire").await?;
    let ip = pod.data["status"]["podIP"].as_str().context("the pod has no address")?;
    let pid = process_of(place, pod.metadata.uid.as_deref().unwrap_or_default())?;
    let launch = ["nsenter", &format!("--net=/proc/{pid}/ns/net"), "--"].map(str::to_owned);
    let answerer = Answerer::start(launch.to_vec()).await?;
    let address = SocketAddr::new(ip.parse()?, PORT);
    let figures = (0..ROUNDS).map(|_| ask(place, options, address)).collect::<Result<Vec<_>>>()?;
    answerer.end().await?;
    vms::delete(&place.client, &["wire".to_owned()]).await?;
    Ok(figures)
}

fn process_of(place: &Place, pod: &str) -> Result<u32> {
    let found = place.processes().into_iter().find(|process| process.is_of_pod(pod));
    Ok(found.with_context(|| format!("pod {pod} has no process"))?.pid)
}

// --- a VM ----------------------------------------------------------------------------------------------------------------------

/// The network of a running VM.
struct Wired {
    /// The namespaces of the pod and of the VM, and a process in the first.
    pod: Netns,
    pod_pid: u32,
    vm: Netns,
    tap: String,
    mac: String,
    address: std::net::IpAddr,
}

impl Wired {
    async fn of(place: &Place, name: &str) -> Result<Self> {
        let deadline = Instant::now() + PATIENCE;
        let vmi = loop {
            let vmi = vms::vmis(&place.client).get(name).await?;
            if vmi.data["status"]["interfaces"][0]["ipAddress"].is_string() {
                break vmi;
            }
            if Instant::now() > deadline {
                bail!("VM {name} has no address: {}", vmi.data["status"]);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let uid = vmi.metadata.uid.clone().unwrap_or_default();
        let interface = &vmi.data["status"]["interfaces"][0];
        let text =
            |key: &str| interface[key].as_str().map(str::to_owned).with_context(|| format!("no {key} in {interface}"));
        let pods = place.pods(vms::NAMESPACE, &format!("kubevirt.io/created-by={uid}")).await?;
        let pod_pid = process_of(place, pods.first().context("the VM has no pod")?)?;
        let vm = Netns(format!("/proc/{}/root/run/ferrovirt/netns/{uid}", place.node_pid()?).into());
        let links: Value = serde_json::from_str(&vm.ip("-j link show")?)?;
        let mut names = links.as_array().into_iter().flatten().filter_map(|link| link["ifname"].as_str());
        let tap = names.find(|name| name.starts_with("fvt")).context("the VM has no tap")?.to_owned();
        Ok(Self { pod: Netns::of(pod_pid), pod_pid, vm, tap, mac: text("mac")?, address: text("ipAddress")?.parse()? })
    }

    /// Puts the other end of a veth pair whose one end is at a bridge, into a namespace that then has the guest's addresses.
    fn stand_in(&self, at: &Netns, bridge: &str, pid: u32) -> Result<()> {
        at.ip(&format!("link add {STAND_IN} type veth peer name eth0 netns {pid}"))?;
        at.ip(&format!("link set {STAND_IN} master {bridge} up"))?;
        let guest = Netns::of(pid);
        guest.ip("link set lo up")?;
        guest.ip(&format!("link set eth0 address {}", self.mac))?;
        guest.ip(&format!("address add {GUEST} dev eth0"))?;
        guest.ip("link set eth0 up")?;
        guest.ip(&format!("route add default via {GATEWAY}"))?;
        Ok(())
    }

    /// The tap goes to the pod's bridge, past the VM's namespace.
    fn shorten(&self) -> Result<()> {
        self.vm.ip(&format!("link set {} netns {}", self.tap, self.pod_pid))?;
        self.pod.ip(&format!("link set {VETH} nomaster"))?;
        self.pod.ip(&format!("link set {} master {POD_BRIDGE} up", self.tap))?;
        Ok(())
    }

    fn restore(&self) -> Result<()> {
        self.pod.ip(&format!("link set {} netns {}", self.tap, self.vm.0.display()))?;
        self.vm.ip(&format!("link set {} master {VM_BRIDGE} up", self.tap))?;
        self.pod.ip(&format!("link set {VETH} master {POD_BRIDGE}"))?;
        Ok(())
    }
}

/// Our way, and without it: a process where the guest would be.
async fn without_guest(place: &Place, options: &Options) -> Result<(Vec<Wire>, Vec<Wire>)> {
    vms::start(&place.client, &vms::manifest("wire", None), &[vms::RUNNING]).await?;
    let wired = Wired::of(place, "wire").await?;
    let frozen = Frozen::handler(place).await?;
    let answerer = Answerer::start(["unshare", "--net", "--"].map(str::to_owned).to_vec()).await?;
    let address = SocketAddr::new(wired.address, PORT);
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    wired.vm.ip(&format!("link set {} nomaster", wired.tap))?;
    for _ in 0..ROUNDS {
        wired.stand_in(&wired.vm, VM_BRIDGE, answerer.pid)?;
        ours.push(ask(place, options, address).context("our way")?);
        wired.vm.ip(&format!("link delete {STAND_IN}"))?;

        wired.pod.ip(&format!("link set {VETH} nomaster"))?;
        wired.stand_in(&wired.pod, POD_BRIDGE, answerer.pid)?;
        floor.push(ask(place, options, address).context("in the pod's namespace")?);
        wired.pod.ip(&format!("link delete {STAND_IN}"))?;
        wired.pod.ip(&format!("link set {VETH} master {POD_BRIDGE}"))?;
    }
    wired.vm.ip(&format!("link set {} master {VM_BRIDGE}", wired.tap))?;
    answerer.end().await?;
    drop(frozen);
    vms::delete(&place.client, &["wire".to_owned()]).await?;
    Ok((ours, floor))
}

/// Our way, and without it: the demo guest and its web server.
async fn with_guest(place: &Place, options: &Options) -> Result<(Vec<Web>, Vec<Web>)> {
    let mut manifest = vms::manifest("web", Some(&options.guest));
    let spec = &mut manifest["spec"]["template"]["spec"];
    let file = format!("#cloud-config\nbootcmd:\n- dd if=/dev/zero of=/var/www/file bs=1M count={FILE_MIB}\n");
    push(&mut spec["domain"]["devices"]["disks"], json!({"name": "cloudinit", "disk": {"bus": "virtio"}}));
    push(&mut spec["volumes"], json!({"name": "cloudinit", "cloudInitNoCloud": {"userData": file}}));
    vms::start(&place.client, &manifest, &[vms::RUNNING]).await?;
    let wired = Wired::of(place, "web").await?;
    let node = Netns::of(place.node_pid()?);
    let fetch =
        || asked::<Web>(&node, &["fetch".into(), SocketAddr::new(wired.address, 80).to_string(), "/file".into()]);
    let deadline = Instant::now() + PATIENCE;
    // The first answer is not counted either: the emulator has not translated what answers yet.
    while let Err(error) = fetch() {
        if Instant::now() > deadline {
            return Err(error).context("the guest's web server does not answer");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let frozen = Frozen::handler(place).await?;
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(fetch().context("our way")?);
        wired.shorten()?;
        floor.push(fetch().context("the tap in the pod's namespace")?);
        wired.restore()?;
    }
    drop(frozen);
    vms::delete(&place.client, &["web".to_owned()]).await?;
    Ok((ours, floor))
}

fn push(list: &mut Value, item: Value) {
    if let Some(list) = list.as_array_mut() {
        list.push(item);
    }
}

/// The node's agent, stopped: it would put back what is changed here. It goes on when this is dropped.
struct Frozen(u32);

impl Frozen {
    async fn handler(place: &Place) -> Result<Self> {
        let pods = place.pods(place::INSTALLATION, "kubevirt.io=virt-handler").await?;
        let mut processes = place.processes().into_iter();
        let handler = processes.find(|p| p.name == "virt-handler" && pods.iter().any(|uid| p.is_of_pod(uid)));
        let pid = handler.context("virt-handler does not run")?.pid;
        run(Command::new("kill").args(["-STOP", &pid.to_string()]))?;
        Ok(Self(pid))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = run(Command::new("kill").args(["-CONT", &self.0.to_string()]));
    }
}
