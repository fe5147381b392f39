#![cfg(feature = "plan")]

use std::net::IpAddr;

use fv_api::{Interface, Network, VirtualMachineInstance};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn vmi(interface: serde_json::Value, network: serde_json::Value) -> VirtualMachineInstance {
    serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": "demo", "namespace": "default", "uid": "11111111-2222-3333-4444-555555555555"},
        "spec": {
            "subdomain": "fleet",
            "domain": {"devices": {"interfaces": [interface]}},
            "networks": [network],
        },
    }))
    .unwrap()
}

fn pod() -> PodNetworkFacts {
    PodNetworkFacts {
        interface: "eth0".into(),
        mac: "0e:11:22:33:44:55".parse().unwrap(),
        mtu: 1450,
        addresses: vec!["10.244.1.7/24".parse().unwrap(), "fd00::7/64".parse().unwrap()],
        routes: vec![PodRoute {
            destination: "0.0.0.0/0".parse().unwrap(),
            gateway: Some("10.244.1.1".parse::<IpAddr>().unwrap()),
        }],
    }
}

fn dns() -> DnsFacts {
    DnsFacts::parse("nameserver 10.96.0.10\nnameserver fd00::a\nsearch default.svc.cluster.local svc.cluster.local\n")
}

fn planned(
    vmi: &VirtualMachineInstance,
    pod: &PodNetworkFacts,
    previous: Option<&NetPlan>,
) -> Result<NetPlan, NetPlanError> {
    let dns = dns();
    plan(PlanInput { vmi, pod, dns: &dns, vcpus: 4, owner_uid: 1_000_000_001, owner_gid: 107, previous })
}

fn masquerade() -> VirtualMachineInstance {
    vmi(json!({"name": "default", "masquerade": {}}), json!({"name": "default", "pod": {}}))
}

fn bridge() -> VirtualMachineInstance {
    vmi(json!({"name": "default", "bridge": {}}), json!({"name": "default", "pod": {}}))
}

#[test]
fn masquerade_plan_is_as_recorded() {
    insta::assert_json_snapshot!("masquerade", planned(&masquerade(), &pod(), None).unwrap());
}

#[test]
fn masquerade_with_ports_is_an_allow_list() {
    let vmi = vmi(
        json!({"name": "default", "masquerade": {}, "ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}],
               "portRanges": [{"start": 8000, "end": 8010, "protocol": "TCP"}]}),
        json!({"name": "default", "pod": {"vmNetworkCIDR": "192.168.100.0/24"}}),
    );
    let plan = planned(&vmi, &pod(), None).unwrap();
    let rules: Vec<_> = plan.ops.iter().filter(|op| matches!(op, NetOp::Nft { .. })).collect();
    insta::assert_json_snapshot!("masquerade_ports", rules);
    assert_eq!(plan.dhcp.interfaces[0].guest.to_string(), "192.168.100.2/24");
    assert_eq!(plan.dhcp.interfaces[0].server.to_string(), "192.168.100.1");
}

#[test]
fn bridge_plan_is_as_recorded() {
    insta::assert_json_snapshot!("bridge", planned(&bridge(), &pod(), None).unwrap());
}

#[test]
fn bridge_hands_the_pods_identity_to_the_guest() {
    let plan = planned(&bridge(), &pod(), None).unwrap();
    let lease = &plan.dhcp.interfaces[0];
    assert_eq!(plan.interfaces[0].guest_mac, pod().mac);
    assert_eq!((lease.guest.to_string(), lease.mtu), ("10.244.1.7/24".to_owned(), 1450));
    assert_eq!(lease.router, Some("10.244.1.1".parse().unwrap()));
    assert!(lease.routes.is_empty());
    assert_eq!(lease.search[0], "fleet.default.svc.cluster.local");
    assert_eq!(lease.domain.as_deref(), Some("fleet.default.svc.cluster.local"));
    assert_eq!(lease.dns, ["10.96.0.10".parse::<std::net::Ipv4Addr>().unwrap()], "the guest has no IPv6");
}

