//! The routes of `subresources.kubevirt.io`, the same under each version.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, put};
use bytes::Bytes;
use fv_api::{PauseOptions, RestartOptions, StartOptions, StopOptions, UnpauseOptions};
use fv_api::{VirtualMachine, VirtualMachineInstance};
use fv_runtime::health::Health;
use fv_runtime::program;
use fv_stream::agent::{AgentError, AgentQuery, DomainVerb, NodeAgent};
use http::StatusCode;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde::Deserialize;
use serde_json::json;

use crate::body::{decode, is_dry_run};
use crate::deadline::within;
use crate::error::{ApiError, VM, VMI};
use crate::vm::Change;
use crate::vmi::Located;
use crate::{VERSIONS, resources, streams, version, vm, vmi};

/// How often a request decides anew when the object changed under it.
const ATTEMPTS: usize = 8;

/// What the routes need; cheap to clone.
#[derive(Clone)]
pub struct VirtApi {
    pub(crate) client: Client,
    pub(crate) agents: Arc<dyn NodeAgent>,
    health: Health,
}

impl VirtApi {
    /// `client` acts as virt-api; `agents` reaches the node agents.
    pub fn new(client: Client, agents: Arc<dyn NodeAgent>) -> Self {
        Self { client, agents, health: Health::default() }
    }

    /// Answers `healthz` with an error while a part of `health` is not ready.
    pub fn with_health(self, health: Health) -> Self {
        Self { health, ..self }
    }

    pub(crate) async fn vm(&self, at: &Target) -> Result<VirtualMachine, ApiError> {
        let api = Api::<VirtualMachine>::namespaced(self.client.clone(), &at.namespace);
        within(api.get(&at.name)).await.map_err(|e| ApiError::from_kube(e, VM, &at.name))
    }

    async fn vmi_opt(&self, at: &Target) -> Result<Option<VirtualMachineInstance>, ApiError> {
        let api = Api::<VirtualMachineInstance>::namespaced(self.client.clone(), &at.namespace);
        within(api.get_opt(&at.name)).await.map_err(|e| ApiError::from_kube(e, VMI, &at.name))
    }

    pub(crate) async fn vmi(&self, at: &Target) -> Result<VirtualMachineInstance, ApiError> {
        self.vmi_opt(at).await?.ok_or_else(|| ApiError::not_found(VMI, &at.name))
    }

    /// Carries out the changes, each bound to the state it was decided on.
    async fn apply(
        &self,
        vm: &VirtualMachine,
        vmi: Option<&VirtualMachineInstance>,
        changes: Vec<Change>,
    ) -> Result<(), kube::Error> {
        let namespace = vm.namespace().unwrap_or_default();
        let vms = Api::<VirtualMachine>::namespaced(self.client.clone(), &namespace);
        let vmis = Api::<VirtualMachineInstance>::namespaced(self.client.clone(), &namespace);
        let params = PatchParams::default();
        let mut version = vm.resource_version();
        for change in changes {
            match change {
                Change::VmSpec(spec) => {
                    let patch = json!({"metadata": precondition(vm.uid(), &version), "spec": spec});
                    version =
                        within(vms.patch(&vm.name_any(), &params, &Patch::Merge(&patch))).await?.resource_version();
                }
                Change::VmStatus(status) => {
                    let patch = json!({"metadata": precondition(vm.uid(), &version), "status": status});
                    version = within(vms.patch_status(&vm.name_any(), &params, &Patch::Merge(&patch)))
                        .await?
                        .resource_version();
                }
                Change::VmiSpec(spec) => {
                    let Some(vmi) = vmi else { continue };
                    // The node agent writes this object all the time: only its identity matters here.
                    let patch = json!({"metadata": {"uid": vmi.uid()}, "spec": spec});
                    within(vmis.patch(&vmi.name_any(), &params, &Patch::Merge(&patch))).await?;
                }
            }
        }
        Ok(())
    }

    /// Reads, decides, writes; decides anew when somebody else wrote in between.
    async fn change<F>(&self, at: &Target, dry_run: bool, decide: F) -> Result<Response, ApiError>
    where
        F: Fn(&VirtualMachine, Option<&VirtualMachineInstance>) -> Result<Vec<Change>, ApiError>,
    {
        let mut first = None;
        for _ in 0..ATTEMPTS {
            let vm = self.vm(at).await?;
            let mut vmi = self.vmi_opt(at).await?;
            forget_own_writes(&mut vmi, &mut first);
            let changes = decide(&vm, vmi.as_ref())?;
            if dry_run {
                return Ok(StatusCode::ACCEPTED.into_response());
            }
            match self.apply(&vm, vmi.as_ref(), changes).await {
                Ok(()) => return Ok(StatusCode::ACCEPTED.into_response()),
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(ApiError::from_kube(error, VM, &at.name)),
            }
        }
        Err(ApiError::conflict(VM, &at.name, "the object keeps changing; please try again"))
    }

