//! The plan: ordered, converging operations as data.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::dhcp::DhcpConfig;
use crate::facts::PodNetworkFacts;
use crate::mac::MacAddr;

/// The network of one VM. Serialisable: the handler keeps it beside the VM and gives it back as [`crate::PlanInput::previous`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetPlan {
    /// The VMI's UID: names the VM's namespace.
    pub vmi_uid: String,
    /// What the pod's network was when this was planned.
    pub pod: PodNetworkFacts,
    /// To be applied in this order; each converges on its own.
    pub ops: Vec<NetOp>,
    /// The guest's interfaces, in the order of the VMI.
    pub interfaces: Vec<InterfacePlan>,
    /// The content of the launcher's `dhcp.json`.
    pub dhcp: DhcpConfig,
    /// A guest address differs from the previous plan's: the running guest must ask DHCP again (bounce its link).
    #[serde(default)]
    pub link_refresh_needed: bool,
}

/// One guest interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InterfacePlan {
    /// Its name in the VMI.
    pub name: String,
    /// How it reaches the pod's network.
    pub binding: Binding,
    /// The guest's Ethernet address (for the domain definition).
    pub guest_mac: MacAddr,
    /// The guest's MTU.
    pub mtu: u32,
    /// The tap QEMU opens.
    pub tap: TapSpec,
    /// The bridge in the VM's namespace the tap joins.
    pub vm_bridge: String,
    /// The bridge in the pod's namespace.
    pub pod_bridge: String,
    /// What the VMI's status shows.
    pub status: InterfaceStatusFacts,
}

/// How a guest interface reaches the pod's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Binding {
    /// Private address, translated to the pod's.
    Masquerade,
    /// The pod's own address, handed to the guest.
    Bridge,
}

/// A tap device, made in the host's namespace, opened by libvirt there, then moved into the VM's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TapSpec {
    /// At most 15 bytes, unique on the node.
    pub name: String,
    /// Its MTU.
    pub mtu: u32,
    /// Queue pairs; more than one makes it a multi-queue tap (the domain must ask for the same number).
    pub queues: u32,
    /// The user that may open it.
    pub owner_uid: u32,
    /// The group that may open it.
    pub owner_gid: u32,
}

/// What `status.interfaces[]` of the VMI reports before any guest agent speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InterfaceStatusFacts {
    /// The addresses under which others reach the guest: the pod's.
    pub ips: Vec<IpAddr>,
    /// `podInterfaceName`.
    pub pod_interface_name: String,
    /// `queueCount`.
    pub queue_count: u32,
}

/// The namespace an operation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ns {
    /// The launcher pod's.
    Pod,
    /// The VM's own.
    Vm,
}

/// One converging operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum NetOp {
    /// `key` (dots as in sysctl(8), `/` inside names kept) has `value`. A kernel without IPv6 has no `net.ipv6` keys: skipped then.
    Sysctl { ns: Ns, key: String, value: String },
    /// The interface `name` is called `renamed`, has `mac` and no addresses; nothing happens to one already renamed.
    TakeOverNic { ns: Ns, name: String, renamed: String, mac: MacAddr },
    /// A bridge without spanning tree or multicast snooping exists under this name.
    Bridge {
        ns: Ns,
        name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mac: Option<MacAddr>,
        mtu: u32,
    },
    /// A veth pair joins the namespaces; a half of it, or one whose other end is elsewhere, is remade.
    Veth { pod_end: String, vm_end: String, mtu: u32 },
    /// `link` has exactly these IPv4 addresses.
    Addresses { ns: Ns, link: String, addresses: Vec<IpNet> },
    /// `link` is a port of `master`.
    Port { ns: Ns, link: String, master: String, learning: bool },
    /// `link` is administratively up.
    Up { ns: Ns, link: String },
    /// The tables of `ruleset` have exactly this content, replaced in one transaction.
    Nft { ns: Ns, ruleset: NftRuleset },
}

/// A list of libnftables JSON commands (`nft -j -f -`) that replaces whole tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NftRuleset {
    /// False: a kernel that does not know the table's family or expressions is only reported.
    pub required: bool,
    /// The content of the `nftables` array.
    pub commands: Vec<Value>,
}