#[test]
fn router_outside_the_pods_network_becomes_reachable_first() {
    let mut pod = pod();
    pod.addresses = vec!["10.244.1.7/32".parse().unwrap()];
    pod.routes = vec![
        PodRoute { destination: "0.0.0.0/0".parse().unwrap(), gateway: Some("169.254.1.1".parse().unwrap()) },
        PodRoute { destination: "169.254.1.1/32".parse().unwrap(), gateway: None },
    ];
    let plan = planned(&bridge(), &pod, None).unwrap();
    let routes: Vec<_> =
        plan.dhcp.interfaces[0].routes.iter().map(|r| format!("{} {}", r.destination, r.gateway)).collect();
    assert_eq!(routes, ["169.254.1.1/32 0.0.0.0", "0.0.0.0/0 169.254.1.1"]);
}

#[test]
fn running_guest_keeps_its_ethernet_address_when_the_pod_is_replaced() {
    let first = planned(&bridge(), &pod(), None).unwrap();
    let mut replaced = pod();
    replaced.mac = "0e:99:99:99:99:99".parse().unwrap();
    replaced.addresses = vec!["10.244.1.8/24".parse().unwrap()];
    let second = planned(&bridge(), &replaced, Some(&first)).unwrap();
    assert_eq!(second.interfaces[0].guest_mac, pod().mac);
    assert_eq!(second.dhcp.interfaces[0].guest_mac, pod().mac);
    assert!(second.link_refresh_needed, "its address changed");
    let same = planned(&masquerade(), &replaced, Some(&planned(&masquerade(), &pod(), None).unwrap())).unwrap();
    assert!(!same.link_refresh_needed, "masqueraded guests notice nothing");
}

#[test]
fn explicit_mac_wins_and_generated_ones_differ_by_vmi() {
    let given = vmi(
        json!({"name": "default", "bridge": {}, "macAddress": "DE-AD-00-00-BE-EF"}),
        json!({"name": "default", "pod": {}}),
    );
    assert_eq!(planned(&given, &pod(), None).unwrap().interfaces[0].guest_mac.to_string(), "de:ad:00:00:be:ef");
    let mut other = masquerade();
    other.metadata.uid = Some("99999999-2222-3333-4444-555555555555".into());
    let (a, b) = (planned(&masquerade(), &pod(), None).unwrap(), planned(&other, &pod(), None).unwrap());
    assert_ne!(a.interfaces[0].guest_mac, b.interfaces[0].guest_mac);
    assert_ne!(a.interfaces[0].tap.name, b.interfaces[0].tap.name);
    assert!(a.interfaces[0].guest_mac.is_unicast());
}

#[test]
fn queues_follow_the_vcpus_of_virtio_interfaces_only() {
    let mut vmi = masquerade();
    vmi.spec.domain.devices.network_interface_multiqueue = Some(true);
    assert_eq!(planned(&vmi, &pod(), None).unwrap().interfaces[0].tap.queues, 4);
    vmi.spec.domain.devices.interfaces[0].model = Some("e1000e".into());
    assert_eq!(planned(&vmi, &pod(), None).unwrap().interfaces[0].tap.queues, 1);
}

