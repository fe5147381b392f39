//! Plain requests over TLS, as many at once as asked for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::stats::{median, quantile};

/// Where requests go.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Arc<rustls::ClientConfig>,
}

/// One kept connection.
pub(crate) struct Connection(SendRequest<Full<Bytes>>);

/// What many requests took.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) per_second: f64,
    pub(crate) median: f64,
    pub(crate) p99: f64,
}

impl Outcome {
    pub(crate) fn of(latencies: &[f64], all: Duration) -> Self {
        #[allow(clippy::cast_precision_loss)]
        let count = latencies.len() as f64;
        Self { per_second: count / all.as_secs_f64(), median: median(latencies), p99: quantile(latencies, 0.99) }
    }
}

impl Target {
    pub(crate) async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(self.address).await.with_context(|| format!("connect to {}", self.address))?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(self.address.ip().to_string())?;
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await.context("agree on TLS")?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Connection(sender))
    }

    /// Sends `count` requests over `connections`, each waiting for its answer before the next.
    pub(crate) async fn many<F>(&self, connections: usize, count: usize, request: F) -> Result<Outcome>
    where
        F: Fn(usize) -> (Method, String, Bytes) + Send + Sync + 'static,
    {
        let mut open = Vec::new();
        for _ in 0..connections {
            open.push(self.connect().await?);
        }
        let next = Arc::new(AtomicUsize::new(0));
        let request = Arc::new(request);
        let begin = Instant::now();
        let workers = open.into_iter().map(|mut connection| {
            let (next, request) = (next.clone(), request.clone());
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return anyhow::Ok(latencies);
                    }
                    let (method, path, body) = request(index);
                    let sent = Instant::now();
                    connection.send(method, &path, body).await?;
                    latencies.push(sent.elapsed().as_secs_f64());
                }
            })
        });
        let mut latencies = Vec::with_capacity(count);
        for worker in workers.collect::<Vec<_>>() {
            latencies.extend(worker.await??);
        }
        Ok(Outcome::of(&latencies, begin.elapsed()))
    }
}

impl Connection {
    /// Sends a request and reads the answer to its end.
    pub(crate) async fn send(&mut self, method: Method, path: &str, body: Bytes) -> Result<Bytes> {
        let body = self.open(method, path, body).await?.collect().await?;
        Ok(body.to_bytes())
    }

    /// Sends a request; the answer's body is the caller's to read.
    pub(crate) async fn open(&mut self, method: Method, path: &str, body: Bytes) -> Result<Incoming> {
        let request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("accept", "application/json")
            .body(Full::new(body))?;
        self.0.ready().await?;
        let response = self.0.send_request(request).await?;
        let status = response.status();
        if !status.is_success() {
            let text = response.into_body().collect().await?.to_bytes();
            bail!("{method} {path}: {status}: {}", String::from_utf8_lossy(&text));
        }
        Ok(response.into_body())
    }
}

/// The address in a server's URL.
pub(crate) fn address_of(url: &http::Uri) -> Result<SocketAddr> {
    let host = url.host().context("the kubeconfig names no host")?;
    let port = url.port_u16().context("the kubeconfig names no port")?;
    let address: Result<SocketAddr, _> = format!("{host}:{port}").parse();
    let address = address.with_context(|| format!("{host}:{port} is no address"))?;
    ensure!(address.port() != 0, "the kubeconfig names port 0");
    Ok(address)
}
