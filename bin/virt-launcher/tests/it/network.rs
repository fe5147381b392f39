use std::io::{BufRead, BufReader, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dhcproto::v4::{DhcpOption, Message, MessageType, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable, Encoder};
use fv_host::link::Links;
use fv_host::netns::NetNs;
use fv_host::network::{NetworkSetup, TapPlace};
use fv_host::tap;
use fv_netplan::NetPlan;
use serde_json::json;

use crate::world::{NODE, OUTSIDE, World, call, eventually, exists, mac_of, serve, unique_uid, vmi};

const POD: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 5);
const OTHER_POD: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 6);

fn masquerade() -> serde_json::Value {
    json!({"name": "default", "masquerade": {}})
}

fn bridge() -> serde_json::Value {
    json!({"name": "default", "bridge": {}})
}

#[tokio::test]
async fn masqueraded_guest_gets_its_address_and_both_directions_work() {
    let mut world = World::new().await;
    let uid = unique_uid();
    let pod = world.pod("pod", POD).await;
    let plan = world.plan(&vmi(&uid, masquerade()), &pod, None).await;
    let _launcher = world.launcher(&uid, &pod);
    world.setup.ensure(&plan, pod.as_fd()).await.unwrap();
    let guest = world.guest("guest", &plan).await;

    let lease = guest.dhcp();
    for expected in ["ip=10.0.2.2", "router=10.0.2.1", "dns=10.96.0.10", "mtu=1450", "hostname=demo"] {
        assert!(lease.iter().any(|l| l == expected), "{expected} in {lease:?}");
    }
    assert_eq!(mac_of(&pod, "k6t-eth0").await.to_string(), "02:00:00:00:00:00");

    serve(&world.node, 7000);
    assert_eq!(call(&guest.netns, OUTSIDE, 7000).unwrap(), POD.to_string(), "outgoing: seen as the pod");
    serve(&guest.netns, 80);
    assert_eq!(call(&world.node, POD, 80).unwrap(), NODE.to_string(), "incoming: reaches the guest, source kept");
    assert_eq!(call(&pod, Ipv4Addr::LOCALHOST, 80).unwrap(), "10.0.2.1", "loopback of the pod reaches the guest");
}

