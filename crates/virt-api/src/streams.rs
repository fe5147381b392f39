//! console, vnc and portforward: checks first, then a WebSocket joined to the guest.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::response::Response;
use fv_stream::agent::{DuplexStream, StreamTarget};
use fv_stream::relay::{Farewell, relay};
use fv_stream::upgrade::Handshake;
use serde::Deserialize;
use tokio::net::{TcpStream, UdpSocket};

use crate::error::{ApiError, VM};
use crate::routes::{Target, VirtApi, agent_error};
use crate::vmi::{self, Located};

mod udp;

/// How long a port of the guest may take to answer a connection.
const DIAL: Duration = Duration::from_secs(10);

pub(crate) async fn console(
    State(api): State<VirtApi>,
    Path(at): Path<Target>,
    request: Request,
) -> Result<Response, ApiError> {
    let located = vmi::console(&api.vmi(&at).await?)?;
    to_guest(api, located, StreamTarget::Console, request).await
}

/// The query of a VNC request; booleans as Go reads them.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct VncQuery {
    preserve_session: String,
}

impl VncQuery {
    fn preserve_session(&self) -> Result<bool, ApiError> {
        match self.preserve_session.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            other => Err(ApiError::bad_request(format!("preserveSession \"{other}\" is neither true nor false"))),
        }
    }
}

pub(crate) async fn vnc(
    State(api): State<VirtApi>,
    Path(at): Path<Target>,
    query: Result<Query<VncQuery>, QueryRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let Query(query) = query.map_err(|e| ApiError::bad_request(e.body_text()))?;
    let preserve_session = query.preserve_session()?;
    let located = vmi::vnc(&api.vmi(&at).await?)?;
    to_guest(api, located, StreamTarget::Vnc { preserve_session }, request).await
}

async fn to_guest(
    api: VirtApi,
    located: Located,
    target: StreamTarget,
    mut request: Request,
) -> Result<Response, ApiError> {
    let handshake = Handshake::of(&mut request).map_err(|e| ApiError::bad_request(e.to_string()))?;
    let name = located.vmi.name.clone();
    let guest = api.agents.open(&located.node, &located.vmi, target).await.map_err(|e| agent_error(e, &name))?;
    Ok(join(handshake, guest, Farewell::Drop))
}

/// Answers the handshake and copies bytes in the background until one side ends.
fn join(handshake: Handshake, guest: Box<dyn DuplexStream>, farewell: Farewell) -> Response {
    let response = handshake.response();
    tokio::spawn(async move {
        match handshake.socket().await {
            Ok(socket) => {
                let ended = relay(socket, guest, farewell).await;
                tracing::debug!(?ended, "a guest stream ended");
            }
            Err(error) => tracing::debug!(%error, "a client left before its stream began"),
        }
    });
    response
}

pub(crate) async fn vmi_port_forward(
    State(api): State<VirtApi>,
    Path((namespace, name, port)): Path<(String, String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    forward(api, Target { namespace, name }, &port, "tcp", request).await
}

pub(crate) async fn vmi_port_forward_protocol(
    State(api): State<VirtApi>,
    Path((namespace, name, port, protocol)): Path<(String, String, String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    forward(api, Target { namespace, name }, &port, &protocol, request).await
}

pub(crate) async fn vm_port_forward(
    State(api): State<VirtApi>,
    Path((namespace, name, port)): Path<(String, String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    forward_vm(api, Target { namespace, name }, &port, "tcp", request).await
}

pub(crate) async fn vm_port_forward_protocol(
    State(api): State<VirtApi>,
    Path((namespace, name, port, protocol)): Path<(String, String, String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    forward_vm(api, Target { namespace, name }, &port, &protocol, request).await
}

async fn forward_vm(
    api: VirtApi,
    at: Target,
    port: &str,
    protocol: &str,
    request: Request,
) -> Result<Response, ApiError> {
    let vm = api.vm(&at).await?;
    if vm.status.as_ref().and_then(|s| s.created) != Some(true) {
        return Err(ApiError::conflict(VM, &at.name, "VMI is not started"));
    }
    forward(api, at, port, protocol, request).await
}

async fn forward(
    api: VirtApi,
    at: Target,
    port: &str,
    protocol: &str,
    mut request: Request,
) -> Result<Response, ApiError> {
    let number: u16 = match port.parse() {
        Ok(number) if number > 0 => number,
        _ => return Err(ApiError::bad_request(format!("port \"{port}\" is no number from 1 to 65535"))),
    };
    let address: IpAddr = vmi::port_forward(&api.vmi(&at).await?)?
        .parse()
        .map_err(|e| ApiError::internal(format!("address of VMI {}: {e}", at.name)))?;
    let handshake = Handshake::of(&mut request).map_err(|e| ApiError::bad_request(e.to_string()))?;
    let guest = dial(address, number, protocol).await?;
    Ok(join(handshake, guest, Farewell::Close))
}

async fn dial(address: IpAddr, port: u16, protocol: &str) -> Result<Box<dyn DuplexStream>, ApiError> {
    let failed = |why: String| ApiError::internal(format!("dialing VMI: {protocol} {address}:{port}: {why}"));
    match protocol {
        "tcp" => match tokio::time::timeout(DIAL, TcpStream::connect((address, port))).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed(format!("no answer in {} s", DIAL.as_secs()))),
        },
        "udp" => {
            let local: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
            let socket = UdpSocket::bind((local, 0)).await.map_err(|e| failed(e.to_string()))?;
            socket.connect((address, port)).await.map_err(|e| failed(e.to_string()))?;
            Ok(Box::new(udp::Datagrams(socket)))
        }
        other => Err(ApiError::bad_request(format!("protocol \"{other}\" cannot be forwarded: use tcp or udp"))),
    }
}
