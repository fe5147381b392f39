//! VNC sessions: one at a time, the newest wins unless it asked not to disturb.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// At most one session.
#[derive(Clone, Debug, Default)]
pub struct ExclusiveSession {
    current: Arc<Mutex<Option<Arc<CancellationToken>>>>,
}

/// A session is open and was to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a session is open and was asked to be preserved")]
pub struct SessionOpen;

impl ExclusiveSession {
    /// Starts a session over `stream`; the open one ends, unless `preserve`.
    pub fn open<S>(&self, stream: S, preserve: bool) -> Result<SessionStream<S>, SessionOpen> {
        let mut current = self.current.lock();
        if let Some(open) = &*current {
            // The session's stream holds the other reference.
            let live = Arc::strong_count(open) > 1 && !open.is_cancelled();
            if live && preserve {
                return Err(SessionOpen);
            }
            open.cancel();
        }
        let token = Arc::new(CancellationToken::new());
        *current = Some(Arc::clone(&token));
        let ended = Box::pin((*token).clone().cancelled_owned());
        Ok(SessionStream { stream, ended, _token: token })
    }

    /// Whether a session is open.
    pub fn is_open(&self) -> bool {
        self.current.lock().as_ref().is_some_and(|open| Arc::strong_count(open) > 1 && !open.is_cancelled())
    }
}

/// A stream that ends when its session is taken over.
#[derive(Debug)]
pub struct SessionStream<S> {
    stream: S,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    _token: Arc<CancellationToken>,
}

impl<S> SessionStream<S> {
    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        self.ended.as_mut().poll(context).is_ready()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for SessionStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_over(context) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for SessionStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_over(context) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn newest_session_wins() {
        let sessions = ExclusiveSession::default();
        let (near, _far) = duplex(64);
        let mut old = sessions.open(near, false).unwrap();
        let reading = tokio::spawn(async move {
            let mut rest = Vec::new();
            old.read_to_end(&mut rest).await.unwrap();
            (rest, old.write(b"x").await.unwrap_err().kind())
        });
        tokio::task::yield_now().await;
        let (near, mut far) = duplex(64);
        let mut new = sessions.open(near, false).unwrap();
        assert_eq!(reading.await.unwrap(), (Vec::new(), io::ErrorKind::BrokenPipe));
        new.write_all(b"RFB").await.unwrap();
        let mut bytes = [0; 3];
        far.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"RFB");
    }

    #[tokio::test]
    async fn preserved_session_is_kept_until_it_ends() {
        let sessions = ExclusiveSession::default();
        let first = sessions.open(duplex(1).0, true).unwrap();
        assert_eq!(sessions.open(duplex(1).0, true).err(), Some(SessionOpen));
        assert!(sessions.is_open());
        drop(first);
        assert!(!sessions.is_open());
        assert!(sessions.open(duplex(1).0, true).is_ok());
    }
}
