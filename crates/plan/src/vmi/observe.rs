//! What the VMI controller looks at.

use std::collections::BTreeMap;
use std::sync::Arc;

use fv_api::meta::{annotations, conditions as types, labels, phases::VmiPhase};
use fv_api::{VirtualMachineInstance, VirtualMachineInstanceStatus};
use fv_render::{AutoLimits, COMPUTE_CONTAINER};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{LimitRange, Pod, ResourceQuota};

use super::claims::ClaimFacts;
use crate::conditions::{self, TRUE};
use crate::node::{Fencing, NodeFacts};
use crate::plan::{EffectFailure, ObjectKey, ObjectRef};

/// Facts about one VMI.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub vmi: Arc<VirtualMachineInstance>,
    /// Launcher pods labelled with the VMI's uid, whoever made them.
    pub pods: Vec<Arc<PodFacts>>,
    /// The claims of its volumes that exist.
    pub claims: Vec<Arc<ClaimFacts>>,
    /// What quotas of its namespace limit, and no LimitRange there gives a default of.
    pub auto_limits: AutoLimits,
    /// The Node that holds it, where that is known.
    pub host: Option<Arc<NodeFacts>>,
    /// What went wrong the last time, if nothing has gone right since.
    pub last_failure: Option<EffectFailure>,
}

/// What is kept of a ResourceQuota.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QuotaFacts {
    /// Which pods of its namespace must have limits.
    pub limits: AutoLimits,
    pub namespace: String,
}

impl QuotaFacts {
    /// Copies what matters out of `quota`.
    pub fn of(quota: &ResourceQuota) -> Self {
        let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
        let is_limited = |resource: &str| hard.is_some_and(|hard| hard.contains_key(resource));
        Self {
            limits: AutoLimits { cpu: is_limited("limits.cpu"), memory: is_limited("limits.memory") },
            namespace: quota.metadata.namespace.clone().unwrap_or_default(),
        }
    }

    /// What all quotas of a namespace limit together, but for what LimitRanges there set.
    pub fn auto_limits(quotas: &[Arc<Self>], ranges: &[Arc<RangeFacts>]) -> AutoLimits {
        let wanted = |of: fn(&AutoLimits) -> bool| {
            quotas.iter().any(|quota| of(&quota.limits)) && !ranges.iter().any(|range| of(&range.given))
        };
        AutoLimits { cpu: wanted(|all| all.cpu), memory: wanted(|all| all.memory) }
    }
}

/// What is kept of a LimitRange.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RangeFacts {
    /// Limits that it gives to containers without: its default, or its maximum.
    pub given: AutoLimits,
    pub namespace: String,
}

impl RangeFacts {
    /// Copies what matters out of `range`.
    pub fn of(range: &LimitRange) -> Self {
        let items = range.spec.iter().flat_map(|spec| &spec.limits).filter(|item| item.type_ == "Container");
        let given: Vec<&String> =
            items.flat_map(|item| item.default.iter().chain(&item.max)).flat_map(BTreeMap::keys).collect();
        let is_given = |resource: &str| given.iter().any(|name| *name == resource);
        Self {
            given: AutoLimits { cpu: is_given("cpu"), memory: is_given("memory") },
            namespace: range.metadata.namespace.clone().unwrap_or_default(),
        }
    }
}

/// What is kept of a launcher pod: a cache of whole pods would cost ten times as much.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodFacts {
    pub key: ObjectKey,
    pub uid: String,
    pub resource_version: String,
    /// Uid and name of the VMI that controls it (owner reference, not label: labels can be forged).
    pub owner_uid: Option<String>,
    pub owner_name: Option<String>,
    /// The uid it is labelled with.
    pub created_by: Option<String>,
    pub created: Option<Timestamp>,
    pub deleting: bool,
    /// What it was given to end by itself, once it is being deleted.
    pub grace_seconds: Option<i64>,
    /// Whoever deletes it wants its node's resources back, and so the guest gone from there: the pod was evicted through the API (a
    /// drain), or preempted by the scheduler. Never taken back.
    pub evicted: bool,
    pub phase: String,
    pub node: Option<String>,
    /// All containers are ready, and the launcher itself runs: whether the guest is ready, which its probe tells, comes later.
    pub containers_ready: bool,
    pub ready: Option<PodCondition>,
    pub scheduled: Option<PodCondition>,
    /// Place in the list, and status word, of the readiness gate's condition.
    pub gate: Option<(usize, String)>,
    pub has_conditions: bool,
    pub qos_class: Option<String>,
    pub image: Option<String>,
    pub memory_overhead: Option<String>,
    /// The first image the kubelet could not pull.
    pub image_failure: Option<ImageFailure>,
}

