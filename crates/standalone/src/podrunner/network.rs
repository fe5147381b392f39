//! Chooses the pod subnet and lets pods reach out through the host.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fv_host::link::Links;
use ipnet::{IpNet, Ipv4Net};
use serde_json::json;

use super::cni::{CniError, PLUGIN_DIRS, PodNetwork, choose_subnet, find_plugins};
use crate::instance::Instance;

/// Why there is no pod network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error(transparent)]
    Cni(#[from] CniError),
    #[error("list the machine's addresses")]
    Addresses(#[source] fv_host::link::LinkError),
    #[error("{step} {path}")]
    State {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("let pods reach out (nftables table {table})")]
    Masquerade {
        table: String,
        #[source]
        source: io::Error,
    },
}

/// Opens the pod network of the instance, choosing a free subnet the first time.
///
/// # Errors
/// No plugins, no free subnet, or no right to set the network up.
pub async fn open_network(instance: &Instance) -> Result<PodNetwork, NetworkError> {
    let plugin_dir = find_plugins(&PLUGIN_DIRS.map(Path::new))?;
    let dir = instance.cni_dir();
    fs::create_dir_all(&dir).map_err(|source| NetworkError::State { step: "make", path: dir.clone(), source })?;
    let subnet = subnet(instance, &dir.join("subnet")).await?;
    let network = PodNetwork::new(&instance.id, &instance.bridge(), subnet, &dir, plugin_dir);
    masquerade(instance, subnet)?;
    Ok(network)
}

impl PodNetwork {
    /// The network an earlier run opened, for cleaning up; `None` when there was none or its plugins are gone.
    ///
    /// # Errors
    /// Its record cannot be read.
    pub fn recorded(instance: &Instance) -> io::Result<Option<Self>> {
        let dir = instance.cni_dir();
        let text = match fs::read_to_string(dir.join("subnet")) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let (Ok(subnet), Ok(plugins)) = (text.trim().parse(), find_plugins(&PLUGIN_DIRS.map(Path::new))) else {
            return Ok(None);
        };
        Ok(Some(Self::new(&instance.id, &instance.bridge(), subnet, &dir, plugins)))
    }
}

async fn subnet(instance: &Instance, file: &Path) -> Result<Ipv4Net, NetworkError> {
    match fs::read_to_string(file) {
        Ok(text) => {
            if let Ok(subnet) = text.trim().parse() {
                return Ok(subnet);
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(NetworkError::State { step: "read", path: file.to_owned(), source }),
    }
    let links = Links::here().map_err(NetworkError::Addresses)?;
    let mut taken = Vec::new();
    for link in links.list().await.map_err(NetworkError::Addresses)? {
        for address in links.addresses(&link).await.map_err(NetworkError::Addresses)? {
            if let IpNet::V4(net) = address {
                taken.push(net.trunc());
            }
        }
    }
    let subnet = choose_subnet(&instance.id, &taken).ok_or(CniError::NoSubnet)?;
    fs::write(file, subnet.to_string()).map_err(|source| NetworkError::State {
        step: "write",
        path: file.to_owned(),
        source,
    })?;
    Ok(subnet)
}

/// The instance's table in the host's nftables.
fn table_name(instance: &Instance) -> String {
    format!("ferrovirt-{}", instance.id)
}

/// Packets from pods to the outside carry the host's address. The table is replaced as a whole.
fn masquerade(instance: &Instance, subnet: Ipv4Net) -> Result<(), NetworkError> {
    let table = table_name(instance);
    let prefix = json!({"prefix": {"addr": subnet.network(), "len": subnet.prefix_len()}});
    let commands = [
        json!({"add": {"table": {"family": "ip", "name": table}}}),
        json!({"delete": {"table": {"family": "ip", "name": table}}}),
        json!({"add": {"table": {"family": "ip", "name": table}}}),
        json!({"add": {"chain": {"family": "ip", "table": table, "name": "postrouting", "type": "nat",
            "hook": "postrouting", "prio": 100, "policy": "accept"}}}),
        json!({"add": {"rule": {"family": "ip", "table": table, "chain": "postrouting", "expr": [
            {"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": prefix}},
            {"match": {"op": "!=", "left": {"payload": {"protocol": "ip", "field": "daddr"}}, "right": prefix}},
            {"masquerade": null},
        ]}}}),
    ];
    fv_host::nft::apply(&commands).map_err(|source| NetworkError::Masquerade { table, source })
}

/// Removes the instance's bridge and table from the host.
///
/// # Errors
/// The kernel refuses.
pub async fn remove_network(instance: &Instance) -> Result<(), NetworkError> {
    let links = Links::here().map_err(NetworkError::Addresses)?;
    links.delete_by_name(&instance.bridge()).await.map_err(NetworkError::Addresses)?;
    let table = table_name(instance);
    let commands = [
        json!({"add": {"table": {"family": "ip", "name": table}}}),
        json!({"delete": {"table": {"family": "ip", "name": table}}}),
    ];
    fv_host::nft::apply(&commands).map_err(|source| NetworkError::Masquerade { table, source })
}
