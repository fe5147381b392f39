//! This node's Node object: heartbeat, labels.

use std::collections::BTreeMap;
use std::time::Duration;

use fv_api::meta::{annotations, labels};
use fv_hypervisor::{Capabilities, Hypervisor};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

/// Upstream's interval; up to 1.2 times as much is added at random.
pub(crate) const INTERVAL: Duration = Duration::from_secs(60);
/// After a failed heartbeat: sooner than the five minutes after which the controller gives the node up.
pub(crate) const RETRY: Duration = Duration::from_secs(5);

/// The labels that tell what guests this node can run. Label values are bounded by Kubernetes to 63 characters of a small alphabet;
/// names libvirt gives that do not fit are left out.
pub fn capability_labels(capabilities: &Capabilities) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut put = |prefix: &str, name: &str| {
        let fits = name.len() <= 63
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.ends_with(|c: char| c.is_ascii_alphanumeric());
        if fits {
            found.insert(format!("{prefix}/{name}"), "true".to_owned());
        }
    };
    for model in capabilities.cpu_models.iter().filter(|model| model.usable) {
        put(labels::NODE_CPU_MODEL, &model.name);
    }
    if let Some(model) = &capabilities.host_model {
        put(HOST_MODEL, model);
    }
    for feature in &capabilities.cpu_features {
        put(labels::NODE_CPU_FEATURE, feature);
    }
    for feature in &capabilities.host_model_features {
        put(HOST_MODEL_FEATURES, feature);
    }
    if let Some(vendor) = &capabilities.cpu_vendor {
        put(CPU_VENDOR, vendor);
    }
    for machine in &capabilities.machines {
        put(labels::NODE_MACHINE_TYPE, &machine.name);
    }
    found
}

/// Prefixes of the labels [`capability_labels`] makes: others of theirs on the node are of what it could do once.
pub(crate) const CAPABILITY_PREFIXES: [&str; 6] = [
    labels::NODE_CPU_MODEL,
    HOST_MODEL,
    HOST_MODEL_FEATURES,
    labels::NODE_CPU_FEATURE,
    CPU_VENDOR,
    labels::NODE_MACHINE_TYPE,
];

const HOST_MODEL: &str = "host-model-cpu.node.kubevirt.io";
const HOST_MODEL_FEATURES: &str = "host-model-required-features.node.kubevirt.io";
const CPU_VENDOR: &str = "cpu-vendor.node.kubevirt.io";

/// The merge patch of one heartbeat.
pub fn heartbeat_patch(schedulable: bool, extra: &BTreeMap<String, String>, now: Timestamp) -> serde_json::Value {
    let mut all: BTreeMap<&str, String> = extra.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
    all.insert(labels::NODE_SCHEDULABLE, schedulable.to_string());
    // A JSON-encoded metav1.Time, quotes included, as upstream writes it.
    let beat = format!("\"{}\"", now.strftime("%Y-%m-%dT%H:%M:%SZ"));
    serde_json::json!({"metadata": {"labels": all, "annotations": {annotations::HEARTBEAT: beat}}})
}

/// Beats until `shutdown`, then marks the node as not schedulable.
pub async fn beat(
    client: Client,
    node: String,
    hypervisor: std::sync::Arc<dyn Hypervisor>,
    shutdown: CancellationToken,
) {
    let api: Api<Node> = Api::all(client);
    let mut extra = BTreeMap::new();
    loop {
        if extra.is_empty()
            && let Ok(capabilities) = hypervisor.capabilities().await
        {
            extra = capability_labels(&capabilities);
        }
        // Without libvirt no guest can be started here.
        let schedulable = hypervisor.is_connected() && !extra.is_empty();
        let pause = match patch(&api, &node, heartbeat_patch(schedulable, &extra, Timestamp::now())).await {
            Ok(()) if schedulable => INTERVAL + INTERVAL.mul_f64(1.2 * fraction()),
            Ok(()) => RETRY,
            Err(error) => {
                tracing::warn!(error = %error, "heartbeat failed");
                RETRY
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
        }
    }
    if let Err(error) = patch(&api, &node, heartbeat_patch(false, &extra, Timestamp::now())).await {
        tracing::debug!(error = %error, "node not marked as unschedulable");
    }
}

pub(crate) async fn patch(api: &Api<Node>, node: &str, body: serde_json::Value) -> Result<(), String> {
    let params = PatchParams::default();
    match tokio::time::timeout(Duration::from_secs(10), api.patch(node, &params, &Patch::Merge(body))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer".into()),
    }
}

/// A number in [0, 1) that differs between nodes and beats.
pub(crate) fn fraction() -> f64 {
    (uuid::Uuid::new_v4().as_u128() % 1000) as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeat_is_upstreams() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let patch = heartbeat_patch(true, &BTreeMap::new(), now);
        assert_eq!(patch["metadata"]["labels"]["kubevirt.io/schedulable"], "true");
        assert_eq!(patch["metadata"]["annotations"]["kubevirt.io/heartbeat"], "\"2023-11-14T22:13:20Z\"");
    }
}
