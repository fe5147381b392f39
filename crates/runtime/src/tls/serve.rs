//! The accept loop. Every connection has its own task, so a slow or silent client delays nobody else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::PeerCertificate;

/// A client has this long to finish the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// And this long to send the headers of a request.
const HEADERS: Duration = Duration::from_secs(30);
/// Connections at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 4096;
/// What requests may still take when the server stops.
const GRACE: Duration = Duration::from_secs(5);
/// Size of all headers of a request.
const HEADER_BYTES: usize = 64 * 1024;

/// Serves the router over TLS until `shutdown`, then gives running requests a few seconds. Requests carry the client's address
/// ([`ConnectInfo<SocketAddr>`]) and, where it showed one, its certificate ([`PeerCertificate`]).
pub async fn serve(listener: TcpListener, router: Router, tls: Arc<ServerConfig>, shutdown: CancellationToken) {
    let acceptor = TlsAcceptor::from(tls);
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let tasks = TaskTracker::new();
    let kill = CancellationToken::new();
    loop {
        let permit = tokio::select! {
            () = shutdown.cancelled() => break,
            permit = slots.clone().acquire_owned() => match permit {
                Ok(permit) => permit,
                Err(_) => break,
            },
        };
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection =
                    Connection { acceptor: acceptor.clone(), router: router.clone(), shutdown: shutdown.clone(), peer };
                let kill = kill.clone();
                tasks.spawn(async move {
                    tokio::select! {
                        () = kill.cancelled() => {}
                        () = connection.run(stream) => {}
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of descriptors, or a client that left before it was accepted: neither is a reason to stop.
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(GRACE, tasks.wait()).await.is_err() {
        kill.cancel();
        tasks.wait().await;
    }
}

struct Connection {
    acceptor: TlsAcceptor,
    router: Router,
    shutdown: CancellationToken,
    peer: SocketAddr,
}

impl Connection {
    async fn run(self, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let stream = match tokio::time::timeout(HANDSHAKE, self.acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(peer = %self.peer, %error, "TLS handshake failed");
                return;
            }
            Err(_) => {
                tracing::debug!(peer = %self.peer, "TLS handshake took too long");
                return;
            }
        };
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let certificate = certificate.map(|leaf| PeerCertificate(leaf.clone().into_owned()));
        let (router, peer) = (self.router, self.peer);
        let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            if let Some(certificate) = &certificate {
                request.extensions_mut().insert(certificate.clone());
            }
            router.clone().oneshot(request)
        });
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS)
            .max_buf_size(HEADER_BYTES)
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(HEADER_BYTES as u32)
            .max_concurrent_streams(1000)
            // A peer that vanished without a word is found out.
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20));
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = self.shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%peer, %error, "connection ended");
        }
    }
}
