//! Effects become requests. Each names what it was decided on, so one that comes too late changes nothing.

use fv_api::{KubeVirt, KubeVirtStatus};
use fv_plan::operator::Effect;
use fv_plan::operator::certificates::CertificateStep;
use fv_render::install::{ObjectId, certificates as rendered};
use jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::DynamicObject;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::certificates::{self, CertificateError, ISSUER, NEXT_CERTIFICATE, NEXT_KEY, Pair};
use crate::kinds::api_of;

/// Why an effect failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecuteError {
    // Users read this in the resource's conditions, so the API server's own words are part of it.
    #[error("{action} {object}: {}", words(source))]
    Request { action: &'static str, object: String, source: kube::Error },
    #[error("write an object as JSON")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// What an API server said, without its Status object around it.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

impl ExecuteError {
    /// Whether somebody else wrote in between: looking again is all there is to do.
    pub(crate) fn is_stale(&self) -> bool {
        match self {
            Self::Request { action, source: kube::Error::Api(status), .. } => status.code == 409 && *action != "create",
            _ => false,
        }
    }
}

/// Carries out effects for one KubeVirt resource.
pub(crate) struct Executor<'a> {
    pub(crate) client: Client,
    pub(crate) namespace: &'a str,
    pub(crate) kubevirt: &'a KubeVirt,
    pub(crate) now: Timestamp,
}

