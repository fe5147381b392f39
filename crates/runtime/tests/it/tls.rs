//! Certificates are replaced while clients come and go.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request};
use axum::response::Response;
use axum::routing::get;
use fv_runtime::certificates::{Authorities, CertificateError, Identity, Reload, keep_reloading};
use fv_runtime::tls::{
    ClientCertificates, ConnectionLimits, PeerCertificate, client_config, serve, serve_within, server_config,
};
use fv_testkit::certificates::{Authority, Mounted};
use hyper_util::rt::TokioIo;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const SERVER: &str = "the-server";
const CLIENT: &str = "the-client";
/// How often the programs under test look at their files.
const RELOAD: Duration = Duration::from_millis(20);

/// One end of connections: its mounted files and what was read from them.
struct End {
    pair: Mounted,
    bundle: Mounted,
    identity: Arc<Identity>,
    authorities: Arc<Authorities>,
    stop: CancellationToken,
}

impl End {
    fn new(authority: &Authority, name: &str) -> Self {
        let pair = Mounted::pair(&authority.issue(name, &[]));
        let bundle = Mounted::bundle(&[authority]);
        let identity = Identity::open(pair.path()).unwrap();
        let authorities = Authorities::open(&bundle.bundle_file()).unwrap();
        let stop = CancellationToken::new();
        let parts: Vec<Arc<dyn Reload>> = vec![identity.clone(), authorities.clone()];
        tokio::spawn(keep_reloading(parts, RELOAD, stop.clone()));
        Self { pair, bundle, identity, authorities, stop }
    }

    fn client(&self, server: &str) -> Arc<ClientConfig> {
        client_config(self.identity.clone(), self.authorities.clone(), server).unwrap()
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn start(end: &End, required: bool) -> SocketAddr {
    let who = |peer: Option<Extension<PeerCertificate>>| async move {
        peer.and_then(|peer| peer.common_name()).unwrap_or_else(|| "nobody".to_owned())
    };
    let clients = end.authorities.clone();
    let clients = if required { ClientCertificates::Required(clients) } else { ClientCertificates::Optional(clients) };
    let config = server_config(end.identity.clone(), clients).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, Router::new().route("/", get(who)), config, end.stop.clone()));
    address
}

type Stream = tokio_rustls::client::TlsStream<TcpStream>;

async fn connect(address: SocketAddr, config: Arc<ClientConfig>) -> std::io::Result<Stream> {
    let stream = TcpStream::connect(address).await?;
    tokio_rustls::TlsConnector::from(config).connect(address.ip().into(), stream).await
}

/// Asks over an open connection who the server takes us for.
async fn ask(stream: &mut Stream) -> std::io::Result<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await?;
    let mut answer = Vec::new();
    let length = loop {
        answer.push(stream.read_u8().await?);
        if answer.ends_with(b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&answer).to_lowercase();
            let (_, rest) = head.split_once("content-length: ").unwrap();
            break rest.split("\r\n").next().unwrap().parse().unwrap();
        }
    };
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(String::from_utf8(body).unwrap())
}

async fn ask_anew(address: SocketAddr, config: Arc<ClientConfig>) -> std::io::Result<String> {
    ask(&mut connect(address, config).await?).await
}

