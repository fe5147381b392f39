//! The accept loop. Every connection has its own task, so a slow or silent client delays nobody else.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::StatusCode;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tower::ServiceExt as _;

use super::PeerCertificate;
use super::limits::{Activity, ConnectionLimits, Handshakes, Impatient};

/// What requests may still take when the server stops.
const GRACE: Duration = Duration::from_secs(5);
/// Size of all headers of a request.
const HEADER_BYTES: usize = 64 * 1024;
/// Requests at a time on one connection, as a kube-apiserver's.
const STREAMS: u32 = 1000;

/// Serves the router over TLS until `shutdown`, then gives running requests a few seconds. Requests carry the client's address
/// ([`ConnectInfo<SocketAddr>`]) and, where it showed one, its certificate ([`PeerCertificate`]).
pub async fn serve(listener: TcpListener, router: Router, tls: Arc<ServerConfig>, shutdown: CancellationToken) {
    serve_within(ConnectionLimits::default(), listener, router, tls, shutdown).await;
}

/// As [`serve`], with other limits.
pub async fn serve_within(
    limits: ConnectionLimits,
    listener: TcpListener,
    router: Router,
    tls: Arc<ServerConfig>,
    shutdown: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let slots = Arc::new(Semaphore::new(limits.connections));
    let strangers = Arc::new(Semaphore::new(limits.strangers));
    let handshakes = Handshakes::new(limits.handshakes);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
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
                let connection = Connection {
                    acceptor: acceptor.clone(),
                    router: router.clone(),
                    shutdown: shutdown.clone(),
                    limits: limits.clone(),
                    strangers: strangers.clone(),
                    handshakes: handshakes.clone(),
                    peer,
                };
                connections.spawn(async move {
                    connection.run(stream).await;
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
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, ended).await.is_err() {
        connections.shutdown().await;
    }
}

struct Connection {
    acceptor: TlsAcceptor,
    router: Router,
    shutdown: CancellationToken,
    limits: ConnectionLimits,
    strangers: Arc<Semaphore>,
    handshakes: Arc<Handshakes>,
    peer: SocketAddr,
}

impl Connection {
    async fn run(self, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let handshake = self.handshakes.begin();
        let stream = tokio::select! {
            stream = tokio::time::timeout(self.limits.handshake, self.acceptor.accept(stream)) => match stream {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    tracing::debug!(peer = %self.peer, %error, "TLS handshake failed");
                    return;
                }
                Err(_) => {
                    tracing::debug!(peer = %self.peer, "TLS handshake took too long");
                    return;
                }
            },
            () = handshake.cut.cancelled() => {
                tracing::debug!(peer = %self.peer, "TLS handshake gave way to newer ones");
                return;
            }
        };
        drop(handshake);
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let certificate = certificate.map(|leaf| PeerCertificate(leaf.clone().into_owned()));
        let _stranger = match certificate {
            Some(_) => None,
            None => match self.strangers.try_acquire_owned() {
                Ok(permit) => Some(permit),
                Err(_) => {
                    tracing::debug!(peer = %self.peer, "too many connections without a certificate");
                    return;
                }
            },
        };
        let (router, peer) = (self.router, self.peer);
        let activity = Activity::new();
        let active = activity.clone();
        let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            if let Some(certificate) = &certificate {
                request.extensions_mut().insert(certificate.clone());
            }
            let connection = active.clone();
            let (active, answer) = (active.request(), router.clone().oneshot(request));
            async move {
                // The request lasts as long as its answer is sent.
                let keep = move |error: axum::Error| {
                    let _ = &active;
                    error
                };
                let response = answer.await?;
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    connection.upgrade();
                }
                Ok::<_, Infallible>(response.map(|body| body.map_err(keep)))
            }
        });
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.headers)
            .max_buf_size(HEADER_BYTES)
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(HEADER_BYTES as u32)
            .max_concurrent_streams(STREAMS)
            // A peer that vanished without a word is found out.
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20));
        let stream = Impatient::new(stream, self.limits.stalled, activity.clone());
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        // In a task of its own: whatever is waited for here is looked at with every event that a watch sends.
        let (shutdown, idle) = (self.shutdown, self.limits.idle);
        let mut end = AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = activity.idle(idle) => {}
            }
        }));
        let result = tokio::select! {
            biased;
            result = connection.as_mut() => result,
            _ = &mut end => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%peer, %error, "connection ended");
        }
    }
}
