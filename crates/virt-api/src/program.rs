//! virt-api as a program of a cluster: one TLS port for the aggregated API, the webhooks, probes and scrapes. Stateless, so any number of
//! replicas serve at the same time.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use fv_api::meta::common_names;
use fv_metrics::live;
use fv_runtime::certificates::{Authorities, CertificateError, Identity, RELOAD_EVERY, Reload, keep_reloading};
use fv_runtime::health::Health;
use fv_runtime::metrics::Exporter;
use fv_runtime::settings::Settings;
use fv_runtime::tls::{ClientCertificates, client_config, serve, server_config};
use fv_stream::{HandlerPods, RemoteNodes};
use kube::Client;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::authorize::{Gate, authorize};
use crate::documents;
use crate::front_proxy::FrontProxy;
use crate::webhooks::{self, Webhooks};
use crate::{VirtApi, router as subresources};

/// What virt-api must know before it is ready.
const USERS: &str = "what identifies users";
const HANDLERS: &str = "virt-handler pods";

/// What virt-api is started with.
#[derive(Clone, Debug)]
pub struct Options {
    pub listen: SocketAddr,
    /// The namespace we are installed in.
    pub namespace: String,
    /// Directory of the certificate that is served.
    pub tls_dir: PathBuf,
    /// Directory of the certificate that virt-handler is shown.
    pub handler_client_tls_dir: PathBuf,
    /// Authorities of virt-handler's certificate.
    pub ca_file: PathBuf,
    pub handler_port: u16,
}

/// Why virt-api does not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("the certificates to be used")]
    Certificates(#[from] CertificateError),
    #[error("set up TLS")]
    Tls(#[from] rustls::Error),
    #[error("listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
}

/// Serves until `shutdown`; requests that run then have a few seconds to end. `client` acts as virt-api.
///
/// # Errors
/// Certificates cannot be read, or the address cannot be listened on.
pub async fn run(
    options: Options,
    client: Client,
    settings: Settings,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let listener = TcpListener::bind(options.listen)
        .await
        .map_err(|source| RunError::Listen { address: options.listen, source })?;
    serve_on(listener, options, client, settings, shutdown).await
}

/// [`run`] on a listener that exists already.
///
/// # Errors
/// Certificates cannot be read.
pub async fn serve_on(
    listener: TcpListener,
    options: Options,
    client: Client,
    settings: Settings,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let identity = Identity::open(&options.tls_dir)?;
    let handler_identity = Identity::open(&options.handler_client_tls_dir)?;
    let authorities = Authorities::open(&options.ca_file)?;
    let proxy = Arc::new(FrontProxy::default());
    let tls = server_config(identity.clone(), ClientCertificates::Optional(proxy.authorities()))?;
    let handler_tls = client_config(handler_identity.clone(), authorities.clone(), common_names::HANDLER_SERVER)?;

    let health = Health::measured(&live::API_READY);
    health.set(USERS, false);
    health.set(HANDLERS, false);
    let parts: Vec<Arc<dyn Reload>> = vec![identity, handler_identity, authorities];
    tokio::spawn(keep_reloading(parts, RELOAD_EVERY, shutdown.clone()));
    {
        let (proxy, client, health, stop) = (proxy.clone(), client.clone(), health.clone(), shutdown.clone());
        tokio::spawn(async move { proxy.follow(client, || health.set(USERS, true), stop).await });
    }
    let pods = HandlerPods::start(client.clone(), &options.namespace, shutdown.clone());
    {
        let (pods, health) = (pods.clone(), health.clone());
        tokio::spawn(async move {
            pods.synced().await;
            health.set(HANDLERS, true);
        });
    }
    let nodes = RemoteNodes::new(pods, options.handler_port, handler_tls);
    let api = VirtApi::new(client.clone(), Arc::new(nodes)).with_health(health.clone());
    let gate = Gate::new(client.clone(), proxy);
    let router = Router::new()
        .merge(subresources(api).layer(from_fn_with_state(gate, authorize)))
        .merge(documents::router())
        .merge(webhooks::router(Webhooks::new(client, settings, &options.namespace)))
        .merge(health.router())
        .merge(Exporter::new().router());
    tracing::info!(address = ?listener.local_addr().ok(), "virt-api serves");
    serve(listener, router, tls, shutdown).await;
    Ok(())
}
