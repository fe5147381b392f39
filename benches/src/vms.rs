//! Virtual machines through the API, timed from the request to what the watches and the guest's serial line say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::stream::{SelectAll, StreamExt};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, PostParams, WatchEvent, WatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::ApiResource;
use serde_json::{Value, json};

use crate::instance::Instance;

/// Memory of the guests, in MiB.
pub(crate) const GUEST_MIB: u32 = 96;
/// What the guest prints when its init is done with what a login waits for.
pub(crate) const MARKER: &str = "login:";
/// Name of the demo guest in the image store.
pub(crate) const IMAGE: &str = "ferrovirt/bench-guest:latest";
const NAMESPACE: &str = "default";
const PATIENCE: Duration = Duration::from_secs(120);

/// What one VM took.
#[derive(Debug, Clone)]
pub(crate) struct Started {
    pub(crate) uid: String,
    /// Since the request was sent; in the order in which they came.
    pub(crate) steps: BTreeMap<&'static str, Duration>,
    /// Writes to the API until Running, by kind of object.
    pub(crate) writes: BTreeMap<String, usize>,
}

pub(crate) const VMI_CREATED: &str = "VMI created";
pub(crate) const POD_CREATED: &str = "pod created";
pub(crate) const POD_RUNNING: &str = "pod running";
pub(crate) const SCHEDULED: &str = "Scheduled";
pub(crate) const RUNNING: &str = "Running";

fn resource(group: &str, version: &str, kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

pub(crate) fn vms(client: &kube::Client) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), NAMESPACE, &resource("kubevirt.io", "v1", "VirtualMachine"))
}

fn vmis(client: &kube::Client) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), NAMESPACE, &resource("kubevirt.io", "v1", "VirtualMachineInstance"))
}

/// A VM with the demo guest, or one with an empty disk only: it costs what any VM costs, and its firmware waits for ever.
pub(crate) fn manifest(name: &str, with_guest: bool) -> Value {
    let volume = if with_guest {
        json!({"name": "disk", "containerDisk": {"image": IMAGE, "imagePullPolicy": "IfNotPresent"}})
    } else {
        json!({"name": "disk", "emptyDisk": {"capacity": "64Mi"}})
    };
    json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": name},
        "spec": {"runStrategy": "Always", "template": {"spec": {
            "terminationGracePeriodSeconds": 0,
            "domain": {
                "memory": {"guest": format!("{GUEST_MIB}Mi")},
                // So many of them fit on few processors; the scheduler would rightly refuse some.
                "resources": {"requests": {"cpu": "10m"}},
                "devices": {
                    "disks": [{"name": "disk", "disk": {"bus": "virtio"}}],
                    "interfaces": [{"name": "default", "masquerade": {}}],
                },
            },
            "networks": [{"name": "default", "pod": {}}],
            "volumes": [volume],
        }}},
    })
}

/// Creates a VM and waits until its instance is Running.
pub(crate) async fn start(instance: &Instance, name: &str) -> Result<Started> {
    let client = &instance.client;
    let mut changes = watch_all(client).await?;
    let vm: DynamicObject = serde_json::from_value(manifest(name, true))?;
    let sent = Instant::now();
    vms(client).create(&PostParams::default(), &vm).await.context("create the VM")?;
    let mut started = Started { uid: String::new(), steps: BTreeMap::new(), writes: BTreeMap::new() };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut last = 0;
    let mut seen = Vec::new();
    while !started.steps.contains_key(RUNNING) {
        let Ok(Some((kind, object))) = tokio::time::timeout_at(deadline, changes.next()).await else {
            bail!("VM {name} was not Running within {} s; it came to {:?}", PATIENCE.as_secs(), started.steps);
        };
        let at = sent.elapsed();
        let revision = object.metadata.resource_version.as_deref().and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
        seen.push((revision, kind));
        let owned = object.metadata.name.as_deref().is_some_and(|n| n == name || n.contains(&format!("-{name}-")));
        if !owned {
            continue;
        }
        let phase = object.data["status"]["phase"].as_str().unwrap_or_default();
        let mut note = |step| {
            started.steps.entry(step).or_insert(at);
        };
        match (kind, phase) {
            ("VMI", phase) => {
                note(VMI_CREATED);
                match phase {
                    "Scheduled" => note(SCHEDULED),
                    "Running" => note(RUNNING),
                    "Failed" | "Succeeded" => bail!("VM {name} ended before it was Running: {}", object.data["status"]),
                    _ => {}
                }
                started.uid = object.metadata.uid.clone().unwrap_or_default();
                last = revision;
            }
            ("Pod", phase) => {
                note(POD_CREATED);
                if phase == "Running" {
                    note(POD_RUNNING);
                }
            }
            _ => {}
        }
    }
    // What was written before but is not read yet.
    while let Ok(Some((kind, object))) = tokio::time::timeout(Duration::from_millis(200), changes.next()).await {
        let revision = object.metadata.resource_version.as_deref().and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
        seen.push((revision, kind));
    }
    for (_, kind) in seen.into_iter().filter(|(revision, _)| *revision <= last) {
        *started.writes.entry(kind.to_string()).or_default() += 1;
    }
    Ok(started)
}

