//! What is to be done next about a claim: pure. Each pass takes one step; the next follows from what the API then says.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;

use super::World;
use super::matching::{best, mismatch};
use super::words::{
    BIND_COMPLETED, CLAIM_PROVISIONER, NO_PROVISIONER, PROVISIONER, SELECTED_NODE, annotation, capacity, claim_phase,
    claim_ref, class_of_claim, is_block, is_bound_to, is_deleting, is_for, is_ours, requested, storage,
    waits_for_consumer,
};

/// What an event about a claim or volume says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) warning: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Notice {
    pub(crate) fn normal(reason: &'static str, message: impl Into<String>) -> Self {
        Self { warning: false, reason, message: message.into() }
    }

    pub(crate) fn warning(reason: &'static str, message: impl Into<String>) -> Self {
        Self { warning: true, reason, message: message.into() }
    }
}

/// The next step of a claim.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    Keep,
    /// Give it the default class.
    SetClass(String),
    /// Write the claim into the volume.
    Reserve(String),
    /// Write the volume into the claim.
    Attach(String),
    /// Write the status of a bound claim.
    Settle(String),
    /// Tell a provisioner of somebody else's that it is asked.
    AskProvisioner(String),
    /// Make a directory and a volume for it.
    Provision(Box<StorageClass>),
    /// Let the volume have what the claim now asks for.
    Grow(String),
    /// Its volume is lost, if the API still says so.
    Lose(Notice),
    /// It waits, and this is for what.
    Tell(Notice),
}

/// Decides.
pub(crate) fn decide(claim: &PersistentVolumeClaim, world: &World) -> Step {
    if annotation(&claim.metadata, BIND_COMPLETED).is_some() {
        return bound(claim, world);
    }
    if is_deleting(&claim.metadata) {
        return Step::Keep;
    }
    match volume_name(claim) {
        "" => unbound(claim, world),
        name => wanting(claim, name, world),
    }
}

fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).unwrap_or_default()
}

fn bound(claim: &PersistentVolumeClaim, world: &World) -> Step {
    let lose = |reason, message: &str| match claim_phase(claim) {
        "Lost" => Step::Keep,
        _ => Step::Lose(Notice::warning(reason, message)),
    };
    let name = volume_name(claim);
    if name.is_empty() {
        return lose("ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!");
    }
    let Some(volume) = world.volume(name) else {
        return lose("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!");
    };
    if claim_ref(volume).is_none() {
        return Step::Reserve(name.into());
    }
    if !is_bound_to(volume, claim) {
        return lose("ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly");
    }
    if requested(claim) > capacity(volume) {
        let class = class_of_claim(claim).and_then(|name| world.class(name));
        let grows = is_ours(volume) && class.is_some_and(|c| c.allow_volume_expansion == Some(true));
        if grows && !is_deleting(&volume.metadata) {
            return Step::Grow(name.into());
        }
        if is_settled(claim, volume) {
            return Step::Tell(Notice::warning(
                "ExternalExpanding",
                "waiting for an external controller to expand this PVC",
            ));
        }
    }
    if is_settled(claim, volume) { Step::Keep } else { Step::Settle(name.into()) }
}

/// Whether the status of a bound claim says what its volume is.
fn is_settled(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let status = claim.status.as_ref();
    claim_phase(claim) == "Bound"
        && storage(status.and_then(|s| s.capacity.as_ref())) == capacity(volume)
        && status.and_then(|s| s.access_modes.as_ref()) == volume.spec.as_ref().and_then(|s| s.access_modes.as_ref())
}

/// A claim that names its volume.
fn wanting(claim: &PersistentVolumeClaim, name: &str, world: &World) -> Step {
    let Some(volume) = world.volume(name) else { return Step::Keep };
    if claim_ref(volume).is_none() {
        return match mismatch(volume, claim) {
            None => Step::Reserve(name.into()),
            Some(why) => Step::Tell(Notice::warning(
                "VolumeMismatch",
                format!("Cannot bind to requested volume {name:?}: {why}"),
            )),
        };
    }
    if is_bound_to(volume, claim) {
        return Step::Attach(name.into());
    }
    if is_for(volume, claim) {
        return Step::Reserve(name.into());
    }
    Step::Tell(Notice::warning("FailedBinding", format!("volume {name:?} already bound to a different claim.")))
}

