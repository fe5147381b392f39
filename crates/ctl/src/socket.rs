//! WebSockets to guests.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use base64::Engine;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::client::Body;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::Role;

const SUBPROTOCOL: &str = "plain.kubevirt.io";
const BUFFER: usize = 10 * 1024;

/// An open stream to a guest.
pub(crate) type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// A refusal to open a stream.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refused {
    /// HTTP status.
    pub(crate) code: u16,
    message: String,
}

/// Opens the WebSocket of a subresource.
pub(crate) async fn open(client: &Client, path: &str) -> anyhow::Result<Socket> {
    let request = Request::get(path)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, generate_key())
        .header(header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL)
        .body(Body::empty())?;
    let response = client.send(request).await.map_err(|e| anyhow!(e)).context("reach the API server")?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let code = response.status().as_u16();
        let body = response.into_body().collect_bytes().await?;
        let text = String::from_utf8_lossy(&body).trim().to_string();
        let status: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let message = status["message"].as_str().map_or(text, str::to_string);
        return Err(Refused { code, message }.into());
    }
    let upgraded = hyper::upgrade::on(response).await.context("switch to a WebSocket")?;
    Ok(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await)
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Our side: end of input, or the escape character.
    Local,
    /// The other side closed in good order.
    Closed,
    /// The connection broke, or another client took the session over.
    Broken,
}

/// What the end of the local input means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtEnd {
    /// The session ends.
    Close,
    /// Nothing more is said, but the answer is waited for: until the other side ends, or says nothing for this long. The streams of
    /// the API know no half-closed state.
    Linger(Duration),
}

/// Copies between the socket and a local reader and writer. Input that holds `escape` ends the session before that byte.
pub(crate) async fn copy<S, R, W>(
    mut socket: WebSocketStream<S>,
    mut input: R,
    mut output: W,
    escape: Option<u8>,
    at_end: AtEnd,
) -> anyhow::Result<Ended>
where
    S: AsyncRead + AsyncWrite + Unpin,
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; BUFFER];
    let mut linger = None;
    loop {
        let silence = async {
            match linger {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = silence => {
                let _ = socket.close(None).await;
                return Ok(Ended::Local);
            }
            count = input.read(&mut buffer), if linger.is_none() => {
                let count = count?;
                let bytes = &buffer[..count];
                let end = escape.and_then(|e| bytes.iter().position(|b| *b == e));
                let bytes = &bytes[..end.unwrap_or(count)];
                if !bytes.is_empty() && socket.send(Message::Binary(Bytes::copy_from_slice(bytes))).await.is_err() {
                    return Ok(Ended::Broken);
                }
                if count == 0 && let AtEnd::Linger(limit) = at_end {
                    linger = Some(limit);
                    continue;
                }
                if count == 0 || end.is_some() {
                    let _ = socket.close(None).await;
                    return Ok(Ended::Local);
                }
            }
            message = socket.next() => match message {
                Some(Ok(Message::Binary(bytes))) => {
                    output.write_all(&bytes).await?;
                    output.flush().await?;
                }
                Some(Ok(Message::Close(_))) => return Ok(Ended::Closed),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Ok(Ended::Broken),
            },
        }
    }
}

/// Whether the server said that there is no such VMI.
pub(crate) fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|r| r.code == 404)
}

/// Whether trying again later may help: the VMI does not run yet, or its node is just finding out (libvirt was started anew).
pub(crate) fn is_not_ready(error: &anyhow::Error) -> bool {
    let passes = |message: &str| message.contains("not running") || message.ends_with("try again");
    error.downcast_ref::<Refused>().is_some_and(|r| matches!(r.code, 400 | 409) && passes(&r.message))
}

/// Checks base64 without keeping what it says.
pub(crate) fn check_base64(flag: &str, text: &str) -> anyhow::Result<()> {
    if base64::engine::general_purpose::STANDARD.decode(text).is_err() {
        bail!("{flag} is not base64 encoded");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::DuplexStream;

    #[test]
    fn a_console_is_worth_another_try_only_while_the_state_may_change() {
        for (code, message, expected) in [
            (400, "VMI is not running", true),
            (409, "the state of the VMI's domain is not known at the moment; try again", true),
            (409, "VMI is in failed status", false),
            (400, "No serial consoles are present.", false),
            (503, "try again", false),
        ] {
            let error = anyhow::Error::from(Refused { code, message: message.into() });
            assert_eq!(is_not_ready(&error), expected, "{code} {message}");
        }
    }

    /// A client's socket, and the server's end of it.
    async fn pair() -> (WebSocketStream<DuplexStream>, WebSocketStream<DuplexStream>) {
        let (a, b) = tokio::io::duplex(64 * 1024);
        (
            WebSocketStream::from_raw_socket(a, Role::Client, None).await,
            WebSocketStream::from_raw_socket(b, Role::Server, None).await,
        )
    }

    async fn next_bytes(socket: &mut WebSocketStream<DuplexStream>) -> Option<Bytes> {
        loop {
            match socket.next().await {
                Some(Ok(Message::Binary(bytes))) => return Some(bytes),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    #[tokio::test]
    async fn the_escape_ends_the_session_and_what_came_before_it_is_sent() {
        let (client, mut server) = pair().await;
        let session = tokio::spawn(copy(client, &b"ls\x1dignored"[..], tokio::io::sink(), Some(0x1d), AtEnd::Close));
        assert_eq!(&next_bytes(&mut server).await.unwrap()[..], b"ls");
        assert_eq!(next_bytes(&mut server).await, None);
        assert_eq!(session.await.unwrap().unwrap(), Ended::Local);
    }

    #[tokio::test]
    async fn without_an_escape_every_byte_is_data() {
        let (client, mut server) = pair().await;
        let session = tokio::spawn(copy(client, &b"a\x1db"[..], tokio::io::sink(), None, AtEnd::Close));
        assert_eq!(&next_bytes(&mut server).await.unwrap()[..], b"a\x1db");
        assert_eq!(session.await.unwrap().unwrap(), Ended::Local);
    }

    #[tokio::test]
    async fn an_answer_after_the_end_of_input_is_not_lost() {
        let (client, mut server) = pair().await;
        let mut output = Vec::new();
        let linger = AtEnd::Linger(Duration::from_secs(60));
        let talk = async {
            assert_eq!(&next_bytes(&mut server).await.unwrap()[..], b"question");
            server.send(Message::Binary(Bytes::from_static(b"answer"))).await.unwrap();
            server.close(None).await.unwrap();
        };
        let (ended, ()) = tokio::join!(copy(client, &b"question"[..], &mut output, None, linger), talk);
        assert_eq!((ended.unwrap(), &output[..]), (Ended::Closed, &b"answer"[..]));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_an_answer_ends_when_none_comes() {
        let (client, _server) = pair().await;
        let linger = AtEnd::Linger(Duration::from_secs(10));
        let ended = copy(client, &b"question"[..], tokio::io::sink(), None, linger).await.unwrap();
        assert_eq!(ended, Ended::Local);
    }

    #[tokio::test]
    async fn a_connection_that_breaks_is_told_from_a_close() {
        let (client, server) = pair().await;
        drop(server);
        let ended =
            copy(client, tokio::io::empty(), tokio::io::sink(), None, AtEnd::Linger(Duration::from_secs(60))).await;
        assert_eq!(ended.unwrap(), Ended::Broken);
    }
}