impl Executor<'_> {
    /// Carries one out. What is given back is the object's name and the generation it has now, for kinds that count it.
    pub(crate) async fn execute(&self, effect: &Effect) -> Result<Option<(ObjectId, i64)>, ExecuteError> {
        match effect {
            Effect::SetFinalizers { finalizers, resource_version } => {
                let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": resource_version}});
                let (name, params) = (self.kubevirt.name_any(), PatchParams::default());
                let patched = self.kubevirts().patch(&name, &params, &Patch::Merge(&patch)).await;
                patched.map_err(|source| self.failed("set the finalizers of", source))?;
                Ok(None)
            }
            Effect::Create(value) => self.create(value).await,
            Effect::Replace(value) => self.replace(value).await,
            Effect::Delete { id, uid } => self.delete(id, uid).await.map(|()| None),
            Effect::Certificates(step) => self.renew(step).await.map(|()| None),
            Effect::DeleteWorkload(workload) => {
                let id = ObjectId {
                    group: "kubevirt.io".to_owned(),
                    kind: workload.kind.to_owned(),
                    namespace: workload.namespace.clone(),
                    name: workload.name.clone(),
                };
                self.delete(&id, &workload.uid).await.map(|()| None)
            }
        }
    }

    /// Writes the whole status of the resource as it was observed.
    pub(crate) async fn write_status(&self, status: KubeVirtStatus) -> Result<(), ExecuteError> {
        let mut kubevirt = self.kubevirt.clone();
        kubevirt.status = Some(status);
        let written = self.kubevirts().replace_status(&kubevirt.name_any(), &PostParams::default(), &kubevirt).await;
        written.map(|_| ()).map_err(|source| self.failed("write the status of", source))
    }

    fn kubevirts(&self) -> Api<KubeVirt> {
        Api::namespaced(self.client.clone(), &self.kubevirt.namespace().unwrap_or_default())
    }

    fn failed(&self, action: &'static str, source: kube::Error) -> ExecuteError {
        ExecuteError::Request { action, object: format!("KubeVirt {}", crate::cluster::name_of(self.kubevirt)), source }
    }

    async fn create(&self, value: &Value) -> Result<Option<(ObjectId, i64)>, ExecuteError> {
        let id = ObjectId::of(value);
        let object: DynamicObject = serde_json::from_value(value.clone())?;
        let created = api_of(self.client.clone(), &id).create(&PostParams::default(), &object).await;
        let created =
            created.map_err(|source| ExecuteError::Request { action: "create", object: id.to_string(), source })?;
        tracing::info!(object = %id, "created");
        Ok(created.metadata.generation.map(|generation| (id, generation)))
    }

    async fn replace(&self, value: &Value) -> Result<Option<(ObjectId, i64)>, ExecuteError> {
        let id = ObjectId::of(value);
        let object: DynamicObject = serde_json::from_value(value.clone())?;
        let replaced = api_of(self.client.clone(), &id).replace(&id.name, &PostParams::default(), &object).await;
        let replaced =
            replaced.map_err(|source| ExecuteError::Request { action: "replace", object: id.to_string(), source })?;
        tracing::info!(object = %id, "replaced");
        Ok(replaced.metadata.generation.map(|generation| (id, generation)))
    }

    /// Deletes an object once what belongs to it is gone, so that its absence means that nothing of it runs.
    async fn delete(&self, id: &ObjectId, uid: &str) -> Result<(), ExecuteError> {
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::foreground() };
        match api_of(self.client.clone(), id).delete(&id.name, &params).await {
            Ok(_) => {
                tracing::info!(object = %id, "deleted");
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(source) => Err(ExecuteError::Request { action: "delete", object: id.to_string(), source }),
        }
    }

    async fn renew(&self, step: &CertificateStep) -> Result<(), ExecuteError> {
        match step {
            CertificateStep::NewAuthority { lifetime } => {
                let pair = certificates::authority(*lifetime, self.now)?;
                self.put(rendered::secret(self.namespace, rendered::AUTHORITY, &pair.certificate, &pair.key).value)
                    .await
            }
            CertificateStep::NewSuccessor { lifetime } => {
                let next = certificates::authority(*lifetime, self.now)?;
                let current = self.authority("tls.crt", "tls.key").await?;
                let mut secret =
                    rendered::secret(self.namespace, rendered::AUTHORITY, &current.certificate, &current.key).value;
                secret["stringData"][NEXT_CERTIFICATE] = json!(next.certificate);
                secret["stringData"][NEXT_KEY] = json!(next.key);
                self.put(secret).await
            }
            CertificateStep::Promote => {
                let next = self.authority(NEXT_CERTIFICATE, NEXT_KEY).await?;
                self.put(rendered::secret(self.namespace, rendered::AUTHORITY, &next.certificate, &next.key).value)
                    .await
            }
            CertificateStep::Publish { bundle } => self.put(rendered::bundle(self.namespace, bundle).value).await,
            CertificateStep::Issue { certificate, lifetime } => {
                let authority = self.authority("tls.crt", "tls.key").await?;
                let pair = certificates::issue(&authority, certificate, *lifetime, self.now)?;
                let mut secret =
                    rendered::secret(self.namespace, certificate.secret, &pair.certificate, &pair.key).value;
                secret["metadata"]["annotations"][ISSUER] = json!(certificates::fingerprint(&authority.certificate));
                self.put(secret).await
            }
        }
    }

    async fn authority(&self, certificate: &str, key: &str) -> Result<Pair, ExecuteError> {
        let found = self.get(&self.id("Secret", rendered::AUTHORITY)).await?;
        let pair = found.and_then(|secret| certificates::pair(&secret, certificate, key));
        pair.ok_or_else(|| CertificateError::NoAuthority(rendered::AUTHORITY).into())
    }

    fn id(&self, kind: &str, name: &str) -> ObjectId {
        ObjectId {
            group: String::new(),
            kind: kind.to_owned(),
            namespace: self.namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    async fn get(&self, id: &ObjectId) -> Result<Option<Value>, ExecuteError> {
        let found = api_of(self.client.clone(), id).get_opt(&id.name).await;
        let found = found.map_err(|source| ExecuteError::Request { action: "get", object: id.to_string(), source })?;
        Ok(found.map(serde_json::to_value).transpose()?)
    }

    /// Makes an object of the certificates', or puts it in the place of the one that is there. Only one operator leads, and
    /// nobody else writes these.
    async fn put(&self, mut value: Value) -> Result<(), ExecuteError> {
        match self.get(&ObjectId::of(&value)).await? {
            None => self.create(&value).await?,
            Some(live) => {
                for key in ["uid", "resourceVersion"] {
                    value["metadata"][key] = live["metadata"][key].clone();
                }
                self.replace(&value).await?
            }
        };
        Ok(())
    }
}
