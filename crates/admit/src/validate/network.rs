//! Networks and interfaces.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use fv_api::config::ClusterConfig;
use fv_api::{DHCPOptions, Interface, Network, PortRange, VirtualMachineInstanceSpec};
use ipnet::Ipv4Net;
use serde_json::Value;

use super::disks::is_pci_address;
use crate::causes::{Causes, Field};
use crate::json;
use crate::names;

const MODELS: [&str; 7] = ["e1000", "e1000e", "igb", "ne2k_pci", "pcnet", "rtl8139", "virtio"];
const IMPLEMENTED_MODELS: [&str; 3] = ["virtio", "e1000e", "e1000"];
/// What a guest can be told as the index of an interface.
const ACPI_INDEXES: std::ops::RangeInclusive<i32> = 1..=16_383;
const PROTOCOLS: [&str; 2] = ["TCP", "UDP"];
/// The address of the bridge inside the pod.
const RESERVED_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0];
const MOST_RANGES: usize = 10;
/// Gateway and guest need an address each, beside those of the network itself.
const LONGEST_PREFIX: u8 = 30;
const PRIVATE_OPTIONS: std::ops::RangeInclusive<i32> = 224..=254;

pub(super) fn check(spec: &VirtualMachineInstanceSpec, field: &Field, config: &ClusterConfig, causes: &mut Causes) {
    let networks_at = field.child("networks");
    let interfaces_at = field.child("domain.devices.interfaces");
    let interfaces = &spec.domain.devices.interfaces;
    let connected: BTreeSet<&str> = interfaces.iter().map(|interface| interface.name.as_str()).collect();
    if spec.networks.iter().filter(|network| network.pod.is_some()).count() > 1 {
        let at = field.child("interfaces");
        causes.duplicate(&at, format!("more than one interface is connected to a pod network in {at}"));
    }
    let mut networks: BTreeMap<&str, &Network> = BTreeMap::new();
    for (index, network) in spec.networks.iter().enumerate() {
        let at = networks_at.index(index);
        source(network, &at, causes);
        if networks.insert(&network.name, network).is_some() {
            causes.duplicate(
                &at.child("name"),
                format!("Network with name {:?} already exists, every network must have a unique name", network.name),
            );
        }
        if !connected.contains(network.name.as_str()) {
            causes.required(&at.child("name"), format!("{} '{}' not found.", at.child("name"), network.name));
        }
    }
    let mut seen = BTreeSet::new();
    for (index, interface) in interfaces.iter().enumerate() {
        let at = interfaces_at.index(index);
        let network = networks.get(interface.name.as_str()).copied();
        if !seen.insert(interface.name.as_str()) {
            causes.duplicate(&at.child("name"), "Only one interface can be connected to one specific network");
        }
        if network.is_none() {
            causes.invalid(&at.child("name"), format!("{} '{}' not found.", at.child("name"), interface.name));
        }
        name(interface, &at, causes);
        binding(interface, network, config, &at, causes);
        model(interface, &at, causes);
        mac(interface, &at, causes);
        slot(interface, &at, causes);
        state(interface, &at, causes);
        ports(interface, &at, causes);
        if let Some(options) = &interface.dhcp_options {
            dhcp(options, &at.child("dhcpOptions"), causes);
        }
    }
}

fn source(network: &Network, at: &Field, causes: &mut Causes) {
    let count = [network.pod.is_some(), network.multus.is_some(), network.resource_claim.is_some()];
    match count.into_iter().filter(|set| *set).count() {
        0 => causes.required(at, "should have a network type"),
        1 => {}
        _ => causes.required(at, "should have only one network type"),
    }
    let cidr = network.pod.as_ref().and_then(|pod| pod.vm_network_cidr.as_deref()).filter(|cidr| !cidr.is_empty());
    if let Some(cidr) = cidr {
        let at = at.child("pod.vmNetworkCIDR");
        match cidr.parse::<Ipv4Net>() {
            Ok(net) if net.prefix_len() <= LONGEST_PREFIX => {}
            Ok(_) => causes
                .invalid(&at, format!("{at} '{cidr}' is too small: use a prefix of at most {LONGEST_PREFIX} bits")),
            Err(_) => causes.invalid(&at, format!("{at} '{cidr}' is no IPv4 network such as 10.0.2.0/24")),
        }
    }
}

