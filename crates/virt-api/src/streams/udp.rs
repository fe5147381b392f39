//! A connected UDP socket as a stream: each write is one datagram, each read one datagram. Whoever reads must have room for a whole
//! one (64 KiB).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UdpSocket;

/// The stream; dropping it closes the socket.
pub(super) struct Datagrams(pub(super) UdpSocket);

/// An earlier datagram met no listener. It is lost, as datagrams are; the next may find one.
fn is_refusal(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}

impl AsyncRead for Datagrams {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let before = buf.filled().len();
            match ready!(self.0.poll_recv(cx, buf)) {
                Err(error) if is_refusal(&error) => {}
                // An empty datagram: to a reader of streams that would be the end.
                Ok(()) if buf.filled().len() == before => {}
                other => return Poll::Ready(other),
            }
        }
    }
}

impl AsyncWrite for Datagrams {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // The error of an earlier datagram is told instead of sending this one: then it is sent anew.
        for _ in 0..3 {
            match ready!(self.0.poll_send(cx, bytes)) {
                Err(error) if is_refusal(&error) => {}
                // Too large for a datagram: lost.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error()) => break,
                other => return Poll::Ready(other),
            }
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn datagrams_are_neither_joined_nor_cut() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(server.local_addr().unwrap()).await.unwrap();
        let client = socket.local_addr().unwrap();
        let mut stream = Datagrams(socket);
        let large = vec![7; 20_000];
        stream.write_all(b"one").await.unwrap();
        stream.write_all(b"two").await.unwrap();
        stream.write_all(&large).await.unwrap();
        let mut buffer = vec![0; 64 * 1024];
        for expected in [&b"one"[..], b"two", &large] {
            let (count, _) = server.recv_from(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..count], expected);
        }
        for answer in [&b"a"[..], b"", b"b", &large] {
            server.send_to(answer, client).await.unwrap();
        }
        for expected in [&b"a"[..], b"b", &large] {
            let count = stream.read(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..count], expected, "an empty datagram is no end");
        }
    }

    #[tokio::test]
    async fn a_port_without_listener_loses_datagrams_and_nothing_else() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        drop(server);
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(address).await.unwrap();
        let mut stream = Datagrams(socket);
        for _ in 0..3 {
            stream.write_all(b"lost").await.unwrap();
        }
        let server = UdpSocket::bind(address).await.unwrap();
        stream.write_all(b"heard").await.unwrap();
        let mut buffer = [0; 16];
        let (count, _) = server.recv_from(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..count], b"heard");
    }
}
