//! virt-controller: VirtualMachine → VirtualMachineInstance → launcher pod, on a cluster.

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use fv_api::config::{ClusterConfig, Engine};
use fv_runtime::{leases, program, rest, settings};
use fv_virt_controller::program::{Options, run};

/// Runs the controllers of virtual machines; of several replicas one works.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Namespace we are installed in.
    #[arg(long, env = "NAMESPACE", default_value = "kubevirt")]
    namespace: String,
    /// Port of health and metrics.
    #[arg(long, default_value_t = 8443)]
    port: u16,
    /// Directory with tls.crt and tls.key of this server.
    #[arg(long, default_value = "/etc/virt-controller/certificates")]
    tls_dir: PathBuf,
    /// Image of launcher pods.
    #[arg(long, env = "LAUNCHER_IMAGE")]
    launcher_image: Option<String>,
    /// Pull policy of that image, where the KubeVirt resource has none.
    #[arg(long, value_parser = ["Always", "IfNotPresent", "Never"])]
    pull_policy: Option<String>,
    /// Say more; twice for everything.
    #[arg(short, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    program::begin(cli.verbose);
    let shutdown = program::until_terminated().context("listen to signals")?;
    let client = rest::client().await?;
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let base = base_settings(cli.launcher_image, cli.pull_policy);
    let Some(settings) = settings::follow(client.clone(), &cli.namespace, base, shutdown.clone()).await else {
        return Ok(());
    };
    let options = Options {
        listen: program::everywhere(cli.port),
        namespace: cli.namespace,
        tls_dir: cli.tls_dir,
        identity: leases::identity(&host),
    };
    run(options, client, settings, shutdown).await?;
    Ok(())
}

fn base_settings(launcher_image: Option<String>, pull_policy: Option<String>) -> ClusterConfig {
    let default = ClusterConfig { engine: Engine::Kubernetes, ..ClusterConfig::default() };
    ClusterConfig {
        launcher_image: launcher_image.unwrap_or_else(|| default.launcher_image.clone()),
        launcher_pull_policy: pull_policy.unwrap_or_else(|| default.launcher_pull_policy.clone()),
        ..default
    }
}
