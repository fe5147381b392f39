//! bridge: the guest takes the pod's place on its network, with the pod's address and (unless one is given) its MAC.
//!
//! The CNI plugins and the kubelet still look for `eth0` with the pod's address in the namespace, so a stand-in takes that name. It is
//! a bridge without ports: it needs nothing but the bridge driver, which the binding needs anyway (dummy devices are missing
//! from some kernels), it never has a carrier of its own and so never speaks on any wire.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::dhcp::{DhcpInterface, DhcpRoute};
use crate::dhcp_options;
use crate::mac::MacAddr;
use crate::model::{NetOp, Ns};
use crate::names;
use crate::nft;
use crate::plan::{Context, NetPlanError, disable_ipv6, sysctl};

/// The DHCP server's own address on `k6t-eth0`.
const SERVER: Ipv4Addr = Ipv4Addr::new(169, 254, 75, 10);

pub(crate) fn plan(c: &Context<'_>, ops: &mut Vec<NetOp>) -> Result<DhcpInterface, NetPlanError> {
    let (ns, bridge, pod) = (Ns::Pod, c.pod_bridge.clone(), c.input.pod);
    let nic = names::taken_over(&pod.interface);

    // Before the stand-in takes the pod's address: the namespace must not answer ARP for it on the guest's wire.
    ops.push(sysctl(ns, "net.ipv4.conf.all.arp_ignore", "1"));
    ops.push(NetOp::TakeOverNic {
        ns,
        name: pod.interface.clone(),
        renamed: nic.clone(),
        mac: MacAddr::derive(c.uid, &nic),
    });
    ops.push(disable_ipv6(ns, &nic));
    ops.push(NetOp::Bridge { ns, name: pod.interface.clone(), mac: Some(pod.mac), mtu: pod.mtu });
    ops.push(disable_ipv6(ns, &pod.interface));
    let own = pod.addresses.iter().filter(|a| matches!(a, IpNet::V4(_))).copied().collect();
    ops.push(NetOp::Addresses { ns, link: pod.interface.clone(), addresses: own });
    ops.push(NetOp::Up { ns, link: pod.interface.clone() });

    ops.push(NetOp::Bridge { ns, name: bridge.clone(), mac: Some(MacAddr::derive(c.uid, &bridge)), mtu: pod.mtu });
    ops.push(disable_ipv6(ns, &bridge));
    ops.push(NetOp::Nft { ns, ruleset: nft::bridge_guard(&nic) });
    let server = IpNet::V4(Ipv4Net::new_assert(SERVER, 32));
    ops.push(NetOp::Addresses { ns, link: bridge.clone(), addresses: vec![server] });
    // No learning: with hairpin on the node's bridge the guest's own broadcasts come back and would move its address to the
    // wrong port.
    ops.push(NetOp::Port { ns, link: nic.clone(), master: bridge.clone(), learning: false });
    ops.push(NetOp::Up { ns, link: nic });
    ops.push(NetOp::Up { ns, link: bridge });

    let mut dhcp = dhcp_options::base(c, SERVER, c.pod_address)?;
    (dhcp.router, dhcp.routes) = routes(c);
    Ok(dhcp)
}

/// Option 3 alone where the pod has only a default route through its own network; else everything in option 121, with a
/// host route first for a router that is not on the link.
fn routes(c: &Context<'_>) -> (Option<Ipv4Addr>, Vec<DhcpRoute>) {
    let mut router = None;
    let mut others = Vec::new();
    for route in &c.input.pod.routes {
        let IpNet::V4(destination) = route.destination else { continue };
        let gateway = match route.gateway {
            Some(IpAddr::V4(gateway)) => gateway,
            Some(IpAddr::V6(_)) => continue,
            None => Ipv4Addr::UNSPECIFIED,
        };
        if destination.prefix_len() == 0 && !gateway.is_unspecified() {
            router = router.or(Some(gateway));
        } else if destination != c.pod_address.trunc() {
            others.push(DhcpRoute { destination, gateway });
        }
    }
    let off_link = router.is_some_and(|r| !c.pod_address.contains(&r));
    if others.is_empty() && !off_link {
        return (router, Vec::new());
    }
    if let Some(router) = router {
        let host = DhcpRoute { destination: Ipv4Net::new_assert(router, 32), gateway: Ipv4Addr::UNSPECIFIED };
        if off_link && !others.contains(&host) {
            others.insert(0, host);
        }
        others.push(DhcpRoute { destination: Ipv4Net::default(), gateway: router });
    }
    // A client installs them in order: what makes a router reachable comes first.
    others.sort_by_key(|r| (!r.gateway.is_unspecified(), std::cmp::Reverse(r.destination.prefix_len())));
    (router, others)
}
