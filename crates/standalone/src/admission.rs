//! Joins the API server's admission port to `fv_admit`.

use fv_admit::{Kind, Operation as AdmitOperation, Request};
use fv_api::config::ClusterConfig;
use fv_apiserver::status::Cause;
use fv_apiserver::{Admission, AdmissionRequest, Operation, Rejection, Status, Warnings};
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

/// Admission of `kubevirt.io` objects; everything else passes.
#[derive(Clone, Debug)]
pub struct KubevirtAdmission {
    config: ClusterConfig,
}

impl KubevirtAdmission {
    pub fn new(config: ClusterConfig) -> Self {
        Self { config }
    }

    fn request<'a>(&'a self, request: &AdmissionRequest<'a>) -> Option<Request<'a>> {
        let kind = (request.group == "kubevirt.io").then(|| Kind::parse(request.kind)).flatten()?;
        Some(Request {
            operation: match request.operation {
                Operation::Create => AdmitOperation::Create,
                Operation::Update => AdmitOperation::Update,
                Operation::Delete => AdmitOperation::Delete,
            },
            kind,
            subresource: Some(request.subresource).filter(|s| !s.is_empty()),
            namespace: request.namespace,
            user: &request.user.username,
            old: request.old_object,
            config: &self.config,
            now: Timestamp::now(),
        })
    }
}

impl Admission for KubevirtAdmission {
    fn inspect(&self, request: &AdmissionRequest<'_>) -> Result<(), Rejection> {
        let (Some(admit), Some(body)) = (self.request(request), request.object) else { return Ok(()) };
        let deleting = request.old_object.is_some_and(|old| old["metadata"]["deletionTimestamp"].is_string());
        if admit.subresource.is_some() || deleting {
            return Ok(());
        }
        match fv_admit::renamed_fields(admit.kind, body) {
            causes if causes.is_empty() => Ok(()),
            causes => Err(refusal(&fv_admit::denial(&admit, &causes)).into()),
        }
    }

    fn mutate(&self, request: &AdmissionRequest<'_>, object: &mut Value) -> Result<Warnings, Rejection> {
        if let Some(request) = self.request(request) {
            fv_admit::mutate(&request, object, &mut Uuid::new_v4);
        }
        Ok(Warnings::new())
    }

    fn validate(&self, request: &AdmissionRequest<'_>) -> Result<Warnings, Rejection> {
        let (Some(admit), Some(object)) = (self.request(request), request.object) else { return Ok(Warnings::new()) };
        let verdict = fv_admit::validate(&admit, object);
        if verdict.is_admitted() {
            return Ok(verdict.warnings);
        }
        Err(refusal(&fv_admit::denial(&admit, &verdict.causes)).into())
    }
}

/// The denial, as the API server answers it.
fn refusal(denial: &Value) -> Status {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_string();
    let mut status = Status::new(422, text(denial, "reason"), text(denial, "message"));
    let causes = denial["details"]["causes"].as_array().into_iter().flatten();
    status.causes = causes.map(|c| Cause::new(text(c, "reason"), text(c, "message"), text(c, "field"))).collect();
    status
}
