//! What the cluster has.

use std::collections::BTreeMap;

use fv_admit::kubevirt_causes;
use fv_api::{KubeVirt, VirtualMachine, VirtualMachineInstance};
use fv_plan::operator::certificates::{Authority, published};
use fv_plan::operator::objects::Live;
use fv_plan::operator::{Observed, Target, Workload};
use fv_render::install::{Install, MANAGED_BY, MANAGER, Monitoring, ObjectId, RenderError, certificates as rendered};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::ListParams;
use kube::core::{DynamicObject, ObjectMeta, PartialObjectMeta};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::{Value, json};

use crate::Settings;
use crate::certificates;
use crate::kinds::{KINDS, api_of};
use crate::reconcile::Memory;

/// Why the cluster cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error("list {what}")]
    List {
        what: &'static str,
        #[source]
        source: kube::Error,
    },
    #[error("get {0}")]
    Get(String, #[source] kube::Error),
    #[error("read an object as JSON")]
    Json(#[from] serde_json::Error),
}

/// All KubeVirt resources.
pub(crate) async fn kubevirts(client: &Client) -> Result<Vec<KubeVirt>, ClusterError> {
    let list = Api::<KubeVirt>::all(client.clone()).list(&ListParams::default()).await;
    Ok(list.map_err(|source| ClusterError::List { what: "kubevirts", source })?.items)
}

/// `namespace/name`.
pub(crate) fn name_of(kubevirt: &KubeVirt) -> String {
    format!("{}/{}", kubevirt.namespace().unwrap_or_default(), kubevirt.name_any())
}

/// Everything the operator decides on. `memory` is what it remembers.
pub(crate) async fn observe(
    client: &Client,
    settings: &Settings,
    kubevirt: KubeVirt,
    elders: Vec<String>,
    memory: &Memory,
) -> Result<Observed, ClusterError> {
    let namespace = &settings.namespace;
    let (mut live, has_prometheus_operator) = managed(client, namespace).await?;
    for id in certificate_ids(namespace) {
        look_for(client, id, &mut live).await?;
    }
    let authority = certificates::read(&live, namespace);
    let target = target(client, settings, &kubevirt, &authority, has_prometheus_operator).await?;
    for object in target.as_ref().map(|target| target.objects.as_slice()).unwrap_or_default() {
        look_for(client, object.id(), &mut live).await?;
    }
    let is_deleting = kubevirt.metadata.deletion_timestamp.is_some();
    let workloads = if is_deleting { workloads(client).await? } else { Vec::new() };
    Ok(Observed {
        kubevirt,
        elders,
        namespace: namespace.clone(),
        operator_version: settings.images.tag.clone(),
        architecture: settings.architecture.clone(),
        target,
        live,
        written: memory.written.clone(),
        authority,
        workloads,
        outdated: *memory.outdated.lock(),
        failure: memory.failure.clone(),
    })
}

/// What the resource asks for, or what is wrong with it.
async fn target(
    client: &Client,
    settings: &Settings,
    kubevirt: &KubeVirt,
    authority: &Authority,
    has_prometheus_operator: bool,
) -> Result<Result<Target, String>, ClusterError> {
    // A webhook may have been away when it was written.
    let causes = kubevirt_causes(&serde_json::to_value(kubevirt)?);
    if !causes.is_empty() {
        let texts: Vec<String> = causes.into_iter().map(|cause| cause.message).collect();
        return Ok(Err(texts.join("; ")));
    }
    let images = settings.images.resolve(&kubevirt.spec);
    let bundle = published(authority);
    let monitoring = if has_prometheus_operator { prometheus(client, kubevirt).await? } else { None };
    let install = Install {
        kubevirt,
        namespace: &settings.namespace,
        images: &images,
        ca_bundle: &bundle,
        monitoring: monitoring.as_ref(),
    };
    let rendered = || -> Result<Target, RenderError> {
        Ok(Target {
            objects: install.objects()?,
            identifier: install.identifier()?,
            config: install.deployment_config()?.to_string(),
            registry: images.registry().to_owned(),
            version: images.version().to_owned(),
        })
    };
    Ok(rendered().map_err(|error| error.to_string()))
}

/// The Prometheus that is to scrape us, by its service account.
async fn prometheus(client: &Client, kubevirt: &KubeVirt) -> Result<Option<Monitoring>, ClusterError> {
    for candidate in Monitoring::candidates(&kubevirt.spec) {
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &candidate.namespace);
        let found = accounts.get_metadata_opt(&candidate.account).await;
        let name = || format!("ServiceAccount {}/{}", candidate.namespace, candidate.account);
        if found.map_err(|source| ClusterError::Get(name(), source))?.is_some() {
            return Ok(Some(candidate));
        }
        tracing::debug!(account = name(), "no Prometheus");
    }
    Ok(None)
}