#[test]
fn bad_input_names_field_and_value() {
    let network = json!({"name": "default", "pod": {}});
    let cases = [
        (
            json!({"name": "default", "masquerade": {}, "macAddress": "02:00:00"}),
            network.clone(),
            "interfaces[0].macAddress",
        ),
        (
            json!({"name": "default", "masquerade": {}, "macAddress": "01:00:5e:00:00:01"}),
            network.clone(),
            "group address",
        ),
        (json!({"name": "default", "sriov": {}}), network.clone(), "sriov"),
        (json!({"name": "default", "masquerade": {}, "ports": [{"port": 0}]}), network.clone(), "ports[0].port \"0\""),
        (
            json!({"name": "default", "masquerade": {}, "ports": [{"port": 1, "protocol": "icmp"}]}),
            network.clone(),
            "\"icmp\"",
        ),
        (json!({"name": "other", "masquerade": {}}), network.clone(), "\"other\""),
        (
            json!({"name": "default", "masquerade": {}}),
            json!({"name": "default", "multus": {"networkName": "x"}}),
            "pod network",
        ),
        (
            json!({"name": "default", "masquerade": {}}),
            json!({"name": "default", "pod": {"vmNetworkCIDR": "10.0.2.0/31"}}),
            "10.0.2.0/31",
        ),
        (
            json!({"name": "default", "masquerade": {}}),
            json!({"name": "default", "pod": {"vmNetworkCIDR": "10.244.0.0/16"}}),
            "10.244.1.7",
        ),
        (
            json!({"name": "default", "masquerade": {}}),
            json!({"name": "default", "pod": {"vmIPv6NetworkCIDR": "fd10::/120"}}),
            "IPv6",
        ),
        (
            json!({"name": "default", "bridge": {}, "dhcpOptions": {"privateOptions": [{"option": 3, "value": "x"}]}}),
            network.clone(),
            "224 to 254",
        ),
        (
            json!({"name": "default", "bridge": {}, "dhcpOptions": {"ntpServers": ["pool.ntp.org"]}}),
            network,
            "pool.ntp.org",
        ),
    ];
    for (interface, network, text) in cases {
        let error = planned(&vmi(interface.clone(), network), &pod(), None).unwrap_err().to_string();
        assert!(error.contains(text), "{interface}: {error}");
    }
    let mut only_ipv6 = pod();
    only_ipv6.addresses.remove(0);
    assert!(planned(&masquerade(), &only_ipv6, None).unwrap_err().to_string().contains("fd00::7"));
}

#[test]
fn resolv_conf_is_read_like_a_resolver_does() {
    let dns = DnsFacts::parse(
        "# x\nsearch old\nsearch a.b c.\nnameserver nonsense\nnameserver 1.1.1.1 # c\noptions ndots:5\n",
    );
    assert_eq!(dns.search, ["a.b", "c"]);
    assert_eq!(dns.nameservers, ["1.1.1.1".parse::<IpAddr>().unwrap()]);
}

#[test]
fn vmi_without_interfaces_has_an_empty_plan() {
    let mut vmi = masquerade();
    vmi.spec.domain.devices.interfaces.clear();
    let plan = planned(&vmi, &pod(), None).unwrap();
    assert!(plan.ops.is_empty() && plan.interfaces.is_empty() && plan.dhcp.interfaces.is_empty());
}

proptest! {
    #[test]
    fn every_name_fits_the_kernel(uid in "[0-9a-f-]{1,64}", index in 0usize..16) {
        prop_assert!(names::tap(&uid, index).len() <= 15);
    }

    #[test]
    fn mac_text_round_trips(octets in any::<[u8; 6]>()) {
        let mac = MacAddr(octets);
        prop_assert_eq!(mac.to_string().parse::<MacAddr>().unwrap(), mac);
        prop_assert_eq!(serde_json::from_value::<MacAddr>(serde_json::to_value(mac).unwrap()).unwrap(), mac);
    }

    #[test]
    fn nothing_a_user_writes_panics(mac in ".{0,20}", cidr in ".{0,20}", port in any::<i32>(), mtu in any::<u32>()) {
        let interface: Interface = serde_json::from_value(
            json!({"name": "n", "masquerade": {}, "macAddress": mac, "ports": [{"port": port}]})).unwrap();
        let network: Network = serde_json::from_value(json!({"name": "n", "pod": {"vmNetworkCIDR": cidr}})).unwrap();
        let mut vmi = masquerade();
        vmi.spec.domain.devices.interfaces = vec![interface];
        vmi.spec.networks = vec![network];
        let mut pod = pod();
        pod.mtu = mtu;
        let _ = planned(&vmi, &pod, None);
    }

    #[test]
    fn plan_survives_its_own_json(ports in proptest::collection::vec(1i32..65536, 0..5)) {
        let ports: Vec<_> = ports.iter().map(|p| json!({"port": p})).collect();
        let vmi = vmi(json!({"name": "n", "masquerade": {}, "ports": ports}), json!({"name": "n", "pod": {}}));
        let plan = planned(&vmi, &pod(), None).unwrap();
        let text = serde_json::to_string(&plan).unwrap();
        prop_assert_eq!(serde_json::from_str::<NetPlan>(&text).unwrap(), plan);
    }
}