    async fn act<F>(&self, at: &Target, dry_run: bool, verb: DomainVerb, check: F) -> Result<Response, ApiError>
    where
        F: Fn(&VirtualMachineInstance) -> Result<Located, ApiError>,
    {
        let located = check(&self.vmi(at).await?)?;
        if !dry_run {
            self.agents.act(&located.node, &located.vmi, verb).await.map_err(|e| agent_error(e, &at.name))?;
        }
        Ok(StatusCode::OK.into_response())
    }
}

/// What a request itself wrote when it was tried before, such as a shorter grace period, is no reason to refuse it: the instance is
/// looked at as it was `first`.
fn forget_own_writes(now: &mut Option<VirtualMachineInstance>, first: &mut Option<Box<VirtualMachineInstance>>) {
    match (now, first) {
        (Some(now), Some(first)) if now.uid() == first.uid() => now.spec.clone_from(&first.spec),
        (now, first) => *first = now.clone().map(Box::new),
    }
}

fn precondition(uid: Option<String>, version: &Option<String>) -> serde_json::Value {
    json!({"uid": uid, "resourceVersion": version})
}

/// What a node agent's refusal is to the user.
pub(crate) fn agent_error(error: AgentError, name: &str) -> ApiError {
    match error {
        AgentError::NotFound(_) => ApiError::not_found(VMI, name),
        AgentError::Conflict(why) => ApiError::conflict(VMI, name, &why),
        AgentError::Busy(why) => ApiError::unavailable(why),
        AgentError::Internal(_) | AgentError::Unreachable(_) => ApiError::internal(error),
    }
}

/// The object a request is about.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Target {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// The router, with absolute paths `/apis/subresources.kubevirt.io/…`.
pub fn router(state: VirtApi) -> Router {
    let mut router = Router::new();
    for api_version in VERSIONS {
        router = router.nest(&format!("/apis/{}/{api_version}", crate::GROUP), versioned(api_version));
    }
    router.with_state(state)
}

fn versioned(api_version: &'static str) -> Router<VirtApi> {
    let vm = |sub: &str| format!("/namespaces/{{namespace}}/virtualmachines/{{name}}/{sub}");
    let vmi = |sub: &str| format!("/namespaces/{{namespace}}/virtualmachineinstances/{{name}}/{sub}");
    Router::new()
        .route("/", get(move || async move { axum::Json(resources::list(api_version)) }))
        .route("/version", get(|| async { axum::Json(version::info(&program::version())) }))
        .route("/healthz", get(healthz))
        .route(&vm("start"), put(start))
        .route(&vm("stop"), put(stop))
        .route(&vm("restart"), put(restart))
        .route(&vm("portforward/{port}"), any(streams::vm_port_forward))
        .route(&vm("portforward/{port}/{protocol}"), any(streams::vm_port_forward_protocol))
        .route(&vmi("pause"), put(pause))
        .route(&vmi("unpause"), put(unpause))
        .route(&vmi("softreboot"), put(soft_reboot))
        .route(&vmi("reset"), put(reset))
        .route(&vmi("guestosinfo"), get(guest_os_info))
        .route(&vmi("userlist"), get(user_list))
        .route(&vmi("filesystemlist"), get(filesystem_list))
        .route(&vmi("console"), any(streams::console))
        .route(&vmi("vnc"), any(streams::vnc))
        .route(&vmi("portforward/{port}"), any(streams::vmi_port_forward))
        .route(&vmi("portforward/{port}/{protocol}"), any(streams::vmi_port_forward_protocol))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
}

async fn healthz(State(api): State<VirtApi>) -> Result<Response, ApiError> {
    match api.health.missing() {
        missing if missing.is_empty() => Ok(axum::Json(json!({"apiserver": {"connectivity": "ok"}})).into_response()),
        missing => Err(ApiError::unavailable(format!("not ready: {}", missing.join(", ")))),
    }
}

async fn wrong_method(request: Request) -> ApiError {
    let mut error = ApiError::bad_request(format!(
        "the server does not allow this method on the requested resource: {} {}",
        request.method(),
        request.uri().path()
    ));
    error.code = 405;
    error.reason = "MethodNotAllowed";
    error
}

