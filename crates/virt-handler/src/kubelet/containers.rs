//! What the kubelet says of a pod's containers.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

/// The id, and all else known, of a container that runs. The error is for the user.
pub(super) fn running<'a>(pod: &'a Pod, name: &str) -> Result<(String, &'a ContainerStatus), String> {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let found = statuses.into_iter().flatten().find(|status| status.name == name);
    let found = found.ok_or_else(|| format!("the launcher pod has no container {name:?} yet"))?;
    if found.state.as_ref().is_none_or(|state| state.running.is_none()) {
        return Err(format!("container {name:?} of the launcher pod does not run yet"));
    }
    // containerd://<id>
    let id = found.container_id.as_deref().and_then(|id| id.split_once("://")).map(|(_, id)| id.to_owned());
    let id = id.filter(|id| !id.is_empty()).ok_or_else(|| format!("container {name:?} has no id yet"))?;
    Ok((id, found))
}
