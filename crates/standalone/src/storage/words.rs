//! The words of Kubernetes' storage, and how claims and volumes are read.

use std::collections::BTreeMap;

use fv_api::Quantity;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The provisioner of ours, as classes name it.
pub(crate) const PROVISIONER: &str = "ferrovirt.io/local-path";
/// The provisioner of classes whose volumes an administrator makes.
pub(crate) const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

pub(crate) const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
pub(crate) const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
pub(crate) const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
pub(crate) const CLAIM_PROVISIONER: [&str; 2] =
    ["volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner"];
pub(crate) const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

pub(crate) const CLAIM_PROTECTION: &str = "kubernetes.io/pvc-protection";
pub(crate) const VOLUME_PROTECTION: &str = "kubernetes.io/pv-protection";
/// Keeps a volume of ours until its directory is removed.
pub(crate) const PROVISIONER_FINALIZER: &str = "external-provisioner.volume.kubernetes.io/finalizer";

pub(crate) fn annotation<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(name).map(String::as_str)
}

pub(crate) fn has_finalizer(meta: &ObjectMeta, name: &str) -> bool {
    meta.finalizers.iter().flatten().any(|known| known == name)
}

pub(crate) fn is_deleting(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some()
}

/// The class a claim names; `None` when it leaves the choice to the default, empty when it wants none.
pub(crate) fn class_of_claim(claim: &PersistentVolumeClaim) -> Option<&str> {
    let named = || claim.spec.as_ref().and_then(|s| s.storage_class_name.as_deref());
    annotation(&claim.metadata, CLASS_ANNOTATION).or_else(named)
}

pub(crate) fn class_of_volume(volume: &PersistentVolume) -> &str {
    let named = || volume.spec.as_ref().and_then(|s| s.storage_class_name.as_deref()).unwrap_or_default();
    annotation(&volume.metadata, CLASS_ANNOTATION).unwrap_or_else(named)
}

/// Whether claims of the class are bound only when a pod that uses them is scheduled.
pub(crate) fn waits_for_consumer(class: &StorageClass) -> bool {
    class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
}

/// Bytes of storage in a list of resources.
pub(crate) fn storage(amounts: Option<&BTreeMap<String, ApiQuantity>>) -> i128 {
    let quantity = amounts.and_then(|all| all.get("storage")).and_then(|q| q.0.parse::<Quantity>().ok());
    quantity.map_or(0, |q| q.value())
}

/// Bytes a claim asks for.
pub(crate) fn requested(claim: &PersistentVolumeClaim) -> i128 {
    let resources = claim.spec.as_ref().and_then(|s| s.resources.as_ref());
    storage(resources.and_then(|r| r.requests.as_ref()))
}

/// Bytes a volume has.
pub(crate) fn capacity(volume: &PersistentVolume) -> i128 {
    storage(volume.spec.as_ref().and_then(|s| s.capacity.as_ref()))
}

pub(crate) fn is_block(mode: Option<&str>) -> bool {
    mode == Some("Block")
}

/// The claim a volume is bound to or kept for.
pub(crate) fn claim_ref(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

/// Whether a volume is bound to, or kept for, just this claim.
pub(crate) fn is_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    claim_ref(volume).is_some_and(|r| {
        let uid = r.uid.as_deref().unwrap_or_default();
        r.name == claim.metadata.name
            && r.namespace == claim.metadata.namespace
            && (uid.is_empty() || Some(uid) == claim.metadata.uid.as_deref())
    })
}

/// Whether a volume is bound to this claim and no other of its name.
pub(crate) fn is_bound_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    is_for(volume, claim) && claim_ref(volume).and_then(|r| r.uid.as_ref()) == claim.metadata.uid.as_ref()
}

/// Whether a volume was made by our provisioner.
pub(crate) fn is_ours(volume: &PersistentVolume) -> bool {
    annotation(&volume.metadata, PROVISIONED_BY) == Some(PROVISIONER)
}

/// The phase of a claim.
pub(crate) fn claim_phase(claim: &PersistentVolumeClaim) -> &str {
    claim.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

/// The phase of a volume.
pub(crate) fn volume_phase(volume: &PersistentVolume) -> &str {
    volume.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}
