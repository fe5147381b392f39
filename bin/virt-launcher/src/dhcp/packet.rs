//! DHCPv4 messages (RFC 2131, 2132) as far as a server for one client needs them. Everything read here was written by a guest.

use std::net::Ipv4Addr;

/// Fixed part of a message and the magic number.
const HEADER: usize = 240;
const MAGIC: [u8; 4] = [0x63, 0x82, 0x53, 0x63];
const BOOT_REQUEST: u8 = 1;
const BOOT_REPLY: u8 = 2;
const ETHERNET: u8 = 1;
/// RFC 2131: what every client can receive, less IP and UDP headers.
const MIN_MESSAGE: usize = 576 - 28;
/// What fits into one frame of an ordinary link, the same way.
const MAX_MESSAGE: usize = 1500 - 28;

/// Option numbers.
pub(crate) mod option {
    pub(crate) const SUBNET_MASK: u8 = 1;
    pub(crate) const ROUTER: u8 = 3;
    pub(crate) const DNS: u8 = 6;
    pub(crate) const HOSTNAME: u8 = 12;
    pub(crate) const DOMAIN: u8 = 15;
    pub(crate) const MTU: u8 = 26;
    pub(crate) const NTP: u8 = 42;
    pub(crate) const REQUESTED_ADDRESS: u8 = 50;
    pub(crate) const LEASE_TIME: u8 = 51;
    pub(crate) const MESSAGE_TYPE: u8 = 53;
    pub(crate) const SERVER_ID: u8 = 54;
    pub(crate) const MAX_SIZE: u8 = 57;
    pub(crate) const CLIENT_ID: u8 = 61;
    pub(crate) const TFTP_SERVER: u8 = 66;
    pub(crate) const BOOT_FILE: u8 = 67;
    pub(crate) const SEARCH: u8 = 119;
    pub(crate) const ROUTES: u8 = 121;
    pub(crate) const PAD: u8 = 0;
    pub(crate) const END: u8 = 255;
}

/// DHCP message types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Discover,
    Offer,
    Request,
    Decline,
    Ack,
    Nak,
    Release,
    Inform,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        use Kind::{Ack, Decline, Discover, Inform, Nak, Offer, Release, Request};
        [Discover, Offer, Request, Decline, Ack, Nak, Release, Inform].get(usize::from(byte).checked_sub(1)?).copied()
    }

    fn byte(self) -> u8 {
        self as u8 + 1
    }
}

/// What a client sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) kind: Kind,
    pub(crate) xid: [u8; 4],
    pub(crate) flags: [u8; 2],
    pub(crate) client: Ipv4Addr,
    pub(crate) relay: Ipv4Addr,
    pub(crate) mac: [u8; 6],
    pub(crate) requested: Option<Ipv4Addr>,
    pub(crate) server: Option<Ipv4Addr>,
    pub(crate) client_id: Option<Vec<u8>>,
    pub(crate) max_message: usize,
}

impl Request {
    /// Reads a message; `None` for anything that is not a DHCP request of an Ethernet client.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (header, options) = bytes.split_at_checked(HEADER)?;
        let field = |at: usize| -> Option<[u8; 4]> { header.get(at..at + 4)?.try_into().ok() };
        let [op, htype, hlen, _hops] = field(0)?;
        if op != BOOT_REQUEST || htype != ETHERNET || hlen != 6 || field(HEADER - 4)? != MAGIC {
            return None;
        }
        let address = |at: usize| field(at).map(Ipv4Addr::from);
        let mut request = Self {
            kind: Kind::Discover,
            xid: field(4)?,
            flags: header.get(10..12)?.try_into().ok()?,
            client: address(12)?,
            relay: address(24)?,
            mac: header.get(28..34)?.try_into().ok()?,
            requested: None,
            server: None,
            client_id: None,
            max_message: MIN_MESSAGE,
        };
        let mut kind = None;
        for (code, value) in Options(options) {
            let address = || <[u8; 4]>::try_from(value).ok().map(Ipv4Addr::from);
            match code {
                option::MESSAGE_TYPE => kind = value.first().copied().and_then(Kind::from_byte),
                option::REQUESTED_ADDRESS => request.requested = address(),
                option::SERVER_ID => request.server = address(),
                option::CLIENT_ID => request.client_id = Some(value.to_vec()),
                option::MAX_SIZE => {
                    if let Ok(size) = <[u8; 2]>::try_from(value) {
                        let size = usize::from(u16::from_be_bytes(size)).saturating_sub(28);
                        request.max_message = size.clamp(MIN_MESSAGE, MAX_MESSAGE);
                    }
                }
                _ => {}
            }
        }
        request.kind = kind?;
        Some(request)
    }
}

/// Code and value of each option; ends at END, at the end of the message, and at the first that is cut off.
struct Options<'a>(&'a [u8]);

impl<'a> Iterator for Options<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (code, rest) = self.0.split_first()?;
            match *code {
                option::PAD => self.0 = rest,
                option::END => return None,
                code => {
                    let (length, rest) = rest.split_first()?;
                    let (value, rest) = rest.split_at_checked(usize::from(*length))?;
                    self.0 = rest;
                    return Some((code, value));
                }
            }
        }
    }
}

/// A reply being written.
#[derive(Debug)]
pub(crate) struct Reply {
    bytes: Vec<u8>,
    limit: usize,
}

impl Reply {
    /// Starts the answer to a request.
    pub(crate) fn new(request: &Request, kind: Kind, yours: Ipv4Addr) -> Self {
        let mut bytes = vec![0u8; HEADER];
        let mut put = |at: usize, value: &[u8]| {
            if let Some(target) = bytes.get_mut(at..at + value.len()) {
                target.copy_from_slice(value);
            }
        };
        put(0, &[BOOT_REPLY, ETHERNET, 6, 0]);
        put(4, &request.xid);
        put(10, &request.flags);
        if kind == Kind::Ack {
            put(12, &request.client.octets());
        }
        put(16, &yours.octets());
        put(24, &request.relay.octets());
        put(28, &request.mac);
        put(HEADER - 4, &MAGIC);
        let mut reply = Self { bytes, limit: request.max_message };
        reply.option(option::MESSAGE_TYPE, &[kind.byte()]);
        reply
    }

    /// Adds an option; more than 255 bytes are spread over several of the same number (RFC 3396). One that does not fit any more is
    /// left out, so the important ones come first.
    pub(crate) fn option(&mut self, code: u8, value: &[u8]) {
        let parts = value.len().div_ceil(255).max(1);
        if self.bytes.len() + value.len() + 2 * parts + 1 > self.limit {
            return;
        }
        for part in value.chunks(255) {
            self.bytes.push(code);
            self.bytes.push(part.len() as u8);
            self.bytes.extend_from_slice(part);
        }
    }

    /// The message. Padded to the length BOOTP had: some clients drop shorter ones.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes.push(option::END);
        if self.bytes.len() < 300 {
            self.bytes.resize(300, option::PAD);
        }
        self.bytes
    }
}
