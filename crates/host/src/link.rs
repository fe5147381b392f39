//! Links, addresses and routes of one network namespace, over rtnetlink.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use futures::TryStreamExt;
use fv_netplan::{MacAddr, PodRoute};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteProtocol, RouteType};
use rtnetlink::{Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::netns::NetNs;

/// What went wrong on the way to the kernel.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("open a netlink socket in the network namespace")]
    Socket(#[source] std::io::Error),
    #[error("{step} {link}")]
    Netlink {
        step: &'static str,
        link: String,
        #[source]
        source: rtnetlink::Error,
    },
    #[error("{link} does not exist in the network namespace")]
    Missing { link: String },
}

/// A link as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface index, unique in its namespace.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Ethernet address; none on devices without.
    pub mac: Option<MacAddr>,
    /// MTU.
    pub mtu: u32,
    /// Index of the bridge it is a port of.
    pub master: Option<u32>,
    /// Index of a veth's other end, in the namespace that one is in.
    pub peer: Option<u32>,
    /// Whether the other end is in another namespace.
    pub peer_elsewhere: bool,
    /// Administratively up.
    pub up: bool,
    /// `bridge`, `veth`, `tun` …; empty for plain devices.
    pub kind: String,
    /// Counters.
    pub stats: LinkStats,
}

/// Interface counters, as seen from the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkStats {
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

/// A netlink connection into one namespace. Needs a tokio runtime; dropping it ends the connection.
#[derive(Debug)]
pub struct Links {
    handle: Handle,
    connection: tokio::task::JoinHandle<()>,
}

impl Drop for Links {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

type Result<T> = std::result::Result<T, LinkError>;

fn failed(step: &'static str, link: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> LinkError {
    let link = link.into();
    move |source| LinkError::Netlink { step, link, source }
}

fn is_errno(error: &rtnetlink::Error, errno: i32) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message) if message.raw_code() == -errno)
}

impl Links {
    /// Connects to a namespace.
    pub async fn in_netns(netns: &NetNs) -> Result<Self> {
        // The socket belongs to the namespace it is made in, for ever; it needs the runtime to register itself.
        let runtime = tokio::runtime::Handle::current();
        let (connection, handle, _) = netns
            .run_async(move || {
                let _entered = runtime.enter();
                rtnetlink::new_connection()
            })
            .await
            .map_err(LinkError::Socket)?;
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }

    /// Connects to the namespace this process runs in.
    pub fn here() -> Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(LinkError::Socket)?;
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }

    /// The link of that name.
    pub async fn get(&self, name: &str) -> Result<Option<Link>> {
        let mut replies = self.handle.link().get().match_name(name.to_owned()).execute();
        match replies.try_next().await {
            Ok(message) => Ok(message.map(|m| parse(&m))),
            Err(error) if is_errno(&error, libc::ENODEV) => Ok(None),
            Err(source) => Err(failed("look up", name)(source)),
        }
    }

    /// The link of that name, which must exist.
    pub async fn require(&self, name: &str) -> Result<Link> {
        self.get(name).await?.ok_or_else(|| LinkError::Missing { link: name.to_owned() })
    }

    /// All links.
    pub async fn list(&self) -> Result<Vec<Link>> {
        let messages: Vec<LinkMessage> =
            self.handle.link().get().execute().try_collect().await.map_err(failed("list", "links"))?;
        Ok(messages.iter().map(parse).collect())
    }

    /// Makes a bridge without spanning tree and multicast snooping.
    pub async fn add_bridge(&self, name: &str, mac: Option<MacAddr>, mtu: u32) -> Result<()> {
        let mut message = LinkMessageBuilder::<LinkBridge>::new(name).mcast_snooping(false).mtu(mtu);
        if let Some(mac) = mac {
            message = message.address(mac.octets().to_vec());
        }
        self.add("make bridge", name, message.build()).await
    }

    /// Makes a veth pair: `name` here, `peer_name` in the other namespace, in one step.
    pub async fn add_veth(&self, name: &str, mtu: u32, peer_name: &str, peer_netns: BorrowedFd<'_>) -> Result<()> {
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(peer_name.to_owned())
            .mtu(mtu)
            .setns_by_fd(peer_netns.as_raw_fd())
            .build();
        let message = LinkMessageBuilder::<LinkVeth>::new(name, peer_name)
            .mtu(mtu)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        self.add("make veth pair", name, message).await
    }

    async fn add(&self, step: &'static str, name: &str, message: LinkMessage) -> Result<()> {
        match self.handle.link().add(message).execute().await {
            // Someone else was faster; the caller converges what is there.
            Err(error) if is_errno(&error, libc::EEXIST) && self.get(name).await?.is_some() => Ok(()),
            other => other.map_err(failed(step, name)),
        }
    }

    async fn change(
        &self,
        step: &'static str,
        link: &Link,
        edit: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec>,
    ) -> Result<()> {
        let message = edit(LinkUnspec::new_with_index(link.index)).build();
        self.handle.link().set(message).execute().await.map_err(failed(step, &link.name))
    }

    /// Sets the administrative state.
    pub async fn set_up(&self, link: &Link, up: bool) -> Result<()> {
        if up {
            self.change("bring up", link, LinkMessageBuilder::up).await
        } else {
            self.change("take down", link, LinkMessageBuilder::down).await
        }
    }

    /// Gives a link, which must be down, another name.
    pub async fn rename(&self, link: &Link, name: &str) -> Result<()> {
        self.change("rename", link, |b| b.name(name.to_owned())).await
    }

    /// Sets the Ethernet address.
    pub async fn set_mac(&self, link: &Link, mac: MacAddr) -> Result<()> {
        self.change("set the Ethernet address of", link, |b| b.address(mac.octets().to_vec())).await
    }

    /// Sets the MTU.
    pub async fn set_mtu(&self, link: &Link, mtu: u32) -> Result<()> {
        self.change("set the MTU of", link, |b| b.mtu(mtu)).await
    }

    /// Makes the link a port of a bridge.
    pub async fn set_master(&self, link: &Link, master: &Link) -> Result<()> {
        self.change("attach to a bridge", link, |b| b.controller(master.index)).await
    }

    /// Sets address learning of a bridge port; it never sends a frame back where it came from.
    pub async fn set_port(&self, link: &Link, learning: bool) -> Result<()> {
        let message = LinkBridgePort::new(link.index).learning(learning).hairpin(false).build();
        self.handle.link().set_port(message).execute().await.map_err(failed("set up bridge port", &link.name))
    }

    /// Moves a link to another namespace. It is down afterwards.
    pub async fn move_to(&self, link: &Link, netns: BorrowedFd<'_>) -> Result<()> {
        self.change("move to another network namespace", link, |b| b.setns_by_fd(netns.as_raw_fd())).await
    }

    /// Removes a link; one that is already gone is fine.
    pub async fn delete(&self, link: &Link) -> Result<()> {
        match self.handle.link().del(link.index).execute().await {
            Err(error) if is_errno(&error, libc::ENODEV) => Ok(()),
            other => other.map_err(failed("delete", &link.name)),
        }
    }

    /// Removes the link of that name if there is one.
    pub async fn delete_by_name(&self, name: &str) -> Result<()> {
        match self.get(name).await? {
            Some(link) => self.delete(&link).await,
            None => Ok(()),
        }
    }

    /// The addresses of a link, link-local IPv6 ones left out.
    pub async fn addresses(&self, link: &Link) -> Result<Vec<IpNet>> {
        Ok(self.address_messages(link).await?.into_iter().map(|(address, _)| address).collect())
    }

    async fn address_messages(&self, link: &Link) -> Result<Vec<(IpNet, AddressMessage)>> {
        let messages: Vec<AddressMessage> = self
            .handle
            .address()
            .get()
            .set_link_index_filter(link.index)
            .execute()
            .try_collect()
            .await
            .map_err(failed("list the addresses of", &link.name))?;
        Ok(messages.into_iter().filter_map(|m| Some((parse_address(&m)?, m))).collect())
    }

    /// Makes the IPv4 addresses of a link exactly these. Returns whether anything changed.
    pub async fn set_addresses(&self, link: &Link, wanted: &[IpNet]) -> Result<bool> {
        let present = self.address_messages(link).await?;
        let mut changed = false;
        for (address, message) in &present {
            if matches!(address, IpNet::V4(_)) && !wanted.contains(address) {
                changed = true;
                match self.handle.address().del(message.clone()).execute().await {
                    // A secondary address goes with its primary.
                    Err(error) if is_errno(&error, libc::EADDRNOTAVAIL) => {}
                    other => other.map_err(failed("remove an address from", &link.name))?,
                }
            }
        }
        for address in wanted {
            if present.iter().any(|(p, _)| p == address) {
                continue;
            }
            changed = true;
            let request = self.handle.address().add(link.index, address.addr(), address.prefix_len());
            match request.execute().await {
                Err(error) if is_errno(&error, libc::EEXIST) => {}
                other => other.map_err(failed("add an address to", &link.name))?,
            }
        }
        Ok(changed)
    }

    /// The unicast routes of the main table that leave through a link, the kernel's own left out.
    pub async fn routes(&self, link: &Link) -> Result<Vec<PodRoute>> {
        let mut routes = Vec::new();
        let v4 = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let v6 = RouteMessageBuilder::<Ipv6Addr>::new().build();
        for query in [v4, v6] {
            let family = query.header.address_family;
            let messages: Vec<_> = self
                .handle
                .route()
                .get(query)
                .execute()
                .try_collect()
                .await
                .map_err(failed("list the routes of", &link.name))?;
            for message in messages {
                let header = message.header;
                if header.kind != RouteType::Unicast
                    || header.protocol == RouteProtocol::Kernel
                    || header.table != RouteHeader::RT_TABLE_MAIN
                    || header.address_family != family
                {
                    continue;
                }
                let (mut out, mut gateway, mut destination) = (None, None, None);
                for attribute in message.attributes {
                    match attribute {
                        RouteAttribute::Oif(index) => out = Some(index),
                        RouteAttribute::Gateway(address) => gateway = ip(address),
                        RouteAttribute::Destination(address) => destination = ip(address),
                        _ => {}
                    }
                }
                if out != Some(link.index) {
                    continue;
                }
                let any: IpAddr = if family == AddressFamily::Inet {
                    Ipv4Addr::UNSPECIFIED.into()
                } else {
                    Ipv6Addr::UNSPECIFIED.into()
                };
                let destination = IpNet::new(destination.unwrap_or(any), header.destination_prefix_length);
                let Ok(destination) = destination else { continue };
                routes.push(PodRoute { destination, gateway });
            }
        }
        Ok(routes)
    }

    /// Adds an IPv4 route through a router.
    pub async fn add_route(&self, link: &Link, destination: Ipv4Net, gateway: Option<Ipv4Addr>) -> Result<()> {
        let mut message = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(destination.addr(), destination.prefix_len())
            .output_interface(link.index);
        if let Some(gateway) = gateway {
            message = message.gateway(gateway);
        }
        self.handle
            .route()
            .add(message.build())
            .replace()
            .execute()
            .await
            .map_err(failed("add a route through", &link.name))
    }
}