fn name(interface: &Interface, at: &Field, causes: &mut Causes) {
    let is_valid = !interface.name.is_empty()
        && interface.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if !is_valid {
        causes.invalid(
            &at.child("name"),
            "Network interface name can only contain alphabetical characters, numbers, dashes (-) or underscores (_)",
        );
    }
}

fn binding(interface: &Interface, network: Option<&Network>, config: &ClusterConfig, at: &Field, causes: &mut Causes) {
    for (is_set, key, title) in [
        (interface.slirp.is_some(), "slirp", "Slirp interface support"),
        (interface.passt.is_some(), "passt", "Passt network binding"),
        (interface.macvtap.is_some(), "macvtap", "Macvtap network binding"),
    ] {
        if is_set {
            causes.invalid(&at.child(key), format!("{title} has been discontinued since v1.3"));
        }
    }
    let bindings = [
        interface.bridge.is_some(),
        interface.masquerade.is_some(),
        interface.sriov.is_some(),
        interface.passt_binding.is_some(),
        interface.binding.is_some(),
        interface.slirp.is_some(),
        interface.passt.is_some(),
        interface.macvtap.is_some(),
    ];
    match bindings.into_iter().filter(|set| *set).count() {
        0 => causes.required(at, format!("{at} must have a binding: masquerade or bridge")),
        1 => {}
        _ => causes.invalid(at, format!("logical {} interface can have only one binding", interface.name)),
    }
    let is_pod = network.is_some_and(|network| network.pod.is_some());
    if interface.masquerade.is_some() {
        if network.is_some() && !is_pod {
            causes.invalid(&at.child("name"), "Masquerade interface only implemented with pod network");
        }
        if interface.mac_address.as_deref().and_then(parse_mac).is_some_and(|mac| mac == RESERVED_MAC) {
            causes.invalid(
                &at.child("macAddress"),
                "The requested MAC address is reserved for the in-pod bridge. Please choose another one.",
            );
        }
    }
    if interface.bridge.is_some() && is_pod && !config.permit_bridge_on_pod_network {
        causes.invalid(&at.child("name"), "Bridge on pod network configuration is not enabled under kubevirt-config");
    }
}

fn model(interface: &Interface, at: &Field, causes: &mut Causes) {
    let Some(model) = interface.model.as_deref().filter(|model| !model.is_empty()) else { return };
    if !MODELS.contains(&model) {
        causes.not_supported(
            &at.child("model"),
            format!("interface {} uses model {model} that is not supported.", at.child("name")),
        );
    } else if !IMPLEMENTED_MODELS.contains(&model) {
        causes.unimplemented(&at.child("model"), model, "use virtio, e1000e or e1000");
    }
}

fn mac(interface: &Interface, at: &Field, causes: &mut Causes) {
    let Some(text) = interface.mac_address.as_deref().filter(|text| !text.is_empty()) else { return };
    let fault = match parse_mac(text) {
        None => format!("malformed MAC address ({text})"),
        Some(mac) if mac[0] & 1 == 1 => format!("multicast MAC address ({text}): its first byte must be even"),
        Some([0, 0, 0, 0, 0, 0]) => format!("malformed MAC address ({text})"),
        Some(_) => return,
    };
    causes.invalid(&at.child("macAddress"), format!("interface {} has {fault}.", at.child("name")));
}

fn slot(interface: &Interface, at: &Field, causes: &mut Causes) {
    let address = interface.pci_address.as_deref().filter(|address| !address.is_empty());
    if let Some(address) = address.filter(|address| !is_pci_address(address)) {
        causes.invalid(
            &at.child("pciAddress"),
            format!("interface {} has malformed PCI address ({address}).", at.child("name")),
        );
    }
    if let Some(index) = interface.acpi_index.filter(|index| *index != 0 && !ACPI_INDEXES.contains(index)) {
        let at = at.child("acpiIndex");
        causes.invalid(
            &at,
            format!("{at} '{index}': must be between {} and {}", ACPI_INDEXES.start(), ACPI_INDEXES.end()),
        );
    }
}

fn state(interface: &Interface, at: &Field, causes: &mut Causes) {
    let at = at.child("state");
    match interface.state.as_deref().unwrap_or_default() {
        "" | "up" | "down" => {}
        "absent" => causes.unimplemented(&at, "absent", "remove the interface and its network"),
        other => {
            causes.invalid(&at, format!("logical {} interface state value is unsupported: {other}", interface.name));
        }
    }
}

