//! What connections may cost, whoever opens them.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

/// Limits on the connections of a server.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// Connections at a time; more wait in the kernel's queue.
    pub connections: usize,
    /// Of these so many may be without a certificate.
    pub strangers: usize,
    /// Unfinished handshakes at a time; one more ends the oldest, so that connections which send nothing keep nobody out.
    pub handshakes: usize,
    /// The time to finish the handshake.
    pub handshake: Duration,
    /// The time to send the headers of a request.
    pub headers: Duration,
    /// A connection without a request ends after this long, as Kubernetes' does.
    pub idle: Duration,
    /// A client that takes nothing of an answer for so long is cut off. Not one whose connection became a stream of another protocol:
    /// whoever holds a console's output back may do so.
    pub stalled: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        ConnectionLimits {
            connections: 4096,
            strangers: 1024,
            handshakes: 512,
            handshake: Duration::from_secs(10),
            headers: Duration::from_secs(30),
            idle: Duration::from_secs(90),
            stalled: Duration::from_secs(60),
        }
    }
}

/// The handshakes that go on, oldest first.
#[derive(Debug)]
pub(super) struct Handshakes {
    limit: usize,
    pending: Mutex<(u64, VecDeque<(u64, CancellationToken)>)>,
}

impl Handshakes {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit: limit.max(1), pending: Mutex::default() })
    }

    /// Takes a handshake in, at the cost of the oldest when there are too many.
    pub(super) fn begin(self: &Arc<Self>) -> Handshake {
        let cut = CancellationToken::new();
        let mut pending = self.pending.lock();
        let (next, queue) = &mut *pending;
        let id = *next;
        *next += 1;
        queue.push_back((id, cut.clone()));
        if queue.len() > self.limit
            && let Some((_, oldest)) = queue.pop_front()
        {
            oldest.cancel();
        }
        Handshake { all: Arc::clone(self), id, cut }
    }
}

/// One handshake, until it is dropped.
#[derive(Debug)]
pub(super) struct Handshake {
    all: Arc<Handshakes>,
    id: u64,
    /// Cancelled when others need the place.
    pub(super) cut: CancellationToken,
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let queue = &mut self.all.pending.lock().1;
        if let Ok(at) = queue.binary_search_by_key(&self.id, |(id, _)| *id) {
            queue.remove(at);
        }
    }
}

/// What goes on on a connection.
#[derive(Debug)]
pub(super) struct Activity {
    /// Its requests, and since when there is none.
    requests: Mutex<(usize, Instant)>,
    upgraded: AtomicBool,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { requests: Mutex::new((0, Instant::now())), upgraded: AtomicBool::new(false) })
    }

    /// A request begins; it lasts until the guard is dropped.
    pub(super) fn request(self: &Arc<Self>) -> ActiveRequest {
        self.requests.lock().0 += 1;
        ActiveRequest(Arc::clone(self))
    }

    /// The connection is one of another protocol from now on.
    pub(super) fn upgrade(&self) {
        self.upgraded.store(true, Ordering::Relaxed);
    }

    /// Waits until there was no request for so long.
    pub(super) async fn idle(&self, time: Duration) {
        loop {
            let end = match *self.requests.lock() {
                (0, since) => since + time,
                _ => Instant::now() + time,
            };
            if end <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}

/// A request that goes on.
#[derive(Debug)]
pub(super) struct ActiveRequest(Arc<Activity>);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        let mut requests = self.0.requests.lock();
        requests.0 -= 1;
        requests.1 = Instant::now();
    }
}

/// A stream whose writes fail when the peer takes nothing for too long.
pub(super) struct Impatient<S> {
    inner: S,
    patience: Duration,
    activity: Arc<Activity>,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Impatient<S> {
    pub(super) fn new(inner: S, patience: Duration, activity: Arc<Activity>) -> Self {
        Self { inner, patience, activity, waiting: None }
    }

    fn within<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() || self.activity.upgraded.load(Ordering::Relaxed) {
            self.waiting = None;
            return outcome;
        }
        let patience = self.patience;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(waiting.as_mut().poll(cx));
        let why = format!("the peer took nothing for {} s", patience.as_secs());
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.within(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(cx, bytes);
        self.within(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(cx);
        self.within(cx, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.within(cx, outcome)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn one_handshake_too_many_ends_the_oldest() {
        let all = Handshakes::new(2);
        let (first, second) = (all.begin(), all.begin());
        drop(second);
        let third = all.begin();
        assert!(!first.cut.is_cancelled());
        let fourth = all.begin();
        assert!(first.cut.is_cancelled() && !third.cut.is_cancelled() && !fourth.cut.is_cancelled());
        drop((first, third, fourth));
        assert!(all.pending.lock().1.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_only_when_no_request_was_there_for_the_whole_time() {
        let activity = Activity::new();
        let request = activity.request();
        let time = Duration::from_secs(10);
        assert!(tokio::time::timeout(Duration::from_secs(100), activity.idle(time)).await.is_err());
        drop(request);
        let since = Instant::now();
        activity.idle(time).await;
        assert_eq!(since.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up_and_a_slow_one_is_not() {
        let (server, mut client) = tokio::io::duplex(10);
        let mut server = Impatient::new(server, Duration::from_secs(60), Activity::new());
        let slow = tokio::spawn(async move {
            let mut byte = [0];
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(50)).await;
                client.read_exact(&mut byte).await.unwrap();
            }
            client
        });
        server.write_all(&[0; 20]).await.unwrap();
        let _client = slow.await.unwrap();
        assert_eq!(server.write_all(&[0; 20]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
