//! The answers, read back with an independent implementation (`dhcproto`).

use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable, Encoder};
use fv_netplan::{DhcpPrivateOption, DhcpRoute, MacAddr};
use proptest::prelude::*;

use super::*;

const MAC: [u8; 6] = [0x0a, 1, 2, 3, 4, 5];
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 1);

fn config() -> DhcpInterface {
    DhcpInterface {
        name: "default".into(),
        bridge: "k6t-eth0".into(),
        server: SERVER,
        guest_mac: MacAddr(MAC),
        guest: "10.0.2.2/24".parse().unwrap(),
        router: Some(SERVER),
        routes: Vec::new(),
        dns: vec![[10, 96, 0, 10].into(), [1, 1, 1, 1].into()],
        search: vec!["default.svc.cluster.local".into(), "bad..name".into(), "svc.cluster.local".into()],
        domain: Some("default.svc.cluster.local".into()),
        mtu: 1450,
        hostname: Some("demo".into()),
        lease_seconds: 86_313_600,
        ntp: vec![[10, 0, 0, 9].into()],
        tftp_server: Some("tftp".into()),
        boot_file: None,
        private: vec![DhcpPrivateOption { code: 240, value: "private".into() }],
    }
}

fn message(kind: MessageType, edit: impl FnOnce(&mut Message)) -> Vec<u8> {
    let zero = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(0x1234_5678, zero, zero, zero, zero, &MAC);
    message.opts_mut().insert(DhcpOption::MessageType(kind));
    edit(&mut message);
    encode(&message)
}

fn encode(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut Encoder::new(&mut bytes)).unwrap();
    bytes
}

fn ask(config: &DhcpInterface, bytes: &[u8]) -> Option<(Message, Ipv4Addr)> {
    let answer = answer(config, &Request::parse(bytes)?)?;
    Some((Message::decode(&mut Decoder::new(&answer.bytes)).unwrap(), answer.to))
}

#[test]
fn discover_gets_the_whole_configuration() {
    let bytes = message(MessageType::Discover, |m| {
        m.set_flags(Flags::default().set_broadcast());
        m.opts_mut().insert(DhcpOption::ClientIdentifier(vec![1, 2, 3]));
        m.opts_mut().insert(DhcpOption::MaxMessageSize(1500));
    });
    let (reply, to) = ask(&config(), &bytes).unwrap();
    assert_eq!(to, Ipv4Addr::BROADCAST);
    assert_eq!((reply.xid(), reply.yiaddr(), reply.chaddr()), (0x1234_5678, GUEST, &MAC[..]));
    assert!(reply.flags().broadcast());
    let option = |code| reply.opts().get(code).cloned();
    assert_eq!(reply.opts().msg_type(), Some(MessageType::Offer));
    for expected in [
        DhcpOption::ServerIdentifier(SERVER),
        DhcpOption::SubnetMask([255, 255, 255, 0].into()),
        DhcpOption::Router(vec![SERVER]),
        DhcpOption::DomainNameServer(vec![[10, 96, 0, 10].into(), [1, 1, 1, 1].into()]),
        DhcpOption::Hostname("demo".into()),
        DhcpOption::DomainName("default.svc.cluster.local".into()),
        DhcpOption::InterfaceMtu(1450),
        DhcpOption::AddressLeaseTime(86_313_600),
        DhcpOption::ClientIdentifier(vec![1, 2, 3]),
        DhcpOption::NtpServers(vec![[10, 0, 0, 9].into()]),
        DhcpOption::TFTPServerName(b"tftp".to_vec()),
    ] {
        assert_eq!(option(OptionCode::from(&expected)), Some(expected));
    }
    let Some(DhcpOption::DomainSearch(search)) = option(OptionCode::DomainSearch) else { panic!("no search list") };
    let search: Vec<String> = search.iter().map(|d| d.to_string().trim_end_matches('.').to_owned()).collect();
    assert_eq!(search, ["default.svc.cluster.local", "svc.cluster.local"], "what is no name is left out");
}

#[test]
fn requests_are_acknowledged_refused_or_left_to_others() {
    let other = Ipv4Addr::new(10, 244, 0, 7);
    type Edit = fn(&mut Message);
    let cases: [(&str, Edit, Option<MessageType>); 7] = [
        (
            "selecting us",
            |m| {
                m.opts_mut().insert(DhcpOption::ServerIdentifier(SERVER));
                m.opts_mut().insert(DhcpOption::RequestedIpAddress(GUEST));
            },
            Some(MessageType::Ack),
        ),
        (
            "selecting another server",
            |m| {
                m.opts_mut().insert(DhcpOption::ServerIdentifier([10, 9, 9, 9].into()));
                m.opts_mut().insert(DhcpOption::RequestedIpAddress(GUEST));
            },
            None,
        ),
        (
            "remembering its address",
            |m| drop(m.opts_mut().insert(DhcpOption::RequestedIpAddress(GUEST))),
            Some(MessageType::Ack),
        ),
        (
            "remembering an old address",
            |m| drop(m.opts_mut().insert(DhcpOption::RequestedIpAddress([10, 0, 2, 99].into()))),
            Some(MessageType::Nak),
        ),
        (
            "renewing",
            |m| {
                m.set_ciaddr(GUEST);
            },
            Some(MessageType::Ack),
        ),
        (
            "renewing an old address",
            |m| {
                m.set_ciaddr([10, 244, 0, 7]);
            },
            Some(MessageType::Nak),
        ),
        ("wanting nothing", |_| {}, None),
    ];
    for (name, edit, expected) in cases {
        let reply = ask(&config(), &message(MessageType::Request, edit));
        assert_eq!(reply.as_ref().and_then(|(m, _)| m.opts().msg_type()), expected, "{name}");
        if let Some((reply, to)) = reply {
            let address = if expected == Some(MessageType::Nak) { Ipv4Addr::UNSPECIFIED } else { GUEST };
            assert_eq!(reply.yiaddr(), address, "{name}");
            assert_ne!(to, other, "{name}: never sent into the pod's network");
        }
    }
}

