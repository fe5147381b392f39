//! What the launcher's DHCP server tells the guest: the file `dhcp.json` of the launcher's share directory.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::mac::MacAddr;

/// Name of the file in the launcher's share directory.
pub const FILE_NAME: &str = "dhcp.json";

/// The lease upstream hands out: 999 days, in seconds.
pub const LEASE_SECONDS: u32 = 999 * 24 * 60 * 60;

/// Everything the DHCP server of one VM needs. Written atomically by the handler, read by the launcher.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DhcpConfig {
    /// One entry per interface that is served. Empty: no DHCP.
    pub interfaces: Vec<DhcpInterface>,
}

/// The one lease of one guest interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DhcpInterface {
    /// The interface's name in the VMI.
    pub name: String,
    /// The bridge in the pod's namespace the server is bound to.
    pub bridge: String,
    /// Server identifier, an address of that bridge.
    pub server: Ipv4Addr,
    /// The only client that is answered.
    pub guest_mac: MacAddr,
    /// The guest's address and prefix.
    pub guest: Ipv4Net,
    /// Option 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<Ipv4Addr>,
    /// Option 121; when not empty it also holds the default route, because clients then ignore option 3.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<DhcpRoute>,
    /// Option 6.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<Ipv4Addr>,
    /// Option 119.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Option 15.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Option 26.
    pub mtu: u16,
    /// Option 12.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Option 51.
    pub lease_seconds: u32,
    /// Option 42.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ntp: Vec<Ipv4Addr>,
    /// Option 66.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tftp_server: Option<String>,
    /// Option 67.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_file: Option<String>,
    /// Options 224 to 254.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub private: Vec<DhcpPrivateOption>,
}

/// A classless static route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DhcpRoute {
    /// Where to.
    pub destination: Ipv4Net,
    /// Through which router; 0.0.0.0 = the destination is on the link itself.
    pub gateway: Ipv4Addr,
}

/// A site-specific option, its value sent as the text given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DhcpPrivateOption {
    /// 224 to 254.
    pub code: u8,
    /// At most 255 bytes.
    pub value: String,
}
