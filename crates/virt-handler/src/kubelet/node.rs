//! This node's Node object on Kubernetes: heartbeat, labels, and the condition that says what the node lacks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fv_api::meta::labels;
use fv_hypervisor::Capabilities;
use fv_plan::{EventKind, EventSpec};
use fv_runtime::Recorder;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::contract::Problem;
use crate::handler::node_reference;
use crate::node::{CAPABILITY_PREFIXES, INTERVAL, RETRY, capability_labels, fraction, heartbeat_patch, patch};

/// The condition of the Node.
pub const CONDITION: &str = "VirtualizationReady";
/// The annotation by which an administrator keeps the capability labels as they are.
const SKIP_LABELS: &str = "node-labeller.kubevirt.io/skip-node";
const DEADLINE: Duration = Duration::from_secs(10);

/// What is known of the node's libvirt and QEMU.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Virtualization {
    /// Not looked at yet.
    #[default]
    Unknown,
    Lacking(Problem),
    Ready(Arc<Capabilities>),
}

/// Keeps the Node object.
pub struct NodeKeeper {
    pub client: Client,
    pub name: String,
    pub recorder: Recorder,
    /// Where the kubelet keeps `cpu_manager_state`.
    pub kubelet_dir: PathBuf,
    /// Whether the kubelet knows of our devices.
    pub devices: watch::Receiver<bool>,
    pub virtualization: watch::Receiver<Virtualization>,
}

impl NodeKeeper {
    /// Beats until `shutdown`, then marks the node as not schedulable, as upstream.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let api: Api<Node> = Api::all(self.client.clone());
        let mut told = None;
        loop {
            let virtualization = self.virtualization.borrow_and_update().clone();
            let devices = *self.devices.borrow_and_update();
            let beaten = self.beat(&api, &virtualization, devices, &mut told).await;
            let pause = match beaten {
                Ok(()) => INTERVAL + INTERVAL.mul_f64(1.2 * fraction()),
                Err(error) => {
                    tracing::warn!(error, "heartbeat failed");
                    RETRY
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
                changed = self.virtualization.changed() => if changed.is_err() { break },
                changed = self.devices.changed() => if changed.is_err() { break },
            }
        }
        let last = heartbeat_patch(false, &BTreeMap::new(), Timestamp::now());
        if let Err(error) = patch(&api, &self.name, last).await {
            tracing::debug!(error, "node not marked as unschedulable");
        }
    }

    async fn beat(
        &self,
        api: &Api<Node>,
        virtualization: &Virtualization,
        devices: bool,
        told: &mut Option<Problem>,
    ) -> Result<(), String> {
        let node = match tokio::time::timeout(DEADLINE, api.get(&self.name)).await {
            Ok(node) => node.map_err(|error| error.to_string())?,
            Err(_) => return Err("no answer".into()),
        };
        let schedulable = devices && matches!(virtualization, Virtualization::Ready(_));
        let state = std::fs::read_to_string(self.kubelet_dir.join("cpu_manager_state")).unwrap_or_default();
        let body = beat_patch(&node, virtualization, schedulable, is_static(&state), Timestamp::now());
        patch(api, &self.name, body).await?;
        if let Some(condition) = condition(&node, virtualization, Timestamp::now()) {
            let body = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
            let params = PatchParams::default();
            let request = api.patch_status(&self.name, &params, &body);
            match tokio::time::timeout(DEADLINE, request).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error.to_string()),
                Err(_) => return Err("no answer".into()),
            }
        }
        let problem = match virtualization {
            Virtualization::Lacking(problem) => Some(problem.clone()),
            Virtualization::Unknown | Virtualization::Ready(_) => None,
        };
        if let Some(problem) = problem.as_ref().filter(|problem| told.as_ref() != Some(*problem)) {
            tracing::warn!(reason = problem.reason, message = problem.message, "no guests can run on this node");
            self.recorder.record(EventSpec {
                about: node_reference(&self.name),
                kind: EventKind::Warning,
                reason: problem.reason,
                message: problem.message.clone(),
            });
        }
        *told = problem;
        Ok(())
    }
}

/// Labels and annotations of one heartbeat. Labels of what the node could do once are taken away.
fn beat_patch(
    node: &Node,
    virtualization: &Virtualization,
    schedulable: bool,
    static_cpus: bool,
    now: Timestamp,
) -> Value {
    let skip = node.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(SKIP_LABELS));
    // Whoever labels a node's processor by hand need not know its QEMU's machine types.
    let prefixes = if skip { &[labels::NODE_MACHINE_TYPE][..] } else { &CAPABILITY_PREFIXES[..] };
    let ours = |name: &String| name.split_once('/').is_some_and(|(prefix, _)| prefixes.contains(&prefix));
    let able = match virtualization {
        Virtualization::Ready(capabilities) => {
            Some(capability_labels(capabilities).into_iter().filter(|(name, _)| ours(name)).collect::<BTreeMap<_, _>>())
        }
        Virtualization::Unknown | Virtualization::Lacking(_) => None,
    };
    let mut body = heartbeat_patch(schedulable, able.as_ref().unwrap_or(&BTreeMap::new()), now);
    let Some(all) = body.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) else { return body };
    for name in ["cpumanager", "kubevirt.io/cpumanager"] {
        all.insert(name.to_owned(), static_cpus.to_string().into());
    }
    if let Virtualization::Ready(capabilities) = virtualization {
        all.insert(labels::NODE_KVM.to_owned(), capabilities.kvm_usable.to_string().into());
    }
    if let Some(able) = able {
        let there = node.metadata.labels.iter().flat_map(BTreeMap::keys);
        all.extend(
            there
                .filter(|name| ours(name))
                .filter(|name| !able.contains_key(*name))
                .map(|name| (name.clone(), Value::Null)),
        );
    }
    body
}

