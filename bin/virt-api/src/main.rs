//! virt-api: the aggregated API and the admission webhooks of a cluster.

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use fv_api::config::{ClusterConfig, Engine};
use fv_runtime::{program, rest, settings};
use fv_virt_api::program::Options;

/// Serves subresources.kubevirt.io and the admission webhooks of KubeVirt objects.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Namespace we are installed in.
    #[arg(long, env = "NAMESPACE", default_value = "kubevirt")]
    namespace: String,
    /// Port to serve on.
    #[arg(long, default_value_t = 8443)]
    port: u16,
    /// Directory with tls.crt and tls.key of this server.
    #[arg(long, default_value = "/etc/virt-api/certificates")]
    tls_dir: PathBuf,
    /// Directory with tls.crt and tls.key that virt-handler is shown.
    #[arg(long, default_value = "/etc/virt-handler/clientcertificates")]
    handler_client_tls_dir: PathBuf,
    /// Authorities of virt-handler's certificate.
    #[arg(long, default_value = "/etc/kubevirt-ca/ca-bundle")]
    ca_file: PathBuf,
    /// Port of virt-handler.
    #[arg(long, default_value_t = 8186)]
    handler_port: u16,
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
    let base = ClusterConfig { engine: Engine::Kubernetes, ..ClusterConfig::default() };
    let Some(settings) = settings::follow(client.clone(), &cli.namespace, base, shutdown.clone()).await else {
        return Ok(());
    };
    let options = Options {
        listen: program::everywhere(cli.port),
        namespace: cli.namespace,
        tls_dir: cli.tls_dir,
        handler_client_tls_dir: cli.handler_client_tls_dir,
        ca_file: cli.ca_file,
        handler_port: cli.handler_port,
    };
    fv_virt_api::program::run(options, client, settings, shutdown).await?;
    Ok(())
}
