//! From kubectl's flags and kubeconfig to a client.

mod config;
mod wire;

use anyhow::Context;
use kube::Client;
use kube::client::ClientBuilder;

use self::wire::Wire;
use crate::cli::Global;

/// A client, and the namespace commands act in.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

impl Session {
    /// Connects as kubectl would: flags first, then `--kubeconfig`, `$KUBECONFIG`, `~/.kube/config`, the pod's service account.
    pub(crate) async fn open(global: &Global) -> anyhow::Result<Self> {
        let config = config::from_flags(global).await?;
        let namespace = global.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let wire = Wire::new(global, &config.cluster_url);
        let builder = ClientBuilder::try_from(config).context("set up the client")?;
        Ok(Self { client: builder.with_layer(&wire).build(), namespace })
    }
}
