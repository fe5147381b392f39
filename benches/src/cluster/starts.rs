//! Machines and plain pods, one after the other and in turns, so that a noisy machine is noisy for both.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Options;
use super::audit::{self, Write};
use super::place::Place;
use crate::progress;
use crate::stats::{difference, median, quantile, time};
use crate::table::{Row, Table};
use crate::vms::{self, Started};

/// A pod of one container that does nothing, as a launcher without a token.
pub(super) fn pod(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "automountServiceAccountToken": false, "enableServiceLinks": false, "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": image, "imagePullPolicy": "IfNotPresent",
                "resources": {"requests": {"cpu": "10m", "memory": "10Mi"}}}],
        },
    })
}

/// The instance that a VM would have.
fn instance(name: &str, image: &str) -> Value {
    let vm = vms::manifest(name, Some(image));
    json!({"apiVersion": vm["apiVersion"], "kind": "VirtualMachineInstance", "metadata": {"name": name},
        "spec": vm["spec"]["template"]["spec"]})
}

/// Starts an object, counts what was written for it, and removes it.
async fn one(place: &Place, manifest: &Value, until: &[&'static str]) -> Result<(Started, Vec<Write>)> {
    let name = manifest["metadata"]["name"].as_str().context("a manifest without a name")?.to_owned();
    let started = vms::start(&place.client, manifest, until).await?;
    let writes = audit::writes(&place.dir.join("world/log/audit.json"), vms::NAMESPACE, started.span)?;
    vms::delete(&place.client, &[name]).await?;
    Ok((started, writes))
}

pub(crate) async fn measure(place: &Place, options: &Options, table: &mut Table) -> Result<()> {
    progress("pulling images");
    // The first of each pays for its image.
    one(place, &vms::manifest("first", Some(&options.guest)), &[vms::RUNNING]).await?;
    one(place, &pod("first", &options.pause), &[vms::POD_READY]).await?;
    let (mut machines, mut pods, mut instances) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..options.rounds {
        progress(&format!("VM, pod and instance {} of {}", round + 1, options.rounds));
        let name = |what: &str| format!("{what}{round}");
        let manifest = vms::manifest(&name("machine"), Some(&options.guest));
        machines.push(one(place, &manifest, &[vms::RUNNING, vms::VM_RUNNING]).await?);
        pods.push(one(place, &pod(&name("plain"), &options.pause), &[vms::POD_READY]).await?);
        instances.push(one(place, &instance(&name("instance"), &options.guest), &[vms::RUNNING]).await?);
    }

    table.section(&format!(
        "Starts, {} of each in a row and in turns: a VM with the demo guest against a plain pod of one container",
        options.rounds
    ));
    let floor = took(&pods, vms::POD_READY);
    for (what, ours) in [
        ("VM create → VMI Running", took(&machines, vms::RUNNING)),
        ("VM create → VM Running", took(&machines, vms::VM_RUNNING)),
        ("VMI create → Running", took(&instances, vms::RUNNING)),
    ] {
        for (name, share) in [("p50", 0.5), ("p95", 0.95)] {
            let (ours, floor) = (quantile(&ours, share), quantile(&floor, share));
            table.row(Row {
                what: format!("{what}, {name}"),
                ours: time(ours),
                floor: format!("{} (pod create → Ready)", time(floor)),
                against: difference(ours, floor),
                aim: if share > 0.9 { "≤ floor + 1 s".into() } else { String::new() },
            });
        }
    }
    for step in [
        vms::VMI_CREATED,
        vms::POD_CREATED,
        vms::POD_BOUND,
        vms::POD_RUNNING,
        vms::SCHEDULED,
        vms::RUNNING,
        vms::VM_RUNNING,
    ] {
        table.row(Row {
            what: format!("  {step} after, median"),
            ours: time(median(&took(&machines, step))),
            floor: floor_of(&took(&pods, step)),
            ..Row::default()
        });
    }
    for (what, all, aim) in [
        ("API writes for a VM until Running", &machines, "≤ 10"),
        ("API writes for a VMI until Running", &instances, "≤ 6"),
        ("API writes for a plain pod until Ready", &pods, ""),
    ] {
        writes(what, all, aim, table);
    }
    Ok(())
}

/// A pod does not come to all the steps.
fn floor_of(times: &[f64]) -> String {
    if times.is_empty() { String::new() } else { time(median(times)) }
}

fn took(all: &[(Started, Vec<Write>)], step: &str) -> Vec<f64> {
    all.iter().filter_map(|(started, _)| started.steps.get(step)).map(Duration::as_secs_f64).collect()
}

/// The median count, and who wrote what in the round that has it.
fn writes(what: &str, all: &[(Started, Vec<Write>)], aim: &str, table: &mut Table) {
    let mut rounds: Vec<(Vec<Write>, usize)> = all
        .iter()
        .map(|(_, writes)| {
            let (events, writes): (Vec<Write>, Vec<Write>) = writes.iter().cloned().partition(Write::is_event);
            (writes, events.len())
        })
        .collect();
    rounds.sort_by_key(|(writes, _)| writes.len());
    let Some((writes, events)) = rounds.get(rounds.len() / 2) else { return };
    let by = audit::summary(writes, |write| write.by.clone());
    table.fact(what, format!("{} ({by}) and {events} events", writes.len()), aim);
    let mut writers: Vec<&str> = writes.iter().map(|write| write.by.as_str()).collect();
    writers.sort_unstable();
    writers.dedup();
    for writer in writers {
        let of_it: Vec<Write> = writes.iter().filter(|write| write.by == writer).cloned().collect();
        table.fact(format!("  {writer}"), audit::summary(&of_it, |write| write.what.clone()), "");
    }
}