#[test]
fn inform_gets_settings_without_a_lease_where_it_says_it_is() {
    let (reply, to) = ask(
        &config(),
        &message(MessageType::Inform, |m| {
            m.set_ciaddr(GUEST);
        }),
    )
    .unwrap();
    assert_eq!((reply.yiaddr(), reply.ciaddr(), to), (Ipv4Addr::UNSPECIFIED, GUEST, GUEST));
    assert!(reply.opts().get(OptionCode::AddressLeaseTime).is_none());
    assert!(reply.opts().get(OptionCode::DomainNameServer).is_some());
}

#[test]
fn others_and_servers_are_not_answered() {
    let zero = Ipv4Addr::UNSPECIFIED;
    let mut stranger = Message::new_with_id(1, zero, zero, zero, zero, &[0x0a, 9, 9, 9, 9, 9]);
    stranger.opts_mut().insert(DhcpOption::MessageType(MessageType::Discover));
    assert!(ask(&config(), &encode(&stranger)).is_none());
    for kind in [MessageType::Release, MessageType::Decline, MessageType::Offer, MessageType::Ack] {
        assert!(ask(&config(), &message(kind, |_| {})).is_none(), "{kind:?}");
    }
}

#[test]
fn bridge_binding_never_sends_to_the_address_it_shares_with_the_guest() {
    let guest = Ipv4Addr::new(10, 244, 0, 7);
    let config = DhcpInterface {
        server: [169, 254, 75, 10].into(),
        guest: "10.244.0.7/24".parse().unwrap(),
        router: Some([10, 244, 0, 1].into()),
        routes: vec![
            DhcpRoute { destination: "10.244.0.0/16".parse().unwrap(), gateway: [10, 244, 0, 1].into() },
            DhcpRoute { destination: "0.0.0.0/0".parse().unwrap(), gateway: [10, 244, 0, 1].into() },
        ],
        ..config()
    };
    let (reply, to) = ask(
        &config,
        &message(MessageType::Request, |m| {
            m.set_ciaddr(guest);
        }),
    )
    .unwrap();
    assert_eq!((reply.yiaddr(), to), (guest, Ipv4Addr::BROADCAST));
    let Some(DhcpOption::ClasslessStaticRoute(routes)) = reply.opts().get(OptionCode::ClasslessStaticRoute) else {
        panic!("no routes")
    };
    let routes: Vec<String> = routes.iter().map(|(net, via)| format!("{net} via {via}")).collect();
    assert_eq!(routes, ["10.244.0.0/16 via 10.244.0.1", "0.0.0.0/0 via 10.244.0.1"]);
}

#[test]
fn reply_never_exceeds_what_the_client_takes() {
    let mut config = config();
    config.search = (0..100).map(|i| format!("domain-{i}.example.org")).collect();
    let answer = answer(&config, &Request::parse(&message(MessageType::Discover, |_| {})).unwrap()).unwrap();
    assert!(answer.bytes.len() <= 548, "{}", answer.bytes.len());
    let reply = Message::decode(&mut Decoder::new(&answer.bytes)).unwrap();
    assert!(reply.opts().get(OptionCode::Router).is_some() && reply.opts().get(OptionCode::DomainSearch).is_none());
}

#[test]
fn long_option_is_split_and_whole_again() {
    let mut config = config();
    config.search = (0..20).map(|i| format!("domain-{i}.example.org")).collect();
    let bytes = message(MessageType::Discover, |m| drop(m.opts_mut().insert(DhcpOption::MaxMessageSize(1500))));
    let (reply, _) = ask(&config, &bytes).unwrap();
    let Some(DhcpOption::DomainSearch(search)) = reply.opts().get(OptionCode::DomainSearch) else { panic!("no list") };
    assert_eq!(search.len(), 20);
}

proptest! {
    #[test]
    fn garbage_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..1600)) {
        let _ = Request::parse(&bytes).and_then(|r| answer(&config(), &r));
    }

    #[test]
    fn damaged_requests_are_survived(
        cut in 0usize..400,
        at in 0usize..400,
        value in any::<u8>(),
        tail in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        let mut bytes = message(MessageType::Discover, |_| {});
        bytes.pop();
        bytes.extend(tail);
        if let Some(byte) = bytes.get_mut(at) { *byte = value; }
        bytes.truncate(bytes.len().saturating_sub(cut));
        if let Some(answer) = Request::parse(&bytes).and_then(|r| answer(&config(), &r)) {
            prop_assert!(answer.bytes.len() <= 1472 && answer.bytes.len() >= 300);
            prop_assert!(Message::decode(&mut Decoder::new(&answer.bytes)).is_ok());
        }
    }
}
