//! Our server: the crate's router over its SQLite store, served by its own TLS listener.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use fv_apiserver::tls::{Pki, ServerTls, listen, serve_tls};
use fv_apiserver::{ApiServerBuilder, Store};
use jiff::Timestamp;
use std::sync::Arc;
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::client::Client;
use crate::mutation::Mutation;

/// A running server of ours.
#[derive(Debug)]
pub struct Ours {
    client: Client,
    _stop: DropGuard,
    _dir: TempDir,
}

impl Ours {
    /// Starts it, behind a fault if one is named, with the definitions of the corpus.
    pub async fn start(mutation: Option<Mutation>) -> Result<Ours> {
        let dir = tempfile::tempdir().context("make a directory for our server")?;
        let store = Store::open(&dir.path().join("store")).context("open the store")?;
        let server = ApiServerBuilder::new(store).build().await.context("build our server")?;
        let router = match mutation {
            Some(mutation) => mutation.before(server.router()),
            None => server.router(),
        };
        let pki = Pki::open(&dir.path().join("pki"), Timestamp::now()).context("make an authority")?;
        let tls = Arc::new(ServerTls::new(pki, Vec::new(), Timestamp::now()).context("set up TLS")?);
        let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.context("listen")?;
        let address = listener.local_addr().context("ask for our address")?;
        let stop = CancellationToken::new();
        let client = super::client(tls.pki(), dir.path(), address).await?;
        tokio::spawn(serve_tls(listener, router, tls, stop.clone()));
        super::ready(&client).await?;
        super::install(&client).await.context("prepare our server")?;
        Ok(Ours { client, _stop: stop.drop_guard(), _dir: dir })
    }

    /// Talks to it.
    pub fn client(&self) -> &Client {
        &self.client
    }
}
