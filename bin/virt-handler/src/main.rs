//! virt-handler: the node agent of a cluster, one per node. See docs/node.md for what it needs of the node.

mod devices;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use anyhow::Context;
use clap::{ArgAction, Parser};
use fv_runtime::{program, rest};
use fv_virt_handler::kubelet::program::{Options, run};

/// The node agent: runs the virtual machines of one node.
#[derive(Parser)]
#[command(name = "virt-handler", version)]
struct Args {
    /// Name of this node's Node object.
    #[arg(long, env = "NODE_NAME")]
    node_name: String,
    /// Namespace of the installation.
    #[arg(long, env = "NAMESPACE", default_value = "kubevirt")]
    namespace: String,
    /// Address to listen on.
    #[arg(long, env = "MY_POD_IP", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    pod_ip: IpAddr,
    /// Port of health and metrics.
    #[arg(long, default_value_t = 8443)]
    port: u16,
    /// Port of the node agent's API, for virt-api.
    #[arg(long, default_value_t = 8186)]
    agent_port: u16,
    /// Directory with tls.crt and tls.key of the server.
    #[arg(long, default_value = "/etc/virt-handler/servercertificates")]
    tls_dir: PathBuf,
    /// Certificates of the authorities that clients' certificates come from.
    #[arg(long, default_value = "/etc/kubevirt-ca/ca-bundle")]
    ca_file: PathBuf,
    /// Records, disks and images; the same path on the node.
    #[arg(long, default_value = "/var/lib/ferrovirt")]
    state_dir: PathBuf,
    /// Sockets and network namespaces; the same path on the node.
    #[arg(long, default_value = "/run/ferrovirt")]
    run_dir: PathBuf,
    /// The kubelet's root directory; the same path on the node.
    #[arg(long, default_value = "/var/lib/kubelet")]
    kubelet_dir: PathBuf,
    /// Places at each device.
    #[arg(long, default_value_t = 1000)]
    max_devices: usize,
    /// More log lines; twice: still more.
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,
}

fn main() -> anyhow::Result<()> {
    fv_host::memory::economise();
    let args = Args::parse();
    program::begin(args.verbose);
    // Whatever in the process speaks TLS uses this.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.context("start the runtime")?.block_on(agent(args))
}

async fn agent(args: Args) -> anyhow::Result<()> {
    // Guests go on.
    let shutdown = program::until_terminated().context("listen to signals")?;
    let client = rest::client().await?;
    let devices = devices::offer(&args.kubelet_dir.join("device-plugins"), args.max_devices, &shutdown);
    let options = Options {
        node_name: args.node_name,
        namespace: args.namespace,
        address: args.pod_ip,
        port: args.port,
        agent_port: args.agent_port,
        tls_dir: args.tls_dir,
        ca_file: args.ca_file,
        state_dir: args.state_dir,
        run_dir: args.run_dir,
        kubelet_dir: args.kubelet_dir,
    };
    Ok(run(options, client, devices, shutdown).await?)
}
