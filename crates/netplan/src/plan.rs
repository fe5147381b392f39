//! From a VMI and its pod's network to a [`NetPlan`].

use std::net::{IpAddr, Ipv4Addr};

use fv_api::{Interface, Network, VirtualMachineInstance};
use ipnet::{IpNet, Ipv4Net};

use crate::dhcp::DhcpConfig;
use crate::facts::{DnsFacts, PodNetworkFacts};
use crate::mac::{MacAddr, MacError};
use crate::model::{Binding, InterfacePlan, InterfaceStatusFacts, NetOp, NetPlan, Ns, TapSpec};
use crate::{bridge, masquerade, names};

/// What a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct PlanInput<'a> {
    /// The VMI, admitted.
    pub vmi: &'a VirtualMachineInstance,
    /// The pod's network (`fv_host::network::NetworkSetup::pod_facts`).
    pub pod: &'a PodNetworkFacts,
    /// The pod's resolver.
    pub dns: &'a DnsFacts,
    /// vCPUs of the guest: the number of queues with `networkInterfaceMultiqueue`.
    pub vcpus: u32,
    /// QEMU's user.
    pub owner_uid: u32,
    /// QEMU's group.
    pub owner_gid: u32,
    /// The plan the running guest was started with: its Ethernet addresses and queues are kept, whatever the pod looks like now.
    pub previous: Option<&'a NetPlan>,
}

/// Why no plan could be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetPlanError {
    #[error("the VirtualMachineInstance has no metadata.uid")]
    MissingUid,
    #[error(
        "spec.domain.devices.interfaces[{index}].name {name:?} matches no entry of spec.networks; add a network of that name"
    )]
    NoNetwork { index: usize, name: String },
    #[error("spec.networks {name:?}: only the pod network is supported yet by Ferrovirt")]
    NotPodNetwork { name: String },
    #[error(
        "spec.domain.devices.interfaces[{index}]: binding {binding} is not supported yet by Ferrovirt; use masquerade or bridge"
    )]
    Binding { index: usize, binding: String },
    #[error(
        "spec.domain.devices.interfaces[{index}]: the pod network {network:?} is already used by another interface"
    )]
    SecondPodInterface { index: usize, network: String },
    #[error("spec.domain.devices.interfaces[{index}].macAddress")]
    MacText {
        index: usize,
        #[source]
        source: MacError,
    },
    #[error("spec.domain.devices.interfaces[{index}].macAddress {mac} is a group address; its first byte must be even")]
    MacGroup { index: usize, mac: MacAddr },
    #[error("spec.domain.devices.interfaces[{index}].ports[{port_index}].{field} {value:?} is invalid: {allowed}")]
    Port { index: usize, port_index: usize, field: &'static str, value: String, allowed: &'static str },
    #[error("spec.domain.devices.interfaces[{index}].dhcpOptions.{field} {value:?} is invalid: {allowed}")]
    DhcpOption { index: usize, field: &'static str, value: String, allowed: &'static str },
    #[error(
        "spec.networks[{index}].pod.vmNetworkCIDR {value:?} is not an IPv4 network with room for a gateway and a guest, such as 10.0.2.0/24"
    )]
    VmNetwork { index: usize, value: String },
    #[error("spec.networks[{index}].pod.vmIPv6NetworkCIDR: IPv6 in guests is not supported yet by Ferrovirt")]
    Ipv6Network { index: usize },
    #[error(
        "the guest's network {guest} contains the pod's own address {pod}; choose another spec.networks[{index}].pod.vmNetworkCIDR"
    )]
    NetworkClash { index: usize, guest: Ipv4Net, pod: Ipv4Addr },
    #[error(
        "the pod's interface {interface} has no IPv4 address (it has {addresses:?}); IPv6-only pods are not supported yet"
    )]
    NoPodAddress { interface: String, addresses: Vec<IpNet> },
    #[error("the pod's interface {interface} has MTU {mtu}, outside 576 to 65535")]
    Mtu { interface: String, mtu: u32 },
    #[error("the pod's interface name {interface:?} is longer than 10 bytes: no room for derived names")]
    InterfaceName { interface: String },
}

