//! Probes of guests, over the network or through the guest agent, with kubelet's rules: one check, and how often and how many of them
//! count.
//!
//! Readiness probes are the pod's, and whoever runs pods checks them; liveness probes are the node agent's ([`crate::task`]), because
//! starting the launcher container anew would do nothing for a guest.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{HTTPGetAction, Probe, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

mod agent;
mod tls;
mod tracker;

pub use agent::AgentCheck;
pub use tracker::{Timing, Tracker};

/// What kubelet calls itself when it probes; servers tell probes from people by it.
const USER_AGENT: &str = "kube-probe/1.35";

/// One kind of check.
#[derive(Clone, Debug, PartialEq)]
pub enum Check {
    /// A connection can be made.
    Tcp(TCPSocketAction),
    /// The answer's status is 200 to 399. Redirects are not followed.
    Http(HTTPGetAction),
}

/// Opens TCP connections to guests.
#[async_trait::async_trait]
pub trait Dial: Send + Sync {
    async fn dial(&self, address: SocketAddr) -> std::io::Result<TcpStream>;
}

/// Connects from the network namespace of this process.
#[derive(Clone, Copy, Debug)]
pub struct DirectDial;

#[async_trait::async_trait]
impl Dial for DirectDial {
    async fn dial(&self, address: SocketAddr) -> std::io::Result<TcpStream> {
        TcpStream::connect(address).await
    }
}

impl Check {
    /// The check of a probe, `None` for one that has none of these.
    pub fn of(probe: &Probe) -> Option<Self> {
        probe.http_get.clone().map(Self::Http).or_else(|| probe.tcp_socket.clone().map(Self::Tcp))
    }

    /// Makes the check once.
    ///
    /// # Errors
    /// What went wrong, in words for an event.
    pub async fn run(&self, dial: &dyn Dial, guest: IpAddr, timeout: Duration) -> Result<(), String> {
        let work = async {
            match self {
                Self::Tcp(action) => {
                    let address = SocketAddr::new(host(action.host.as_deref(), guest)?, port(&action.port)?);
                    dial.dial(address).await.map(drop).map_err(|e| format!("dial tcp {address}: {e}"))
                }
                Self::Http(action) => get(action, dial, guest).await,
            }
        };
        match tokio::time::timeout(timeout, work).await {
            Ok(result) => result,
            Err(_) => Err(format!("no answer within {} s", timeout.as_secs())),
        }
    }
}

async fn get(action: &HTTPGetAction, dial: &dyn Dial, guest: IpAddr) -> Result<(), String> {
    let address = SocketAddr::new(host(action.host.as_deref(), guest)?, port(&action.port)?);
    let path = action.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let uri: Uri = path.parse().map_err(|e| format!("path {path:?}: {e}"))?;
    let mut request = Request::get(uri).header(header::CONNECTION, "close");
    let given = action.http_headers.as_deref().unwrap_or_default();
    let names = |name: &header::HeaderName| given.iter().any(|own| own.name.eq_ignore_ascii_case(name.as_str()));
    for (name, value) in [
        (header::HOST, address.to_string()),
        (header::USER_AGENT, USER_AGENT.to_owned()),
        (header::ACCEPT, "*/*".to_owned()),
    ] {
        if !names(&name) {
            request = request.header(name, value);
        }
    }
    for own in given {
        request = request.header(&own.name, &own.value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|e| format!("httpHeaders: {e}"))?;
    let stream = dial.dial(address).await.map_err(|e| format!("dial tcp {address}: {e}"))?;
    let status = if action.scheme.as_deref() == Some("HTTPS") {
        let stream = tls::connect(stream, address.ip()).await.map_err(|e| format!("TLS with {address}: {e}"))?;
        exchange(stream, request).await
    } else {
        exchange(stream, request).await
    };
    let status = status.map_err(|e| format!("GET {path} of {address}: {e}"))?;
    if (200..400).contains(&status) {
        return Ok(());
    }
    Err(format!("HTTP probe failed with statuscode: {status}"))
}

/// Sends the request; the answer's status. Its body, whatever its size, is not read.
async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<u16, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut answer = std::pin::pin!(sender.send_request(request));
    tokio::select! {
        answer = &mut answer => Ok(answer?.status().as_u16()),
        ended = connection => {
            ended?;
            Ok(answer.await?.status().as_u16())
        }
    }
}

fn host(given: Option<&str>, guest: IpAddr) -> Result<IpAddr, String> {
    match given.filter(|host| !host.is_empty()) {
        None => Ok(guest),
        Some(host) => host.parse().map_err(|_| format!("host {host:?} is no IP address")),
    }
}

/// Also a number in quotes, as kubelet takes it. Containers of guests have no named ports.
fn port(port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(text) => text.parse().ok(),
    };
    number.filter(|port| *port > 0).ok_or_else(|| format!("port {port:?} is no port number"))
}

#[cfg(test)]
mod tests;
