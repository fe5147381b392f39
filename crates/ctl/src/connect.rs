//! From kubectl's flags and kubeconfig to a client.

use anyhow::Context;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::cli::Global;

/// A client, and the namespace commands act in.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

impl Session {
    /// Connects as kubectl would: flags first, then `--kubeconfig`, `$KUBECONFIG`, `~/.kube/config`, the pod's service account.
    pub(crate) async fn open(global: &Global) -> anyhow::Result<Self> {
        let options = KubeConfigOptions { context: global.context.clone(), ..KubeConfigOptions::default() };
        let mut config = match &global.kubeconfig {
            Some(path) => {
                let file =
                    Kubeconfig::read_from(path).with_context(|| format!("read kubeconfig {}", path.display()))?;
                Config::from_custom_kubeconfig(file, &options).await.context("use the kubeconfig")?
            }
            None if global.context.is_some() => {
                Config::from_kubeconfig(&options).await.context("use the kubeconfig")?
            }
            None => Config::infer().await.context("find a cluster: give --kubeconfig or set KUBECONFIG")?,
        };
        if let Some(server) = &global.server {
            config.cluster_url = server.parse().with_context(|| format!("--server {server} is no URL"))?;
        }
        if let Some(token) = &global.token {
            config.auth_info.token = Some(token.clone().into());
        }
        if let Some(user) = &global.impersonate {
            config.auth_info.impersonate = Some(user.clone());
        }
        if global.insecure_skip_tls_verify {
            config.accept_invalid_certs = true;
        }
        // A console may be silent for hours.
        config.read_timeout = None;
        // "Busy" and "not now" are answers for the user, who would wait minutes for them otherwise.
        config.default_retry = false;
        let namespace = global.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).context("set up the client")?;
        Ok(Self { client, namespace })
    }
}