/// Waits for the reloading tasks to have seen what was written.
async fn until(done: impl Fn() -> bool) {
    while !done() {
        tokio::time::sleep(RELOAD).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn authorities_and_certificates_are_replaced_without_a_failed_request() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let (server, client) = (End::new(&old, SERVER), End::new(&old, CLIENT));
    let address = start(&server, true).await;
    let mut long_lived = connect(address, client.client(SERVER)).await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (config, over) = (client.client(SERVER), over.clone());
            tokio::spawn(async move {
                let mut count = 0;
                while !over.load(Ordering::Relaxed) {
                    assert_eq!(ask_anew(address, config.clone()).await.unwrap(), CLIENT);
                    count += 1;
                }
                count
            })
        })
        .collect();

    // As a rotation goes: both authorities are believed everywhere, then certificates change, then the old one goes.
    for end in [&server, &client] {
        end.bundle.replace_bundle(&[&old, &new]);
    }
    until(|| [&server, &client].iter().all(|end| end.authorities.roots().len() == 2)).await;
    let before = [server.identity.current(), client.identity.current()];
    server.pair.replace_pair(&new.issue(SERVER, &[]));
    client.pair.replace_pair(&new.issue(CLIENT, &[]));
    until(|| {
        let now = [server.identity.current(), client.identity.current()];
        now.iter().zip(&before).all(|(now, before)| now.cert != before.cert)
    })
    .await;
    for end in [&server, &client] {
        end.bundle.replace_bundle(&[&new]);
    }
    until(|| [&server, &client].iter().all(|end| end.authorities.roots().len() == 1)).await;
    over.store(true, Ordering::Relaxed);
    for task in load {
        assert!(task.await.unwrap() > 0);
    }
    assert_eq!(ask(&mut long_lived).await.unwrap(), CLIENT, "connections outlive certificates");
    // Who still shows the old authority's certificate is refused.
    let late = End::new(&old, CLIENT);
    late.bundle.replace_bundle(&[&new]);
    until(|| late.authorities.reload().is_ok_and(|changed| !changed)).await;
    ask_anew(address, late.client(SERVER)).await.unwrap_err();
}

#[tokio::test]
async fn a_server_of_another_name_or_authority_is_not_believed() {
    let authority = Authority::new("a");
    let (server, client) = (End::new(&authority, SERVER), End::new(&authority, CLIENT));
    let address = start(&server, true).await;
    assert_eq!(ask_anew(address, client.client(SERVER)).await.unwrap(), CLIENT);
    let error = ask_anew(address, client.client("another")).await.unwrap_err().to_string();
    assert!(error.contains("the-server") && error.contains("another"), "{error}");
    let stranger = End::new(&Authority::new("b"), CLIENT);
    ask_anew(address, stranger.client(SERVER)).await.unwrap_err();
}

#[tokio::test]
async fn without_a_bundle_nobody_is_believed_and_without_a_certificate_nobody_is_known() {
    let authority = Authority::new("a");
    let server = End::new(&authority, SERVER);
    let address = start(&server, false).await;
    let client = End::new(&authority, CLIENT);
    let unknown = client_config(client.identity.clone(), Authorities::none(), SERVER).unwrap();
    ask_anew(address, unknown).await.unwrap_err();
    assert_eq!(ask_anew(address, client.client(SERVER)).await.unwrap(), CLIENT);
}

#[tokio::test]
async fn files_that_cannot_be_used_leave_the_old_ones_in_force() {
    let authority = Authority::new("a");
    let pair = Mounted::pair(&authority.issue(SERVER, &[]));
    let identity = Identity::open(pair.path()).unwrap();
    let before = identity.current();
    // A certificate with another's key.
    let (one, other) = (authority.issue(SERVER, &[]), authority.issue(SERVER, &[]));
    pair.replace(&[("tls.crt", &one.certificate), ("tls.key", &other.key)]);
    let error = identity.reload().unwrap_err();
    assert!(matches!(&error, CertificateError::Content { place, .. } if place.ends_with("tls.key")), "{error}");
    pair.replace(&[("tls.crt", ""), ("tls.key", &one.key)]);
    assert!(identity.reload().unwrap_err().to_string().contains("tls.crt"));
    assert_eq!(identity.current().cert, before.cert);
    pair.replace_pair(&one);
    assert!(identity.reload().unwrap() && !identity.reload().unwrap());

    let bundle = Mounted::bundle(&[&authority]);
    let authorities = Authorities::open(&bundle.bundle_file()).unwrap();
    bundle.replace(&[("ca-bundle", "no certificate")]);
    authorities.reload().unwrap_err();
    assert_eq!(authorities.roots().len(), 1);
    assert!(Authorities::open(&bundle.path().join("nothing")).unwrap_err().to_string().contains("nothing"));
}

