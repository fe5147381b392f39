//! From two manifests to an installation.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use serde_json::json;

use super::Options;
use super::place::{INSTALLATION, Place};
use crate::instance::run;
use crate::stats::time;
use crate::table::Table;

const PATIENCE: Duration = Duration::from_secs(300);
/// How closely it is looked at.
const STEP: Duration = Duration::from_millis(50);

pub(crate) async fn measure(place: &Place, options: &Options, table: &mut Table) -> Result<()> {
    let kubevirts = place.api("kubevirt.io", "KubeVirt", INSTALLATION);
    let nodes = kube::Api::<DynamicObject>::all_with(place.client.clone(), &crate::vms::resource("", "v1", "Node"));
    let begin = Instant::now();
    apply(options, &options.manifests.join("kubevirt-operator.yaml"))?;
    apply(options, &options.manifests.join("kubevirt-cr.yaml"))?;
    // There may be no KVM where this runs.
    let emulation = json!({"spec": {"configuration": {"developerConfiguration": {"useEmulation": true}}}});
    kubevirts.patch("kubevirt", &PatchParams::default(), &Patch::Merge(&emulation)).await?;
    let applied = begin.elapsed();
    let available = loop {
        // Its definition is replaced meanwhile, and not served for a moment.
        match kubevirts.get("kubevirt").await {
            Ok(object) if has_condition(&object, "Available") => break begin.elapsed(),
            Ok(_) => {}
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 429 | 503) => {}
            Err(error) => return Err(error.into()),
        }
        pause(begin, "the installation is not Available").await?;
    };
    let usable = loop {
        let ready = nodes.list_metadata(&ListParams::default().labels("kubevirt.io/schedulable=true")).await?;
        if !ready.items.is_empty() {
            break begin.elapsed();
        }
        pause(begin, "no node takes virtual machines").await?;
    };
    table.section("Installation, with the images pulled from a registry on this machine");
    table.fact("kubectl apply of both manifests", time(applied.as_secs_f64()), "");
    table.fact("→ KubeVirt Available", time(available.as_secs_f64()), "");
    table.fact("→ a node takes virtual machines", time(usable.as_secs_f64()), "");
    Ok(())
}

fn apply(options: &Options, file: &Path) -> Result<()> {
    run(Command::new("kubectl").env("KUBECONFIG", &options.kubeconfig).arg("apply").arg("-f").arg(file)).map(drop)
}

async fn pause(begin: Instant, what: &str) -> Result<()> {
    if begin.elapsed() > PATIENCE {
        bail!("{what} after {} s", PATIENCE.as_secs());
    }
    tokio::time::sleep(STEP).await;
    Ok(())
}

fn has_condition(object: &DynamicObject, kind: &str) -> bool {
    let conditions = object.data["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|c| c["type"] == kind && c["status"] == "True"))
}
