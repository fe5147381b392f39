//! Memory: of the programs that manage machines, and of each machine outside its QEMU.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Options;
use super::place::{INSTALLATION, Place};
use crate::bare::qemu_of;
use crate::process::{Memory, beyond_guest, memory};
use crate::progress;
use crate::stats::{median, mib, time};
use crate::table::Table;
use crate::vms::{self, GUEST_MIB};

const COMPONENTS: [&str; 4] = ["virt-api", "virt-controller", "virt-handler", "virt-operator"];

/// One look at all of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Look {
    /// Every replica of a component.
    components: BTreeMap<&'static str, Vec<Memory>>,
    /// All processes of all launcher pods, what holds the pods' namespaces included.
    launchers: Memory,
    libvirtd: Memory,
    /// containerd's process beside each pod, of all pods of the cluster.
    shims: Memory,
    /// Resident memory of each QEMU beyond its guest's, kB.
    qemu: Vec<f64>,
}

impl Look {
    /// With VMIs of these UIDs.
    pub(crate) async fn at(place: &Place, uids: &[String]) -> Result<Self> {
        let mut look = Self::default();
        let processes = place.processes();
        for component in COMPONENTS {
            let pods = place.pods(INSTALLATION, &format!("kubevirt.io={component}")).await?;
            let replicas = look.components.entry(component).or_default();
            for process in &processes {
                if process.name == component && pods.iter().any(|uid| process.is_of_pod(uid)) {
                    replicas.push(memory(process.pid).context(component)?);
                }
            }
            ensure!(!replicas.is_empty(), "{component} does not run");
        }
        let launchers = place.pods(vms::NAMESPACE, "kubevirt.io=virt-launcher").await?;
        ensure!(launchers.len() == uids.len(), "{} launcher pods for {} instances", launchers.len(), uids.len());
        for process in &processes {
            let sum = if launchers.iter().any(|uid| process.is_of_pod(uid)) {
                &mut look.launchers
            } else if process.name == "libvirtd" {
                &mut look.libvirtd
            } else if process.name.starts_with("containerd-shim") {
                &mut look.shims
            } else {
                continue;
            };
            *sum += memory(process.pid).with_context(|| process.name.clone())?;
        }
        for uid in uids {
            let (pid, _) = qemu_of(&format!("fv-{uid}"))?;
            look.qemu.push(beyond_guest(pid, f64::from(GUEST_MIB) * 1024.0)?);
        }
        Ok(look)
    }

    fn component(&self, name: &str) -> &[Memory] {
        self.components.get(name).map_or(&[], Vec::as_slice)
    }

    fn components_pss(&self) -> f64 {
        self.components.values().flatten().map(|memory| memory.pss).sum()
    }
}

/// Memory at rest, with one machine and with many.
pub(crate) async fn measure(place: &Place, options: &Options, idle: &Look, table: &mut Table) -> Result<()> {
    progress("one VM");
    let mut uids = vms::start_many(&place.client, &["many0".to_owned()]).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let with_one = Look::at(place, &uids).await?;
    let mut names: Vec<String> = (1..options.vms).map(|i| format!("many{i}")).collect();
    progress(&format!("{} more", names.len()));
    let begin = std::time::Instant::now();
    uids.extend(vms::start_many(&place.client, &names).await?);
    let took = begin.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let with_many = Look::at(place, &uids).await?;

    #[allow(clippy::cast_precision_loss)]
    let more = names.len() as f64;
    table.section(&format!("Memory, at rest and with {} VMs with an empty disk", options.vms));
    for component in COMPONENTS {
        for (count, look) in [(0, idle), (options.vms, &with_many)] {
            let replicas: Vec<String> = look.component(component).iter().map(|memory| mib(memory.rss)).collect();
            table.fact(format!("{component} at {count}, RSS of each"), replicas.join(", "), "≤ 15 MiB");
        }
    }
    for (count, look) in [(0, idle), (1, &with_one), (options.vms, &with_many)] {
        table.fact(format!("libvirtd at {count}"), format!("{} PSS", mib(look.libvirtd.pss)), "");
    }
    let a_vm = |of: fn(&Look) -> f64| (of(&with_many) - of(&with_one)) / more;
    let (launcher, components) = (a_vm(|look| look.launchers.pss), a_vm(Look::components_pss));
    let libvirtd = a_vm(|look| look.libvirtd.pss);
    table.fact("a VM's memory outside QEMU (PSS)", mib(launcher + components + libvirtd), "≤ 4 MiB");
    table.fact(
        "  of it launcher pod, components, libvirtd",
        format!("{}, {}, {}", mib(launcher), mib(components), mib(libvirtd)),
        "",
    );
    table.fact("  beside it containerd's shim of a pod (PSS)", mib(a_vm(|look| look.shims.pss)), "");
    table.fact("QEMU beyond the guest, median", mib(median(&with_many.qemu)), "");
    table.fact(format!("{} VMs at once, create → Running, a VM", names.len()), time(took / more), "");
    names.push("many0".to_owned());
    progress("deleting them");
    vms::delete(&place.client, &names).await
}