/// What a client without a certificate shows.
#[derive(Debug)]
struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// More than sockets hold.
const LONG: usize = 32 << 20;

/// Becomes a stream of another protocol and says much.
async fn talk(mut request: Request) -> Response {
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut stream = TokioIo::new(upgraded.await.unwrap());
        stream.write_all(&vec![b'x'; LONG]).await.unwrap();
        stream.shutdown().await.unwrap();
    });
    let answer = Response::builder().status(101).header("connection", "upgrade").header("upgrade", "talk");
    answer.body(Body::empty()).unwrap()
}

async fn start_within(end: &End, limits: ConnectionLimits) -> SocketAddr {
    let config = server_config(end.identity.clone(), ClientCertificates::Optional(end.authorities.clone())).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", get(|| async { CLIENT })).route("/talk", get(talk));
    tokio::spawn(serve_within(limits, listener, router, config, end.stop.clone()));
    address
}

#[tokio::test]
async fn connections_that_send_nothing_keep_nobody_out() {
    let authority = Authority::new("one");
    let (server, client) = (End::new(&authority, SERVER), End::new(&authority, CLIENT));
    let handshake = Duration::from_secs(3600);
    let address =
        start_within(&server, ConnectionLimits { handshakes: 4, connections: 6, handshake, ..Default::default() })
            .await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(address).await.unwrap());
        assert_eq!(ask_anew(address, client.client(SERVER)).await.unwrap(), CLIENT);
    }
    let ended = silent[0].read(&mut [0]).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "the oldest of them is ended");
}

#[tokio::test]
async fn clients_without_a_certificate_leave_room_for_those_with_one() {
    let authority = Authority::new("one");
    let (server, client) = (End::new(&authority, SERVER), End::new(&authority, CLIENT));
    let address = start_within(&server, ConnectionLimits { strangers: 2, connections: 4, ..Default::default() }).await;
    let mut nobody = (*client.client(SERVER)).clone();
    nobody.client_auth_cert_resolver = Arc::new(NoCertificate);
    let nobody = Arc::new(nobody);
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = connect(address, nobody.clone()).await.unwrap();
        ask(&mut stream).await.unwrap();
        held.push(stream);
    }
    assert!(ask_anew(address, nobody.clone()).await.is_err(), "a third stranger is sent away");
    assert_eq!(ask_anew(address, client.client(SERVER)).await.unwrap(), CLIENT);
}

#[tokio::test]
async fn a_connection_without_requests_ends() {
    let authority = Authority::new("one");
    let (server, client) = (End::new(&authority, SERVER), End::new(&authority, CLIENT));
    let idle = Duration::from_millis(50);
    let address = start_within(&server, ConnectionLimits { idle, ..Default::default() }).await;
    let mut stream = connect(address, client.client(SERVER)).await.unwrap();
    ask(&mut stream).await.unwrap();
    let end = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut [0])).await;
    assert!(matches!(end, Ok(Ok(0) | Err(_))), "{end:?}");
}

#[tokio::test]
async fn whoever_holds_a_streams_output_back_gets_all_of_it_later() {
    let authority = Authority::new("one");
    let (server, client) = (End::new(&authority, SERVER), End::new(&authority, CLIENT));
    let (stalled, idle) = (Duration::from_millis(50), Duration::from_millis(50));
    let address = start_within(&server, ConnectionLimits { stalled, idle, ..Default::default() }).await;
    let mut stream = connect(address, client.client(SERVER)).await.unwrap();
    let request = b"GET /talk HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: talk\r\n\r\n";
    stream.write_all(request).await.unwrap();
    // Ten times as long as the writer of an answer would be given.
    tokio::time::sleep(10 * stalled).await;
    let mut heard = Vec::new();
    let _ = stream.read_to_end(&mut heard).await;
    assert_eq!(heard.iter().filter(|byte| **byte == b'x').count(), LONG);
}
