//! The one place where plans become requests.

use fv_api::{VirtualMachine, VirtualMachineInstance};
use fv_plan::node::{Fencing, NodeFacts};
use fv_plan::{
    DeleteIntent, Effect, EffectFailure, EventKind, EventSpec, Guard, ObjectKey, Plan, Requeue, StatusKind,
    StatusWrite, Step,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::Value;

use crate::events::Recorder;
use crate::worker::Again;
use fv_api::meta::labels;

/// Executes plans for one component.
#[derive(Clone)]
pub struct Executor {
    client: Client,
    recorder: Recorder,
}

/// What came of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub again: Again,
    /// Input of the next decision about the same object.
    pub failure: Option<EffectFailure>,
    /// Requests that changed something.
    pub writes: u32,
    /// The version of the object itself that the plan was decided on and its writes replaced.
    pub replaced: Option<String>,
}

impl Outcome {
    fn count(&mut self, done: Done) {
        match done {
            Done::Unchanged => return,
            Done::Changed => {}
            Done::Replaced(version) => self.replaced = Some(version),
        }
        self.writes += 1;
    }
}

/// A step that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// The facts were behind.
    #[error("{0}")]
    Stale(String),
    /// Something else holds the name.
    #[error("{kind} {key} exists and does not belong to {owner}; delete or rename it")]
    NameTaken { kind: String, key: ObjectKey, owner: String },
    /// The API said no.
    #[error("{0}")]
    Refused(String),
    /// The API did not answer, or not sensibly.
    #[error("the API did not answer")]
    Unavailable(#[source] kube::Error),
}

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Look again at once: somebody else wrote in between.
    Soon,
    /// Tell the user, and try again with back-off.
    Report,
    /// Try again with back-off; telling is not possible.
    Backoff,
}

impl ExecuteError {
    /// The class of this failure.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Stale(_) => Retry::Soon,
            Self::NameTaken { .. } | Self::Refused(_) => Retry::Report,
            Self::Unavailable(_) => Retry::Backoff,
        }
    }
}

/// Whether a request changed something.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Done {
    Changed,
    /// The object that was decided on, of this version.
    Replaced(String),
    Unchanged,
}

impl Executor {
    /// An executor that writes through `client` and reports through `recorder`.
    pub fn new(client: Client, recorder: Recorder) -> Self {
        Self { client, recorder }
    }

    /// Does what `plan` says: effects until one fails, then the status, then events. The status is written also after a
    /// failure: it was decided before the effects and does not depend on them.
    pub async fn execute(&self, plan: Plan) -> Outcome {
        let Plan { effects, status, events, requeue } = plan;
        let mut outcome = Outcome {
            again: match requeue {
                Requeue::OnChange => Again::OnChange,
                Requeue::After(delay) => Again::After(delay),
            },
            failure: None,
            writes: 0,
            replaced: None,
        };
        for step in effects {
            let Step { effect, done, failed, failed_text, about } = step;
            match self.apply(effect).await {
                Ok(Done::Unchanged) => {}
                Ok(changed) => {
                    outcome.count(changed);
                    for event in done {
                        self.recorder.record(event);
                    }
                }
                Err(error) => {
                    tracing::debug!(object = %about.key, reason = failed, error = &error as &dyn std::error::Error, "effect failed");
                    outcome.again = match error.retry() {
                        Retry::Soon => Again::Soon,
                        Retry::Report => {
                            fv_metrics::live::EFFECT_FAILURES.with_label_values(&[failed]).inc();
                            let message = format!("{failed_text}: {error}");
                            outcome.failure = Some(EffectFailure { reason: failed, message: message.clone() });
                            self.recorder.record(EventSpec {
                                about,
                                kind: EventKind::Warning,
                                reason: failed,
                                message,
                            });
                            Again::Backoff
                        }
                        Retry::Backoff => {
                            tracing::warn!(
                                reason = failed,
                                error = &error as &dyn std::error::Error,
                                "API unavailable"
                            );
                            Again::Backoff
                        }
                    };
                    break;
                }
            }
        }
        if let Some(write) = status {
            let key = write.key.clone();
            match self.write_status(write).await {
                Ok(done) => outcome.count(done),
                Err(error) => {
                    let again = match error.retry() {
                        Retry::Soon => Again::Soon,
                        Retry::Report | Retry::Backoff => {
                            tracing::warn!(object = %key, error = &error as &dyn std::error::Error, "status not written");
                            Again::Backoff
                        }
                    };
                    if outcome.again != Again::Backoff {
                        outcome.again = again;
                    }
                }
            }
        }
        // What was decided on old facts is decided again, and then told.
        if outcome.again != Again::Soon {
            for event in events {
                self.recorder.record(event);
            }
        }
        outcome
    }

