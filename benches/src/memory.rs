//! Memory of every process of an instance.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::bare::qemu_of;
use crate::instance::Instance;
use crate::process::{Memory, beyond_guest, memory};
use crate::vms::GUEST_MIB;

/// One look at all of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Look {
    pub(crate) ferrovirt: Memory,
    /// Every process of every launcher pod.
    pub(crate) pods: Vec<Memory>,
    pub(crate) supervisor: Memory,
    pub(crate) libvirtd: Memory,
    /// Resident memory of each QEMU beyond its guest's, kB.
    pub(crate) qemu: Vec<f64>,
}

impl Look {
    /// At the processes of an instance whose VMIs have these UIDs.
    pub(crate) fn at(instance: &Instance, uids: &[String]) -> Result<Self> {
        let (supervisor, libvirtd) = instance.libvirt_pids()?;
        let mut look = Self {
            ferrovirt: memory(instance.pid).context("ferrovirt")?,
            supervisor: memory(supervisor).context("supervisor of libvirtd")?,
            libvirtd: memory(libvirtd).context("libvirtd")?,
            ..Self::default()
        };
        for pid in container_pids(&instance.data.join("pods"))? {
            look.pods.push(memory(pid).context("launcher pod")?);
        }
        for uid in uids {
            let (pid, _) = qemu_of(&format!("fv-{uid}"))?;
            look.qemu.push(beyond_guest(pid, f64::from(GUEST_MIB) * 1024.0)?);
        }
        ensure!(
            uids.is_empty() || look.pods.len() >= uids.len(),
            "{} containers for {} VMs",
            look.pods.len(),
            uids.len()
        );
        Ok(look)
    }

    /// Proportional memory of everything but the QEMUs.
    pub(crate) fn outside_qemu(&self) -> f64 {
        self.ferrovirt.pss + self.supervisor.pss + self.libvirtd.pss + self.pods.iter().map(|m| m.pss).sum::<f64>()
    }
}

/// The processes of all containers, from the pod runner's records.
fn container_pids(pods: &Path) -> Result<Vec<u32>> {
    let mut pids = Vec::new();
    for pod in std::fs::read_dir(pods).into_iter().flatten().flatten() {
        for file in std::fs::read_dir(pod.path()).into_iter().flatten().flatten() {
            if file.path().extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let Ok(record) = serde_json::from_slice::<Value>(&std::fs::read(file.path())?) else { continue };
            let pid = record["process"]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
            pids.extend(pid.filter(|pid| Path::new(&format!("/proc/{pid}")).exists()));
        }
    }
    Ok(pids)
}

/// A program that does nothing, to compare a launcher with.
#[derive(Debug)]
pub(crate) struct Sleeper(Child);

impl Sleeper {
    pub(crate) fn start() -> Result<Self> {
        let child = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().context("run sleep")?;
        Ok(Self(child))
    }

    pub(crate) fn memory(&self) -> Result<Memory> {
        memory(self.0.id())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
