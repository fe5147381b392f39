//! Virtual machines through the API, timed from the request to what the watches and the guest's serial line say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::stream::{SelectAll, StreamExt};
use jiff::Timestamp;
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
/// Where all of it happens.
pub(crate) const NAMESPACE: &str = "default";
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// What one VM took.
#[derive(Debug, Clone)]
pub(crate) struct Started {
    pub(crate) uid: String,
    /// Since the request was sent; in the order in which they came.
    pub(crate) steps: BTreeMap<&'static str, Duration>,
    /// Writes to the API until Running, by kind of object.
    pub(crate) writes: BTreeMap<String, usize>,
    /// From the request to the last step, by the clock that servers write into their logs.
    pub(crate) span: (Timestamp, Timestamp),
}

pub(crate) const VMI_CREATED: &str = "VMI created";
pub(crate) const POD_CREATED: &str = "pod created";
pub(crate) const POD_BOUND: &str = "pod bound to a node";
pub(crate) const POD_RUNNING: &str = "pod running";
pub(crate) const SCHEDULED: &str = "Scheduled";
pub(crate) const RUNNING: &str = "Running";
pub(crate) const POD_READY: &str = "pod Ready";
/// The VM says so too: what `kubectl get vm` shows.
pub(crate) const VM_RUNNING: &str = "VM Running";

pub(crate) fn resource(group: &str, version: &str, kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

pub(crate) fn vms(client: &kube::Client) -> Api<DynamicObject> {
    api_of(client, "kubevirt.io", "VirtualMachine")
}

pub(crate) fn vmis(client: &kube::Client) -> Api<DynamicObject> {
    api_of(client, "kubevirt.io", "VirtualMachineInstance")
}

pub(crate) fn pods(client: &kube::Client) -> Api<DynamicObject> {
    api_of(client, "", "Pod")
}

/// Any object, in [`NAMESPACE`].
fn api_of(client: &kube::Client, group: &str, kind: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), NAMESPACE, &resource(group, "v1", kind))
}

