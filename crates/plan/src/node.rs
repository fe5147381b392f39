//! The controller of Nodes: notices that a node's agent is away although it did not say so.
//!
//! virt-handler writes a heartbeat every one to two minutes and, when it is asked to end, that its node is not schedulable any more. One
//! that was killed, hangs, or whose node is off says nothing: after [`SILENCE`] the node is marked in its place, so that no
//! guest is sent where nobody would start it. The agent's next heartbeat takes that back.
//!
//! Inputs: the Node's label and heartbeat, the guests it holds. Outputs: label `kubevirt.io/schedulable=false`, an event about the Node and
//! one about each of its guests. [`NodeFacts::fencing`] tells the controller of instances when a guest may start elsewhere.
//!
//! Invariants: a silent agent says nothing about its guests, which go on without it (QEMU belongs to the node). So nothing of a guest is
//! touched here, also when its launcher pod is gone and when the whole node does not answer: unlike upstream, which then calls the
//! instance Failed and so lets a second one start beside a guest that may still write to its disks. A heartbeat that is missing or cannot be
//! read is no heartbeat that was missed, nor is one that nobody was there to hear.

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

/// An agent heard of less than this ago lives, whatever is said of its node: its longest interval and some more.
const ALIVE: Duration = Duration::from_secs(150);
/// Kubernetes' taint by which an administrator says that a node is off, so that what ran there may run elsewhere.
pub const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// Reason of the events.
const NODE_UNRESPONSIVE: &str = "NodeUnresponsive";

/// Facts about one Node.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub node: Arc<NodeFacts>,
    /// The instances the node's agent holds and that have not ended.
    pub guests: Vec<ObjectRef>,
    /// Since when the controllers hear of nodes: what was to be heard before was not missed.
    pub since: Timestamp,
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
    /// An administrator has tainted it as out of service, and it is not ready: without both Kubernetes removes no pod either.
    pub called_off: bool,
}

/// Whether a node's guests may start elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fencing {
    /// They may run there.
    #[default]
    None,
    /// Somebody says that the node is off, but its agent was heard of lately: look again after this long.
    Doubtful(Duration),
    /// The node is off, by the word of somebody who can see it, and nothing contradicts.
    Proven,
}

impl NodeFacts {
    /// Copies what matters out of `node`.
    pub fn of(node: &Node) -> Self {
        let meta = &node.metadata;
        let label = meta.labels.as_ref().and_then(|all| all.get(labels::NODE_SCHEDULABLE));
        let beat = meta.annotations.as_ref().and_then(|all| all.get(annotations::HEARTBEAT));
        // A time as JSON, so in quotes, as upstream writes it.
        let parsed = |text: &String| serde_json::from_str::<String>(text).ok()?.parse().ok();
        let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let is_ready = { conditions }.any(|condition| condition.type_ == "Ready" && condition.status == "True");
        Self {
            name: meta.name.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            schedulable: label.is_some_and(|label| label == "true"),
            heartbeat: beat.and_then(parsed),
            called_off: { taints }.any(|taint| taint.key == OUT_OF_SERVICE) && !is_ready,
        }
    }

    /// Whether the node's guests may start elsewhere. That nothing is heard of a node is no reason, nor is a Node object that is gone: its
    /// machine may run on, and with it its guests, which write to their disks.
    pub fn fencing(&self, now: Timestamp) -> Fencing {
        if !self.called_off {
            return Fencing::None;
        }
        match self.heartbeat.and_then(|heartbeat| left(ALIVE, heartbeat, now)) {
            Some(left) => Fencing::Doubtful(left),
            None => Fencing::Proven,
        }
    }
}

/// How much of `patience` is left since the heartbeat; `None`: nothing. A node whose clock is ahead was heard of just now.
fn left(patience: Duration, heartbeat: Timestamp, now: Timestamp) -> Option<Duration> {
    let silent = Duration::try_from(now.duration_since(heartbeat)).unwrap_or_default();
    patience.checked_sub(silent).filter(|left| !left.is_zero())
}

/// Decides about one Node.
pub fn decide(observed: &Observed, now: Timestamp) -> Plan {
    let node = &*observed.node;
    let Some(heartbeat) = node.heartbeat.filter(|_| node.schedulable) else { return Plan::default() };
    // Where everything was down, as on a single machine, the agent begins anew together with its controller.
    if let Some(left) = left(SILENCE, heartbeat, now).or_else(|| left(ALIVE, observed.since, now)) {
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