#[tokio::test]
async fn only_listed_ports_are_reachable() {
    let mut world = World::new().await;
    let uid = unique_uid();
    let pod = world.pod("pod", POD).await;
    let interface = json!({"name": "default", "masquerade": {}, "ports": [{"port": 80}]});
    let plan = world.plan(&vmi(&uid, interface), &pod, None).await;
    let _launcher = world.launcher(&uid, &pod);
    world.setup.ensure(&plan, pod.as_fd()).await.unwrap();
    let guest = world.guest("guest", &plan).await;
    guest.dhcp();
    serve(&guest.netns, 80);
    serve(&guest.netns, 81);
    assert_eq!(call(&world.node, POD, 80).unwrap(), NODE.to_string());
    assert_eq!(call(&pod, Ipv4Addr::LOCALHOST, 80).unwrap(), "10.0.2.1");
    let refused = call(&world.node, POD, 81).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn bridged_guest_is_the_pod_on_its_network() {
    let mut world = World::new().await;
    let uid = unique_uid();
    let pod = world.pod("pod", POD).await;
    let pod_mac = mac_of(&pod, "eth0").await;
    let plan = world.plan(&vmi(&uid, bridge()), &pod, None).await;
    assert_eq!(plan.interfaces[0].guest_mac, pod_mac);
    let _launcher = world.launcher(&uid, &pod);
    world.setup.ensure(&plan, pod.as_fd()).await.unwrap();
    let guest = world.guest("guest", &plan).await;

    let lease = guest.dhcp();
    for expected in ["ip=10.77.0.5".to_owned(), "mask=24".to_owned(), format!("router={NODE}")] {
        assert!(lease.contains(&expected), "{expected} in {lease:?}");
    }
    serve(&world.node, 7000);
    assert_eq!(call(&guest.netns, OUTSIDE, 7000).unwrap(), POD.to_string());
    serve(&guest.netns, 80);
    assert_eq!(call(&world.node, POD, 80).unwrap(), NODE.to_string());
    let port =
        pod.run(|| std::process::Command::new("bridge").args(["-d", "link", "show", "dev", "eth0-nic"]).output());
    let port = String::from_utf8(port.unwrap().stdout).unwrap();
    assert!(port.contains("learning off") && port.contains("hairpin off"), "{port}");
    // The stand-in that CNI and kubelet look for.
    let links = Links::in_netns(&pod).await.unwrap();
    let eth0 = links.require("eth0").await.unwrap();
    assert_eq!(eth0.mac, Some(pod_mac));
    assert_eq!(links.addresses(&eth0).await.unwrap(), ["10.77.0.5/24".parse().unwrap()]);
    let facts = world.setup.pod_facts(&uid, pod.as_fd()).await.unwrap();
    assert_eq!(facts, plan.pod, "remembered after the interface was taken over");
}

#[tokio::test]
async fn second_ensure_finds_nothing_to_do() {
    for interface in [masquerade(), bridge()] {
        let mut world = World::new().await;
        let uid = unique_uid();
        let pod = world.pod("pod", POD).await;
        let plan = world.plan(&vmi(&uid, interface), &pod, None).await;
        assert!(!world.setup.ensure(&plan, pod.as_fd()).await.unwrap().made.is_empty());
        assert_eq!(world.setup.ensure(&plan, pod.as_fd()).await.unwrap().made, Vec::<String>::new());
    }
}

/// The handler dies after each single operation; the next one plans and applies everything again.
#[tokio::test]
async fn interruption_after_any_operation_converges() {
    for interface in [masquerade(), bridge()] {
        let mut world = World::new().await;
        let whole = {
            let pod = world.pod("pod", POD).await;
            world.plan(&vmi(&unique_uid(), interface.clone()), &pod, None).await
        };
        for cut in 0..whole.ops.len() {
            let uid = unique_uid();
            let pod = world.pod(&format!("pod{cut}"), OTHER_POD).await;
            let vmi = vmi(&uid, interface.clone());
            let mut plan = world.plan(&vmi, &pod, None).await;
            plan.ops.truncate(cut);
            world.setup.ensure(&plan, pod.as_fd()).await.unwrap();
            let again = world.plan(&vmi, &pod, None).await;
            world.setup.ensure(&again, pod.as_fd()).await.unwrap();
            assert_eq!(again.pod.routes, whole.pod.routes, "cut after {cut}");
            assert_eq!(
                world.setup.ensure(&again, pod.as_fd()).await.unwrap().made,
                Vec::<String>::new(),
                "after {cut}"
            );
            world.setup.release(&uid).await.unwrap();
            NetNs::remove_at(&world.dir.path().join(format!("pod{cut}"))).unwrap();
        }
    }
}

#[tokio::test]
async fn guest_follows_into_a_replaced_pod() {
    let mut world = World::new().await;
    let uid = unique_uid();
    let vmi = vmi(&uid, masquerade());
    let old = world.pod("old", POD).await;
    let first = world.plan(&vmi, &old, None).await;
    let launcher = world.launcher(&uid, &old);
    world.setup.ensure(&first, old.as_fd()).await.unwrap();
    let guest = world.guest("guest", &first).await;
    guest.dhcp();
    serve(&guest.netns, 80);
    assert!(call(&world.node, POD, 80).is_ok());
    drop(launcher);

    // `old` stays open: the namespace, and the far end of the veth in it, live on.
    let new = world.pod("new", OTHER_POD).await;
    let second = world.plan(&vmi, &new, Some(&first)).await;
    assert_eq!(second.interfaces[0].guest_mac, first.interfaces[0].guest_mac);
    let _launcher = world.launcher(&uid, &new);
    world.setup.ensure(&second, new.as_fd()).await.unwrap();
    assert_eq!(call(&world.node, OTHER_POD, 80).unwrap(), NODE.to_string(), "reachable under the new pod's address");
    assert!(guest.dhcp().iter().any(|l| l == "ip=10.0.2.2"), "and served by the new launcher");
    drop(old);
}

/// Whatever removes the pod's devices, a repeated ensure brings them back and the launcher notices by itself.
#[tokio::test]
async fn launcher_serves_again_after_its_bridge_was_remade() {
    let mut world = World::new().await;
    let uid = unique_uid();
    let pod = world.pod("pod", POD).await;
    let plan = world.plan(&vmi(&uid, masquerade()), &pod, None).await;
    let _launcher = world.launcher(&uid, &pod);
    world.setup.ensure(&plan, pod.as_fd()).await.unwrap();
    let guest = world.guest("guest", &plan).await;
    guest.dhcp();
    let links = Links::in_netns(&pod).await.unwrap();
    for name in ["k6t-eth0", "veth-eth0"] {
        links.delete_by_name(name).await.unwrap();
    }
    world.setup.ensure(&plan, pod.as_fd()).await.unwrap();
    assert!(guest.dhcp().iter().any(|l| l == "ip=10.0.2.2"));
    serve(&guest.netns, 80);
    assert!(call(&world.node, POD, 80).is_ok());
}

/// Taking the interface down, the first thing a bridge binding does, already loses the pod's routes.
#[tokio::test]
async fn facts_are_those_of_before_whatever_has_happened_to_the_interface() {
    let mut world = World::new().await;
    let uid = unique_uid();
    let pod = world.pod("pod", POD).await;
    let plan = world.plan(&vmi(&uid, bridge()), &pod, None).await;
    assert_eq!(plan.pod.routes.len(), 1);
    let links = Links::in_netns(&pod).await.unwrap();
    links.set_up(&links.require("eth0").await.unwrap(), false).await.unwrap();
    assert_eq!(world.setup.pod_facts(&uid, pod.as_fd()).await.unwrap(), plan.pod);
    world.setup.ensure(&plan, pod.as_fd()).await.unwrap();
    std::fs::remove_file(world.setup.vm_netns_path(&format!("{uid}.json"))).unwrap();
    let lost = world.setup.pod_facts(&uid, pod.as_fd()).await.unwrap_err().to_string();
    assert!(lost.contains("delete the launcher pod"), "{lost}");
}

#[tokio::test]
async fn two_guests_with_the_same_mac_and_address_do_not_meet() {
    let mut world = World::new().await;
    let interface = json!({"name": "default", "masquerade": {}, "macAddress": "0a:aa:aa:aa:aa:aa"});
    let mut guests = Vec::new();
    for (i, address) in [POD, OTHER_POD].into_iter().enumerate() {
        let uid = unique_uid();
        let pod = world.pod(&format!("pod{i}"), address).await;
        let plan = world.plan(&vmi(&uid, interface.clone()), &pod, None).await;
        let launcher = world.launcher(&uid, &pod);
        world.setup.ensure(&plan, pod.as_fd()).await.unwrap();
        let guest = world.guest(&format!("guest{i}"), &plan).await;
        guest.dhcp();
        serve(&guest.netns, 80 + i as u16);
        guests.push((guest, launcher, pod));
    }
    serve(&world.node, 7000);
    assert_eq!(call(&guests[0].0.netns, OUTSIDE, 7000).unwrap(), POD.to_string());
    assert_eq!(call(&guests[1].0.netns, OUTSIDE, 7000).unwrap(), OTHER_POD.to_string());
    assert!(call(&world.node, POD, 80).is_ok() && call(&world.node, OTHER_POD, 81).is_ok());
    assert!(call(&world.node, POD, 81).is_err() && call(&world.node, OTHER_POD, 80).is_err());
}

#[tokio::test]
async fn bridged_guests_on_one_wire_hear_their_own_dhcp_server_only() {
    let mut world = World::new().await;
    let mut guests = Vec::new();
    for (i, address) in [POD, OTHER_POD].into_iter().enumerate() {
        let uid = unique_uid();
        let pod = world.pod(&format!("pod{i}"), address).await;
        let plan = world.plan(&vmi(&uid, bridge()), &pod, None).await;
        let launcher = world.launcher(&uid, &pod);
        world.setup.ensure(&plan, pod.as_fd()).await.unwrap();
        guests.push((world.guest(&format!("guest{i}"), &plan).await, launcher, pod));
    }
    for ((guest, ..), address) in guests.iter().zip([POD, OTHER_POD]) {
        let lease = guest.dhcp();
        assert!(lease.contains(&format!("ip={address}")), "{lease:?}");
    }
    serve(&guests[1].0.netns, 80);
    assert_eq!(call(&guests[0].0.netns, OTHER_POD, 80).unwrap(), POD.to_string(), "and reach each other directly");
}

/// What QEMU does: it opens the tap in the host's namespace and keeps the descriptor.
#[tokio::test]
async fn tap_held_open_is_moved_serves_and_is_released() {
    let mut world = World::new().await;
    let uid = unique_uid();
    let pod = world.pod("pod", POD).await;
    let plan = world.plan(&vmi(&uid, masquerade()), &pod, None).await;
    let _launcher = world.launcher(&uid, &pod);
    world.setup.ensure(&plan, pod.as_fd()).await.unwrap();
    let interface = &plan.interfaces[0];

    assert!(world.setup.attach_taps(&plan).await.is_err(), "there is no tap yet");
    world.setup.create_taps(&plan).await.unwrap();
    world.setup.create_taps(&plan).await.unwrap();
    assert_eq!(world.setup.tap_place(interface, &uid).await.unwrap(), TapPlace::Host);
    let queue = std::fs::File::from(tap::open_queue(&interface.tap.name, false).unwrap());
    world.setup.attach_taps(&plan).await.unwrap();
    assert_eq!(world.setup.attach_taps(&plan).await.unwrap().made, Vec::<String>::new(), "again is nothing");
    assert_eq!(world.setup.tap_place(interface, &uid).await.unwrap(), TapPlace::Vm);

    let offer = tokio::task::spawn_blocking({
        let plan = plan.clone();
        move || discover(&queue, &plan).map(|offer| (offer, queue))
    });
    let (offer, queue) = offer.await.unwrap().expect("an offer on the tap");
    assert_eq!(offer.yiaddr(), Ipv4Addr::new(10, 0, 2, 2));
    assert_eq!(offer.opts().get(OptionCode::InterfaceMtu), Some(&DhcpOption::InterfaceMtu(1450)));
    assert_loopback_is_guarded(&pod, &queue, &plan);
    let stats = world.setup.guest_stats(&uid, &interface.tap.name).await.unwrap().unwrap();
    assert!(stats.tx_packets > 0 && stats.rx_packets > 0, "{stats:?}");

    world.setup.release(&uid).await.unwrap();
    assert_released(&world.setup, &plan, &pod).await;
    world.setup.release(&uid).await.unwrap();
}

/// `route_localnet` is on for the pod's own programs; the guest must not reach what listens on 127.0.0.1 there.
fn assert_loopback_is_guarded(pod: &NetNs, mut queue: &std::fs::File, plan: &NetPlan) {
    let bind = |ip: Ipv4Addr| pod.run(move || std::net::UdpSocket::bind((ip, 9999))).unwrap();
    let (private, open) = (bind(Ipv4Addr::LOCALHOST), bind(Ipv4Addr::new(10, 0, 2, 1)));
    let mac = plan.interfaces[0].guest_mac.octets();
    for to in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(10, 0, 2, 1)] {
        let addresses = (Ipv4Addr::new(10, 0, 2, 2), to);
        queue.write_all(&frame([2, 0, 0, 0, 0, 0], mac, addresses, (5000, 9999), b"hello")).unwrap();
    }
    open.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert_eq!(open.recv(&mut [0; 16]).unwrap(), 5, "the later one arrived");
    private.set_nonblocking(true).unwrap();
    assert_eq!(private.recv(&mut [0; 16]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

/// A real QEMU, its firmware booting from the network: DHCP from the launcher over the moved tap.
#[tokio::test]
async fn qemu_keeps_its_tap_across_the_move() {
    let mut world = World::new().await;
    let uid = unique_uid();
    let pod = world.pod("pod", POD).await;
    let plan = world.plan(&vmi(&uid, masquerade()), &pod, None).await;
    let mut launcher = world.logged_launcher(&uid, &pod, Stdio::piped());
    world.setup.ensure(&plan, pod.as_fd()).await.unwrap();
    world.setup.create_taps(&plan).await.unwrap();
    let interface = &plan.interfaces[0];
    let (qmp, serial) = (world.dir.path().join("qmp"), world.dir.path().join("serial"));
    let qemu = Command::new("qemu-system-x86_64")
        .args(["-machine", "q35,accel=tcg,graphics=off", "-m", "64", "-S", "-display", "none", "-nodefaults"])
        .args(["-serial", &format!("file:{}", serial.display())])
        // On a busy machine the firmware's own patience may end before it has a lease: it tries again for as long as it takes.
        .args(["-boot", "n,reboot-timeout=1000"])
        .args(["-netdev", &format!("tap,id=n,ifname={},script=no,downscript=no", interface.tap.name)])
        .args(["-device", &format!("virtio-net-pci,netdev=n,mac={}", interface.guest_mac)])
        .args(["-qmp", &format!("unix:{},server=on,wait=off", qmp.display())])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let _qemu = crate::world::Launcher(qemu);
    // The socket is there before the tap is open; whoever moves the tap that early has QEMU make itself another one.
    let monitor = greeted(&qmp).await;
    world.setup.attach_taps(&plan).await.unwrap();
    (&monitor).write_all(b"{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"cont\"}\n").unwrap();

    let log = launcher.0.stderr.take().unwrap();
    let (lines, mut log_lines) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || BufReader::new(log).lines().map_while(Result::ok).all(|line| lines.send(line).is_ok()));
    let (mut seen, deadline) = (Vec::new(), tokio::time::Instant::now() + Duration::from_secs(300));
    while !seen.last().is_some_and(|line: &String| line.starts_with("Ack 10.0.2.2/24")) {
        match tokio::time::timeout_at(deadline, log_lines.recv()).await {
            Ok(Some(line)) => seen.push(line),
            none => {
                let firmware = std::fs::read(&serial).unwrap_or_default();
                let stats = world.setup.guest_stats(&uid, &interface.tap.name).await;
                panic!(
                    "no lease ({none:?}); launcher: {seen:#?}; tap: {stats:?}; firmware: {}",
                    String::from_utf8_lossy(&firmware)
                );
            }
        }
    }
}

/// Connects to a QEMU's monitor once it greets, which it does when all its devices are made.
async fn greeted(qmp: &Path) -> UnixStream {
    let mut monitor = None;
    eventually("QEMU listens", || {
        monitor = UnixStream::connect(qmp).ok();
        monitor.is_some()
    })
    .await;
    let monitor = monitor.unwrap();
    monitor.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    tokio::task::spawn_blocking(move || {
        let mut greeting = String::new();
        BufReader::new(&monitor).read_line(&mut greeting).unwrap();
        assert!(greeting.contains("QMP"), "{greeting}");
        monitor
    })
    .await
    .unwrap()
}

async fn assert_released(setup: &NetworkSetup, plan: &NetPlan, pod: &NetNs) {
    let uid = &plan.vmi_uid;
    assert!(!exists(&setup.vm_netns_path(uid)));
    assert!(!exists(&setup.vm_netns_path(&format!("{uid}.json"))));
    assert_eq!(setup.list().unwrap(), Vec::<String>::new());
    assert!(Links::here().unwrap().get(&plan.interfaces[0].tap.name).await.unwrap().is_none());
    let left = Links::in_netns(pod).await.unwrap().list().await.unwrap();
    assert!(!left.iter().any(|l| l.name.starts_with("veth-")), "{left:?}");
    assert_eq!(setup.tap_place(&plan.interfaces[0], uid).await.unwrap(), TapPlace::Nowhere);
}

/// Sends DISCOVER as raw Ethernet and waits for the offer.
fn discover(mut queue: &std::fs::File, plan: &NetPlan) -> Option<Message> {
    let mac = plan.interfaces[0].guest_mac.octets();
    let zero = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(7, zero, zero, zero, zero, &mac);
    message.opts_mut().insert(DhcpOption::MessageType(MessageType::Discover));
    let mut payload = Vec::new();
    message.encode(&mut Encoder::new(&mut payload)).unwrap();
    let frame = frame([0xff; 6], mac, (zero, Ipv4Addr::BROADCAST), (68, 67), &payload);
    rustix::io::ioctl_fionbio(queue, true).unwrap();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(120) {
        queue.write_all(&frame).unwrap();
        let mut poll = [rustix::event::PollFd::new(queue, rustix::event::PollFlags::IN)];
        let second = rustix::time::Timespec { tv_sec: 1, tv_nsec: 0 };
        while rustix::event::poll(&mut poll, Some(&second)).unwrap() > 0 {
            let mut buffer = [0u8; 2048];
            let Ok(length) = queue.read(&mut buffer) else { break };
            // Ethernet, IPv4 without options, UDP from port 67.
            if length > 42 && buffer[12..14] == [8, 0] && buffer[23] == 17 && buffer[34..36] == [0, 67] {
                return Message::decode(&mut Decoder::new(&buffer[42..length])).ok();
            }
        }
    }
    None
}

fn frame(
    to_mac: [u8; 6],
    mac: [u8; 6],
    (from, to): (Ipv4Addr, Ipv4Addr),
    (from_port, to_port): (u16, u16),
    payload: &[u8],
) -> Vec<u8> {
    let udp = u16::try_from(8 + payload.len()).unwrap();
    let mut ip = vec![0x45, 0];
    ip.extend((20 + udp).to_be_bytes());
    ip.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    ip.extend(from.octets());
    ip.extend(to.octets());
    let mut sum: u32 = ip.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    ip[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    let mut frame = to_mac.to_vec();
    frame.extend(mac);
    frame.extend([8, 0]);
    frame.extend(ip);
    frame.extend(from_port.to_be_bytes());
    frame.extend(to_port.to_be_bytes());
    frame.extend(udp.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
    frame
}