    async fn apply(&self, effect: Effect) -> Result<Done, ExecuteError> {
        match effect {
            Effect::CreateVmi(vmi) => self.create(&*vmi).await,
            Effect::CreatePod(pod) => self.create(&*pod).await,
            Effect::DeleteVmi { key, uid, intent } => self.delete_vmi(&key, &uid, &intent).await,
            Effect::DeletePod { key, uid, grace_seconds } => {
                let params = DeleteParams { grace_period_seconds: grace_seconds, ..only(&uid, None) };
                self.delete::<Pod>(&key, &params).await
            }
            Effect::PatchVm { key, resource_version, patch } => {
                merge::<VirtualMachine>(&self.api(&key), &key.name, patch, None)
                    .await
                    .map(|now| now.of(resource_version))
            }
            Effect::PatchPodStatus { key, patch } => self.patch_pod_status(&key, patch).await,
            Effect::PatchNode { name, patch } => {
                merge::<Node>(&Api::all(self.client.clone()), &name, patch, None).await.map(Merged::done)
            }
        }
    }

    fn api<K>(&self, key: &ObjectKey) -> Api<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &key.namespace)
    }

    /// Creates `object`. When one of its name is there already, it must be the one made by an earlier try.
    async fn create<K>(&self, object: &K) -> Result<Done, ExecuteError>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + serde::de::DeserializeOwned,
    {
        let key = ObjectKey::of(object);
        let api: Api<K> = self.api(&key);
        match api.create(&PostParams::default(), object).await {
            Ok(_) => Ok(Done::Changed),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let owner = controller_of(object);
                match api.get_metadata_opt(&key.name).await.map_err(classify)? {
                    None => Err(ExecuteError::Stale(format!("{key} vanished while it was created"))),
                    Some(existing) if owner.is_some() && controller_of(&existing) == owner => Ok(Done::Unchanged),
                    Some(existing) if existing.metadata.deletion_timestamp.is_some() => {
                        Err(ExecuteError::Stale(format!("an older {key} is still being deleted")))
                    }
                    Some(_) => Err(ExecuteError::NameTaken {
                        kind: K::kind(&()).into_owned(),
                        key,
                        owner: object.owner_references().first().map(|owner| owner.name.clone()).unwrap_or_default(),
                    }),
                }
            }
            Err(error) => Err(classify(error)),
        }
    }

    /// Deletes the VMI if the VM still says what it said when this was decided.
    async fn delete_vmi(&self, key: &ObjectKey, uid: &str, intent: &DeleteIntent) -> Result<Done, ExecuteError> {
        let vm = self.api::<VirtualMachine>(key).get_metadata_opt(&key.name).await.map_err(classify)?;
        let Some(vm) = vm else {
            return Err(ExecuteError::Stale(format!("virtual machine {key} is gone")));
        };
        let same = vm.metadata.uid.as_deref() == Some(&intent.vm_uid)
            && vm.metadata.resource_version.as_deref() == Some(&intent.vm_resource_version);
        if !same {
            return Err(ExecuteError::Stale(format!("virtual machine {key} has changed since")));
        }
        let vmi = self.api::<VirtualMachineInstance>(key).get_metadata_opt(&key.name).await.map_err(classify)?;
        match vmi {
            Some(vmi) if vmi.metadata.uid.as_deref() == Some(uid) && vmi.metadata.deletion_timestamp.is_none() => {
                self.delete::<VirtualMachineInstance>(key, &only(uid, vmi.metadata.resource_version)).await
            }
            _ => Ok(Done::Unchanged),
        }
    }

    async fn delete<K>(&self, key: &ObjectKey, params: &DeleteParams) -> Result<Done, ExecuteError>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        // Of the answer only the code matters: an object this release cannot read can be deleted.
        let api: Api<PartialObjectMeta<K>> = Api::namespaced(self.client.clone(), &key.namespace);
        match api.delete(&key.name, params).await {
            Ok(_) => Ok(Done::Changed),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Done::Unchanged),
            Err(error) => Err(classify(error)),
        }
    }

    /// A failed test of a JSON patch comes back as 422: the pod was written in between.
    async fn patch_pod_status(&self, key: &ObjectKey, patch: Value) -> Result<Done, ExecuteError> {
        let patch: json_patch::Patch = serde_json::from_value(patch)
            .map_err(|error| ExecuteError::Refused(format!("malformed patch of pod {key}: {error}")))?;
        let api: Api<Pod> = self.api(key);
        match api.patch_status(&key.name, &PatchParams::default(), &Patch::Json::<()>(patch)).await {
            Ok(_) => Ok(Done::Changed),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Done::Unchanged),
            Err(kube::Error::Api(status)) if status.code == 422 => Err(ExecuteError::Stale(status.message.clone())),
            Err(error) => Err(classify(error)),
        }
    }

    async fn write_status(&self, write: StatusWrite) -> Result<Done, ExecuteError> {
        let StatusWrite { kind, key, resource_version, patch, guard } = write;
        match guard {
            Some(Guard::NoPodOf { vmi_uid }) => self.ensure_no_pod_of(&key, &vmi_uid).await?,
            Some(Guard::NodeIsOff { name, now }) => self.ensure_node_is_off(&name, now).await?,
            None => {}
        }
        let merged = match kind {
            StatusKind::Vm => merge::<VirtualMachine>(&self.api(&key), &key.name, patch, Some("status")).await,
            StatusKind::Vmi => merge::<VirtualMachineInstance>(&self.api(&key), &key.name, patch, None).await,
        };
        Ok(merged?.of(resource_version))
    }

    async fn ensure_node_is_off(&self, name: &str, now: Timestamp) -> Result<(), ExecuteError> {
        // A list of one: it needs no right beyond what the watch has.
        let this = ListParams::default().fields(&format!("metadata.name={name}"));
        let nodes = Api::<Node>::all(self.client.clone()).list(&this).await.map_err(classify)?;
        let node = nodes.items.iter().find(|node| node.metadata.name.as_deref() == Some(name));
        match node.map(|node| NodeFacts::of(node).fencing(now)) {
            Some(Fencing::Proven) => Ok(()),
            _ => Err(ExecuteError::Stale(format!("node {name} is not out of service"))),
        }
    }

    async fn ensure_no_pod_of(&self, key: &ObjectKey, vmi_uid: &str) -> Result<(), ExecuteError> {
        let selector = format!("{}={vmi_uid}", labels::CREATED_BY);
        let pods =
            self.api::<Pod>(key).list_metadata(&ListParams::default().labels(&selector)).await.map_err(classify)?;
        let owned = |pod: &&PartialObjectMeta<Pod>| controller_of(*pod).as_deref() == Some(vmi_uid);
        match pods.items.iter().find(owned) {
            Some(pod) => Err(ExecuteError::Stale(format!("pod {} of {key} is there", pod.name_any()))),
            None => Ok(()),
        }
    }
}

