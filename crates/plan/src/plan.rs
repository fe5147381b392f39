//! The vocabulary of plans.

use std::fmt;
use std::time::Duration;

use fv_api::VirtualMachineInstance;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

/// What a controller wants done about one object, now.
///
/// Executed in this order: effects (stopping at the first failure), status, events. Every write carries a precondition, so a
/// plan made from old facts changes nothing and may be made again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Writes to other objects, and to this one's metadata or spec.
    pub effects: Vec<Step>,
    /// The one write to this object's status.
    pub status: Option<StatusWrite>,
    /// Events that report a fact rather than the outcome of an effect.
    pub events: Vec<EventSpec>,
    /// When to look again although nothing changed.
    pub requeue: Requeue,
}

impl Plan {
    /// Whether executing the plan would change nothing.
    pub fn is_idle(&self) -> bool {
        self.effects.is_empty() && self.status.is_none() && self.events.is_empty()
    }
}

/// When to look at an object again although nothing changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Requeue {
    /// When a watch says so.
    #[default]
    OnChange,
    /// After this long, or earlier when a watch says so.
    After(Duration),
}

/// An effect and what is said about its outcome.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub effect: Effect,
    /// Recorded when the effect changed something.
    pub done: Vec<EventSpec>,
    /// Stable reason word of a failure, one of [`failures`]: event reason, condition reason, metric label.
    pub failed: &'static str,
    /// Beginning of the event's text on failure; the cause is appended.
    pub failed_text: String,
    /// The object that failure events are about.
    pub about: ObjectRef,
}

/// Stable reason words of failed effects.
pub mod failures {
    pub const CREATE: &str = "FailedCreate";
    pub const DELETE: &str = "FailedDelete";
    pub const UPDATE: &str = "FailedUpdate";
}

/// One write to the API.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Its name is fixed, so doing it twice meets "already exists".
    CreateVmi(Box<VirtualMachineInstance>),
    /// Ends a guest. Only after the reason for it was read afresh ([`DeleteIntent`]).
    DeleteVmi { key: ObjectKey, uid: String, intent: DeleteIntent },
    /// Its name is fixed, so doing it twice meets "already exists".
    CreatePod(Box<Pod>),
    /// Never ends a guest. Without a grace period of its own the pod's is given.
    DeletePod { key: ObjectKey, uid: String, grace_seconds: Option<u32> },
    /// Merge patch of a VirtualMachine's metadata or spec, refused by the API when its version is another one.
    PatchVm { key: ObjectKey, resource_version: String, patch: Value },
    /// JSON patch of a pod's status; its first operation tests the version.
    PatchPodStatus { key: ObjectKey, patch: Value },
    /// Merge patch of a Node's metadata, refused by the API when its version is not the one the patch names.
    PatchNode { name: String, patch: Value },
}

/// Why a VMI may be deleted: what its VirtualMachine said at this version. Executing reads the VirtualMachine again and does
/// nothing when it has changed since (no destructive action on old information).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteIntent {
    pub vm_uid: String,
    pub vm_resource_version: String,
}

/// Merge patch that changes an object's status, refused by the API when the object's version is another one.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusWrite {
    pub kind: StatusKind,
    pub key: ObjectKey,
    pub resource_version: String,
    pub patch: Value,
    /// Checked against the API, not the cache, before the write.
    pub guard: Option<Guard>,
}

/// Which object, and how its status is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusKind {
    /// VirtualMachine, through its status subresource.
    Vm,
    /// VirtualMachineInstance, which has no status subresource: metadata and status in one patch.
    Vmi,
}

/// A fact that a cache can only suggest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// No launcher pod of the VMI with this uid exists.
    NoPodOf { vmi_uid: String },
    /// Guests of this node may start elsewhere, as was decided at `now` ([`crate::node::Fencing::Proven`]).
    NodeIsOff { name: String, now: Timestamp },
}

/// Namespace and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    pub namespace: String,
    pub name: String,
}

impl ObjectKey {
    /// The key of `name` in `namespace`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object read from the API.
    pub fn of<K: kube::Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The object an event is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ObjectRef {
    pub api_version: &'static str,
    pub kind: &'static str,
    pub key: ObjectKey,
    pub uid: String,
}

/// An event to record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSpec {
    pub about: ObjectRef,
    pub kind: EventKind,
    /// Stable word, upper camel case.
    pub reason: &'static str,
    pub message: String,
}

/// `type` of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    Normal,
    Warning,
}

impl EventKind {
    /// The word the API uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// The last effect of an object's plan that failed; an input of the next decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectFailure {
    /// One of [`failures`].
    pub reason: &'static str,
    pub message: String,
}
