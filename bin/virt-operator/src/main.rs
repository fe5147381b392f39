//! virt-operator: installs, updates and removes what the KubeVirt resource asks for.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use clap::Parser;
use fv_render::install::{Component, ImageSource};
use fv_runtime::{program, rest};
use fv_virt_operator::Settings;
use tokio::net::TcpListener;

/// Installs, updates and removes what the KubeVirt resource asks for.
#[derive(Parser, Debug)]
#[command(name = "virt-operator", version)]
struct Args {
    /// Namespace of the operator and of what it installs.
    #[arg(long, env = "NAMESPACE", default_value = "kubevirt")]
    namespace: String,
    /// Name of this replica.
    #[arg(long, env = "POD_NAME", default_value = "virt-operator")]
    pod_name: String,
    /// Port of probes and metrics.
    #[arg(long, default_value_t = 8443)]
    port: u16,
    /// Port of webhooks.
    #[arg(long, default_value_t = 8444)]
    webhook_port: u16,
    /// The operator's own image: registry, prefix and tag of the others are read from it.
    #[arg(long, env = "VIRT_OPERATOR_IMAGE")]
    image: String,
    /// Version of this operator, where its image is given by digest.
    #[arg(long, env = "KUBEVIRT_VERSION", default_value = concat!("v", env!("CARGO_PKG_VERSION")))]
    kubevirt_version: String,
    /// Image of virt-api, when it is not beside the operator's.
    #[arg(long, env = "VIRT_API_IMAGE")]
    api_image: Option<String>,
    #[arg(long, env = "VIRT_CONTROLLER_IMAGE")]
    controller_image: Option<String>,
    #[arg(long, env = "VIRT_HANDLER_IMAGE")]
    handler_image: Option<String>,
    #[arg(long, env = "VIRT_LAUNCHER_IMAGE")]
    launcher_image: Option<String>,
    /// More log; may be given twice.
    #[arg(short = 'v', action = clap::ArgAction::Count)]
    verbosity: u8,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    program::begin(args.verbosity);
    let shutdown = program::until_terminated().context("listen to signals")?;
    let client = rest::client().await?;
    let listeners = (listen(args.port).await?, listen(args.webhook_port).await?);
    let settings = settings(args)?;
    fv_virt_operator::run(client, settings, listeners, shutdown).await?;
    Ok(())
}

fn settings(args: Args) -> Result<Settings> {
    let mut images = ImageSource::of_operator_image(&args.image, &args.kubevirt_version).with_context(|| {
        format!("{:?} is no image of an operator, such as quay.io/ferrovirt/virt-operator:v1", args.image)
    })?;
    let pinned: BTreeMap<Component, Option<String>> = [
        (Component::Api, args.api_image),
        (Component::Controller, args.controller_image),
        (Component::Handler, args.handler_image),
        (Component::Launcher, args.launcher_image),
    ]
    .into();
    images.pinned.extend(pinned.into_iter().filter_map(|(component, image)| Some((component, image?))));
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    Ok(Settings { namespace: args.namespace, host: args.pod_name, images, architecture: architecture.to_owned() })
}

async fn listen(port: u16) -> Result<TcpListener> {
    TcpListener::bind(program::everywhere(port)).await.with_context(|| format!("listen on port {port}"))
}
