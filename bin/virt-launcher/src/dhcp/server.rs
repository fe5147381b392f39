//! The sockets.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use fv_host::sockopt;
use fv_netplan::{DhcpConfig, DhcpInterface};
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, netdevice, sockopt as options};

use super::packet::Request;
use super::reply;
use crate::log;

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
/// Messages handled per wake-up, so that a chatty guest does not keep us from everything else.
const BATCH: usize = 32;

/// Serves all interfaces of one VM.
pub(crate) struct Server {
    served: Vec<Served>,
    limit: log::Limit,
}

struct Served {
    config: DhcpInterface,
    /// The socket and the index of the bridge it is bound to.
    bound: Option<(u32, UdpSocket)>,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self { served: Vec::new(), limit: log::Limit::new(Instant::now()) }
    }

    /// Takes over a configuration; sockets of interfaces that stay are kept.
    pub(crate) fn configure(&mut self, config: DhcpConfig) {
        let mut before = std::mem::take(&mut self.served);
        for config in config.interfaces {
            let kept = before.iter_mut().find(|s| s.config.bridge == config.bridge).and_then(|s| s.bound.take());
            let DhcpInterface { name, bridge, guest, guest_mac, .. } = &config;
            log::line(format_args!("serving {guest} to {guest_mac} on {bridge} (interface {name})"));
            self.served.push(Served { config, bound: kept });
        }
    }

    /// Makes sockets for bridges that appeared or were replaced. Returns whether every interface is served.
    pub(crate) fn bind(&mut self) -> bool {
        let mut complete = true;
        for served in &mut self.served {
            let bridge = &served.config.bridge;
            let index = index_of(bridge);
            if served.bound.as_ref().map(|(index, _)| *index) == index {
                complete &= index.is_some();
                continue;
            }
            served.bound = None;
            let Some(index) = index else {
                complete = false;
                continue;
            };
            match open(bridge) {
                Ok(socket) => {
                    log::line(format_args!("bound to {bridge}"));
                    served.bound = Some((index, socket));
                }
                Err(error) => {
                    complete = false;
                    if self.limit.allow(Instant::now()) {
                        log::line(format_args!("cannot serve on {bridge}: {error}"));
                    }
                }
            }
        }
        complete
    }

    /// What to wait for.
    pub(crate) fn sockets(&self) -> Vec<BorrowedFd<'_>> {
        self.served.iter().filter_map(|s| s.bound.as_ref()).map(|(_, socket)| socket.as_fd()).collect()
    }

    /// Answers what has arrived.
    pub(crate) fn serve(&mut self) {
        for served in &mut self.served {
            let Some((_, socket)) = &served.bound else { continue };
            if let Err(error) = serve(&served.config, socket, &mut self.limit) {
                if self.limit.allow(Instant::now()) {
                    log::line(format_args!("{}: {error}", served.config.bridge));
                }
                // The device is gone or going; `bind` makes a new socket when it is back.
                served.bound = None;
            }
        }
    }
}

fn serve(config: &DhcpInterface, socket: &UdpSocket, limit: &mut log::Limit) -> io::Result<()> {
    let mut buffer = [0u8; 2048];
    for _ in 0..BATCH {
        let length = match socket.recv_from(&mut buffer) {
            Ok((length, _)) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let request = buffer.get(..length).and_then(Request::parse);
        let Some(answer) = request.as_ref().and_then(|r| reply::answer(config, r)) else { continue };
        let sent = socket.send_to(&answer.bytes, SocketAddrV4::new(answer.to, CLIENT_PORT));
        if limit.allow(Instant::now()) {
            match &sent {
                Ok(_) => log::line(format_args!("{:?} {} to {}", answer.kind, config.guest, config.guest_mac)),
                Err(error) => log::line(format_args!("answer to {}: {error}", config.guest_mac)),
            }
        }
    }
    Ok(())
}

fn open(bridge: &str) -> io::Result<UdpSocket> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, Some(ipproto::UDP))?;
    options::set_socket_reuseaddr(&socket, true)?;
    options::set_socket_broadcast(&socket, true)?;
    sockopt::disable_udp_checksum(&socket)?;
    sockopt::bind_to_device(&socket, bridge)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, SERVER_PORT))?;
    Ok(UdpSocket::from(socket))
}

fn index_of(name: &str) -> Option<u32> {
    let flags = SocketFlags::CLOEXEC;
    let any = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None).ok()?;
    netdevice::name_to_index(&any, name).ok()
}