/// Reasons of a pod's DisruptionTarget condition (KEP-3329) that mean its guest. Not among them: what follows from a node that does not
/// answer (`DeletionByTaintManager`, `DeletionByPodGC`), whose guests may well run on.
const EVICTIONS: [&str; 2] = ["EvictionByEvictionAPI", "PreemptionByScheduler"];

/// What a kubelet says of an image it cannot get.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageFailure {
    /// One of [`ImageFailure::REASONS`].
    pub reason: String,
    pub message: String,
}

impl ImageFailure {
    /// Reasons of waiting containers that concern their image.
    pub(super) const REASONS: [&str; 4] = ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"];

    /// Init containers first, as they run first.
    fn of(pod: &Pod) -> Option<Self> {
        let status = pod.status.as_ref()?;
        let init = status.init_container_statuses.iter().flatten();
        init.chain(status.container_statuses.iter().flatten()).find_map(|container| {
            let waiting = container.state.as_ref()?.waiting.as_ref()?;
            let reason = waiting.reason.clone().filter(|reason| Self::REASONS.contains(&reason.as_str()))?;
            Some(Self { reason, message: waiting.message.clone().unwrap_or_default() })
        })
    }
}

/// A condition of a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodCondition {
    pub status: String,
    pub reason: String,
    pub message: String,
}

impl PodFacts {
    /// Copies what matters out of `pod`.
    pub fn of(pod: &Pod) -> Self {
        let meta = &pod.metadata;
        let status = pod.status.as_ref();
        let listed = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let condition = |type_: &str| {
            listed.iter().find(|condition| condition.type_ == type_).map(|condition| PodCondition {
                status: condition.status.clone(),
                reason: condition.reason.clone().unwrap_or_default(),
                message: condition.message.clone().unwrap_or_default(),
            })
        };
        let owner = meta.owner_references.iter().flatten().find(|owner| {
            owner.controller == Some(true)
                && owner.kind == "VirtualMachineInstance"
                && owner.api_version.starts_with("kubevirt.io/")
        });
        let compute =
            pod.spec.iter().flat_map(|spec| &spec.containers).find(|container| container.name == COMPUTE_CONTAINER);
        Self {
            key: ObjectKey::of(pod),
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            owner_uid: owner.map(|owner| owner.uid.clone()),
            owner_name: owner.map(|owner| owner.name.clone()),
            created_by: meta.labels.as_ref().and_then(|all| all.get(labels::CREATED_BY)).cloned(),
            created: meta.creation_timestamp.as_ref().map(|time| time.0),
            deleting: meta.deletion_timestamp.is_some(),
            grace_seconds: meta.deletion_grace_period_seconds,
            evicted: meta.deletion_timestamp.is_some()
                && condition("DisruptionTarget")
                    .is_some_and(|told| told.is_true() && EVICTIONS.contains(&told.reason.as_str())),
            phase: status.and_then(|status| status.phase.clone()).unwrap_or_default(),
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).filter(|node| !node.is_empty()),
            containers_ready: containers_ready(pod),
            ready: condition("Ready"),
            scheduled: condition("PodScheduled"),
            gate: listed
                .iter()
                .position(|condition| condition.type_ == types::POD_VM_UNPAUSED)
                .map(|index| (index, listed[index].status.clone())),
            has_conditions: status.is_some_and(|status| status.conditions.is_some()),
            qos_class: status.and_then(|status| status.qos_class.clone()),
            image: compute.and_then(|container| container.image.clone()),
            memory_overhead: meta
                .annotations
                .as_ref()
                .and_then(|all| all.get(annotations::MEMORY_OVERHEAD_BYTES))
                .cloned(),
            image_failure: ImageFailure::of(pod),
        }
    }

    /// Ended for good: it will never run again under this name.
    pub fn is_terminal(&self) -> bool {
        matches!(self.phase.as_str(), "Succeeded" | "Failed")
    }

    /// Neither ended nor asked to end.
    pub fn is_live(&self) -> bool {
        !self.is_terminal() && !self.deleting
    }
}

