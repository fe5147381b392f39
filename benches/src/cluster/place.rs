//! The cluster as this machine sees it: its API, and its processes.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use kube::api::{Api, DynamicObject, ListParams};

use crate::vms::resource;

/// Where Ferrovirt is installed.
pub(crate) const INSTALLATION: &str = "kubevirt";

/// A test cluster on this machine.
pub(crate) struct Place {
    pub(crate) client: kube::Client,
    /// `CLUSTER_DIR`.
    pub(crate) dir: PathBuf,
    /// `CLUSTER_NAME`.
    pub(crate) name: String,
}

/// A process of the cluster.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// The first 15 bytes of its program's name.
    pub(crate) name: String,
    /// `/proc/<pid>/cgroup`.
    cgroups: String,
}

impl Process {
    /// Whether it runs in a container of that pod, or holds its namespaces.
    pub(crate) fn is_of_pod(&self, uid: &str) -> bool {
        self.cgroups.contains(&format!("pod{uid}"))
    }
}

impl Place {
    /// Every process in the cluster's namespaces.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let ours = format!("/ferrovirt-cluster-{}/", self.name);
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter_map(|entry| {
                let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
                let cgroups = std::fs::read_to_string(entry.path().join("cgroup")).ok()?;
                let name = std::fs::read_to_string(entry.path().join("comm")).ok()?.trim().to_owned();
                cgroups.contains(&ours).then_some(Process { pid, name, cgroups })
            })
            .collect()
    }

    /// The first process of the node, in whose namespaces its agents, pods and guests are.
    pub(crate) fn node_pid(&self) -> Result<u32> {
        let path = self.dir.join("node1/init");
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        match text.split_whitespace().next().and_then(|pid| pid.parse().ok()) {
            Some(pid) => Ok(pid),
            None => bail!("{} names no process: {text:?}", path.display()),
        }
    }

    pub(crate) fn api(&self, group: &str, kind: &str, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &resource(group, "v1", kind))
    }

    /// UIDs of the pods of a namespace that have a label, such as `kubevirt.io=virt-api`.
    pub(crate) async fn pods(&self, namespace: &str, label: &str) -> Result<Vec<String>> {
        let pods = self.api("", "Pod", namespace).list_metadata(&ListParams::default().labels(label)).await?;
        Ok(pods.items.into_iter().filter_map(|pod| pod.metadata.uid).collect())
    }
}