/// The condition to write; `None` when the node has it already, or nothing is known.
fn condition(node: &Node, virtualization: &Virtualization, now: Timestamp) -> Option<Value> {
    let (status, reason, message) = match virtualization {
        Virtualization::Unknown => return None,
        Virtualization::Lacking(problem) => ("False", problem.reason, problem.message.clone()),
        Virtualization::Ready(found) => {
            let (libvirt, qemu) = (&found.libvirt_version, &found.qemu_version);
            ("True", "LibvirtReady", format!("libvirt {libvirt} and QEMU {qemu} of the node are used"))
        }
    };
    let held = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let held = held.into_iter().find(|held| held.type_ == CONDITION);
    let same = |held: &&k8s_openapi::api::core::v1::NodeCondition| {
        held.status == status && held.reason.as_deref() == Some(reason) && held.message.as_deref() == Some(&message)
    };
    if held.as_ref().is_some_and(same) {
        return None;
    }
    let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now);
    let since = held.filter(|held| held.status == status).and_then(|held| held.last_transition_time.clone());
    Some(json!({
        "type": CONDITION, "status": status, "reason": reason, "message": message,
        "lastHeartbeatTime": now, "lastTransitionTime": since.unwrap_or(now.clone()),
    }))
}

/// Whether the kubelet hands out CPUs to guaranteed pods alone.
fn is_static(state: &str) -> bool {
    serde_json::from_str::<Value>(state).is_ok_and(|state| state["policyName"] == "static")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> Virtualization {
        Virtualization::Ready(Arc::new(Capabilities {
            kvm_usable: true,
            arch: "x86_64".into(),
            emulator: "q".into(),
            libvirt_version: "9.0.0".into(),
            qemu_version: "7.2.0".into(),
            machines: Vec::new(),
            host_model: Some("EPYC".into()),
            host_model_features: vec!["x2apic".into()],
            cpu_features: vec!["aes".into(), "x2apic".into()],
            cpu_vendor: Some("AMD".into()),
            cpu_models: Vec::new(),
            efi: Vec::new(),
        }))
    }

    fn node(value: Value) -> Node {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn labels_follow_what_the_node_can_do() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let old = json!({"metadata": {"labels": {
            "cpu-model.node.kubevirt.io/Haswell": "true", "host-model-cpu.node.kubevirt.io/EPYC": "true", "zone": "a"}}});
        insta::assert_json_snapshot!(beat_patch(&node(old.clone()), &ready(), true, true, now));
        // Nothing is known at the moment: what is there stays.
        let quiet = beat_patch(&node(old.clone()), &Virtualization::Unknown, false, false, now);
        let names: Vec<_> = quiet["metadata"]["labels"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(names, ["kubevirt.io/schedulable", "cpumanager", "kubevirt.io/cpumanager"]);
        let mut skipped = old;
        skipped["metadata"]["annotations"] = json!({SKIP_LABELS: "true"});
        let skipped = beat_patch(&node(skipped), &ready(), true, false, now);
        assert_eq!(skipped["metadata"]["labels"].as_object().unwrap().len(), 4);
    }

    #[test]
    fn condition_is_written_when_it_says_something_new() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let lacking = Virtualization::Lacking(Problem { reason: "LibvirtMissing", message: "install it".into() });
        let empty = node(json!({"metadata": {}}));
        assert_eq!(condition(&empty, &Virtualization::Unknown, at(1)), None);
        let first = condition(&empty, &lacking, at(1)).unwrap();
        assert_eq!((&first["status"], &first["reason"]), (&json!("False"), &json!("LibvirtMissing")));
        let with = |condition: &Value| node(json!({"metadata": {}, "status": {"conditions": [condition]}}));
        assert_eq!(condition(&with(&first), &lacking, at(2)), None);
        let other = Virtualization::Lacking(Problem { reason: "LibvirtNotUsable", message: "look".into() });
        let second = condition(&with(&first), &other, at(2)).unwrap();
        assert_eq!(second["lastTransitionTime"], first["lastTransitionTime"]);
        let third = condition(&with(&second), &ready(), at(3)).unwrap();
        assert_eq!(third["status"], "True");
        assert_ne!(third["lastTransitionTime"], first["lastTransitionTime"]);
    }

    #[test]
    fn cpu_manager_is_static_only_when_its_state_says_so() {
        for (state, expected) in
            [(r#"{"policyName":"static","checksum":1}"#, true), (r#"{"policyName":"none"}"#, false), ("", false)]
        {
            assert_eq!(is_static(state), expected, "{state}");
        }
    }
}
