//! Rulesets in libnftables' JSON schema.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::model::NftRuleset;

/// Ports the guest offers, as `spec.domain.devices.interfaces[].ports` and `portRanges` list them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortMatch {
    /// `tcp`, `udp` or `sctp`.
    pub(crate) protocol: &'static str,
    pub(crate) first: u16,
    pub(crate) last: u16,
}

/// What the masquerade rules speak about.
pub(crate) struct Masquerade<'a> {
    pub(crate) pod_interface: &'a str,
    pub(crate) bridge: &'a str,
    pub(crate) gateway: Ipv4Addr,
    pub(crate) guest: Ipv4Addr,
    /// Empty: everything is let in.
    pub(crate) ports: &'a [PortMatch],
}

const NAT: &str = "nat";
const OWN: &str = "ferrovirt";
const PREINBOUND: &str = "KUBEVIRT_PREINBOUND";
const POSTINBOUND: &str = "KUBEVIRT_POSTINBOUND";

/// Table and chain names are upstream's. Only these chains are emptied and filled: the table may hold others' chains too
/// (a service mesh writes its own there).
pub(crate) fn masquerade(m: &Masquerade<'_>) -> NftRuleset {
    let mut commands = vec![json!({"add": {"table": {"family": "ip", "name": NAT}}})];
    for (name, prio) in [("prerouting", -100), ("input", 100), ("output", -100), ("postrouting", 100)] {
        commands.push(json!({"add": {"chain": {
            "family": "ip", "table": NAT, "name": name, "type": "nat", "hook": name, "prio": prio, "policy": "accept"
        }}}));
    }
    for name in [PREINBOUND, POSTINBOUND] {
        commands.push(json!({"add": {"chain": {"family": "ip", "table": NAT, "name": name}}}));
    }
    for name in ["prerouting", "input", "output", "postrouting", PREINBOUND, POSTINBOUND] {
        commands.push(json!({"flush": {"chain": {"family": "ip", "table": NAT, "name": name}}}));
    }
    let mut rule = |chain: &str, expr: Vec<Value>| commands.push(add_rule("ip", NAT, chain, expr));
    rule("postrouting", vec![saddr(m.guest), counter(), json!({"masquerade": null})]);
    rule("prerouting", vec![meta("iifname", m.pod_interface), counter(), jump(PREINBOUND)]);
    rule("postrouting", vec![meta("oifname", m.bridge), counter(), jump(POSTINBOUND)]);
    let everything = [None];
    let listed: Vec<Option<&PortMatch>> = m.ports.iter().map(Some).collect();
    for port in if m.ports.is_empty() { &everything[..] } else { &listed[..] } {
        let with_port = |rest: Vec<Value>| port.map(dport).into_iter().chain(rest).collect::<Vec<_>>();
        // A program in the pod that talks to 127.0.0.1 reaches the guest, which sees the gateway as its peer.
        rule(POSTINBOUND, with_port(vec![saddr(Ipv4Addr::LOCALHOST), counter(), snat(m.gateway)]));
        rule("output", with_port(vec![daddr(Ipv4Addr::LOCALHOST), counter(), dnat(m.guest)]));
        rule(PREINBOUND, with_port(vec![counter(), dnat(m.guest)]));
    }
    NftRuleset { required: true, commands }
}

/// `route_localnet`, needed for the loopback rules, would also let the guest reach what listens on the pod's 127.0.0.1.
pub(crate) fn loopback_guard(bridge: &str) -> NftRuleset {
    let mut commands = replace_table("ip");
    commands.push(json!({"add": {"chain": {
        "family": "ip", "table": OWN, "name": "prerouting", "type": "filter", "hook": "prerouting", "prio": -300,
        "policy": "accept"
    }}}));
    let loopback = json!({"match": {
        "op": "==",
        "left": {"payload": {"protocol": "ip", "field": "daddr"}},
        "right": {"prefix": {"addr": "127.0.0.0", "len": 8}}
    }});
    commands.push(add_rule("ip", OWN, "prerouting", vec![meta("iifname", bridge), loopback, drop_packet()]));
    NftRuleset { required: true, commands }
}

/// Keeps DHCP, and ARP for the servers' common link-local addresses, inside the pod: on a shared layer 2 the pods of two VMs
/// would otherwise hear each other's. Not required: a kernel without the bridge family leaves what upstream has everywhere.
pub(crate) fn bridge_guard(nic: &str) -> NftRuleset {
    let mut commands = replace_table("bridge");
    for hook in ["input", "forward", "output"] {
        commands.push(json!({"add": {"chain": {
            "family": "bridge", "table": OWN, "name": hook, "type": "filter", "hook": hook, "prio": 0, "policy": "accept"
        }}}));
    }
    for (chain, direction) in
        [("input", "iifname"), ("forward", "iifname"), ("forward", "oifname"), ("output", "oifname")]
    {
        let ipv4 = json!({"match": {
            "op": "==", "left": {"payload": {"protocol": "ether", "field": "type"}}, "right": "ip"
        }});
        let dhcp = json!({"match": {
            "op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": {"set": [67, 68]}
        }});
        commands.push(add_rule("bridge", OWN, chain, vec![meta(direction, nic), ipv4, dhcp, drop_packet()]));
        let arp = json!({"match": {
            "op": "==", "left": {"payload": {"protocol": "ether", "field": "type"}}, "right": "arp"
        }});
        let server = json!({"match": {
            "op": "==",
            "left": {"payload": {"protocol": "arp", "field": "daddr ip"}},
            "right": {"prefix": {"addr": "169.254.75.0", "len": 24}}
        }});
        commands.push(add_rule("bridge", OWN, chain, vec![meta(direction, nic), arp, server, drop_packet()]));
    }
    NftRuleset { required: false, commands }
}

/// Whatever the table held before is gone, in the same transaction: `add` first, because deleting a missing table fails.
fn replace_table(family: &str) -> Vec<Value> {
    let table = json!({"table": {"family": family, "name": OWN}});
    vec![json!({"add": table}), json!({"delete": table}), json!({"add": table})]
}

fn add_rule(family: &str, table: &str, chain: &str, expr: Vec<Value>) -> Value {
    json!({"add": {"rule": {"family": family, "table": table, "chain": chain, "expr": expr}}})
}

fn counter() -> Value {
    json!({"counter": null})
}

fn drop_packet() -> Value {
    json!({"drop": null})
}

fn jump(target: &str) -> Value {
    json!({"jump": {"target": target}})
}

fn meta(key: &str, name: &str) -> Value {
    json!({"match": {"op": "==", "left": {"meta": {"key": key}}, "right": name}})
}

fn address(field: &str, address: Ipv4Addr) -> Value {
    json!({"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": field}}, "right": address}})
}

fn saddr(a: Ipv4Addr) -> Value {
    address("saddr", a)
}

fn daddr(a: Ipv4Addr) -> Value {
    address("daddr", a)
}

fn snat(to: Ipv4Addr) -> Value {
    json!({"snat": {"addr": to}})
}

fn dnat(to: Ipv4Addr) -> Value {
    json!({"dnat": {"addr": to}})
}

fn dport(port: &PortMatch) -> Value {
    let right = if port.first == port.last { json!(port.first) } else { json!({"range": [port.first, port.last]}) };
    json!({"match": {
        "op": "==", "left": {"payload": {"protocol": port.protocol, "field": "dport"}}, "right": right
    }})
}