type Changes = SelectAll<futures::stream::BoxStream<'static, (&'static str, DynamicObject)>>;

/// Every change from now on to the kinds a VM's start writes.
async fn watch_all(client: &kube::Client) -> Result<Changes> {
    let kinds = [
        ("VM", "kubevirt.io", "v1", "VirtualMachine"),
        ("VMI", "kubevirt.io", "v1", "VirtualMachineInstance"),
        ("Pod", "", "v1", "Pod"),
        ("Event", "", "v1", "Event"),
        ("Secret", "", "v1", "Secret"),
        ("ConfigMap", "", "v1", "ConfigMap"),
    ];
    let mut all = Changes::new();
    for (word, group, version, kind) in kinds {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource(group, version, kind));
        let from =
            api.list_metadata(&ListParams::default().limit(1)).await?.metadata.resource_version.unwrap_or_default();
        let stream = api.watch(&WatchParams::default(), &from).await?;
        let objects = stream.filter_map(move |event| async move {
            match event {
                Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => Some((word, object)),
                _ => None,
            }
        });
        all.push(objects.boxed());
    }
    Ok(all)
}

/// Creates many VMs at once and waits until all are Running; their VMIs' UIDs.
pub(crate) async fn start_many(instance: &Instance, names: &[String]) -> Result<Vec<String>> {
    let client = &instance.client;
    for name in names {
        let vm: DynamicObject = serde_json::from_value(manifest(name, false))?;
        vms(client).create(&PostParams::default(), &vm).await.with_context(|| format!("create the VM {name}"))?;
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let list = vmis(client).list(&ListParams::default()).await?;
        let running: Vec<String> = list
            .items
            .iter()
            .filter(|vmi| vmi.data["status"]["phase"] == "Running")
            .filter(|vmi| names.iter().any(|name| vmi.metadata.name.as_deref() == Some(name)))
            .filter_map(|vmi| vmi.metadata.uid.clone())
            .collect();
        if running.len() == names.len() {
            return Ok(running);
        }
        if Instant::now() > deadline {
            let others = list.items.iter().filter(|vmi| vmi.data["status"]["phase"] != "Running");
            let others: Vec<String> = others
                .map(|vmi| format!("{} {}", vmi.metadata.name.clone().unwrap_or_default(), vmi.data["status"]))
                .collect();
            bail!(
                "{} of {} VMs were Running within {} s; VMIs that were not: {}; {}",
                running.len(),
                names.len(),
                PATIENCE.as_secs(),
                others.join("; "),
                instance.last_words()
            );
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Deletes VMs and waits until nothing of them is left.
pub(crate) async fn delete(instance: &Instance, names: &[String]) -> Result<()> {
    let client = &instance.client;
    for name in names {
        vms(client).delete(name, &DeleteParams::default()).await.with_context(|| format!("delete the VM {name}"))?;
    }
    let pods: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &resource("", "v1", "Pod"));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut left = Vec::new();
        for api in [vms(client), vmis(client), pods.clone()] {
            let list = api.list_metadata(&ListParams::default()).await?;
            left.extend(list.items.into_iter().filter_map(|object| object.metadata.name));
        }
        left.retain(|found| names.iter().any(|n| found == n || found.contains(&format!("-{n}-"))));
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("still there {} s after the deletion: {}", PATIENCE.as_secs(), left.join(", "));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Where virt-handler keeps what it has of a VM.
pub(crate) fn node_dir(instance: &Instance, uid: &str) -> PathBuf {
    instance.data.join("node/vmis").join(uid)
}

/// Waits until a file contains the marker.
pub(crate) async fn await_marker(file: &Path) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !std::fs::read(file).is_ok_and(|text| String::from_utf8_lossy(&text).contains(MARKER)) {
        if Instant::now() > deadline {
            bail!("no {MARKER:?} in {} within {} s", file.display(), PATIENCE.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
