//! The Node object of the one machine.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeAddress, NodeCondition, NodeStatus, NodeSystemInfo};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

/// Pods the node takes. Each is a launcher of a megabyte or two; addresses end first.
const MAX_PODS: u32 = 250;

/// What the machine offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    pub hostname: String,
    pub cpus: usize,
    pub memory_bytes: u64,
    /// Size of the file system that holds the data directory.
    pub disk_bytes: u64,
    /// The node's address on the pod network.
    pub address: String,
    pub kernel: String,
    pub os_image: String,
    pub machine_id: String,
    pub boot_id: String,
}

/// Go's word for this machine's architecture.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

impl Machine {
    /// Reads the machine; what cannot be read is left empty or zero.
    pub fn read(data_dir: &Path, address: String) -> Self {
        let uname = rustix::system::uname();
        let line = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_string();
        let os_release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let os_image = os_release
            .lines()
            .find_map(|l| l.strip_prefix("PRETTY_NAME="))
            .map(|v| v.trim_matches('"').to_string())
            .unwrap_or_default();
        let disk = rustix::fs::statvfs(data_dir).map_or(0, |s| s.f_blocks.saturating_mul(s.f_frsize));
        Self {
            hostname: uname.nodename().to_string_lossy().to_lowercase(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: memory_total(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default()),
            disk_bytes: disk,
            address,
            kernel: uname.release().to_string_lossy().into_owned(),
            os_image,
            machine_id: line("/etc/machine-id"),
            boot_id: line("/proc/sys/kernel/random/boot_id"),
        }
    }

    fn resources(&self) -> BTreeMap<String, Quantity> {
        [
            ("cpu", self.cpus.to_string()),
            ("memory", format!("{}Ki", self.memory_bytes / 1024)),
            ("ephemeral-storage", format!("{}Ki", self.disk_bytes / 1024)),
            ("pods", MAX_PODS.to_string()),
        ]
        .map(|(name, amount)| (name.to_string(), Quantity(amount)))
        .into()
    }

    fn labels(&self, name: &str) -> BTreeMap<String, String> {
        [
            ("kubernetes.io/hostname", name),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", architecture()),
            ("beta.kubernetes.io/os", "linux"),
            ("beta.kubernetes.io/arch", architecture()),
        ]
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .into()
    }

    fn status(&self, name: &str, now: Timestamp) -> NodeStatus {
        let condition = |type_: &str, status: &str, reason: &str, message: &str| NodeCondition {
            type_: type_.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: Some(Time(now)),
        };
        let address = |type_: &str, address: &str| NodeAddress { type_: type_.into(), address: address.into() };
        let version = format!("v{}", env!("CARGO_PKG_VERSION"));
        NodeStatus {
            capacity: Some(self.resources()),
            allocatable: Some(self.resources()),
            conditions: Some(vec![condition("Ready", "True", "KubeletReady", "the embedded pod runner is running")]),
            addresses: Some(vec![address("InternalIP", &self.address), address("Hostname", name)]),
            node_info: Some(NodeSystemInfo {
                architecture: architecture().into(),
                boot_id: self.boot_id.clone(),
                container_runtime_version: format!("ferrovirt://{}", env!("CARGO_PKG_VERSION")),
                kernel_version: self.kernel.clone(),
                kube_proxy_version: String::new(),
                kubelet_version: version,
                machine_id: self.machine_id.clone(),
                operating_system: "linux".into(),
                os_image: self.os_image.clone(),
                system_uuid: self.machine_id.clone(),
                ..NodeSystemInfo::default()
            }),
            ..NodeStatus::default()
        }
    }
}

/// `MemTotal` of /proc/meminfo, in bytes.
fn memory_total(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    line.and_then(|l| l.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Creates the Node, or brings its status up to date. Labels, taints and `unschedulable` that an operator set stay.
///
/// # Errors
/// The API refuses.
pub async fn register(client: &Client, name: &str, machine: &Machine) -> kube::Result<()> {
    let api = Api::<Node>::all(client.clone());
    let labels = machine.labels(name);
    let node = Node {
        metadata: ObjectMeta { name: Some(name.into()), labels: Some(labels.clone()), ..ObjectMeta::default() },
        ..Node::default()
    };
    match api.create(&PostParams::default(), &node).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let patch = json!({"metadata": {"labels": labels}});
            api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        }
        Err(error) => return Err(error),
    }
    let patch = json!({"status": machine.status(name, Timestamp::now())});
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_meminfo() {
        assert_eq!(memory_total("MemTotal:       24000 kB\nMemFree: 1 kB\n"), 24_000 * 1024);
        assert_eq!(memory_total("nonsense"), 0);
    }
}
