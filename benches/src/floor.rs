//! Floors of the API server: an axum endpoint that does nothing, and SQLite alone.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::Path as Segment;
use axum::routing::{get, post};
use bytes::Bytes;
use fv_apiserver::tls::Pki;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use jiff::Timestamp;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::load::Target;

/// The bare endpoint, in a process of its own as the API server is.
#[derive(Debug)]
pub(crate) struct BareServer {
    address: SocketAddr,
    authority: String,
    child: tokio::process::Child,
}

impl BareServer {
    pub(crate) async fn start(dir: &Path) -> Result<Self> {
        let mut child = tokio::process::Command::new(std::env::current_exe()?)
            .arg("bare-server")
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start the bare endpoint")?;
        let stdout = child.stdout.take().context("the bare endpoint has no output")?;
        let line = BufReader::new(stdout).lines().next_line().await?.context("the bare endpoint ended")?;
        let authority = Pki::open(dir, Timestamp::now())?.ca_certificate().to_string();
        Ok(Self { address: line.parse()?, authority, child })
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.child.id().context("the bare endpoint ended")
    }

    pub(crate) fn target(&self) -> Result<Target> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(self.authority.as_bytes()) {
            roots.add(certificate?)?;
        }
        let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok(Target { address: self.address, tls: Arc::new(tls) })
    }
}

/// The bare endpoint as such: answers as many bytes as the path asks for.
pub(crate) fn bare_router() -> Router {
    let filler = Bytes::from(vec![b'x'; 32 << 20]);
    let answer = move |Segment(size): Segment<usize>| {
        let body = filler.slice(..size.min(filler.len()));
        async move { body }
    };
    Router::new().route("/bytes/{size}", get(answer.clone()).post(answer)).route("/", post(|| async {}))
}

/// Serves it until killed; prints its address.
pub(crate) async fn serve_bare(dir: &Path) -> Result<()> {
    let pki = Pki::open(dir, Timestamp::now())?;
    let identity = pki.server(&["127.0.0.1".to_string()], Timestamp::now())?;
    let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?;
    let tls = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    crate::say(&listener.local_addr()?.to_string());
    // What it answers with takes memory that one nobody has asked yet does without.
    let mut router = None;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (acceptor, router) = (acceptor.clone(), router.get_or_insert_with(bare_router).clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = TowerToHyperService::new(router);
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Durable rows a second of SQLite alone with rows of `size` bytes, `batch` of them in a commit.
pub(crate) fn sqlite_rows(dir: &Path, size: usize, batch: usize, commits: usize) -> Result<f64> {
    let file = dir.join(format!("floor-{batch}.db"));
    let mut connection = rusqlite::Connection::open(&file)?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(
        "CREATE TABLE objects(resource TEXT NOT NULL, key TEXT NOT NULL, revision INTEGER NOT NULL, body BLOB NOT NULL,
         PRIMARY KEY (resource, key)) STRICT",
    )?;
    let body = vec![b'x'; size];
    let begin = Instant::now();
    for commit in 0..commits {
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO objects VALUES ('configmaps', ?1, ?2, ?3)")?;
            for row in 0..batch {
                let number = commit * batch + row;
                let revision = i64::try_from(number).unwrap_or(i64::MAX);
                insert.execute(rusqlite::params![format!("bench/object-{number}"), revision, body])?;
            }
        }
        transaction.commit()?;
    }
    let took = begin.elapsed();
    drop(connection);
    std::fs::remove_file(&file)?;
    #[allow(clippy::cast_precision_loss)]
    let rows = (batch * commits) as f64;
    Ok(rows / took.as_secs_f64())
}