/// By the containers' own readiness, which every kubelet reports. The launcher's is the guest's, which is only started once the
/// containers are there.
fn containers_ready(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    let wanted = pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
    let reported = status.container_statuses.as_deref().unwrap_or_default();
    wanted > 0
        && reported.len() >= wanted
        && reported.iter().all(|container| match &container.state {
            Some(state) if container.name == COMPUTE_CONTAINER => state.running.is_some(),
            _ => container.ready,
        })
}

impl Observed {
    pub(super) fn key(&self) -> ObjectKey {
        ObjectKey::of(&*self.vmi)
    }

    pub(super) fn uid(&self) -> &str {
        self.vmi.metadata.uid.as_deref().unwrap_or_default()
    }

    pub(super) fn about(&self) -> ObjectRef {
        ObjectRef {
            api_version: "kubevirt.io/v1",
            kind: "VirtualMachineInstance",
            key: self.key(),
            uid: self.uid().to_owned(),
        }
    }

    pub(super) fn status(&self) -> VirtualMachineInstanceStatus {
        self.vmi.status.clone().unwrap_or_default()
    }

    pub(super) fn phase(&self) -> VmiPhase {
        VmiPhase::parse(self.vmi.status.as_ref().and_then(|status| status.phase.as_deref()))
    }

    pub(super) fn deleting(&self) -> bool {
        self.vmi.metadata.deletion_timestamp.is_some()
    }

    /// The node whose agent holds the VMI, once it was handed over.
    pub(super) fn node(&self) -> Option<&str> {
        self.vmi.status.as_ref().and_then(|status| status.node_name.as_deref()).filter(|node| !node.is_empty())
    }

    /// Whether its guest may start elsewhere although its node's agent has not said that it is gone.
    pub(super) fn fencing(&self, now: Timestamp) -> Fencing {
        let host = self.host.as_ref().filter(|host| self.node() == Some(host.name.as_str()));
        match host {
            Some(host) if !self.condition_true(types::DOMAIN_DELETED) => host.fencing(now),
            _ => Fencing::None,
        }
    }

    /// Whether its guest has been told to leave the node it is on.
    pub(super) fn is_leaving(&self) -> bool {
        let marked = self.vmi.status.as_ref().and_then(|status| status.evacuation_node_name.as_deref());
        marked.is_some() && marked == self.node()
    }

    pub(super) fn condition_true(&self, type_: &str) -> bool {
        self.vmi.status.as_ref().is_some_and(|status| conditions::is_true(&status.conditions, type_))
    }

    /// Whether no node holds anything of the guest: none ever got the VMI, or its agent has cleaned up.
    pub(super) fn is_released(&self) -> bool {
        self.node().is_none() && !matches!(self.phase(), VmiPhase::Scheduled | VmiPhase::Running)
            || self.condition_true(types::DOMAIN_DELETED)
    }

    /// Pods that this VMI controls, best representative first: live before ending before ended, on the VMI's node and ready
    /// before others, then the oldest.
    pub(super) fn owned_pods(&self) -> Vec<&PodFacts> {
        let mut owned: Vec<&PodFacts> = self
            .pods
            .iter()
            .map(|pod| &**pod)
            .filter(|pod| !self.uid().is_empty() && pod.owner_uid.as_deref() == Some(self.uid()))
            .collect();
        owned.sort_by_key(|pod| {
            let elsewhere = self.node().is_some() && pod.node.as_deref() != self.node();
            (pod.is_terminal(), pod.deleting, elsewhere, !pod.containers_ready, pod.created, pod.key.clone())
        });
        owned
    }
}

impl PodCondition {
    pub(super) fn is_true(&self) -> bool {
        self.status == TRUE
    }
}
