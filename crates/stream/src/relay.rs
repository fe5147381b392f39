//! Copies bytes between a WebSocket and a guest stream until either ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// Bytes per frame at most: a whole datagram fits.
pub(crate) const BUFFER: usize = 64 * 1024;
/// How often a silent client is pinged, and how long one may stay silent.
const PING_EVERY: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(60);

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The client closed the socket or vanished.
    Client,
    /// The guest's side ended: taken over by another client, or the guest is gone.
    Guest,
    /// The client answered no ping for a minute.
    Silent,
}

/// What the client is told when the guest's side ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// Nothing: the socket is dropped, so the client sees an abnormal close (1006). Console and VNC clients take that for a
    /// take-over, as upstream's do.
    Drop,
    /// A normal close: the end of a forwarded connection is an ordinary thing.
    Close,
}

/// Relays until one side ends. Text frames are ignored, as upstream. The guest's bytes wait while the client's socket is
/// full: who must not wait (the console) drops them on its own side of `guest`. Neither direction waits for the other.
pub async fn relay<S, G>(socket: WebSocketStream<S>, guest: G, farewell: Farewell) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin,
    G: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sink, mut stream) = socket.split();
    let (reader, writer) = tokio::io::split(guest);
    let pulse = Pulse { heard: Mutex::new(Instant::now()), writing: AtomicBool::new(false) };
    let ended = tokio::select! {
        ended = to_guest(&mut stream, writer, &pulse) => ended,
        ended = to_client(&mut sink, reader, &pulse) => ended,
    };
    if (ended, farewell) == (Ended::Guest, Farewell::Close) {
        // The client answers a close with one of its own; leaving earlier would make its answer an error.
        let goodbye = async {
            let _ = sink.close().await;
            while let Some(Ok(_)) = stream.next().await {}
        };
        let _ = tokio::time::timeout(PING_EVERY, goodbye).await;
    }
    ended
}

/// When the client was heard of last.
struct Pulse {
    heard: Mutex<Instant>,
    /// While the guest takes no input nobody listens to the client, who is not silent then.
    writing: AtomicBool,
}

async fn to_guest<S, W>(socket: &mut SplitStream<WebSocketStream<S>>, mut guest: W, pulse: &Pulse) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin,
    W: AsyncWrite + Unpin,
{
    loop {
        let message = socket.next().await;
        *pulse.heard.lock() = Instant::now();
        match message {
            Some(Ok(Message::Binary(bytes))) => {
                pulse.writing.store(true, Ordering::Relaxed);
                if guest.write_all(&bytes).await.is_err() || guest.flush().await.is_err() {
                    return Ended::Guest;
                }
                *pulse.heard.lock() = Instant::now();
                pulse.writing.store(false, Ordering::Relaxed);
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => {
                let _ = guest.shutdown().await;
                return Ended::Client;
            }
            Some(Ok(Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
        }
    }
}

async fn to_client<S, R>(socket: &mut SplitSink<WebSocketStream<S>, Message>, mut guest: R, pulse: &Pulse) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin,
    R: AsyncRead + Unpin,
{
    let mut buffer = vec![0; BUFFER];
    let mut ping = tokio::time::interval(PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            count = guest.read(&mut buffer) => match count {
                Ok(0) | Err(_) => return Ended::Guest,
                Ok(count) => Message::Binary(Bytes::copy_from_slice(&buffer[..count])),
            },
            _ = ping.tick() => {
                if pulse.heard.lock().elapsed() > SILENCE && !pulse.writing.load(Ordering::Relaxed) {
                    return Ended::Silent;
                }
                Message::Ping(Bytes::new())
            }
        };
        match tokio::time::timeout(SILENCE, socket.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Ended::Client,
            Err(_) => return Ended::Silent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_tungstenite::tungstenite::protocol::Role;

    async fn pair() -> (WebSocketStream<tokio::io::DuplexStream>, WebSocketStream<tokio::io::DuplexStream>) {
        let (a, b) = tokio::io::duplex(64 * 1024);
        (
            WebSocketStream::from_raw_socket(a, Role::Server, None).await,
            WebSocketStream::from_raw_socket(b, Role::Client, None).await,
        )
    }

    #[tokio::test]
    async fn bytes_go_both_ways_and_text_is_ignored() {
        let (server, mut client) = pair().await;
        let (guest, mut guest_side) = tokio::io::duplex(1024);
        let relay = tokio::spawn(relay(server, guest, Farewell::Drop));
        client.send(Message::Text("ignored".into())).await.unwrap();
        client.send(Message::Binary(Bytes::from_static(b"in"))).await.unwrap();
        let mut buffer = [0; 2];
        guest_side.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"in");
        guest_side.write_all(b"out").await.unwrap();
        let frame = loop {
            match client.next().await.unwrap().unwrap() {
                Message::Binary(bytes) => break bytes,
                _ => continue,
            }
        };
        assert_eq!(&frame[..], b"out");
        client.close(None).await.unwrap();
        assert_eq!(relay.await.unwrap(), Ended::Client);
    }

    #[tokio::test]
    async fn a_taken_over_client_sees_an_abnormal_close() {
        let (server, mut client) = pair().await;
        let (guest, guest_side) = tokio::io::duplex(1024);
        let relay = tokio::spawn(relay(server, guest, Farewell::Drop));
        drop(guest_side);
        assert_eq!(relay.await.unwrap(), Ended::Guest);
        let mut last = None;
        while let Some(message) = client.next().await {
            last = Some(message);
        }
        assert!(matches!(last, Some(Err(_))), "no close frame was sent: {last:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_answers_no_ping_is_dropped() {
        let (server, client) = pair().await;
        let (guest, _guest_side) = tokio::io::duplex(1024);
        assert_eq!(relay(server, guest, Farewell::Drop).await, Ended::Silent);
        drop(client);
    }

    #[tokio::test]
    async fn the_end_of_a_forwarded_connection_is_a_normal_close() {
        let (server, mut client) = pair().await;
        let (guest, mut guest_side) = tokio::io::duplex(1024);
        let relay = tokio::spawn(relay(server, guest, Farewell::Close));
        guest_side.write_all(b"last words").await.unwrap();
        drop(guest_side);
        let mut seen = Vec::new();
        while let Some(message) = client.next().await {
            seen.push(message.unwrap());
        }
        assert!(seen.iter().any(|m| matches!(m, Message::Binary(b) if &b[..] == b"last words")), "{seen:?}");
        assert!(matches!(seen.last(), Some(Message::Close(_))), "{seen:?}");
        assert_eq!(relay.await.unwrap(), Ended::Guest);
    }

    #[tokio::test]
    async fn a_guest_that_takes_no_input_still_gets_its_output_out() {
        let (server, mut client) = pair().await;
        // Room for one byte of input that the guest never takes.
        let (guest, mut guest_side) = tokio::io::duplex(1);
        let relay = tokio::spawn(relay(server, guest, Farewell::Drop));
        client.send(Message::Binary(Bytes::from_static(b"pasted text"))).await.unwrap();
        let said = tokio::spawn(async move {
            guest_side.write_all(b"busy").await.unwrap();
            guest_side
        });
        let mut heard = Vec::new();
        while heard != b"busy" {
            if let Message::Binary(bytes) = client.next().await.unwrap().unwrap() {
                heard.extend_from_slice(&bytes);
            }
        }
        drop(said.await.unwrap());
        relay.await.unwrap();
    }
}
