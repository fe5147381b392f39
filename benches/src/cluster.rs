//! Ferrovirt on a real Kubernetes, against plain pods of the same cluster in the same run.
//!
//! Runs on the machine that carries the test cluster (`tests/cluster`), whose processes it sees; the cluster is only this bench's.

mod audit;
mod footprint;
mod install;
mod network;
mod place;
mod sizes;
mod starts;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::progress;
use crate::table::Table;
use place::Place;

/// What `fv-bench cluster` is told.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// An administrator's kubeconfig of the cluster.
    #[arg(long, value_name = "FILE", env = "KUBECONFIG")]
    pub(crate) kubeconfig: PathBuf,
    /// Where the cluster's files are.
    #[arg(long, value_name = "DIR", env = "CLUSTER_DIR")]
    pub(crate) dir: PathBuf,
    /// What the cluster is called.
    #[arg(long, value_name = "NAME", env = "CLUSTER_NAME")]
    pub(crate) name: String,
    /// Where `kubevirt-operator.yaml` and `kubevirt-cr.yaml` of the version to install are.
    #[arg(long, value_name = "DIR")]
    pub(crate) manifests: PathBuf,
    /// The OCI image layout of that version.
    #[arg(long, value_name = "DIR")]
    pub(crate) images: PathBuf,
    /// The demo guest's image, as pods name it.
    #[arg(long, value_name = "IMAGE")]
    pub(crate) guest: String,
    /// The image of the pods to compare with: one that does nothing.
    #[arg(long, value_name = "IMAGE")]
    pub(crate) pause: String,
    /// VMs, and pods, that are started one after the other.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) rounds: usize,
    /// Virtual machines at once.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) vms: usize,
    /// Seconds that each rate of the network is measured for.
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    pub(crate) seconds: u64,
}

/// Fills the table.
pub(crate) async fn measure(options: &Options, table: &mut Table) -> Result<()> {
    ensure!(
        options.rounds > 1 && options.vms > 1 && options.seconds > 0,
        "--rounds and --vms must be at least 2, --seconds at least 1"
    );
    let file =
        Kubeconfig::read_from(&options.kubeconfig).with_context(|| format!("read {}", options.kubeconfig.display()))?;
    let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    let place = Place { client: kube::Client::try_from(config)?, dir: options.dir.clone(), name: options.name.clone() };

    sizes::measure(options, table)?;
    progress("installing");
    install::measure(&place, options, table).await?;
    // What the start left to do is over by then.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let idle = footprint::Look::at(&place, &[]).await?;
    starts::measure(&place, options, table).await?;
    footprint::measure(&place, options, &idle, table).await?;
    network::measure(&place, options, table).await
}
