//! The node agents of a cluster, reached through their servers: the client of [`crate::node_server`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::SUBPROTOCOL;
use crate::agent::{AgentError, AgentQuery, DomainVerb, DuplexStream, NodeAgent, StreamTarget, VmiRef};
use crate::handler_pods::HandlerPods;
use crate::socket_bytes::socket_bytes;
use crate::wire::{CONSOLE, DOMAIN_XML, MAX_ANSWER, QUERIES, Refusal, VERBS, VNC, word};

/// How long a node may take to be connected to, and to answer; upstream's.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(10);

/// A [`NodeAgent`] that asks the node's own over the network.
#[derive(Clone)]
pub struct RemoteNodes {
    pods: HandlerPods,
    port: u16,
    tls: Arc<ClientConfig>,
}

impl RemoteNodes {
    /// Reaches the agents at `port` of the handlers' pods. `tls` shows our certificate and believes only servers of
    /// [`fv_api::meta::common_names::HANDLER_SERVER`].
    pub fn new(pods: HandlerPods, port: u16, tls: Arc<ClientConfig>) -> Self {
        Self { pods, port, tls }
    }

    /// Sends one request on a connection of its own.
    async fn send(
        &self,
        node: &str,
        vmi: &VmiRef,
        method: Method,
        action: &str,
        preserve_session: bool,
        socket_key: Option<&str>,
    ) -> Result<Response<Incoming>, AgentError> {
        let unreachable = |why: String| {
            tracing::warn!(node, why, "a node agent is not reached");
            AgentError::Unreachable(format!("{node} ({why})"))
        };
        let ip = self.pods.address(node).map_err(|e| unreachable(e.to_string()))?;
        let address = SocketAddr::new(ip, self.port);
        let connect = async {
            let stream = TcpStream::connect(address).await?;
            let _ = stream.set_nodelay(true);
            TlsConnector::from(self.tls.clone()).connect(ip.into(), stream).await
        };
        let stream = match tokio::time::timeout(CONNECT, connect).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(unreachable(format!("connect to its virt-handler at {address}: {error}"))),
            Err(_) => {
                let seconds = CONNECT.as_secs();
                return Err(unreachable(format!("its virt-handler at {address} did not accept within {seconds} s")));
            }
        };
        let request = request(address, vmi, method, action, preserve_session, socket_key)
            .map_err(|e| AgentError::Internal(format!("word a request to the node agent: {e}")))?;
        let exchange = async {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(async move {
                if let Err(error) = connection.with_upgrades().await {
                    tracing::debug!(%error, "a connection to a node agent ended");
                }
            });
            sender.send_request(request).await
        };
        match tokio::time::timeout(ANSWER, exchange).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(unreachable(format!("ask its virt-handler at {address}: {error}"))),
            Err(_) => Err(AgentError::Internal(format!(
                "the virt-handler of node {node} did not answer within {} s",
                ANSWER.as_secs()
            ))),
        }
    }

    async fn call(&self, node: &str, vmi: &VmiRef, method: Method, action: &str) -> Result<Bytes, AgentError> {
        let response = self.send(node, vmi, method, action, false, None).await?;
        let status = response.status();
        let body = body(node, response).await?;
        if status.is_success() { Ok(body) } else { Err(refusal(node, status, &body)) }
    }
}

fn request(
    address: SocketAddr,
    vmi: &VmiRef,
    method: Method,
    action: &str,
    preserve_session: bool,
    socket_key: Option<&str>,
) -> Result<Request<Empty<Bytes>>, http::Error> {
    // Namespaces, names and UIDs of stored objects need no escaping; anything else is no URI and refused right here.
    let VmiRef { namespace, name, uid } = vmi;
    let uri = format!(
        "/v1/namespaces/{namespace}/virtualmachineinstances/{name}/{action}?uid={uid}&preserveSession={preserve_session}"
    );
    let mut request = Request::builder().method(method).uri(uri).header(header::HOST, address.to_string());
    if let Some(key) = socket_key {
        request = request
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL)
            .header(header::SEC_WEBSOCKET_KEY, key);
    }
    request.body(Empty::new())
}

async fn body(node: &str, response: Response<Incoming>) -> Result<Bytes, AgentError> {
    let broken = |why: String| AgentError::Internal(format!("the answer of the virt-handler of node {node}: {why}"));
    let body = Limited::new(response.into_body(), MAX_ANSWER);
    match tokio::time::timeout(ANSWER, body.collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) => Err(broken(error.to_string())),
        Err(_) => Err(broken(format!("it was not complete within {} s", ANSWER.as_secs()))),
    }
}

fn refusal(node: &str, status: StatusCode, body: &Bytes) -> AgentError {
    match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => refusal.into(),
        Err(_) => {
            let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
            AgentError::Internal(format!("the virt-handler of node {node} answered {status}: {text}"))
        }
    }
}

#[async_trait::async_trait]
impl NodeAgent for RemoteNodes {
    async fn act(&self, node: &str, vmi: &VmiRef, verb: DomainVerb) -> Result<(), AgentError> {
        self.call(node, vmi, Method::PUT, word(&VERBS, &verb)).await.map(drop)
    }

    async fn query(&self, node: &str, vmi: &VmiRef, query: AgentQuery) -> Result<serde_json::Value, AgentError> {
        let answer = self.call(node, vmi, Method::GET, word(&QUERIES, &query)).await?;
        serde_json::from_slice(&answer)
            .map_err(|e| AgentError::Internal(format!("the answer of the virt-handler of node {node} is no JSON: {e}")))
    }

    async fn domain_xml(&self, node: &str, vmi: &VmiRef) -> Result<String, AgentError> {
        let answer = self.call(node, vmi, Method::GET, DOMAIN_XML).await?;
        String::from_utf8(answer.into())
            .map_err(|e| AgentError::Internal(format!("the answer of the virt-handler of node {node} is no text: {e}")))
    }

    async fn open(&self, node: &str, vmi: &VmiRef, target: StreamTarget) -> Result<Box<dyn DuplexStream>, AgentError> {
        let (action, preserve_session) = match target {
            StreamTarget::Console => (CONSOLE, false),
            StreamTarget::Vnc { preserve_session } => (VNC, preserve_session),
        };
        let key = base64::engine::general_purpose::STANDARD.encode(rand::random::<[u8; 16]>());
        let response = self.send(node, vmi, Method::GET, action, preserve_session, Some(&key)).await?;
        let status = response.status();
        if status != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refusal(node, status, &body(node, response).await?));
        }
        let expected = derive_accept_key(key.as_bytes());
        let accepted = response.headers().get(header::SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
        if accepted != Some(expected.as_bytes()) {
            return Err(AgentError::Internal(format!("the virt-handler of node {node} speaks no WebSocket")));
        }
        let upgraded = hyper::upgrade::on(response)
            .await
            .map_err(|e| AgentError::Unreachable(format!("{node} (its virt-handler closed the connection: {e})")))?;
        Ok(socket_bytes(upgraded).await)
    }
}