/// What both bindings work from.
pub(crate) struct Context<'a> {
    pub(crate) input: PlanInput<'a>,
    pub(crate) uid: &'a str,
    pub(crate) index: usize,
    pub(crate) network_index: usize,
    pub(crate) interface: &'a Interface,
    pub(crate) network: &'a Network,
    pub(crate) pod_address: Ipv4Net,
    pub(crate) mtu: u16,
    pub(crate) guest_mac: MacAddr,
    pub(crate) pod_bridge: String,
}

/// Plans the network of one VM. Deterministic.
pub fn plan(input: PlanInput<'_>) -> Result<NetPlan, NetPlanError> {
    let uid = input.vmi.metadata.uid.as_deref().ok_or(NetPlanError::MissingUid)?;
    let spec = &input.vmi.spec;
    let mut plan = NetPlan {
        vmi_uid: uid.to_owned(),
        pod: input.pod.clone(),
        ops: Vec::new(),
        interfaces: Vec::new(),
        dhcp: DhcpConfig::default(),
        link_refresh_needed: false,
    };
    for (index, interface) in spec.domain.devices.interfaces.iter().enumerate() {
        let (network_index, network) = spec
            .networks
            .iter()
            .enumerate()
            .find(|(_, n)| n.name == interface.name)
            .ok_or_else(|| NetPlanError::NoNetwork { index, name: interface.name.clone() })?;
        if network.pod.is_none() {
            return Err(NetPlanError::NotPodNetwork { name: network.name.clone() });
        }
        if !plan.interfaces.is_empty() {
            return Err(NetPlanError::SecondPodInterface { index, network: network.name.clone() });
        }
        plan_interface(&mut plan, input, uid, index, interface, network_index, network)?;
    }
    plan.link_refresh_needed = input.previous.is_some_and(|previous| {
        plan.dhcp.interfaces.iter().any(|now| {
            previous.dhcp.interfaces.iter().any(|before| before.name == now.name && before.guest != now.guest)
        })
    });
    Ok(plan)
}

