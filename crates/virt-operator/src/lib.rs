//! virt-operator: carries out what [`fv_plan::operator`] decides.
//!
//! Of several replicas one leads and acts; all of them judge writes to the KubeVirt resource ([`webhook`]).
//!
//! What the program asks of the API server, which `fv_render` grants: get, list, watch, create, update and delete of everything it
//! installs; list and watch of `kubevirts`, update of their status, patch of their finalizers; list and delete of machines (for
//! a removal), watch of instances (for how many are outdated); its lease.

mod certificates;
mod cluster;
mod execute;
mod kinds;
mod reconcile;
mod serving;
pub mod webhook;

use std::time::Duration;

use fv_metrics::live;
use fv_render::install::ImageSource;
use fv_runtime::Clock;
use fv_runtime::health::Health;
use fv_runtime::leases::{Candidate, Led, Timing, identity, lead};
use fv_runtime::metrics::Exporter;
use kube::Client;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use cluster::ClusterError;

/// What the program is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it runs and installs.
    pub namespace: String,
    /// Unlike that of other replicas; for the lease.
    pub host: String,
    /// Where images come from unless a resource says otherwise.
    pub images: ImageSource,
    /// Go's name of the architecture of the cluster's machines.
    pub architecture: String,
}

/// Why the operator ended.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    #[error("the lease was lost to another replica")]
    LostLease,
    #[error("the operator's work failed")]
    Work(#[from] tokio::task::JoinError),
    #[error("make a certificate to begin with")]
    Certificate(#[from] certificates::CertificateError),
    #[error("set up TLS")]
    Tls(#[from] rustls::Error),
}

/// Runs until `shutdown`. `health` is where probes and scrapes are answered, `webhooks` where the API server asks.
pub async fn run(
    client: Client,
    settings: Settings,
    (health_listener, webhook_listener): (TcpListener, TcpListener),
    shutdown: CancellationToken,
) -> Result<(), OperatorError> {
    let health = Health::measured(&live::OPERATOR_READY);
    health.set("cluster", false);
    live::set(&live::OPERATOR_LEADING, false);
    let certificate = serving::Certificate::temporary(Clock::System.now())?;
    let tls = serving::tls(certificate.clone())?;
    tokio::spawn(serving::follow(client.clone(), settings.namespace.clone(), certificate, shutdown.clone()));
    tokio::spawn(fv_runtime::tls::serve(
        health_listener,
        health.router().merge(Exporter::new().router()),
        tls.clone(),
        shutdown.clone(),
    ));
    let router = webhook::router(client.clone());
    tokio::spawn(fv_runtime::tls::serve(webhook_listener, router, tls, shutdown.clone()));
    tokio::spawn(watch_health(client.clone(), health, shutdown.clone()));

    let candidate = Candidate {
        client: client.clone(),
        namespace: settings.namespace.clone(),
        name: "virt-operator".to_owned(),
        identity: identity(&settings.host),
        timing: Timing::default(),
        clock: Clock::System,
    };
    let work = |shutdown| async move {
        live::set(&live::OPERATOR_LEADING, true);
        reconcile::run(client, settings, Clock::System, shutdown).await;
    };
    match lead(candidate, shutdown, work).await? {
        Led::Never | Led::Finished(()) => Ok(()),
        Led::Lost => Err(OperatorError::LostLease),
    }
}

/// Ready once the API server answers; it is not asked again, for a probe is not how its absence is told.
async fn watch_health(client: Client, health: Health, shutdown: CancellationToken) {
    const PAUSE: Duration = Duration::from_secs(2);
    while !shutdown.is_cancelled() {
        match cluster::kubevirts(&client).await {
            Ok(_) => return health.set("cluster", true),
            Err(error) => tracing::warn!(%error, "the API server does not list KubeVirt resources"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
