//! The pod network: ordinary CNI plugins (bridge with host-local addresses), run as the CNI specification says.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Where distributions and installers put the plugins.
pub const PLUGIN_DIRS: [&str; 3] = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"];
const PLUGINS: [&str; 3] = ["bridge", "host-local", "loopback"];

/// Why the pod network could not be had.
#[derive(Debug, thiserror::Error)]
pub enum CniError {
    #[error(
        "CNI plugin \"{plugin}\" is in none of {}; install the package containernetworking-plugins",
        PLUGIN_DIRS.join(", ")
    )]
    NoPlugin { plugin: &'static str },
    #[error("every pod subnet of 10.96.0.0/11 is in use on this machine")]
    NoSubnet,
    #[error("run CNI plugin {plugin} {command}")]
    Run {
        plugin: String,
        command: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("CNI plugin {plugin} {command}: {message}")]
    Plugin { plugin: String, command: &'static str, message: String },
    #[error("read or write {path}")]
    State {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The network of this instance's pods.
#[derive(Clone, Debug)]
pub struct PodNetwork {
    plugin_dir: PathBuf,
    name: String,
    bridge: String,
    subnet: Ipv4Net,
    ipam_dir: PathBuf,
}

/// What a pod got: the addresses of its eth0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    pub addresses: Vec<String>,
}

/// The first directory that holds every plugin we use.
///
/// # Errors
/// [`CniError::NoPlugin`] names the one that is missing.
pub fn find_plugins(dirs: &[&Path]) -> Result<PathBuf, CniError> {
    let complete = |dir: &&&Path| PLUGINS.iter().all(|p| dir.join(p).is_file());
    if let Some(dir) = dirs.iter().find(complete) {
        return Ok(dir.to_path_buf());
    }
    let missing = PLUGINS.into_iter().find(|p| !dirs.iter().any(|d| d.join(p).is_file())).unwrap_or("bridge");
    Err(CniError::NoPlugin { plugin: missing })
}

/// The subnet to use: the one recorded before, else the first /24 of 10.96.0.0/11 from a start that depends on the instance,
/// that overlaps nothing in `taken`.
pub fn choose_subnet(instance_id: &str, taken: &[Ipv4Net]) -> Option<Ipv4Net> {
    const COUNT: u32 = 32 * 256;
    let start = u32::from_str_radix(instance_id, 16).unwrap_or(0) % COUNT;
    (0..COUNT).find_map(|offset| {
        let index = (start + offset) % COUNT;
        let base = u32::from(Ipv4Addr::new(10, 96, 0, 0)) + index * 256;
        let subnet = Ipv4Net::new(Ipv4Addr::from(base), 24).ok()?;
        let overlaps = |net: &Ipv4Net| net.contains(&subnet.network()) || subnet.contains(&net.network());
        (!taken.iter().any(overlaps)).then_some(subnet)
    })
}

impl PodNetwork {
    /// The network named after the instance, in `subnet`, with its address book in `dir`.
    pub fn new(instance_id: &str, bridge: &str, subnet: Ipv4Net, dir: &Path, plugin_dir: PathBuf) -> Self {
        Self {
            plugin_dir,
            name: format!("ferrovirt-{instance_id}"),
            bridge: bridge.to_string(),
            subnet,
            ipam_dir: dir.join("ipam"),
        }
    }

    /// The subnet of the pods.
    pub fn subnet(&self) -> Ipv4Net {
        self.subnet
    }

    /// The host's address on the pod network: the first of the subnet, as host-local's gateway.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.subnet.network()) + 1)
    }

    fn config(&self) -> Value {
        json!({
            "cniVersion": "1.0.0",
            "name": self.name,
            "type": "bridge",
            "bridge": self.bridge,
            "isGateway": true,
            "hairpinMode": true,
            "ipam": {
                "type": "host-local",
                "dataDir": self.ipam_dir,
                "ranges": [[{"subnet": self.subnet.to_string()}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        })
    }

    /// Gives the namespace its loopback, eth0, address and routes.
    ///
    /// # Errors
    /// A plugin's refusal, with its own message.
    pub async fn add(&self, container_id: &str, netns: &Path) -> Result<Attachment, CniError> {
        let loopback = json!({"cniVersion": "1.0.0", "name": self.name, "type": "loopback"});
        self.run("loopback", "ADD", container_id, netns, "lo", &loopback).await?;
        let result = self.run("bridge", "ADD", container_id, netns, "eth0", &self.config()).await?;
        let addresses = result["ips"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|ip| ip["address"].as_str())
            .map(|cidr| cidr.split('/').next().unwrap_or(cidr).to_string())
            .collect();
        Ok(Attachment { addresses })
    }

    /// Gives everything back; repeating it is fine.
    ///
    /// # Errors
    /// A plugin's refusal, with its own message.
    pub async fn del(&self, container_id: &str, netns: &Path) -> Result<(), CniError> {
        self.run("bridge", "DEL", container_id, netns, "eth0", &self.config()).await.map(drop)
    }

    async fn run(
        &self,
        plugin: &str,
        command: &'static str,
        container_id: &str,
        netns: &Path,
        interface: &str,
        config: &Value,
    ) -> Result<Value, CniError> {
        let failed = |source| CniError::Run { plugin: plugin.to_string(), command, source };
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
        let mut environment = BTreeMap::from([
            ("CNI_COMMAND", command.into()),
            ("CNI_CONTAINERID", container_id.into()),
            ("CNI_IFNAME", interface.into()),
            ("CNI_PATH", self.plugin_dir.as_os_str().to_owned()),
            ("PATH", path),
        ]);
        // DEL without a namespace frees the address of a namespace that is gone.
        if netns.exists() {
            environment.insert("CNI_NETNS", netns.as_os_str().to_owned());
        }
        let mut child = Command::new(self.plugin_dir.join(plugin))
            .env_clear()
            .envs(environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            match stdin.write_all(config.to_string().as_bytes()).await {
                // A plugin that fails at once need not have read it all; its answer says why.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                written => written.map_err(failed)?,
            }
        }
        let output = child.wait_with_output().await.map_err(failed)?;
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if output.status.success() {
            return Ok(answer);
        }
        let own_words = answer["msg"].as_str().map(|m| match answer["details"].as_str() {
            Some(details) if !details.is_empty() => format!("{m}: {details}"),
            _ => m.to_string(),
        });
        let message = own_words.unwrap_or_else(|| String::from_utf8_lossy(&output.stderr).trim().to_string());
        Err(CniError::Plugin { plugin: plugin.to_string(), command, message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_plugins_is_told_which_package_to_install() {
        let dir = tempfile::tempdir().unwrap();
        let error = find_plugins(&[dir.path()]).unwrap_err().to_string();
        assert!(error.contains("\"bridge\"") && error.contains("containernetworking-plugins"), "{error}");
    }

    #[test]
    fn subnets_avoid_what_the_machine_uses() {
        let free = choose_subnet("00000000", &[]).unwrap();
        assert_eq!(free.to_string(), "10.96.0.0/24");
        let next = choose_subnet("00000000", &["10.96.0.0/16".parse().unwrap()]).unwrap();
        assert_eq!(next.to_string(), "10.97.0.0/24");
        assert_eq!(choose_subnet("ffffffff", &["10.0.0.0/8".parse().unwrap()]), None);
    }
}