async fn unknown(request: Request) -> ApiError {
    let path = request.uri().path().to_string();
    let mut error = ApiError::bad_request(format!("{path} is no subresource that Ferrovirt serves"));
    error.code = 404;
    error.reason = "NotFound";
    error
}

async fn start(State(api): State<VirtApi>, Path(at): Path<Target>, body: Bytes) -> Result<Response, ApiError> {
    let options: StartOptions = decode(&body)?;
    api.change(&at, is_dry_run(&options.dry_run), |vm, vmi| vm::start(vm, vmi, &options)).await
}

async fn stop(State(api): State<VirtApi>, Path(at): Path<Target>, body: Bytes) -> Result<Response, ApiError> {
    let options: StopOptions = decode(&body)?;
    api.change(&at, is_dry_run(&options.dry_run), |vm, vmi| vm::stop(vm, vmi, &options)).await
}

async fn restart(State(api): State<VirtApi>, Path(at): Path<Target>, body: Bytes) -> Result<Response, ApiError> {
    let options: RestartOptions = decode(&body)?;
    api.change(&at, is_dry_run(&options.dry_run), |vm, vmi| vm::restart(vm, vmi, &options)).await
}

async fn pause(State(api): State<VirtApi>, Path(at): Path<Target>, body: Bytes) -> Result<Response, ApiError> {
    let options: PauseOptions = decode(&body)?;
    api.act(&at, is_dry_run(&options.dry_run), DomainVerb::Pause, vmi::pause).await
}

async fn unpause(State(api): State<VirtApi>, Path(at): Path<Target>, body: Bytes) -> Result<Response, ApiError> {
    let options: UnpauseOptions = decode(&body)?;
    api.act(&at, is_dry_run(&options.dry_run), DomainVerb::Unpause, vmi::unpause).await
}

async fn soft_reboot(State(api): State<VirtApi>, Path(at): Path<Target>) -> Result<Response, ApiError> {
    api.act(&at, false, DomainVerb::SoftReboot, vmi::soft_reboot).await
}

async fn reset(State(api): State<VirtApi>, Path(at): Path<Target>) -> Result<Response, ApiError> {
    api.act(&at, false, DomainVerb::Reset, vmi::reset).await
}

async fn ask(api: VirtApi, at: Target, query: AgentQuery) -> Result<Response, ApiError> {
    let located = vmi::guest_agent(&api.vmi(&at).await?)?;
    let answer = api.agents.query(&located.node, &located.vmi, query).await.map_err(|e| agent_error(e, &at.name))?;
    Ok(axum::Json(answer).into_response())
}

async fn guest_os_info(State(api): State<VirtApi>, Path(at): Path<Target>) -> Result<Response, ApiError> {
    ask(api, at, AgentQuery::GuestOsInfo).await
}

async fn user_list(State(api): State<VirtApi>, Path(at): Path<Target>) -> Result<Response, ApiError> {
    ask(api, at, AgentQuery::UserList).await
}

async fn filesystem_list(State(api): State<VirtApi>, Path(at): Path<Target>) -> Result<Response, ApiError> {
    ask(api, at, AgentQuery::FilesystemList).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(uid: &str, grace_period: i64, phase: &str) -> Option<VirtualMachineInstance> {
        serde_json::from_value(json!({"metadata": {"name": "demo", "uid": uid}, "status": {"phase": phase},
            "spec": {"domain": {"devices": {}}, "terminationGracePeriodSeconds": grace_period}}))
        .unwrap()
    }

    #[test]
    fn stop_that_is_tried_again_is_not_refused_for_the_grace_period_it_shortened() {
        let vm: VirtualMachine = serde_json::from_value(json!({"metadata": {"name": "demo"},
            "spec": {"runStrategy": "Halted", "template": {"spec": {"domain": {"devices": {}}}}}}))
        .unwrap();
        let options = StopOptions { grace_period: Some(0), ..StopOptions::default() };
        let mut first = None;
        let mut seen = instance("u", 30, "Running");
        forget_own_writes(&mut seen, &mut first);
        vm::stop(&vm, seen.as_ref(), &options).unwrap();

        // The instance was patched, then the VM turned out to have changed.
        let mut again = instance("u", 0, "Running");
        vm::stop(&vm, again.as_ref(), &options).unwrap_err();
        forget_own_writes(&mut again, &mut first);
        vm::stop(&vm, again.as_ref(), &options).unwrap();

        // What others wrote counts: it has ended, or is another one.
        for (mut now, why) in [(instance("u", 0, "Failed"), "ended"), (instance("v", 0, "Running"), "another")] {
            forget_own_writes(&mut now, &mut first);
            vm::stop(&vm, now.as_ref(), &options).expect_err(why);
        }
    }
}
