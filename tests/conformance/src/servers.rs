//! Both servers, each in a directory and on ports of its own, gone when dropped.

mod ours;
mod processes;
mod real;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use fv_apiserver::tls::{Identity, Pki};
use jiff::Timestamp;
use serde_json::{Value, json};

pub use ours::Ours;
pub use processes::{Processes, Program, Serve, serve};
pub use real::Real;

use crate::client::Client;

/// How long a server or a definition may take to get ready.
const READY: Duration = Duration::from_secs(120);
/// The user both servers see.
const USER: &str = "oracle";

fn identity(pki: &Pki) -> Result<Identity> {
    pki.client(USER, USER, "system:masters", Timestamp::now()).context("issue a client certificate")
}

/// A client that the authority in `dir` vouches for.
async fn client(pki: &Pki, dir: &Path, address: SocketAddr) -> Result<Client> {
    let identity = identity(pki)?;
    let (certificate, key) = (dir.join("client.crt"), dir.join("client.key"));
    std::fs::write(&certificate, &identity.certificate).context("write the client certificate")?;
    std::fs::write(&key, &identity.key).context("write the client key")?;
    Client::new(&format!("https://{address}"), pki.ca_certificate(), &certificate, &key).await
}

/// Waits until the server says it is ready.
async fn ready(client: &Client) -> Result<()> {
    wait(client, "/readyz", |answer| answer == &json!("ok")).await
}

/// Installs the definitions of the corpus and waits until they are served.
pub async fn install(client: &Client) -> Result<()> {
    let definitions: Vec<Value> =
        serde_saphyr::from_str(include_str!("../definitions.yaml")).context("parse definitions.yaml")?;
    let headers = [("content-type".to_owned(), "application/json".to_owned())];
    for definition in definitions {
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let answer = client.send("POST", path, &headers, Bytes::from(definition.to_string())).await?;
        if answer.code != 201 {
            bail!("install {}: {}", definition["metadata"]["name"], answer.body);
        }
        let spec = &definition["spec"];
        for version in spec["versions"].as_array().into_iter().flatten() {
            let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
            let (group, version, plural) =
                (text(&spec["group"]), text(&version["name"]), text(&spec["names"]["plural"]));
            let list = format!("/apis/{group}/{version}/{plural}");
            wait(client, &list, |answer| answer["items"].is_array()).await?;
        }
    }
    Ok(())
}

async fn wait(client: &Client, path: &str, done: impl Fn(&Value) -> bool) -> Result<()> {
    let end = tokio::time::Instant::now() + READY;
    loop {
        let last = match client.send("GET", path, &[], Bytes::new()).await {
            Ok(answer) if done(&answer.body) => return Ok(()),
            Ok(answer) => answer.body.to_string(),
            Err(error) => format!("{error:#}"),
        };
        if tokio::time::Instant::now() > end {
            bail!("{path} is not ready after {} s: {last}", READY.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Where `tests/cluster/build.sh` puts the programs of Kubernetes unless it is told otherwise.
pub fn default_programs() -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".cache"));
    let cache = cache.or_else(home).context("neither XDG_CACHE_HOME nor HOME is set; use --kubernetes DIR")?;
    Ok(cache.join("ferrovirt/kubernetes-v1.35.4"))
}
