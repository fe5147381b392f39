//! The controller of Nodes: notices that a node's agent is away although it did not say so.
//!
//! virt-handler writes a heartbeat every one to two minutes and, when it is asked to end, that its node is not schedulable any more. One
//! that was killed, hangs, or whose node is off says nothing: after [`SILENCE`] the node is marked in its place, so that no
//! guest is sent where nobody would start it. The agent's next heartbeat takes that back.
//!
//! Inputs: the Node's label and heartbeat, the guests it holds. Outputs: label `kubevirt.io/schedulable=false`, an event about the Node and
//! one about each of its guests.
//!
//! Invariants: a silent agent says nothing about its guests, which go on without it (QEMU belongs to the node). So nothing of a guest is
//! touched here, also when its launcher pod is gone and when the whole node does not answer: unlike upstream, which then calls the
//! instance Failed and so lets a second one start beside a guest that may still write to its disks. A heartbeat that is missing or cannot be
//! read is no heartbeat that was missed.

use std::sync::Arc;
use std::time::Duration;

use fv_api::meta::{annotations, labels};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use crate::patch::at_version;
use crate::plan::{Effect, EventKind, EventSpec, ObjectKey, ObjectRef, Plan, Requeue, Step, failures};

/// How long an agent may be silent: upstream's patience, twice its longest interval and more.
pub const SILENCE: Duration = Duration::from_secs(300);

/// Reason of the events.
const NODE_UNRESPONSIVE: &str = "NodeUnresponsive";

/// Facts about one Node.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub node: Arc<NodeFacts>,
    /// The instances the node's agent holds and that have not ended.
    pub guests: Vec<ObjectRef>,
}

/// What is kept of a Node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    pub name: String,
    pub resource_version: String,
    /// Whether guests may be sent there.
    pub schedulable: bool,
    /// The agent's last sign of life, by its node's clock.
    pub heartbeat: Option<Timestamp>,
}

impl NodeFacts {
    /// Copies what matters out of `node`.
    pub fn of(node: &Node) -> Self {
        let meta = &node.metadata;
        let label = meta.labels.as_ref().and_then(|all| all.get(labels::NODE_SCHEDULABLE));
        let beat = meta.annotations.as_ref().and_then(|all| all.get(annotations::HEARTBEAT));
        // A time as JSON, so in quotes, as upstream writes it.
        let parsed = |text: &String| serde_json::from_str::<String>(text).ok()?.parse().ok();
        Self {
            name: meta.name.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            schedulable: label.is_some_and(|label| label == "true"),
            heartbeat: beat.and_then(parsed),
        }
    }
}

/// Decides about one Node.
pub fn decide(observed: &Observed, now: Timestamp) -> Plan {
    let node = &*observed.node;
    let Some(heartbeat) = node.heartbeat.filter(|_| node.schedulable) else { return Plan::default() };
    // A node whose clock is ahead was heard of just now.
    let silent = Duration::try_from(now.duration_since(heartbeat)).unwrap_or_default();
    if let Some(left) = SILENCE.checked_sub(silent).filter(|left| !left.is_zero()) {
        return Plan { requeue: Requeue::After(left), ..Plan::default() };
    }
    let about = reference(&node.name);
    let told = |about: &ObjectRef, message: String| EventSpec {
        about: about.clone(),
        kind: EventKind::Warning,
        reason: NODE_UNRESPONSIVE,
        message,
    };
    let of_node = format!(
        "virt-handler is not responsive: its last heartbeat is of {heartbeat}. The node is marked as unschedulable until there is another; \
         its guests are left alone"
    );
    let of_guest = format!(
        "virt-handler of node {} is not responsive: its last heartbeat is of {heartbeat}. The guest is left alone; what is reported of it \
         may be out of date, and requests wait",
        node.name
    );
    let guests = observed.guests.iter().map(|guest| told(guest, of_guest.clone()));
    let patch = json!({"metadata": {"labels": {labels::NODE_SCHEDULABLE: "false"}}});
    let mark = Step {
        effect: Effect::PatchNode { name: node.name.clone(), patch: at_version(patch, &node.resource_version) },
        done: std::iter::once(told(&about, of_node)).chain(guests).collect(),
        failed: failures::UPDATE,
        failed_text: "virt-handler is not responsive, and the node could not be marked as unschedulable".to_owned(),
        about,
    };
    Plan { effects: vec![mark], ..Plan::default() }
}

/// Events about a Node are found by its name, which stands in for the uid, as with the kubelet's own.
fn reference(name: &str) -> ObjectRef {
    ObjectRef { api_version: "v1", kind: "Node", key: ObjectKey::new("", name), uid: name.to_owned() }
}

#[cfg(test)]
mod tests;
