//! Chores of the repository: `cargo xtask <task>`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

mod crds;
mod features;
mod image;
mod kinds;
mod layers;
mod manifests;
mod metrics;
mod page;
mod rights;

/// Chores of the repository.
#[derive(Parser)]
#[command(name = "xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Write manifests/crds from the Rust types.
    Crds {
        /// Write nothing; fail when a file is not what would be written.
        #[arg(long)]
        check: bool,
    },
    /// Write the API server's tables of built-in kinds from the sources of Kubernetes (needs Go).
    Kinds {
        /// Write nothing; fail when a table is not what would be written.
        #[arg(long)]
        check: bool,
    },
    /// Write kubevirt-operator.yaml and kubevirt-cr.yaml.
    Manifests {
        /// Write nothing; fail when a file of the repository is not what would be written.
        #[arg(long, conflicts_with = "out")]
        check: bool,
        /// Write into this folder instead of the repository's.
        #[arg(long)]
        out: Option<PathBuf>,
        #[command(flatten)]
        options: manifests::Options,
    },
    /// Write the list of metrics in docs/metrics.md.
    Metrics {
        /// Write nothing; fail when the page is not what would be written.
        #[arg(long)]
        check: bool,
    },
    /// Write the table of features in docs/features.md.
    Features {
        /// Write nothing; fail when the page is not what would be written.
        #[arg(long)]
        check: bool,
    },
    /// Fail when a crate depends on a crate of its own layer or of a higher one.
    CheckLayers,
    /// Build container images as an OCI image layout, and push them.
    Image(image::ImageArgs),
    /// Compare what components may do in a cluster with what its audit log says they did.
    Rights(rights::RightsArgs),
}

fn main() -> Result<()> {
    let root = root()?;
    match Args::parse().task {
        Task::Crds { check: false } => crds::write(&root),
        Task::Crds { check: true } => crds::check(&root),
        Task::Kinds { check: false } => kinds::write(&root),
        Task::Kinds { check: true } => kinds::check(&root),
        Task::Manifests { check: true, out: _, options } => manifests::check(&root, &options),
        Task::Manifests { check: false, out, options } => manifests::write(&root, out, &options),
        Task::Metrics { check: false } => metrics::write(&root),
        Task::Metrics { check: true } => metrics::check(&root),
        Task::Features { check: false } => features::write(&root),
        Task::Features { check: true } => features::check(&root),
        Task::CheckLayers => layers::check(&root),
        Task::Image(args) => image::run(&root, &args),
        Task::Rights(args) => rights::run(&root, &args),
    }
}

/// The workspace's root: the parent of this package.
fn root() -> Result<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(package.parent().context("xtask has no parent folder")?.to_owned())
}