/// Objects that an operator manages, ours or another's; and whether the cluster has the kinds of a Prometheus operator.
async fn managed(client: &Client, namespace: &str) -> Result<(BTreeMap<ObjectId, Live>, bool), ClusterError> {
    let params = ListParams::default().labels(&format!("{MANAGED_BY}={MANAGER}"));
    let mut live = BTreeMap::new();
    let mut has_prometheus_operator = true;
    for kind in KINDS {
        let list = match kind.api::<DynamicObject>(client.clone(), namespace).list(&params).await {
            Ok(list) => list,
            Err(kube::Error::Api(status)) if status.code == 404 && kind.is_optional() => {
                has_prometheus_operator = false;
                continue;
            }
            Err(source) => return Err(ClusterError::List { what: kind.kind, source }),
        };
        let resource = kind.resource();
        for object in list.items {
            let value = value_of(object, &resource.api_version, kind.kind)?;
            live.insert(ObjectId::of(&value), Live { value });
        }
    }
    Ok((live, has_prometheus_operator))
}

/// Looks under a name that would be ours, in case somebody else has it.
async fn look_for(client: &Client, id: ObjectId, live: &mut BTreeMap<ObjectId, Live>) -> Result<(), ClusterError> {
    if live.contains_key(&id) {
        return Ok(());
    }
    let found = api_of(client.clone(), &id).get_opt(&id.name).await;
    if let Some(object) = found.map_err(|source| ClusterError::Get(id.to_string(), source))? {
        let version = if id.group.is_empty() { "v1".to_owned() } else { format!("{}/v1", id.group) };
        let value = value_of(object, &version, &id.kind)?;
        live.insert(id, Live { value });
    }
    Ok(())
}

fn value_of(object: DynamicObject, api_version: &str, kind: &str) -> Result<Value, ClusterError> {
    let mut value = serde_json::to_value(object)?;
    // Items of a list come without.
    value["apiVersion"] = json!(api_version);
    value["kind"] = json!(kind);
    if let Some(metadata) = value["metadata"].as_object_mut() {
        metadata.shift_remove("managedFields");
    }
    Ok(value)
}

fn certificate_ids(namespace: &str) -> Vec<ObjectId> {
    let id = |kind: &str, name: &str| ObjectId {
        group: String::new(),
        kind: kind.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    let mut ids = vec![id("Secret", rendered::AUTHORITY), id("ConfigMap", rendered::AUTHORITY)];
    ids.extend(rendered::certificates(namespace).iter().map(|certificate| id("Secret", certificate.secret)));
    ids
}

/// All machines of users. That their kinds are not served means that there are none; every other failure is one.
pub(crate) async fn workloads(client: &Client) -> Result<Vec<Workload>, ClusterError> {
    let mut all = list_of::<VirtualMachine>(client, "VirtualMachine").await?;
    all.extend(list_of::<VirtualMachineInstance>(client, "VirtualMachineInstance").await?);
    Ok(all)
}

async fn list_of<K>(client: &Client, kind: &'static str) -> Result<Vec<Workload>, ClusterError>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug,
{
    // Only metadata is read: an object that our types cannot read is a machine too.
    let listed = Api::<PartialObjectMeta<K>>::all(client.clone()).list(&ListParams::default()).await;
    let items = match listed {
        Ok(list) => list.items,
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(Vec::new()),
        Err(source) => return Err(ClusterError::List { what: kind, source }),
    };
    let workload = |metadata: &ObjectMeta| Workload {
        kind,
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
        is_leaving: metadata.deletion_timestamp.is_some(),
    };
    Ok(items.iter().map(|item| workload(&item.metadata)).collect())
}

#[cfg(test)]
mod tests;
