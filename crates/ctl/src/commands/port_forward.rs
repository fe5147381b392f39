//! port-forward: local TCP and UDP ports, or standard input and output, joined to ports of a guest.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use super::target::Target;
use crate::address::resolve;
use crate::cli::PortForward;
use crate::connect::Session;
use crate::output::complain;
use crate::socket::{self, AtEnd};
use crate::subresource::path;

const DATAGRAM: usize = 64 * 1024;
/// Datagrams that wait for one peer's connection.
const QUEUE: usize = 64;
/// A peer that neither sends nor gets anything for so long is forgotten; it begins anew with its next datagram.
const IDLE: Duration = Duration::from_secs(90);
/// How long the answer to a closed connection is waited for.
const LINGER: AtEnd = AtEnd::Linger(Duration::from_secs(30));

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Tcp,
    Udp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Forward {
    protocol: Protocol,
    local: u16,
    remote: u16,
}

impl Forward {
    /// Reads `[protocol/]local[:target]`.
    fn parse(text: &str) -> anyhow::Result<Self> {
        let (protocol, ports) = match text.split_once('/') {
            None => (Protocol::Tcp, text),
            Some(("tcp", ports)) => (Protocol::Tcp, ports),
            Some(("udp", ports)) => (Protocol::Udp, ports),
            Some((other, _)) => bail!("protocol '{other}' of '{text}' is not supported: use tcp or udp"),
        };
        let (local, remote) = ports.split_once(':').unwrap_or((ports, ports));
        let number = |word: &str| word.parse().with_context(|| format!("'{word}' in '{text}' is no port number"));
        let forward = Self { protocol, local: number(local)?, remote: number(remote)? };
        if forward.remote == 0 {
            bail!("'{text}' has no target port");
        }
        Ok(forward)
    }

    fn name(self) -> &'static str {
        match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

pub(super) async fn run(session: &Session, options: &PortForward) -> anyhow::Result<()> {
    let target = Target::parse(&options.target)?;
    let forwards = options.ports.iter().map(|p| Forward::parse(p)).collect::<anyhow::Result<Vec<_>>>()?;
    let namespace = target.namespace.clone().unwrap_or_else(|| session.namespace.clone());
    let path_of = |forward: Forward| {
        let subresource = format!("portforward/{}/{}", forward.remote, forward.name());
        path(&namespace, target.kind.resource(), &target.name, &subresource)
    };
    if options.stdio {
        let [forward] = forwards[..] else { bail!("--stdio takes exactly one port, not {}", forwards.len()) };
        let socket = socket::open(&session.client, &path_of(forward)).await?;
        return socket::copy(socket, tokio::io::stdin(), tokio::io::stdout(), None, LINGER).await.map(drop);
    }
    let ip = resolve(&options.address).await?;
    let mut tasks = JoinSet::new();
    for forward in forwards {
        let address = SocketAddr::new(ip, forward.local);
        let client = session.client.clone();
        let path = path_of(forward);
        match forward.protocol {
            Protocol::Tcp => {
                let listener = TcpListener::bind(address).await.with_context(|| format!("listen on tcp {address}"))?;
                complain(&format!("forwarding tcp {} to {}", listener.local_addr()?, forward.remote));
                tasks.spawn(serve_tcp(client, path, listener));
            }
            Protocol::Udp => {
                let socket = UdpSocket::bind(address).await.with_context(|| format!("listen on udp {address}"))?;
                complain(&format!("forwarding udp {} to {}", socket.local_addr()?, forward.remote));
                tasks.spawn(serve_udp(client, path, socket));
            }
        }
    }
    match tasks.join_next().await {
        Some(outcome) => outcome.map_err(|e| anyhow!(e))?,
        None => Ok(()),
    }
}

async fn serve_tcp(client: kube::Client, path: String, listener: TcpListener) -> anyhow::Result<()> {
    loop {
        let (stream, peer) = listener.accept().await?;
        let (client, path) = (client.clone(), path.clone());
        tokio::spawn(async move {
            let (reader, writer) = stream.into_split();
            let outcome = match socket::open(&client, &path).await {
                Ok(socket) => socket::copy(socket, reader, writer, None, LINGER).await.map(drop),
                Err(error) => Err(error),
            };
            if let Err(error) = outcome {
                complain(&format!("error handling a connection from {peer}: {error:#}"));
            }
        });
    }
}

/// Each peer gets a stream of its own; a datagram is a frame.
async fn serve_udp(client: kube::Client, path: String, socket: UdpSocket) -> anyhow::Result<()> {
    let socket = Arc::new(socket);
    let mut peers: HashMap<SocketAddr, mpsc::Sender<Bytes>> = HashMap::new();
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let (count, peer) = socket.recv_from(&mut buffer).await?;
        let datagram = Bytes::copy_from_slice(&buffer[..count]);
        peers.retain(|_, sender| !sender.is_closed());
        let sender = peers.entry(peer).or_insert_with(|| {
            let (sender, receiver) = mpsc::channel(QUEUE);
            let (client, path, socket) = (client.clone(), path.clone(), Arc::clone(&socket));
            tokio::spawn(async move {
                if let Err(error) = serve_peer(client, path, socket, peer, receiver).await {
                    complain(&format!("error handling datagrams from {peer}: {error:#}"));
                }
            });
            sender
        });
        // A full queue loses the datagram, as a network would.
        let _ = sender.try_send(datagram);
    }
}

async fn serve_peer(
    client: kube::Client,
    path: String,
    local: Arc<UdpSocket>,
    peer: SocketAddr,
    mut datagrams: mpsc::Receiver<Bytes>,
) -> anyhow::Result<()> {
    let mut socket = socket::open(&client, &path).await?;
    loop {
        tokio::select! {
            () = tokio::time::sleep(IDLE) => return Ok(()),
            datagram = datagrams.recv() => match datagram {
                Some(datagram) => socket.send(Message::Binary(datagram)).await?,
                None => return Ok(()),
            },
            message = socket.next() => match message {
                Some(Ok(Message::Binary(bytes))) => drop(local.send_to(&bytes, peer).await?),
                Some(Ok(Message::Close(_))) | None => return Ok(()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_upstream_writes_them() {
        let tcp = |local, remote| Some(Forward { protocol: Protocol::Tcp, local, remote });
        let cases = [
            ("22", tcp(22, 22)),
            ("8080:80", tcp(8080, 80)),
            ("tcp/2222:22", tcp(2222, 22)),
            ("udp/5353:53", Some(Forward { protocol: Protocol::Udp, local: 5353, remote: 53 })),
            ("0:80", tcp(0, 80)),
            ("80:0", None),
            ("sctp/80", None),
            ("http", None),
            ("80:", None),
            ("70000", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Forward::parse(text).ok(), expected, "{text}");
        }
    }
}