fn unbound(claim: &PersistentVolumeClaim, world: &World) -> Step {
    let class = class_of_claim(claim).and_then(|name| world.class(name));
    // The scheduler chooses the volume of a claim that waits, or the node to make one on.
    let waits = class.is_some_and(waits_for_consumer);
    if let Some(volume) = best(claim, world.volumes(), waits) {
        let name = volume.metadata.name.clone().unwrap_or_default();
        return if is_bound_to(volume, claim) { Step::Attach(name) } else { Step::Reserve(name) };
    }
    match (class_of_claim(claim), class) {
        (None, _) if world.default_class().is_some() => Step::SetClass(world.default_class().unwrap_or_default()),
        (None | Some(""), _) => Step::Tell(Notice::normal(
            "FailedBinding",
            "no persistent volumes available for this claim and no storage class is set",
        )),
        (Some(name), None) => {
            Step::Tell(Notice::warning("ProvisioningFailed", format!("storageclass.storage.k8s.io {name:?} not found")))
        }
        (Some(_), Some(_)) if waits && annotation(&claim.metadata, SELECTED_NODE).is_none() => {
            Step::Tell(waiting(claim, world))
        }
        (Some(_), Some(class)) => provision(claim, class),
    }
}

fn waiting(claim: &PersistentVolumeClaim, world: &World) -> Notice {
    match world.unscheduled_users(claim).as_slice() {
        [] => Notice::normal("WaitForFirstConsumer", "waiting for first consumer to be created before binding"),
        [pod] => Notice::normal("WaitForPodScheduled", format!("waiting for pod {pod} to be scheduled")),
        pods => Notice::normal("WaitForPodScheduled", format!("waiting for pods {} to be scheduled", pods.join(","))),
    }
}

fn provision(claim: &PersistentVolumeClaim, class: &StorageClass) -> Step {
    match class.provisioner.as_str() {
        PROVISIONER => match refusal(claim, class) {
            None => Step::Provision(Box::new(class.clone())),
            Some(why) => Step::Tell(provisioning_failed(class, &why)),
        },
        NO_PROVISIONER => Step::Tell(Notice::warning(
            "ProvisioningFailed",
            format!("no volume plugin matched name: {NO_PROVISIONER}"),
        )),
        other if CLAIM_PROVISIONER.iter().any(|a| annotation(&claim.metadata, a) != Some(other)) => {
            Step::AskProvisioner(other.into())
        }
        other => Step::Tell(Notice::normal(
            "ExternalProvisioning",
            format!(
                "Waiting for a volume to be created either by the external provisioner '{other}' or manually by the system \
                 administrator. If volume creation is delayed, please verify that the provisioner is running and correctly \
                 registered."
            ),
        )),
    }
}

pub(crate) fn provisioning_failed(class: &StorageClass, why: &str) -> Notice {
    let name = class.metadata.name.as_deref().unwrap_or_default();
    Notice::warning("ProvisioningFailed", format!("failed to provision volume with StorageClass {name:?}: {why}"))
}

/// Why our provisioner, which makes directories, cannot serve the claim.
fn refusal(claim: &PersistentVolumeClaim, class: &StorageClass) -> Option<String> {
    let spec = claim.spec.as_ref()?;
    if is_block(spec.volume_mode.as_deref()) {
        return Some(format!(
            "claim.spec.volumeMode Block is not supported: {PROVISIONER} makes directories, not block devices; use volumeMode Filesystem, or \
             make a PersistentVolume for a device of the node (spec.local.path, volumeMode Block)"
        ));
    }
    if spec.selector.is_some() {
        return Some("claim Selector is not supported".into());
    }
    if spec.data_source.is_some() || spec.data_source_ref.is_some() {
        return Some(format!("{PROVISIONER} makes empty volumes only: leave dataSource and dataSourceRef away"));
    }
    if let Some(parameter) = class.parameters.iter().flatten().map(|(name, _)| name).next() {
        return Some(format!("{PROVISIONER} has no parameter {parameter:?}: remove it from the StorageClass"));
    }
    if class.mount_options.as_ref().is_some_and(|o| !o.is_empty()) {
        return Some("mountOptions are not supported: a directory is mounted as its file system is".into());
    }
    class
        .allowed_topologies
        .as_ref()
        .filter(|t| !t.is_empty())
        .map(|_| "allowedTopologies is not supported: there is one node".into())
}

#[cfg(test)]
mod tests;