fn plan_interface(
    plan: &mut NetPlan,
    input: PlanInput<'_>,
    uid: &str,
    index: usize,
    interface: &Interface,
    network_index: usize,
    network: &Network,
) -> Result<(), NetPlanError> {
    let binding = binding_of(index, interface)?;
    let pod = input.pod;
    if pod.interface.len() > 10 || pod.interface.is_empty() {
        return Err(NetPlanError::InterfaceName { interface: pod.interface.clone() });
    }
    let pod_address = pod
        .addresses
        .iter()
        .find_map(|a| match a {
            IpNet::V4(v4) => Some(*v4),
            IpNet::V6(_) => None,
        })
        .ok_or_else(|| NetPlanError::NoPodAddress {
            interface: pod.interface.clone(),
            addresses: pod.addresses.clone(),
        })?;
    let mtu = u16::try_from(pod.mtu)
        .ok()
        .filter(|mtu| *mtu >= 576)
        .ok_or_else(|| NetPlanError::Mtu { interface: pod.interface.clone(), mtu: pod.mtu })?;
    let before = input.previous.and_then(|p| p.interfaces.iter().find(|i| i.name == interface.name));
    let guest_mac = match (before, &interface.mac_address) {
        (Some(before), _) => before.guest_mac,
        (None, Some(text)) => {
            let mac: MacAddr = text.parse().map_err(|source| NetPlanError::MacText { index, source })?;
            if !mac.is_unicast() {
                return Err(NetPlanError::MacGroup { index, mac });
            }
            mac
        }
        (None, None) => match binding {
            Binding::Masquerade => MacAddr::derive(uid, &interface.name),
            Binding::Bridge => pod.mac,
        },
    };
    let queues = match before {
        Some(before) => before.tap.queues,
        None => queues_of(input, interface),
    };
    let (vm_bridge, veth) = (names::vm_bridge(&pod.interface), names::veth(&pod.interface));
    let context = Context {
        input,
        uid,
        index,
        network_index,
        interface,
        network,
        pod_address,
        mtu,
        guest_mac,
        pod_bridge: names::pod_bridge(&pod.interface),
    };

    let ns = Ns::Pod;
    // The launcher serves DHCP from port 67 without any capability.
    plan.ops.push(sysctl(ns, "net.ipv4.ip_unprivileged_port_start", "0"));
    let dhcp = match binding {
        Binding::Masquerade => masquerade::plan(&context, &mut plan.ops)?,
        Binding::Bridge => bridge::plan(&context, &mut plan.ops)?,
    };

    let ns = Ns::Vm;
    // The kernel must never speak for itself on the guest's wire.
    plan.ops.push(sysctl(ns, "net.ipv6.conf.all.disable_ipv6", "1"));
    plan.ops.push(sysctl(ns, "net.ipv6.conf.default.disable_ipv6", "1"));
    plan.ops.push(NetOp::Bridge { ns, name: vm_bridge.clone(), mac: None, mtu: pod.mtu });
    plan.ops.push(NetOp::Veth { pod_end: veth.clone(), vm_end: veth.clone(), mtu: pod.mtu });
    plan.ops.push(disable_ipv6(Ns::Pod, &veth));
    plan.ops.push(NetOp::Port { ns, link: veth.clone(), master: vm_bridge.clone(), learning: false });
    plan.ops.push(NetOp::Up { ns, link: veth.clone() });
    plan.ops.push(NetOp::Up { ns, link: vm_bridge.clone() });
    plan.ops.push(NetOp::Port {
        ns: Ns::Pod,
        link: veth.clone(),
        master: context.pod_bridge.clone(),
        learning: binding == Binding::Masquerade,
    });
    plan.ops.push(NetOp::Up { ns: Ns::Pod, link: veth });

    plan.dhcp.interfaces.push(dhcp);
    plan.interfaces.push(InterfacePlan {
        name: interface.name.clone(),
        binding,
        guest_mac,
        mtu: pod.mtu,
        tap: TapSpec {
            name: names::tap(uid, index),
            mtu: pod.mtu,
            queues,
            owner_uid: input.owner_uid,
            owner_gid: input.owner_gid,
        },
        vm_bridge,
        pod_bridge: context.pod_bridge,
        status: InterfaceStatusFacts {
            ips: vec![IpAddr::V4(pod_address.addr())],
            pod_interface_name: pod.interface.clone(),
            queue_count: queues,
        },
    });
    Ok(())
}

fn binding_of(index: usize, interface: &Interface) -> Result<Binding, NetPlanError> {
    let other = [
        (interface.binding.is_some(), "plugin"),
        (interface.macvtap.is_some(), "macvtap"),
        (interface.passt.is_some() || interface.passt_binding.is_some(), "passt"),
        (interface.slirp.is_some(), "slirp"),
        (interface.sriov.is_some(), "sriov"),
    ];
    if let Some((_, name)) = other.into_iter().find(|(set, _)| *set) {
        return Err(NetPlanError::Binding { index, binding: name.to_owned() });
    }
    match (&interface.masquerade, &interface.bridge) {
        (Some(_), None) => Ok(Binding::Masquerade),
        // Upstream's default binding is bridge.
        (None, _) => Ok(Binding::Bridge),
        (Some(_), Some(_)) => {
            Err(NetPlanError::Binding { index, binding: "masquerade and bridge together".to_owned() })
        }
    }
}

fn queues_of(input: PlanInput<'_>, interface: &Interface) -> u32 {
    let wanted = input.vmi.spec.domain.devices.network_interface_multiqueue.unwrap_or(false);
    let virtio = interface.model.as_deref().unwrap_or("virtio").starts_with("virtio");
    if wanted && virtio { input.vcpus.clamp(1, 256) } else { 1 }
}

pub(crate) fn sysctl(ns: Ns, key: &str, value: &str) -> NetOp {
    NetOp::Sysctl { ns, key: key.to_owned(), value: value.to_owned() }
}

pub(crate) fn disable_ipv6(ns: Ns, link: &str) -> NetOp {
    sysctl(ns, &format!("net.ipv6.conf.{link}.disable_ipv6"), "1")
}
