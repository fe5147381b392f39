//! virt-controller as a program of a cluster: health and metrics of every replica, the controllers for the one that leads.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use fv_metrics::live;
use fv_runtime::Clock;
use fv_runtime::certificates::{CertificateError, Identity, RELOAD_EVERY, keep_reloading};
use fv_runtime::health::Health;
use fv_runtime::leases::{Candidate, Led, Timing, lead};
use fv_runtime::metrics::Exporter;
use fv_runtime::settings::Settings;
use fv_runtime::tls::{ClientCertificates, serve, server_config};
use kube::Client;
use tokio::net::TcpListener;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use crate::Machines;

/// The lease of the controllers, in the namespace we are installed in.
pub const LEASE: &str = "virt-controller";

/// What virt-controller is started with.
#[derive(Clone, Debug)]
pub struct Options {
    pub listen: SocketAddr,
    /// The namespace we are installed in.
    pub namespace: String,
    /// Directory of the certificate that is served.
    pub tls_dir: PathBuf,
    /// Unlike that of any other process ([`fv_runtime::leases::identity`]).
    pub identity: String,
}

/// Why virt-controller ends although nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    #[error("the certificate to be used")]
    Certificate(#[from] CertificateError),
    #[error("set up TLS")]
    Tls(#[from] rustls::Error),
    #[error("listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("the controllers")]
    Run(#[from] crate::RunError),
    #[error("the controllers ended unexpectedly")]
    Task(#[from] JoinError),
    /// Another replica works by now: nothing may be left running here.
    #[error("lost the lease {LEASE}")]
    Lost,
}

/// Runs until `shutdown`. `client` acts as virt-controller. Every replica is ready, whether it leads or not, as upstream.
///
/// # Errors
/// What cannot be set up; a lost lease; the failure of the controllers.
pub async fn run(
    options: Options,
    client: Client,
    settings: Settings,
    shutdown: CancellationToken,
) -> Result<(), ProgramError> {
    let identity = Identity::open(&options.tls_dir)?;
    let tls = server_config(identity.clone(), ClientCertificates::Ignored)?;
    let listener = TcpListener::bind(options.listen)
        .await
        .map_err(|source| ProgramError::Listen { address: options.listen, source })?;
    // Health and scrapes are answered until the end: also while the work comes to its own.
    let over = CancellationToken::new();
    let _end = over.clone().drop_guard();
    tokio::spawn(keep_reloading(vec![identity], RELOAD_EVERY, over.clone()));
    let (exporter, machines) = (Exporter::new(), Machines::default());
    exporter.add(Arc::new(machines.clone()));
    live::set(&live::CONTROLLER_LEADING, false);
    tokio::spawn(serve(
        listener,
        Health::measured(&live::CONTROLLER_READY).router().merge(exporter.router()),
        tls,
        over,
    ));

    let candidate = Candidate {
        client: client.clone(),
        namespace: options.namespace,
        name: LEASE.to_owned(),
        identity: options.identity,
        timing: Timing::default(),
        clock: Clock::System,
    };
    let work = move |shutdown| controllers(client, settings, machines, shutdown);
    match lead(candidate, shutdown, work).await? {
        Led::Never => Ok(()),
        Led::Finished(result) => Ok(result?),
        Led::Lost => Err(ProgramError::Lost),
    }
}

/// The controllers, started anew when the settings change: they hold no state of their own.
async fn controllers(
    client: Client,
    mut settings: Settings,
    machines: Machines,
    shutdown: CancellationToken,
) -> Result<(), crate::RunError> {
    let since = Some(Clock::System.now());
    while !shutdown.is_cancelled() {
        let config = (**settings.borrow_and_update()).clone();
        let stop = shutdown.child_token();
        let options = crate::Options { machines: machines.clone(), since, ..crate::Options::default() };
        let mut run = Box::pin(crate::run_with(client.clone(), config, options, stop.clone()));
        tokio::select! {
            ended = &mut run => return ended,
            Ok(()) = settings.changed() => {
                tracing::info!("the settings have changed: the controllers start anew");
                stop.cancel();
                run.await?;
            }
        }
    }
    Ok(())
}
