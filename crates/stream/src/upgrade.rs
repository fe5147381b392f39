//! Server side of the WebSocket handshake (RFC 6455 section 4.2), for requests of any HTTP router.

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::SUBPROTOCOL;

/// The largest frame or message taken from a client.
pub(crate) const MAX_FRAME: usize = 1024 * 1024;

/// A WebSocket as the server sees it.
pub type ServerSocket = WebSocketStream<TokioIo<Upgraded>>;

/// Why a request is no WebSocket handshake.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    #[error("this path is a WebSocket: the request lacks \"{0}\"")]
    NotAHandshake(&'static str),
    #[error("the connection cannot be upgraded: {0}")]
    Connection(String),
}

/// A checked handshake: first answer with [`Handshake::response`], then await [`Handshake::socket`].
pub struct Handshake {
    accept: String,
    subprotocol: bool,
    upgrade: hyper::upgrade::OnUpgrade,
}

impl Handshake {
    /// Checks the handshake of `request`.
    ///
    /// # Errors
    /// [`UpgradeError::NotAHandshake`] names the header that is missing or wrong.
    pub fn of<B>(request: &mut Request<B>) -> Result<Self, UpgradeError> {
        let headers = request.headers();
        if request.method() != Method::GET {
            return Err(UpgradeError::NotAHandshake("method GET"));
        }
        if !has_token(headers, &header::CONNECTION, "upgrade") {
            return Err(UpgradeError::NotAHandshake("Connection: Upgrade"));
        }
        if !has_token(headers, &header::UPGRADE, "websocket") {
            return Err(UpgradeError::NotAHandshake("Upgrade: websocket"));
        }
        if !has_token(headers, &header::SEC_WEBSOCKET_VERSION, "13") {
            return Err(UpgradeError::NotAHandshake("Sec-WebSocket-Version: 13"));
        }
        let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or(UpgradeError::NotAHandshake("Sec-WebSocket-Key"))?;
        let accept = derive_accept_key(key.as_bytes());
        // Only our protocol is ever selected; a client that offers none or others is served all the same, as upstream does.
        let subprotocol = has_token(headers, &header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL);
        Ok(Self { accept, subprotocol, upgrade: hyper::upgrade::on(request) })
    }

    /// The `101 Switching Protocols` answer.
    pub fn response<B: Default>(&self) -> Response<B> {
        let mut response = Response::new(B::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        if let Ok(accept) = HeaderValue::from_str(&self.accept) {
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        if self.subprotocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        }
        response
    }

    /// The socket, once the answer has been sent.
    ///
    /// # Errors
    /// The client went away, or the server's transport knows no upgrades.
    pub async fn socket(self) -> Result<ServerSocket, UpgradeError> {
        let upgraded = self.upgrade.await.map_err(|e| UpgradeError::Connection(e.to_string()))?;
        let config = WebSocketConfig::default().max_frame_size(Some(MAX_FRAME)).max_message_size(Some(MAX_FRAME));
        Ok(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await)
    }
}

fn has_token(headers: &HeaderMap, name: &header::HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .any(|t| t.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(drop_header: &str, protocol: Option<&str>) -> Request<()> {
        let mut request = Request::new(());
        for (name, value) in [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ] {
            if name != drop_header {
                request.headers_mut().insert(name, HeaderValue::from_static(value));
            }
        }
        if let Some(protocol) = protocol {
            request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(protocol).unwrap());
        }
        request
    }

    #[test]
    fn the_sample_handshake_of_the_rfc_is_answered() {
        let handshake = Handshake::of(&mut request("", Some("other, plain.kubevirt.io"))).unwrap();
        let response: Response<()> = handshake.response();
        assert_eq!(response.status(), 101);
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(response.headers()["sec-websocket-protocol"], SUBPROTOCOL);
    }

    #[test]
    fn a_foreign_sub_protocol_is_not_selected_and_not_refused() {
        for protocol in [None, Some("base64.kubevirt.io")] {
            let response: Response<()> = Handshake::of(&mut request("", protocol)).unwrap().response();
            assert!(!response.headers().contains_key("sec-websocket-protocol"));
        }
    }

    #[test]
    fn a_plain_request_is_told_what_is_missing() {
        for name in ["connection", "upgrade", "sec-websocket-version", "sec-websocket-key"] {
            assert!(Handshake::of(&mut request(name, None)).is_err(), "{name}");
        }
    }
}