/// A VM with the guest of an image, or one with an empty disk only: it costs what any VM costs, and its firmware waits for ever.
pub(crate) fn manifest(name: &str, image: Option<&str>) -> Value {
    let volume = match image {
        Some(image) => json!({"name": "disk", "containerDisk": {"image": image, "imagePullPolicy": "IfNotPresent"}}),
        None => json!({"name": "disk", "emptyDisk": {"capacity": "64Mi"}}),
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

/// Creates a VM, an instance or a pod, and waits until it has come to all of the `wanted` steps.
pub(crate) async fn start(client: &kube::Client, manifest: &Value, wanted: &[&'static str]) -> Result<Started> {
    let object: DynamicObject = serde_json::from_value(manifest.clone())?;
    let kind = manifest["kind"].as_str().unwrap_or_default();
    let name = object.metadata.name.clone().context("the manifest has no name")?;
    let group = manifest["apiVersion"].as_str().and_then(|v| v.split_once('/')).map_or("", |(group, _)| group);
    let mut changes = watch_all(client).await?;
    let (sent, began) = (Instant::now(), Timestamp::now());
    api_of(client, group, kind)
        .create(&PostParams::default(), &object)
        .await
        .with_context(|| format!("create the {kind} {name}"))?;
    let mut started =
        Started { uid: String::new(), steps: BTreeMap::new(), writes: BTreeMap::new(), span: (began, began) };
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut last = 0;
    let mut seen = Vec::new();
    while !wanted.iter().all(|step| started.steps.contains_key(step)) {
        let Ok(Some((kind, object))) = tokio::time::timeout_at(deadline, changes.next()).await else {
            bail!("{name} did not come to {wanted:?} within {} s, but to {:?}", PATIENCE.as_secs(), started.steps);
        };
        let at = sent.elapsed();
        started.span.1 = Timestamp::now();
        let revision = revision(&object);
        seen.push((revision, kind));
        if !is_of(&object, &name) {
            continue;
        }
        last = revision;
        if kind == "VMI" {
            started.uid = object.metadata.uid.clone().unwrap_or_default();
        }
        for step in steps(kind, &object.data)? {
            started.steps.entry(step).or_insert(at);
        }
    }
    // What was written before but is not read yet.
    while let Ok(Some((kind, object))) = tokio::time::timeout(Duration::from_millis(200), changes.next()).await {
        seen.push((revision(&object), kind));
    }
    for (_, kind) in seen.into_iter().filter(|(revision, _)| *revision <= last) {
        *started.writes.entry(kind.to_string()).or_default() += 1;
    }
    Ok(started)
}

fn revision(object: &DynamicObject) -> u64 {
    object.metadata.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// Whether an object is the one of that name, or a launcher pod of it.
fn is_of(object: &DynamicObject, name: &str) -> bool {
    object.metadata.name.as_deref().is_some_and(|n| n == name || n.contains(&format!("-{name}-")))
}

/// What an object in this state has come to.
fn steps(kind: &str, object: &Value) -> Result<Vec<&'static str>> {
    let phase = object["status"]["phase"].as_str().unwrap_or_default();
    let mut steps = Vec::new();
    match kind {
        "VM" if object["status"]["printableStatus"] == "Running" => steps.push(VM_RUNNING),
        "VMI" => {
            steps.push(VMI_CREATED);
            match phase {
                "Scheduled" => steps.push(SCHEDULED),
                "Running" => steps.push(RUNNING),
                "Failed" | "Succeeded" => bail!("an instance ended before it was Running: {}", object["status"]),
                _ => {}
            }
        }
        "Pod" => {
            steps.push(POD_CREATED);
            if object["spec"]["nodeName"].is_string() {
                steps.push(POD_BOUND);
            }
            if phase == "Running" {
                steps.push(POD_RUNNING);
            }
            let conditions = object["status"]["conditions"].as_array();
            if conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")) {
                steps.push(POD_READY);
            }
        }
        _ => {}
    }
    Ok(steps)
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
pub(crate) async fn start_many(client: &kube::Client, names: &[String]) -> Result<Vec<String>> {
    for name in names {
        let vm: DynamicObject = serde_json::from_value(manifest(name, None))?;
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
                "{} of {} VMs were Running within {} s; VMIs that were not: {}",
                running.len(),
                names.len(),
                PATIENCE.as_secs(),
                others.join("; ")
            );
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Deletes VMs, instances and pods of these names and waits until nothing of them is left.
pub(crate) async fn delete(client: &kube::Client, names: &[String]) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    for name in names {
        // An instance goes with its VM, and a launcher pod with its instance.
        for api in [vms(client), vmis(client), pods(client)] {
            match api.delete(name, &DeleteParams::default()).await {
                Ok(_) => break,
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => return Err(error).with_context(|| format!("delete {name}")),
            }
        }
    }
    loop {
        let mut left = Vec::new();
        for api in [vms(client), vmis(client), pods(client)] {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_comes_to_its_steps_by_what_its_status_says() {
        let mut pod = json!({"spec": {}, "status": {"phase": "Pending"}});
        assert_eq!(steps("Pod", &pod).unwrap(), [POD_CREATED]);
        pod["spec"]["nodeName"] = json!("node1");
        pod["status"] = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]});
        assert_eq!(steps("Pod", &pod).unwrap(), [POD_CREATED, POD_BOUND, POD_RUNNING]);
        pod["status"]["conditions"][0]["status"] = json!("True");
        assert_eq!(steps("Pod", &pod).unwrap(), [POD_CREATED, POD_BOUND, POD_RUNNING, POD_READY]);
    }

    #[test]
    fn an_instance_that_ends_early_is_an_error() {
        let error = steps("VMI", &json!({"status": {"phase": "Failed", "reason": "NoRoom"}})).unwrap_err();
        assert!(error.to_string().contains("NoRoom"), "{error}");
    }
}
