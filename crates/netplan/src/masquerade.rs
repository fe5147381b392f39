//! masquerade: the guest sits behind the pod's address.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};

use crate::dhcp::DhcpInterface;
use crate::dhcp_options;
use crate::mac::MacAddr;
use crate::model::{NetOp, Ns};
use crate::nft::{self, PortMatch};
use crate::plan::{Context, NetPlanError, disable_ipv6, sysctl};

const DEFAULT_NETWORK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 2, 0), 24);

pub(crate) fn plan(c: &Context<'_>, ops: &mut Vec<NetOp>) -> Result<DhcpInterface, NetPlanError> {
    let (gateway, guest) = addresses(c)?;
    let ports = ports(c)?;
    let (ns, bridge, pod_interface) = (Ns::Pod, c.pod_bridge.as_str(), c.input.pod.interface.as_str());

    ops.push(NetOp::Bridge {
        ns,
        name: bridge.to_owned(),
        mac: Some(MacAddr::MASQUERADE_BRIDGE),
        mtu: c.input.pod.mtu,
    });
    ops.push(disable_ipv6(ns, bridge));
    ops.push(NetOp::Addresses { ns, link: bridge.to_owned(), addresses: vec![IpNet::V4(gateway)] });
    ops.push(NetOp::Up { ns, link: bridge.to_owned() });
    // The rules come before forwarding is switched on: never a moment of unfiltered forwarding.
    let rules = nft::masquerade(&nft::Masquerade {
        pod_interface,
        bridge,
        gateway: gateway.addr(),
        guest: guest.addr(),
        ports: &ports,
    });
    ops.push(NetOp::Nft { ns, ruleset: rules });
    ops.push(NetOp::Nft { ns, ruleset: nft::loopback_guard(bridge) });
    ops.push(sysctl(ns, &format!("net.ipv4.conf.{bridge}.route_localnet"), "1"));
    ops.push(sysctl(ns, "net.ipv4.ip_forward", "1"));

    let mut dhcp = dhcp_options::base(c, gateway.addr(), guest)?;
    dhcp.router = Some(gateway.addr());
    Ok(dhcp)
}

/// The first two addresses of the guest's network.
fn addresses(c: &Context<'_>) -> Result<(Ipv4Net, Ipv4Net), NetPlanError> {
    let index = c.network_index;
    let pod_network = c.network.pod.clone().unwrap_or_default();
    if pod_network.vm_i_pv6_network_cidr.as_deref().is_some_and(|v| !v.is_empty()) {
        return Err(NetPlanError::Ipv6Network { index });
    }
    let network = match pod_network.vm_network_cidr.as_deref().filter(|v| !v.is_empty()) {
        None => DEFAULT_NETWORK,
        Some(text) => text
            .parse::<Ipv4Net>()
            .ok()
            .filter(|n| {
                n.prefix_len() <= 30 && n.prefix_len() >= 8 && !n.addr().is_loopback() && !n.addr().is_multicast()
            })
            .ok_or_else(|| NetPlanError::VmNetwork { index, value: text.to_owned() })?
            .trunc(),
    };
    if network.contains(&c.pod_address.addr()) {
        return Err(NetPlanError::NetworkClash { index, guest: network, pod: c.pod_address.addr() });
    }
    let first = u32::from(network.network());
    let at = |offset: u32| Ipv4Net::new_assert(Ipv4Addr::from(first + offset), network.prefix_len());
    Ok((at(1), at(2)))
}

fn ports(c: &Context<'_>) -> Result<Vec<PortMatch>, NetPlanError> {
    let index = c.index;
    let bad = |port_index: usize, field: &'static str, value: String, allowed: &'static str| NetPlanError::Port {
        index,
        port_index,
        field,
        value,
        allowed,
    };
    let protocol = |port_index: usize, text: &str| match text.to_ascii_uppercase().as_str() {
        "" | "TCP" => Ok("tcp"),
        "UDP" => Ok("udp"),
        "SCTP" => Ok("sctp"),
        _ => Err(bad(port_index, "protocol", text.to_owned(), "use TCP, UDP or SCTP")),
    };
    let number = |port_index: usize, field: &'static str, value: i32| {
        u16::try_from(value)
            .ok()
            .filter(|p| *p != 0)
            .ok_or_else(|| bad(port_index, field, value.to_string(), "use 1 to 65535"))
    };
    let mut ports = Vec::new();
    for (i, port) in c.interface.ports.iter().enumerate() {
        let number = number(i, "port", port.port)?;
        let protocol = protocol(i, port.protocol.as_deref().unwrap_or_default())?;
        ports.push(PortMatch { protocol, first: number, last: number });
    }
    for (i, range) in c.interface.port_ranges.iter().enumerate() {
        let (first, last) = (number(i, "start", range.start)?, number(i, "end", range.end)?);
        if last < first {
            return Err(bad(i, "end", range.end.to_string(), "must not be below start"));
        }
        ports.push(PortMatch { protocol: protocol(i, &range.protocol)?, first, last });
    }
    ports.dedup();
    Ok(ports)
}
