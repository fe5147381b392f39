//! Which answer a request gets. No state: there is one client and one lease, and both are configuration.

use std::net::Ipv4Addr;

use fv_netplan::DhcpInterface;

use super::packet::{Kind, Reply, Request, option};

/// An answer and where it goes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) kind: Kind,
    pub(crate) bytes: Vec<u8>,
    pub(crate) to: Ipv4Addr,
}

/// The answer to a request, if it deserves one.
pub(crate) fn answer(config: &DhcpInterface, request: &Request) -> Option<Answer> {
    if request.mac != config.guest_mac.octets() {
        return None;
    }
    let kind = match request.kind {
        Kind::Discover => Kind::Offer,
        Kind::Inform => Kind::Ack,
        Kind::Request => decide(config, request)?,
        // The lease is the guest's whatever it says; the rest are a server's own messages.
        Kind::Release | Kind::Decline | Kind::Offer | Kind::Ack | Kind::Nak => return None,
    };
    let leased = kind != Kind::Nak && request.kind != Kind::Inform;
    let yours = if leased { config.guest.addr() } else { Ipv4Addr::UNSPECIFIED };
    let mut reply = Reply::new(request, kind, yours);
    reply.option(option::SERVER_ID, &config.server.octets());
    if let Some(id) = &request.client_id {
        reply.option(option::CLIENT_ID, id);
    }
    if kind != Kind::Nak {
        if leased {
            reply.option(option::LEASE_TIME, &config.lease_seconds.to_be_bytes());
        }
        settings(config, &mut reply);
    }
    Some(Answer { kind, bytes: reply.finish(), to: destination(config, request, kind) })
}

fn decide(config: &DhcpInterface, request: &Request) -> Option<Kind> {
    if request.server.is_some_and(|server| server != config.server) {
        // It chose another server.
        return None;
    }
    let wanted = request.requested.or_else(|| Some(request.client).filter(|c| !c.is_unspecified()))?;
    // A guest that remembers an address of an earlier pod must hear that it is no longer its own.
    Some(if wanted == config.guest.addr() { Kind::Ack } else { Kind::Nak })
}

/// To the client's address where it has one and this namespace would really send it there; with the bridge binding the address also
/// belongs to a stand-in of this namespace. Otherwise to everyone on the link, which is the guest.
fn destination(config: &DhcpInterface, request: &Request, kind: Kind) -> Ipv4Addr {
    let reachable = config.guest.contains(&config.server) && config.guest.contains(&request.client);
    if kind != Kind::Nak && !request.client.is_unspecified() && reachable {
        request.client
    } else {
        Ipv4Addr::BROADCAST
    }
}

/// Most important first: what does not fit is left out.
fn settings(config: &DhcpInterface, reply: &mut Reply) {
    reply.option(option::SUBNET_MASK, &config.guest.netmask().octets());
    if !config.routes.is_empty() {
        reply.option(option::ROUTES, &routes(config));
    }
    if let Some(router) = config.router {
        reply.option(option::ROUTER, &router.octets());
    }
    addresses(reply, option::DNS, &config.dns);
    reply.option(option::MTU, &config.mtu.to_be_bytes());
    text(reply, option::HOSTNAME, config.hostname.as_deref());
    text(reply, option::DOMAIN, config.domain.as_deref());
    let search = search(&config.search);
    if !search.is_empty() {
        reply.option(option::SEARCH, &search);
    }
    addresses(reply, option::NTP, &config.ntp);
    text(reply, option::TFTP_SERVER, config.tftp_server.as_deref());
    text(reply, option::BOOT_FILE, config.boot_file.as_deref());
    for private in &config.private {
        if (224..=254).contains(&private.code) {
            text(reply, private.code, Some(&private.value));
        }
    }
}

fn text(reply: &mut Reply, code: u8, value: Option<&str>) {
    if let Some(value) = value.filter(|v| !v.is_empty()) {
        reply.option(code, value.as_bytes());
    }
}

fn addresses(reply: &mut Reply, code: u8, addresses: &[Ipv4Addr]) {
    let octets: Vec<u8> = addresses.iter().flat_map(Ipv4Addr::octets).collect();
    if !octets.is_empty() {
        reply.option(code, &octets);
    }
}

/// RFC 3442: prefix length, the significant octets of the destination, the router.
fn routes(config: &DhcpInterface) -> Vec<u8> {
    let mut bytes = Vec::new();
    for route in &config.routes {
        let prefix = route.destination.prefix_len();
        bytes.push(prefix);
        bytes.extend(route.destination.network().octets().iter().take(usize::from(prefix).div_ceil(8)));
        bytes.extend(route.gateway.octets());
    }
    bytes
}

/// RFC 3397 without compression; a name that is none is left out.
fn search(domains: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for domain in domains {
        let labels: Vec<&str> = domain.trim_end_matches('.').split('.').collect();
        let fits = domain.len() <= 253 && labels.iter().all(|l| !l.is_empty() && l.len() <= 63);
        if !fits {
            continue;
        }
        for label in labels {
            bytes.push(label.len() as u8);
            bytes.extend_from_slice(label.as_bytes());
        }
        bytes.push(0);
    }
    bytes
}

#[cfg(test)]
mod tests;
