//! Carries out what was decided: one guarded write for each claim and volume, and the directories of our provisioner.

use std::collections::HashMap;
use std::sync::Arc;

use fv_api::VirtualMachineInstance;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Api, DeleteParams, ListParams, PostParams, Preconditions};
use kube::{Client, Resource, ResourceExt};
use serde_json::{Value, json};

use super::claim::{self, Notice, provisioning_failed};
use super::protect::is_used;
use super::words::{
    BIND_COMPLETED, BOUND_BY_CONTROLLER, CLAIM_PROTECTION, CLAIM_PROVISIONER, PROVISIONED_BY, PROVISIONER,
    PROVISIONER_FINALIZER, VOLUME_PROTECTION, capacity, claim_ref, has_finalizer, is_bound_to, is_deleting, storage,
};
use super::writes::{add_finalizer, patch, patch_status, reference, remove_finalizer, reserve};
use super::{Directories, World, volume};
use crate::events::{Note, record};

/// Names that events carry; users look for those of Kubernetes.
const BINDER: &str = "persistentvolume-controller";

/// Why a step was not carried out; it is tried again.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("{step} the directory of volume {volume}")]
    Directory {
        step: &'static str,
        volume: String,
        #[source]
        source: std::io::Error,
    },
}

type Outcome = Result<(), Fault>;

pub(super) struct Hands {
    client: Client,
    directories: Directories,
    node: String,
    /// What was said last of each object: said again it would be noise.
    told: HashMap<String, Notice>,
}

impl Hands {
    pub(super) fn new(client: Client, directories: Directories, node: String) -> Self {
        Self { client, directories, node, told: HashMap::new() }
    }

    /// Moves everything on by one step; whether something failed.
    pub(super) async fn pass(&mut self, world: &World) -> bool {
        let exists = |uid: &String| {
            world.claims.values().any(|c| c.metadata.uid.as_ref() == Some(uid))
                || world.volumes.values().any(|v| v.metadata.uid.as_ref() == Some(uid))
        };
        self.told.retain(|uid, _| exists(uid));
        let mut failed = false;
        for claim in world.claims.values() {
            let mut outcome = self.protect(claim).await;
            if outcome.is_ok() {
                outcome = self.claim(claim, world).await;
            }
            failed |= log("claim", &claim.name_any(), outcome);
        }
        for volume in world.volumes.values() {
            failed |= log("volume", &volume.name_any(), self.volume(volume, world).await);
        }
        failed
    }

