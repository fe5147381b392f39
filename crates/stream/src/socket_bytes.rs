//! A WebSocket as a stream of bytes, for the client's end of a relay.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt, future};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWrite;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

use crate::agent::DuplexStream;
use crate::relay::BUFFER;
use crate::upgrade::MAX_FRAME;

/// The other end pings; when it is not heard of for this long its machine or the way to it is gone.
const SILENCE: Duration = Duration::from_secs(60);

/// Binary frames become bytes and bytes become binary frames. What waits to be sent is bounded: writes wait then.
pub(crate) async fn socket_bytes(upgraded: Upgraded) -> Box<dyn DuplexStream> {
    let config = WebSocketConfig::default()
        .max_frame_size(Some(MAX_FRAME))
        .max_message_size(Some(MAX_FRAME))
        .max_write_buffer_size(2 * MAX_FRAME);
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, Some(config)).await;
    let (sink, stream) = socket.split();
    let frames = tokio_stream::StreamExt::timeout(stream, SILENCE)
        .map(|message| match message {
            Ok(message) => message.map_err(io::Error::other),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the node was not heard of for a minute")),
        })
        .take_while(|message| future::ready(!matches!(message, Ok(Message::Close(_)))))
        .filter_map(|message| {
            future::ready(match message {
                Ok(Message::Binary(bytes)) => Some(Ok(bytes)),
                Ok(_) => None,
                Err(error) => Some(Err(error)),
            })
        });
    let reader = StreamReader::new(Box::pin(frames));
    let sink =
        sink.sink_map_err(io::Error::other).with(|bytes: Bytes| future::ok::<_, io::Error>(Message::Binary(bytes)));
    Box::new(tokio::io::join(reader, Pieces(SinkWriter::new(CopyToBytes::new(sink)))))
}

/// Cuts what is written into pieces that make good frames.
struct Pieces<W>(W);

impl<W: AsyncWrite + Unpin> AsyncWrite for Pieces<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let piece = &bytes[..bytes.len().min(BUFFER)];
        Pin::new(&mut self.0).poll_write(cx, piece)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