/// What a merge patch left behind.
enum Merged {
    /// The object, of this version.
    Version(Option<String>),
    Gone,
}

impl Merged {
    /// As a change of some object.
    fn done(self) -> Done {
        match self {
            Self::Version(_) => Done::Changed,
            Self::Gone => Done::Unchanged,
        }
    }

    /// As a change of the object that was decided on, which had this version.
    fn of(self, before: String) -> Done {
        match self {
            Self::Version(now) if now.as_ref() != Some(&before) => Done::Replaced(before),
            Self::Version(_) | Self::Gone => Done::Unchanged,
        }
    }
}

/// Applies a merge patch that names the version it was made for.
async fn merge<K>(api: &Api<K>, name: &str, patch: Value, subresource: Option<&str>) -> Result<Merged, ExecuteError>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned + Resource,
{
    let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
    let answer = match subresource {
        None => api.patch_metadata(name, &params, &patch).await.map(|object| object.metadata.resource_version),
        Some(subresource) => {
            api.patch_subresource(subresource, name, &params, &patch).await.map(|object| object.resource_version())
        }
    };
    match answer {
        Ok(version) => Ok(Merged::Version(version)),
        // The object is gone; its watch event says so.
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Merged::Gone),
        Err(error) => Err(classify(error)),
    }
}

fn controller_of(object: &impl Resource) -> Option<String> {
    let owners = object.meta().owner_references.as_deref().unwrap_or_default();
    owners.iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.clone())
}

/// A deletion of the object of this uid, at this version if one is given.
fn only(uid: &str, resource_version: Option<String>) -> DeleteParams {
    DeleteParams {
        preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version }),
        ..DeleteParams::background()
    }
}

fn classify(error: kube::Error) -> ExecuteError {
    match error {
        kube::Error::Api(status) if status.is_conflict() || (status.code == 409 && !status.is_already_exists()) => {
            ExecuteError::Stale(status.message.clone())
        }
        kube::Error::Api(status) if (400..500).contains(&status.code) && status.code != 429 => {
            ExecuteError::Refused(status.message.clone())
        }
        other => ExecuteError::Unavailable(other),
    }
}
