//! What the CNI plugins and the kubelet gave the pod.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::mac::MacAddr;

/// The pod's primary interface, as it was before a binding took it over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodNetworkFacts {
    /// Its name, `eth0`.
    pub interface: String,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Its MTU.
    pub mtu: u32,
    /// Its addresses (no link-local ones).
    pub addresses: Vec<IpNet>,
    /// The routes that leave through it, the kernel's own connected ones left out.
    pub routes: Vec<PodRoute>,
}

/// One route of the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodRoute {
    /// Where to; `0.0.0.0/0` is the default route.
    pub destination: IpNet,
    /// Through which router, none = on the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

/// The pod's resolver settings (its resolv.conf).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DnsFacts {
    /// `nameserver` lines; those of the other family are not passed on.
    pub nameservers: Vec<IpAddr>,
    /// `search` line.
    pub search: Vec<String>,
}

impl DnsFacts {
    /// Reads a resolv.conf. Lines that make no sense are skipped, as resolvers do; the last `search` or `domain` line counts.
    pub fn parse(resolv_conf: &str) -> Self {
        let mut dns = Self::default();
        for line in resolv_conf.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    if let Some(Ok(address)) = words.next().map(str::parse) {
                        dns.nameservers.push(address);
                    }
                }
                Some("search" | "domain") => {
                    dns.search = words.map(|w| w.trim_end_matches('.').to_owned()).filter(|w| !w.is_empty()).collect();
                }
                _ => {}
            }
        }
        dns
    }
}