fn ip(address: RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(address.into()),
        RouteAddress::Inet6(address) => Some(address.into()),
        _ => None,
    }
}

fn parse_address(message: &AddressMessage) -> Option<IpNet> {
    if message.header.family == AddressFamily::Inet6 && message.header.scope == AddressScope::Link {
        return None;
    }
    // On point-to-point links ADDRESS is the peer's; LOCAL, where present, is always the link's own.
    let (mut local, mut address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            _ => {}
        }
    }
    let prefix = message.header.prefix_len;
    match local.or(address)? {
        IpAddr::V4(ip) => Ipv4Net::new(ip, prefix).ok().map(IpNet::V4),
        IpAddr::V6(ip) => Ipv6Net::new(ip, prefix).ok().map(IpNet::V6),
    }
}

fn parse(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        master: None,
        peer: None,
        peer_elsewhere: false,
        up: message.header.flags.contains(LinkFlags::Up),
        kind: String::new(),
        stats: LinkStats::default(),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes) => link.mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(MacAddr),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Controller(index) => link.master = Some(*index).filter(|i| *i != 0),
            LinkAttribute::Link(index) => link.peer = Some(*index),
            LinkAttribute::LinkNetNsId(_) => link.peer_elsewhere = true,
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Kind(kind) = info {
                        link.kind = kind_name(kind);
                    }
                }
            }
            LinkAttribute::Stats64(s) => {
                link.stats = LinkStats {
                    rx_bytes: s.rx_bytes,
                    rx_packets: s.rx_packets,
                    rx_errors: s.rx_errors,
                    rx_dropped: s.rx_dropped,
                    tx_bytes: s.tx_bytes,
                    tx_packets: s.tx_packets,
                    tx_errors: s.tx_errors,
                    tx_dropped: s.tx_dropped,
                };
            }
            _ => {}
        }
    }
    link
}

fn kind_name(kind: &InfoKind) -> String {
    kind.to_string()
}
