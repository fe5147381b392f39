//! Writes to claims and volumes. Each is on top of the version that was decided about, so that it may be repeated.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::words::{BOUND_BY_CONTROLLER, SELECTED_NODE, claim_ref};

/// Keeps a volume for a claim, and no other.
///
/// # Errors
/// The API fails. That somebody was first is no error.
pub(crate) async fn reserve(
    client: &Client,
    volume: &PersistentVolume,
    claim: &PersistentVolumeClaim,
) -> kube::Result<()> {
    let mut change = json!({"spec": {"claimRef": reference(claim)}});
    if claim_ref(volume).is_none() {
        change["metadata"] = json!({"annotations": {BOUND_BY_CONTROLLER: "yes"}});
    }
    patch(&Api::all(client.clone()), volume, change).await
}

/// Tells the provisioner of a claim on which node its volume is needed.
///
/// # Errors
/// The API fails. That somebody was first is no error.
pub(crate) async fn select_node(client: &Client, claim: &PersistentVolumeClaim, node: &str) -> kube::Result<()> {
    let api = Api::namespaced(client.clone(), &claim.namespace().unwrap_or_default());
    patch(&api, claim, json!({"metadata": {"annotations": {SELECTED_NODE: node}}})).await
}

/// How a volume names its claim.
pub(super) fn reference(claim: &PersistentVolumeClaim) -> Value {
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": claim.namespace(), "name": claim.name_any(),
        "uid": claim.uid(), "resourceVersion": claim.resource_version()})
}

/// Writes on top of the version that was decided about. Somebody was first, or it is gone: the watch will tell.
pub(super) async fn patch<K>(api: &Api<K>, object: &K, mut change: Value) -> kube::Result<()>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    guard(object, &mut change);
    settled(api.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(&change)).await)
}

/// As [`patch`], of the status.
pub(super) async fn patch_status<K>(api: &Api<K>, object: &K, status: Value) -> kube::Result<()>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut change = json!({"status": status});
    guard(object, &mut change);
    settled(api.patch_status(&object.name_any(), &PatchParams::default(), &Patch::Merge(&change)).await)
}

fn guard<K: Resource>(object: &K, change: &mut Value) {
    change["metadata"]["uid"] = json!(object.meta().uid);
    change["metadata"]["resourceVersion"] = json!(object.meta().resource_version);
}

fn settled<K>(outcome: kube::Result<K>) -> kube::Result<()> {
    match outcome {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        other => other.map(drop),
    }
}

/// Adds a finalizer.
pub(super) async fn add_finalizer<K>(api: &Api<K>, object: &K, name: &str) -> kube::Result<()>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut all = object.meta().finalizers.clone().unwrap_or_default();
    all.push(name.to_owned());
    patch(api, object, json!({"metadata": {"finalizers": all}})).await
}

/// Removes a finalizer.
pub(super) async fn remove_finalizer<K>(api: &Api<K>, object: &K, name: &str) -> kube::Result<()>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let all: Vec<&String> = object.meta().finalizers.iter().flatten().filter(|known| *known != name).collect();
    patch(api, object, json!({"metadata": {"finalizers": all}})).await
}
