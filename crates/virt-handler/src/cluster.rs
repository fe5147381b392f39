//! The API as the handler uses it: its VMIs, the secrets they name, events.

use std::collections::BTreeSet;
use std::time::Duration;

use fv_api::meta::labels;
use fv_api::{VirtualMachineInstance, VirtualMachineInstanceStatus};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};

/// How long one request may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error("the API server did not answer {what} within {} s", DEADLINE.as_secs())]
    Deadline { what: String },
    #[error("{what} was changed by somebody else meanwhile")]
    Conflict { what: String },
    #[error("{what} failed")]
    Request {
        what: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("the status cannot be written as JSON")]
    Encode(#[source] serde_json::Error),
}

/// The handler's view of the API.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
}

async fn within<T>(what: String, request: impl Future<Output = kube::Result<T>>) -> Result<T, ClusterError> {
    match tokio::time::timeout(DEADLINE, request).await {
        Err(_) => Err(ClusterError::Deadline { what }),
        Ok(Ok(value)) => Ok(value),
        // A failed JSON patch test is 422, a changed resource version 409.
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 409 | 422) => Err(ClusterError::Conflict { what }),
        Ok(Err(source)) => Err(ClusterError::Request { what, source: Box::new(source) }),
    }
}

impl Cluster {
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Asks for a VMI now, past every cache. `None` is the API's own word that there is none of this name.
    pub async fn vmi(&self, namespace: &str, name: &str) -> Result<Option<VirtualMachineInstance>, ClusterError> {
        let api: Api<VirtualMachineInstance> = Api::namespaced(self.client.clone(), namespace);
        within(format!("get VirtualMachineInstance {namespace}/{name}"), api.get_opt(name)).await
    }

    /// Replaces the status of exactly this version of exactly this object.
    pub async fn write_status(
        &self,
        vmi: &VirtualMachineInstance,
        status: &VirtualMachineInstanceStatus,
    ) -> Result<VirtualMachineInstance, ClusterError> {
        let (namespace, name) = names(vmi);
        let operations = serde_json::json!([
            {"op": "test", "path": "/metadata/uid", "value": vmi.metadata.uid},
            {"op": "test", "path": "/metadata/resourceVersion", "value": vmi.metadata.resource_version},
            {"op": "add", "path": "/status", "value": serde_json::to_value(status).map_err(ClusterError::Encode)?},
        ]);
        let patch: json_patch::Patch = serde_json::from_value(operations).map_err(ClusterError::Encode)?;
        let api: Api<VirtualMachineInstance> = Api::namespaced(self.client.clone(), namespace);
        let what = format!("patch the status of VirtualMachineInstance {namespace}/{name}");
        within(what, api.patch(name, &PatchParams::default(), &Patch::Json::<()>(patch))).await
    }

    /// UIDs of a VMI's launcher pods that are being deleted.
    pub async fn leaving_pods(&self, namespace: &str, vmi_uid: &str) -> Result<BTreeSet<String>, ClusterError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let of_vmi = ListParams::default().labels(&format!("{}={vmi_uid}", labels::CREATED_BY));
        let what = format!("list launcher pods of {vmi_uid}");
        let pods = within(what, api.list_metadata(&of_vmi)).await?;
        let leaving = pods.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_some());
        Ok(leaving.filter_map(|pod| pod.metadata.uid).collect())
    }

    /// A launcher pod of a VMI, by its uid; `None`: the API has no such pod.
    pub async fn launcher_pod(&self, namespace: &str, vmi_uid: &str, uid: &str) -> Result<Option<Pod>, ClusterError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let of_vmi = ListParams::default().labels(&format!("{}={vmi_uid}", labels::CREATED_BY));
        let pods = within(format!("list launcher pods of {vmi_uid}"), api.list(&of_vmi)).await?;
        Ok(pods.items.into_iter().find(|pod| pod.metadata.uid.as_deref() == Some(uid)))
    }

    /// The data of a secret; `None`: there is no such secret.
    pub async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, ClusterError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        within(format!("get Secret {namespace}/{name}"), api.get_opt(name)).await
    }
}

/// Namespace and name of a VMI.
pub fn names(vmi: &VirtualMachineInstance) -> (&str, &str) {
    (vmi.metadata.namespace.as_deref().unwrap_or_default(), vmi.metadata.name.as_deref().unwrap_or_default())
}
