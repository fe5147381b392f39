//! The client's configuration: what the kubeconfig says, and the flags over it, by the rules of Kubernetes' own Go client.

use std::error::Error;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use kube::Config;
use kube::config::{self, InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError, NamedContext};

use crate::cli::Global;

#[cfg(test)]
mod tests;

/// The configuration that the flags ask for.
pub(super) async fn from_flags(global: &Global) -> anyhow::Result<Config> {
    let mut config = read(global).await?;
    apply_server(&mut config, global)?;
    apply_user(&mut config, global)?;
    if let Some(limit) = timeout(global) {
        config.connect_timeout = Some(config.connect_timeout.map_or(limit, |usual| usual.min(limit)));
    }
    // A console may be silent for hours.
    config.read_timeout = None;
    // "Busy" and "not now" are answers for the user, who would wait minutes for them otherwise.
    config.default_retry = false;
    Ok(config)
}

/// The limit on each request; 0 is none.
pub(super) fn timeout(global: &Global) -> Option<std::time::Duration> {
    global.request_timeout.filter(|limit| !limit.is_zero())
}

async fn read(global: &Global) -> anyhow::Result<Config> {
    let chooses = global.context.is_some() || global.cluster.is_some() || global.user.is_some();
    let file = match &global.kubeconfig {
        Some(path) => Kubeconfig::read_from(path).with_context(|| format!("read kubeconfig {}", path.display()))?,
        None if chooses => Kubeconfig::read().context("read the kubeconfig")?,
        None => return infer(global).await,
    };
    from_file(file, global).await
}

async fn infer(global: &Global) -> anyhow::Result<Config> {
    match (Config::infer().await, &global.server) {
        // The flags alone may say all that is needed.
        (Err(error), Some(server)) if is_absent(&error) => Ok(Config::new(url(server)?)),
        (config, _) => config.context("find a cluster: give --kubeconfig or set KUBECONFIG"),
    }
}

/// Whether there is no kubeconfig, in contrast to a wrong one.
fn is_absent(error: &InferConfigError) -> bool {
    let kubeconfig = error.source().and_then(|source| source.downcast_ref());
    matches!(kubeconfig, Some(KubeconfigError::FindPath | KubeconfigError::ReadConfig(..)))
}

async fn from_file(mut file: Kubeconfig, global: &Global) -> anyhow::Result<Config> {
    known("context", &global.context, file.contexts.iter().map(|c| &c.name))?;
    known("cluster", &global.cluster, file.clusters.iter().map(|c| &c.name))?;
    known("user", &global.user, file.auth_infos.iter().map(|u| &u.name))?;
    let mut context = global.context.clone();
    let has_context = context.is_some() || file.current_context.as_ref().is_some_and(|name| !name.is_empty());
    if !has_context && global.cluster.is_some() {
        // A cluster is all a context must name.
        let none = NamedContext { context: Some(config::Context::default()), ..NamedContext::default() };
        file.contexts.insert(0, none);
        context = Some(String::new());
    }
    let options = KubeConfigOptions { context, cluster: global.cluster.clone(), user: global.user.clone() };
    Config::from_custom_kubeconfig(file, &options).await.context("use the kubeconfig")
}

fn known<'a>(flag: &str, wanted: &Option<String>, names: impl Iterator<Item = &'a String>) -> anyhow::Result<()> {
    let Some(wanted) = wanted else { return Ok(()) };
    let names: Vec<&str> = names.map(String::as_str).collect();
    if names.contains(&wanted.as_str()) {
        return Ok(());
    }
    Err(anyhow!("--{flag} {wanted}: the kubeconfig has no such {flag}; it has: {}", names.join(", ")))
}

fn url(server: &str) -> anyhow::Result<http::Uri> {
    server.parse().with_context(|| format!("--server {server} is no URL"))
}

fn apply_server(config: &mut Config, global: &Global) -> anyhow::Result<()> {
    if let Some(server) = &global.server {
        config.cluster_url = url(server)?;
        // The kubeconfig's name was that of its own server.
        config.tls_server_name = None;
    }
    if let Some(name) = &global.tls_server_name {
        config.tls_server_name = Some(name.clone());
    }
    if let Some(path) = &global.certificate_authority {
        if global.insecure_skip_tls_verify {
            bail!(
                "--certificate-authority {} and --insecure-skip-tls-verify contradict each other: give one of them",
                path.display()
            );
        }
        let text = read_file("certificate-authority", path)?;
        if !text.contains("-----BEGIN CERTIFICATE-----") {
            bail!("--certificate-authority {} holds no certificate in PEM", path.display());
        }
        config.accept_invalid_certs = false;
        // The file is asked in place of these; no authority that the flag does not name is trusted.
        config.root_cert = Some(Vec::new());
        config.root_cert_file = Some(path.clone());
    }
    if global.insecure_skip_tls_verify {
        config.accept_invalid_certs = true;
    }
    Ok(())
}

fn apply_user(config: &mut Config, global: &Global) -> anyhow::Result<()> {
    let user = &mut config.auth_info;
    let credentials = [global.token.is_some(), global.client_certificate.is_some(), global.client_key.is_some()];
    if credentials.contains(&true) {
        // A plugin's answer would go before what the flags give.
        user.auth_provider = None;
        user.exec = None;
    }
    if let Some(token) = &global.token {
        (user.username, user.password, user.token_file) = (None, None, None);
        user.token = Some(token.clone().into());
    }
    // Data in the kubeconfig would go before a file's.
    if let Some(path) = &global.client_certificate {
        read_file("client-certificate", path)?;
        user.client_certificate = Some(path.to_string_lossy().into_owned());
        user.client_certificate_data = None;
    }
    if let Some(path) = &global.client_key {
        read_file("client-key", path)?;
        user.client_key = Some(path.to_string_lossy().into_owned());
        user.client_key_data = None;
    }
    let has_certificate = user.client_certificate.is_some() || user.client_certificate_data.is_some();
    let has_key = user.client_key.is_some() || user.client_key_data.is_some();
    match (&global.client_certificate, &global.client_key) {
        (Some(path), _) if !has_key => bail!("--client-certificate {} needs --client-key", path.display()),
        (_, Some(path)) if !has_certificate => bail!("--client-key {} needs --client-certificate", path.display()),
        _ => {}
    }
    if let Some(name) = &global.impersonate {
        user.impersonate = Some(name.clone());
    }
    if !global.impersonate_groups.is_empty() {
        user.impersonate_groups = Some(global.impersonate_groups.clone());
    }
    if let Some(uid) = &global.impersonate_uid {
        user.impersonate_uid = Some(uid.clone());
    }
    if user.impersonate.is_none() {
        if let Some(uid) = &global.impersonate_uid {
            bail!("--as-uid {uid} impersonates nobody: give --as too");
        }
        if let Some(group) = global.impersonate_groups.first() {
            bail!("--as-group {group} impersonates nobody: give --as too");
        }
    }
    Ok(())
}

/// A file that a flag names; the client library's own errors do not say which flag it was.
fn read_file(flag: &str, path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read --{flag} {}", path.display()))
}
