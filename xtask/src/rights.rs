//! `cargo xtask rights`: least privilege, checked against a run.
//!
//! ```text
//! roles and bindings ─► grants: what each service account may ──┐
//! audit log ──────────► usage: what each did, what was denied ──┼─► review ─► verdict
//! tests/e2e/rights.yaml: what need not be used, and why ────────┘
//! ```
//!
//! A right that no request used and no reason explains fails the check, as does a request that was denied, a reason for a right
//! that nobody has, and a right that the file says a component must never have.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

mod grants;
mod review;
#[cfg(test)]
mod tests;
mod usage;

use self::grants::Grants;
use self::review::{Reviewed, Verdict};
use self::usage::Usage;

/// Where to read from.
#[derive(Args)]
pub(crate) struct RightsArgs {
    /// The API server's audit log: one event a line.
    #[arg(long)]
    audit: PathBuf,
    /// Roles and bindings: `kubectl get clusterroles,clusterrolebindings,roles,rolebindings -A -o json`.
    #[arg(long)]
    access: PathBuf,
    /// What was reviewed by people; the repository's by default.
    #[arg(long)]
    reviewed: Option<PathBuf>,
    /// Namespace of the installation, whose service accounts are judged.
    #[arg(long, default_value = fv_render::install::operator::NAMESPACE)]
    namespace: String,
}

/// Prints what every component did not use, and fails where that is not explained.
#[allow(clippy::print_stdout)]
pub(crate) fn run(root: &Path, args: &RightsArgs) -> Result<()> {
    let access =
        serde_json::from_str(&read(&args.access)?).with_context(|| format!("read {}", args.access.display()))?;
    let reviewed = args.reviewed.clone().unwrap_or_else(|| root.join("tests/e2e/rights.yaml"));
    let reviewed: Reviewed =
        serde_saphyr::from_str(&read(&reviewed)?).with_context(|| format!("read {}", reviewed.display()))?;
    let grants = Grants::read(&access, &args.namespace)?;
    let log = File::open(&args.audit).with_context(|| format!("read {}", args.audit.display()))?;
    let usage =
        Usage::read(BufReader::new(log), &args.namespace).with_context(|| format!("read {}", args.audit.display()))?;
    let Verdict { report, faults } = review::judge(&grants, &usage, &reviewed);
    println!("{report}");
    if !faults.is_empty() {
        bail!("rights of components:\n  {}", faults.join("\n  "));
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}
