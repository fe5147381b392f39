//! Memory of every process of an instance, beside processes that do nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::bare::qemu_of;
use crate::floor::BareServer;
use crate::instance::Instance;
use crate::process::{Memory, beyond_guest, memory};
use crate::stats::{median, mib, more, ratio};
use crate::table::{Row, Table};
use crate::vms::GUEST_MIB;

/// The container that stands for the VM.
const COMPUTE: &str = "compute";

/// What does nothing for as long as an instance is looked at, to compare its processes with.
#[derive(Debug)]
pub(crate) struct Idlers {
    pub(crate) endpoint: BareServer,
    sleeper: Sleeper,
}

impl Idlers {
    pub(crate) async fn start(instance: &Instance) -> Result<Self> {
        let endpoint = BareServer::start(&instance.work.join("bare-pki")).await?;
        Ok(Self { endpoint, sleeper: Sleeper::start()? })
    }
}

/// One look at all of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Look {
    ferrovirt: Memory,
    /// The processes of all launcher pods, by the name of their container.
    containers: BTreeMap<String, Vec<Memory>>,
    supervisor: Memory,
    libvirtd: Memory,
    /// Resident memory of each QEMU beyond its guest's, kB.
    pub(crate) qemu: Vec<f64>,
    endpoint: Memory,
    sleeper: Memory,
}

impl Look {
    /// At the processes of an instance whose VMIs have these UIDs.
    pub(crate) fn at(instance: &Instance, idlers: &Idlers, uids: &[String]) -> Result<Self> {
        let (supervisor, libvirtd) = instance.libvirt_pids()?;
        let mut look = Self {
            ferrovirt: memory(instance.pid).context("ferrovirt")?,
            supervisor: memory(supervisor).context("supervisor of libvirtd")?,
            libvirtd: memory(libvirtd).context("libvirtd")?,
            endpoint: memory(idlers.endpoint.pid()?).context("bare endpoint")?,
            sleeper: memory(idlers.sleeper.0.id()).context("sleep")?,
            ..Self::default()
        };
        for (container, pid) in container_pids(&instance.data.join("pods"))? {
            let found = memory(pid).with_context(|| format!("launcher pod's {container}"))?;
            look.containers.entry(container).or_default().push(found);
        }
        for uid in uids {
            look.qemu.push(qemu_beyond_guest(uid)?);
        }
        let launchers = look.containers.get(COMPUTE).map_or(0, Vec::len);
        ensure!(launchers == uids.len(), "{launchers} launchers for {} VMs", uids.len());
        Ok(look)
    }

    /// Proportional memory of everything but the QEMUs.
    fn outside_qemu(&self) -> f64 {
        let pods: f64 = self.containers.values().flatten().map(|m| m.pss).sum();
        self.ferrovirt.pss + self.supervisor.pss + self.libvirtd.pss + pods
    }
}

/// Resident memory of the QEMU of a VMI without its guest's, kB.
pub(crate) fn qemu_beyond_guest(uid: &str) -> Result<f64> {
    let (pid, _) = qemu_of(&format!("fv-{uid}"))?;
    beyond_guest(pid, f64::from(GUEST_MIB) * 1024.0)
}

pub(crate) fn both(memory: Memory) -> String {
    format!("{} RSS, {} PSS", mib(memory.rss), mib(memory.pss))
}

/// Lines for each process of ours and libvirtd, with so many VMs at each look; the first is the one at rest.
pub(crate) fn processes(looks: &[(usize, &Look)], table: &mut Table) {
    for (count, look) in looks {
        let aim = if *count == 0 { "≤ 40 MiB RSS" } else { "" };
        table.row(beside(format!("ferrovirt at {count}"), look.ferrovirt, look.endpoint, "(bare endpoint)", aim));
    }
    for (count, look) in looks {
        table.row(beside(format!("libvirtd's supervisor at {count}"), look.supervisor, look.sleeper, "(sleep)", ""));
    }
    let [(_, at_rest), with_vms @ ..] = looks else { return };
    table.fact("libvirtd at 0", both(at_rest.libvirtd), "");
    for (count, look) in with_vms {
        table.row(beside(format!("libvirtd at {count}"), look.libvirtd, at_rest.libvirtd, "(at 0)", ""));
    }
    let names: BTreeSet<&String> = with_vms.iter().flat_map(|(_, look)| look.containers.keys()).collect();
    for name in names {
        for (count, look) in with_vms {
            let of_all = look.containers.get(name).map_or(&[][..], Vec::as_slice);
            let what = format!("launcher pod's {name} at {count}");
            match of_all {
                [] => table.fact(what, "does not run", ""),
                _ => {
                    let what = format!("{what}, median of {}", of_all.len());
                    table.row(beside(what, middle(of_all), look.sleeper, "(sleep)", "≈ 2 MiB RSS"));
                }
            }
        }
    }
}

/// A line whose figure is the memory of a process.
fn beside(what: String, ours: Memory, floor: Memory, floor_is: &str, aim: &str) -> Row {
    Row {
        what,
        ours: both(ours),
        floor: format!("{} RSS {floor_is}", mib(floor.rss)),
        against: ratio(ours.rss, floor.rss),
        aim: aim.into(),
    }
}

fn middle(all: &[Memory]) -> Memory {
    let of = |part: fn(&Memory) -> f64| median(&all.iter().map(part).collect::<Vec<_>>());
    Memory { rss: of(|m| m.rss), pss: of(|m| m.pss) }
}

/// Lines for what a VM takes beside its QEMU: many VMs less one, divided by the `others`.
pub(crate) fn a_vm(one: &Look, many: &Look, others: f64, table: &mut Table) {
    let a_vm = |of: fn(&Look) -> f64| (of(many) - of(one)) / others;
    let (ours, libvirtd) = (a_vm(Look::outside_qemu), a_vm(|look| look.libvirtd.pss));
    table.row(Row {
        what: "a VM's memory outside QEMU (PSS)".into(),
        ours: mib(ours),
        floor: format!("{} (what libvirtd keeps of it)", mib(libvirtd)),
        against: more(ours, libvirtd, mib),
        aim: "≤ 4 MiB".into(),
    });
    table.fact("  of it ferrovirt", mib(a_vm(|look| look.ferrovirt.pss)), "");
}

/// The processes of all containers and the containers' names, from the pod runner's records.
fn container_pids(pods: &Path) -> Result<Vec<(String, u32)>> {
    let mut pids = Vec::new();
    for pod in std::fs::read_dir(pods).into_iter().flatten().flatten() {
        for file in std::fs::read_dir(pod.path()).into_iter().flatten().flatten() {
            let name = file.file_name();
            let Some(container) = name.to_str().and_then(|name| name.strip_suffix(".json")) else { continue };
            let Ok(record) = serde_json::from_slice::<Value>(&std::fs::read(file.path())?) else { continue };
            let pid = record["process"]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
            let pid = pid.filter(|pid| Path::new(&format!("/proc/{pid}")).exists());
            pids.extend(pid.map(|pid| (container.to_owned(), pid)));
        }
    }
    Ok(pids)
}

/// A program that does nothing.
#[derive(Debug)]
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Result<Self> {
        let child = Command::new("sleep").arg("1d").stdin(Stdio::null()).spawn().context("run sleep")?;
        Ok(Self(child))
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
