//! The class that claims get which name none: made once for an instance, from then on the administrator's.

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

use super::words::{DEFAULT_CLASS, PROVISIONER, annotation};

const NAME: &str = "local-path";
/// Says, on a namespace that is always there, that the class was made: it goes with the store into backups.
const MADE: &str = "ferrovirt.io/default-storage-class";
const HOME: &str = "kube-system";

/// Makes the class, unless that was done before.
///
/// # Errors
/// The API refuses.
pub(crate) async fn make_default(client: &Client) -> kube::Result<()> {
    let namespaces = Api::<Namespace>::all(client.clone());
    if annotation(&namespaces.get(HOME).await?.metadata, MADE).is_some() {
        return Ok(());
    }
    let class = json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": NAME, "annotations": {DEFAULT_CLASS: "true"}},
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": true,
    });
    let class: StorageClass = serde_json::from_value(class).map_err(kube::Error::SerdeError)?;
    match Api::<StorageClass>::all(client.clone()).create(&PostParams::default(), &class).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        other => drop(other?),
    }
    let mark = json!({"metadata": {"annotations": {MADE: NAME}}});
    namespaces.patch(HOME, &PatchParams::default(), &Patch::Merge(&mark)).await.map(drop)
}