/// Six bytes in hex, separated by colons or dashes.
fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let separator = if text.contains('-') { '-' } else { ':' };
    let mut bytes = [0; 6];
    let mut parts = text.split(separator);
    for byte in &mut bytes {
        let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(bytes)
}

fn ports(interface: &Interface, at: &Field, causes: &mut Causes) {
    let mut seen = BTreeSet::new();
    for (index, port) in interface.ports.iter().enumerate() {
        let at = at.child("ports").index(index);
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            if !seen.insert(name) {
                causes.duplicate(&at.child("name"), format!("Duplicate name of the port: {name}"));
            }
            if !names::is_port_name(name) {
                causes.invalid(&at.child("name"), format!("Invalid name of the port: {name}"));
            }
        }
        match port.port {
            0 => causes.required(&at, "Port field is mandatory."),
            1..=65535 => {}
            _ => causes.invalid(&at, "Port field must be in range 0 < x < 65536."),
        }
        protocol(port.protocol.as_deref(), &at, causes);
    }
    ranges(interface, &at.child("portRanges"), causes);
}

/// A warning for each interface that lists ports and has a binding that opens all of them. Upstream admits them, and says nothing.
pub(super) fn ports_without_effect(object: &Value, at: &Field) -> Vec<String> {
    let interfaces = json::list(object, &at.to_string()).iter().enumerate();
    let idle = interfaces.filter(|(_, it)| {
        !json::list(it, "ports").is_empty() && json::get(it, "masquerade").is_none_or(Value::is_null)
    });
    idle.map(|(index, _)| {
        let ports = at.index(index).child("ports");
        format!("{ports} has no effect with this binding, all ports of the guest are reachable: use masquerade to open only these")
    })
    .collect()
}

fn protocol(protocol: Option<&str>, at: &Field, causes: &mut Causes) {
    if protocol.is_some_and(|protocol| !protocol.is_empty() && !PROTOCOLS.contains(&protocol)) {
        causes.invalid(&at.child("protocol"), "Unknown protocol, only TCP or UDP allowed");
    }
}

fn ranges(interface: &Interface, at: &Field, causes: &mut Causes) {
    let ranges = &interface.port_ranges;
    if !ranges.is_empty() && interface.masquerade.is_none() {
        causes.invalid(at, format!("{at} works only with the masquerade binding: remove it or use masquerade"));
    }
    if ranges.len() > MOST_RANGES {
        causes.invalid(at, format!("{at} has {} ranges: at most {MOST_RANGES} are allowed", ranges.len()));
        return;
    }
    for (index, range) in ranges.iter().enumerate() {
        let at = at.index(index);
        protocol(Some(&range.protocol), &at, causes);
        if range.start < 1 || range.end > 65535 || range.start > range.end {
            causes.invalid(
                &at,
                format!("{at} is {}-{}: ports lie between 1 and 65535, start before end", range.start, range.end),
            );
        }
        if let Some(other) = ranges[..index].iter().position(|other| overlap(range, other)) {
            causes.invalid(&at, format!("{at} overlaps range {other} of the same protocol"));
        }
    }
}

fn overlap(a: &PortRange, b: &PortRange) -> bool {
    a.protocol == b.protocol && a.start <= b.end && b.start <= a.end
}

fn dhcp(options: &DHCPOptions, at: &Field, causes: &mut Causes) {
    for (index, server) in options.ntp_servers.iter().enumerate() {
        if server.parse::<Ipv4Addr>().is_err() {
            causes.invalid(&at.child("ntpServers").index(index), "NTP servers must be a list of valid IPv4 addresses.");
        }
    }
    let at = at.child("privateOptions");
    let codes: BTreeSet<i32> = options.private_options.iter().map(|option| option.option).collect();
    if codes.len() < options.private_options.len() {
        causes.invalid(&at, "Found Duplicates: you have provided duplicate DHCPPrivateOptions");
    }
    for (index, option) in options.private_options.iter().enumerate() {
        if !PRIVATE_OPTIONS.contains(&option.option) {
            causes
                .invalid(&at.index(index), "provided DHCPPrivateOptions are out of range, must be in range 224 to 254");
        }
    }
}
