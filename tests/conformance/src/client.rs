//! Plain requests over TLS, answers as they come.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use kube::config::{
    AuthInfo, Cluster, Context, KubeConfigOptions, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext,
};
use serde_json::Value;

/// Longer than any request of the corpus should take.
const DEADLINE: Duration = Duration::from_secs(20);

/// A connection to one of the servers, as an administrator.
#[derive(Clone)]
pub struct Client {
    inner: kube::Client,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// What a server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub code: u16,
    /// Media type, without parameters other than `as`.
    pub media: String,
    /// Texts of `Warning` headers.
    pub warnings: Vec<String>,
    /// JSON when it is JSON, else a string.
    pub body: Value,
}

impl Client {
    /// A client that trusts this authority and shows this certificate (paths of PEM files).
    pub async fn new(url: &str, authority: &str, certificate: &Path, key: &Path) -> Result<Client> {
        let path = |p: &Path| Some(p.to_string_lossy().into_owned());
        let kubeconfig = Kubeconfig {
            clusters: vec![NamedCluster {
                name: "oracle".into(),
                other: Default::default(),
                cluster: Some(Cluster {
                    server: Some(url.to_owned()),
                    certificate_authority_data: Some(base64::engine::general_purpose::STANDARD.encode(authority)),
                    ..Cluster::default()
                }),
            }],
            auth_infos: vec![NamedAuthInfo {
                name: "oracle".into(),
                other: Default::default(),
                auth_info: Some(AuthInfo {
                    client_certificate: path(certificate),
                    client_key: path(key),
                    ..AuthInfo::default()
                }),
            }],
            contexts: vec![NamedContext {
                name: "oracle".into(),
                other: Default::default(),
                context: Some(Context { cluster: "oracle".into(), user: Some("oracle".into()), ..Context::default() }),
            }],
            current_context: Some("oracle".into()),
            ..Kubeconfig::default()
        };
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .context("make a client configuration")?;
        // What a server answers is what is compared.
        config.default_retry = false;
        Ok(Client { inner: kube::Client::try_from(config).context("make a client")? })
    }

    async fn start(
        &self,
        method: &str,
        path: &str,
        headers: &[(String, String)],
        body: Bytes,
    ) -> Result<Response<Body>> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Body::from(body.to_vec())).with_context(|| format!("build {method} {path}"))?;
        self.inner.send(request).await.with_context(|| format!("{method} {path}"))
    }

    /// One request and its whole answer.
    pub async fn send(&self, method: &str, path: &str, headers: &[(String, String)], body: Bytes) -> Result<Answer> {
        let work = async {
            let response = self.start(method, path, headers, body).await?;
            let (parts, body) = response.into_parts();
            let bytes = body.collect().await.map_err(|e| anyhow::anyhow!("{method} {path}: read the answer: {e}"))?;
            let header = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
            let media = header("content-type").replace(' ', "");
            let warnings = parts.headers.get_all("warning").iter();
            let warnings = warnings.filter_map(|w| w.to_str().ok()).map(str::to_owned).collect();
            let bytes = bytes.to_bytes();
            let body = serde_json::from_slice(&bytes)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
            Ok(Answer { code: parts.status.as_u16(), media, warnings, body })
        };
        tokio::time::timeout(DEADLINE, work).await.with_context(|| format!("{method} {path}: no answer in time"))?
    }

    /// Opens a stream of JSON lines; `line` is told each, until the stream ends or the future is dropped.
    pub async fn stream(
        &self,
        path: &str,
        headers: &[(String, String)],
        mut opened: impl FnMut(u16),
        mut line: impl FnMut(Value),
    ) -> Result<()> {
        let response = self.start("GET", path, headers, Bytes::new()).await?;
        opened(response.status().as_u16());
        let mut body = response.into_body();
        let mut rest = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| anyhow::anyhow!("watch {path}: {e}"))?;
            let Ok(data) = frame.into_data() else { continue };
            rest.extend_from_slice(&data);
            while let Some(end) = rest.iter().position(|b| *b == b'\n') {
                let text: Vec<u8> = rest.drain(..=end).collect();
                line(serde_json::from_slice(&text).with_context(|| format!("watch {path}: a line is not JSON"))?);
            }
        }
        if !rest.is_empty() {
            line(serde_json::from_slice(&rest).unwrap_or_else(|_| String::from_utf8_lossy(&rest).into_owned().into()));
        }
        Ok(())
    }
}