    fn claims(&self, claim: &PersistentVolumeClaim) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.client.clone(), &claim.namespace().unwrap_or_default())
    }

    fn volumes(&self) -> Api<PersistentVolume> {
        Api::all(self.client.clone())
    }

    async fn tell<K: Resource<DynamicType = ()>>(&mut self, object: &K, component: &str, notice: Notice) {
        let uid = object.uid().unwrap_or_default();
        if self.told.get(&uid) == Some(&notice) {
            return;
        }
        let note = match notice.warning {
            true => Note::warning(notice.reason, "Syncing", &notice.message),
            false => Note::normal(notice.reason, "Syncing", &notice.message),
        };
        record(&self.client, component, object, note).await;
        self.told.insert(uid, notice);
    }

    /// The finalizer of a claim: there while somebody uses it.
    async fn protect(&self, claim: &PersistentVolumeClaim) -> Outcome {
        let meta = &claim.metadata;
        let protected = has_finalizer(meta, CLAIM_PROTECTION);
        if !is_deleting(meta) {
            if !protected {
                add_finalizer(&self.claims(claim), claim, CLAIM_PROTECTION).await?;
            }
            return Ok(());
        }
        if !protected {
            return Ok(());
        }
        let namespace = claim.namespace().unwrap_or_default();
        let all = ListParams::default();
        let pods = Api::<Pod>::namespaced(self.client.clone(), &namespace).list(&all).await?;
        let vmis = match Api::<VirtualMachineInstance>::namespaced(self.client.clone(), &namespace).list(&all).await {
            // The kind is not served: then there is none.
            Err(kube::Error::Api(status)) if status.code == 404 => Vec::new(),
            other => other?.items,
        };
        if is_used(&claim.name_any(), &pods.items, &vmis) {
            return Ok(());
        }
        Ok(remove_finalizer(&self.claims(claim), claim, CLAIM_PROTECTION).await?)
    }

    async fn claim(&mut self, claim: &PersistentVolumeClaim, world: &World) -> Outcome {
        let name = claim.name_any();
        match claim::decide(claim, world) {
            claim::Step::Keep => Ok(()),
            claim::Step::SetClass(class) => {
                Ok(patch(&self.claims(claim), claim, json!({"spec": {"storageClassName": class}})).await?)
            }
            claim::Step::Reserve(volume) => match world.volume(&volume) {
                Some(volume) => Ok(reserve(&self.client, volume, claim).await?),
                None => Ok(()),
            },
            claim::Step::Attach(volume) => {
                let mut annotations = json!({BIND_COMPLETED: "yes"});
                if claim.spec.as_ref().is_some_and(|s| s.volume_name.as_deref().unwrap_or_default().is_empty()) {
                    annotations[BOUND_BY_CONTROLLER] = "yes".into();
                }
                let change = json!({"metadata": {"annotations": annotations}, "spec": {"volumeName": volume}});
                Ok(patch(&self.claims(claim), claim, change).await?)
            }
            claim::Step::Settle(volume) => match world.volume(&volume) {
                Some(volume) => self.settle(claim, volume).await,
                None => Ok(()),
            },
            claim::Step::AskProvisioner(provisioner) => {
                let asked: HashMap<_, _> = CLAIM_PROVISIONER.iter().map(|name| (*name, &provisioner)).collect();
                Ok(patch(&self.claims(claim), claim, json!({"metadata": {"annotations": asked}})).await?)
            }
            claim::Step::Provision(class) => self.provision(claim, &class).await,
            claim::Step::Grow(volume) => match world.volume(&volume) {
                Some(volume) => self.grow(claim, volume).await,
                None => Ok(()),
            },
            claim::Step::Lose(notice) => {
                let wanted = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).unwrap_or_default();
                let found = if wanted.is_empty() { None } else { self.volumes().get_opt(wanted).await? };
                // Volume and claim come by two watches: one may be ahead of the other.
                if found.is_some_and(|volume| is_bound_to(&volume, claim)) {
                    return Ok(());
                }
                let lost = json!({"phase": "Lost", "capacity": null, "accessModes": null});
                patch_status(&self.claims(claim), claim, lost).await?;
                self.tell(claim, BINDER, notice).await;
                tracing::warn!(claim = %name, "a claim has lost its volume");
                Ok(())
            }
            claim::Step::Tell(notice) => {
                let component = if notice.reason == "ExternalExpanding" { "volume_expand" } else { BINDER };
                self.tell(claim, component, notice).await;
                Ok(())
            }
        }
    }

    async fn settle(&mut self, claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Outcome {
        let spec = volume.spec.as_ref();
        let status = claim.status.as_ref();
        let before = storage(status.and_then(|s| s.capacity.as_ref()));
        let resizing = |c: &&k8s_openapi::api::core::v1::PersistentVolumeClaimCondition| {
            !matches!(c.type_.as_str(), "Resizing" | "FileSystemResizePending")
        };
        let conditions: Vec<_> =
            status.iter().flat_map(|s| s.conditions.iter().flatten()).filter(resizing).cloned().collect();
        let settled = json!({
            "phase": "Bound",
            "capacity": spec.and_then(|s| s.capacity.clone()),
            "accessModes": spec.and_then(|s| s.access_modes.clone()),
            "conditions": if conditions.is_empty() { Value::Null } else { json!(conditions) },
        });
        patch_status(&self.claims(claim), claim, settled).await?;
        if before > 0 && before < capacity(volume) {
            self.tell(claim, PROVISIONER, Notice::normal("VolumeResizeSuccessful", "Resize volume succeeded")).await;
        }
        Ok(())
    }

    async fn provision(&mut self, claim: &PersistentVolumeClaim, class: &StorageClass) -> Outcome {
        let name = format!("pvc-{}", claim.uid().unwrap_or_default());
        let begun = format!(
            "External provisioner is provisioning volume for claim \"{}/{}\"",
            claim.namespace().unwrap_or_default(),
            claim.name_any()
        );
        self.tell(claim, PROVISIONER, Notice::normal("Provisioning", begun)).await;
        if let Err(source) = self.directories.make(&name) {
            self.tell(claim, PROVISIONER, provisioning_failed(class, &source.to_string())).await;
            return Err(Fault::Directory { step: "make", volume: name, source });
        }
        let volume = self.made(&name, claim, class);
        let volume = serde_json::from_value(volume).map_err(kube::Error::SerdeError)?;
        match self.volumes().create(&PostParams::default(), &volume).await {
            // Made by an earlier pass, which the watch has not told yet.
            Err(kube::Error::Api(status)) if status.code == 409 => return Ok(()),
            other => drop(other?),
        }
        let done = Notice::normal("ProvisioningSucceeded", format!("Successfully provisioned volume {name}"));
        self.tell(claim, PROVISIONER, done).await;
        Ok(())
    }

    /// The volume of a claim.
    fn made(&self, name: &str, claim: &PersistentVolumeClaim, class: &StorageClass) -> Value {
        let spec = claim.spec.clone().unwrap_or_default();
        let size = spec.resources.and_then(|r| r.requests).and_then(|mut r| r.remove("storage"));
        let here = json!([{"key": "kubernetes.io/hostname", "operator": "In", "values": [self.node]}]);
        json!({
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {
                "name": name,
                "annotations": {PROVISIONED_BY: PROVISIONER},
                "finalizers": [VOLUME_PROTECTION, PROVISIONER_FINALIZER],
            },
            "spec": {
                "capacity": {"storage": size},
                "accessModes": spec.access_modes,
                "volumeMode": "Filesystem",
                "persistentVolumeReclaimPolicy": class.reclaim_policy.as_deref().unwrap_or("Delete"),
                "storageClassName": class.name_any(),
                "claimRef": reference(claim),
                "local": {"path": self.directories.path(name)},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": here}]}},
            },
        })
    }

    /// A directory has no size of its own: its volume has what the claim asks for.
    async fn grow(&mut self, claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Outcome {
        let name = volume.name_any();
        let begun = Notice::normal("Resizing", format!("External resizer is resizing volume {name}"));
        self.tell(claim, PROVISIONER, begun).await;
        let requests = claim.spec.as_ref().and_then(|s| s.resources.as_ref()).and_then(|r| r.requests.as_ref());
        let size = requests.and_then(|r| r.get("storage"));
        Ok(patch(&self.volumes(), volume, json!({"spec": {"capacity": {"storage": size}}})).await?)
    }

    async fn volume(&mut self, volume: &Arc<PersistentVolume>, world: &World) -> Outcome {
        let api = self.volumes();
        let outcome = match volume::decide(volume, world) {
            volume::Step::Keep => Ok(()),
            volume::Step::Phase(phase) => patch_status(&api, volume.as_ref(), json!({"phase": phase})).await,
            volume::Step::Protect => add_finalizer(&api, volume.as_ref(), VOLUME_PROTECTION).await,
            volume::Step::Unprotect => remove_finalizer(&api, volume.as_ref(), VOLUME_PROTECTION).await,
            volume::Step::LetGo => remove_finalizer(&api, volume.as_ref(), PROVISIONER_FINALIZER).await,
            volume::Step::Unbind { reserved: true } => {
                patch(&api, volume.as_ref(), json!({"spec": {"claimRef": {"uid": null, "resourceVersion": null}}}))
                    .await
            }
            volume::Step::Unbind { reserved: false } => {
                let change =
                    json!({"metadata": {"annotations": {BOUND_BY_CONTROLLER: null}}, "spec": {"claimRef": null}});
                patch(&api, volume.as_ref(), change).await
            }
            volume::Step::Release | volume::Step::Reclaim if self.has_claim(volume).await? => Ok(()),
            volume::Step::Release => patch_status(&api, volume.as_ref(), json!({"phase": "Released"})).await,
            volume::Step::Reclaim => return self.reclaim(volume).await,
            volume::Step::Fail(notice) => {
                let failed = json!({"phase": "Failed", "message": notice.message});
                patch_status(&api, volume.as_ref(), failed).await?;
                self.tell(volume.as_ref(), BINDER, notice).await;
                Ok(())
            }
        };
        Ok(outcome?)
    }

    /// Whether the API has the claim of a volume, bound to it or about to be.
    async fn has_claim(&self, volume: &PersistentVolume) -> Result<bool, Fault> {
        let Some(reference) = claim_ref(volume) else { return Ok(false) };
        let namespace = reference.namespace.as_deref().unwrap_or_default();
        let api = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), namespace);
        let claim = api.get_opt(reference.name.as_deref().unwrap_or_default()).await?;
        let wanted = |claim: &PersistentVolumeClaim| {
            let name = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).unwrap_or_default();
            is_bound_to(volume, claim) && (name.is_empty() || name == volume.name_any())
        };
        Ok(claim.as_ref().is_some_and(wanted))
    }

    /// The directory first: while it is there, so is the volume that knows of it.
    async fn reclaim(&mut self, volume: &Arc<PersistentVolume>) -> Outcome {
        let (directories, doomed) = (self.directories.clone(), Arc::clone(volume));
        let removed = tokio::task::spawn_blocking(move || directories.remove(&doomed)).await;
        if let Err(source) = removed.unwrap_or_else(|panic| Err(std::io::Error::other(panic))) {
            let notice = Notice::warning("VolumeFailedDelete", source.to_string());
            patch_status(&self.volumes(), volume.as_ref(), json!({"phase": "Failed", "message": notice.message}))
                .await?;
            self.tell(volume.as_ref(), PROVISIONER, notice).await;
            return Err(Fault::Directory { step: "remove", volume: volume.name_any(), source });
        }
        if has_finalizer(&volume.metadata, PROVISIONER_FINALIZER) {
            remove_finalizer(&self.volumes(), volume.as_ref(), PROVISIONER_FINALIZER).await?;
        }
        let preconditions = Preconditions { uid: volume.uid(), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match self.volumes().delete(&volume.name_any(), &params).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }
}

/// Whether it failed.
fn log(what: &str, name: &str, outcome: Outcome) -> bool {
    match outcome {
        Ok(()) => false,
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(kind = what, name, error, "a step of storage failed; it is tried again");
            true
        }
    }
}
