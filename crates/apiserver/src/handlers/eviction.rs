//! `pods/eviction`: a deletion that disruption budgets may refuse.

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt as _};
use serde_json::{Value, json};

use super::delete::{DeleteOptions, delete_object};
use super::{Context, Part, modify, view};
use crate::admission::Operation;
use crate::codec;
use crate::kinds::{self, bootstrap, pod};
use crate::managed;
use crate::meta::{MetaExt as _, object_mut, timestamp};
use crate::status::{Cause, Status};

const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
/// When a budget that was not looked at yet may have been.
const RETRY_SECONDS: u32 = 10;
/// More evictions than this are not begun before the disruption controller confirmed some.
const MAX_DISRUPTED_PODS: usize = 2000;

pub(super) async fn evict(context: &mut Context, body: Bytes) -> Result<Response, Status> {
    let eviction = context.decode(&body)?.value;
    let kind = eviction.get("kind").and_then(Value::as_str).unwrap_or("Eviction");
    if kind != "Eviction" {
        return Err(Status::bad_request(format!(
            "{kind} cannot be handled as an Eviction: the kind in the data is another one"
        )));
    }
    if eviction.meta_str("name") != context.target.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let mut options = DeleteOptions::from_json(eviction.get("deleteOptions").unwrap_or(&json!({})))?;
    options.dry_run |= context.dry_run()?;
    let request = context.admission(Operation::Create, &context.target.name, Some(&eviction), None, options.dry_run);
    let warnings = context.core.admission.validate(&request).map_err(|r| *r.0)?;
    warnings.into_iter().for_each(|w| context.warn(w));
    let target = &context.target;
    let stored = context.core.store.get(&target.resource.storage, &target.key()).ok_or_else(|| target.not_found())?;
    let pod = codec::decode(&target.resource, &target.version, &stored)?;
    let unguarded =
        pod.deleting() || matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed" | "Pending"));
    let mut unhealthy_of = None;
    if !unguarded {
        let budgets = budgets(context, &pod);
        match budgets.as_slice() {
            [] => {}
            [budget] if may_go_unhealthy(&pod, budget) => unhealthy_of = Some(budget.meta_str("name").to_owned()),
            [budget] => take(context, budget.meta_str("name"), options.dry_run).await?,
            _ => {
                let text =
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
                return Err(Status::new(500, "", text));
            }
        }
    }
    let own_precondition = options.resource_version.is_some();
    if !own_precondition
        && (unhealthy_of.is_some() || (unguarded && pod["status"]["phase"] == "Pending" && !pod.deleting()))
    {
        // It must not have become healthy meanwhile.
        options.resource_version = Some(pod.meta_str("resourceVersion").to_owned());
    }
    match delete(context, options).await {
        Err(status) if status.reason == "Conflict" && !own_precondition && unhealthy_of.is_some() => {
            return Err(being_processed(&unhealthy_of.unwrap_or_default()));
        }
        outcome => outcome?,
    }
    let done = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(view::finish(context, StatusCode::CREATED, done.to_string().into_bytes()))
}

/// The budgets that guard a pod.
fn budgets(context: &Context, pod: &Value) -> Vec<Value> {
    let labels = pod.meta("labels").cloned().and_then(|labels| serde_json::from_value(labels).ok()).unwrap_or_default();
    let guards = |budget: &Value| {
        let selector = serde_json::from_value::<LabelSelector>(budget["spec"]["selector"].clone()).ok();
        selector
            .and_then(|selector| Selector::try_from(selector).ok())
            .is_some_and(|selector| selector.matches(&labels))
    };
    let all = kinds::stored(&context.core, "policy", "poddisruptionbudgets", &context.target.namespace);
    if pod.meta("labels").is_none() { Vec::new() } else { all.into_iter().filter(guards).collect() }
}

/// Whether a pod that is not ready may go although its budget is used up: it is no loss.
fn may_go_unhealthy(pod: &Value, budget: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let ready = conditions.into_iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
    let number = |field: &str| budget["status"][field].as_i64().unwrap_or_default();
    let enough = number("currentHealthy") >= number("desiredHealthy") && number("desiredHealthy") > 0;
    !ready && (enough || budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow")
}

/// Takes one disruption from a budget, or says why there is none.
async fn take(context: &Context, budget: &str, dry_run: bool) -> Result<(), Status> {
    let Some(mut update) = bootstrap::context(&context.core, "policy", "poddisruptionbudgets") else { return Ok(()) };
    update.target.namespace.clone_from(&context.target.namespace);
    update.target.name = budget.to_owned();
    update.target.subresource = "status".into();
    let pod = context.target.name.clone();
    modify(&mut update, Part::Status, dry_run, &mut |update, old| {
        check(old)?;
        let mut new = old.clone();
        let left = old["status"]["disruptionsAllowed"].as_i64().unwrap_or_default() - 1;
        let status = object_mut(object_mut(&mut new).entry("status").or_insert(Value::Null));
        status.insert("disruptionsAllowed".into(), json!(left));
        let now = timestamp(jiff::Timestamp::now());
        object_mut(status.entry("disruptedPods").or_insert(Value::Null)).insert(pod.clone(), json!(now));
        if left == 0 {
            exhausted(status);
        }
        managed::updated(update, &mut new, old);
        Ok(new)
    })
    .await
    .map(drop)
}

/// Says in the conditions that nothing may be disrupted any more.
fn exhausted(status: &mut serde_json::Map<String, Value>) {
    let mut condition = json!({
        "type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": "",
        "lastTransitionTime": timestamp(jiff::Timestamp::now()),
    });
    if let Some(generation) = status.get("observedGeneration") {
        condition["observedGeneration"] = generation.clone();
    }
    let conditions = status.entry("conditions").or_insert(json!([]));
    let Some(conditions) = conditions.as_array_mut() else { return };
    match conditions.iter_mut().find(|known| known["type"] == "DisruptionAllowed") {
        Some(known) => {
            if known["status"] == "False" {
                condition["lastTransitionTime"] = known["lastTransitionTime"].clone();
            }
            *known = condition;
        }
        None => conditions.push(condition),
    }
}

fn check(budget: &Value) -> Result<(), Status> {
    let name = budget.meta_str("name");
    let status = &budget["status"];
    let number = |field: &str| status[field].as_i64().unwrap_or_default();
    if number("observedGeneration") < budget["metadata"]["generation"].as_i64().unwrap_or_default() {
        return Err(being_processed(name));
    }
    let forbidden = |why: &str| Err(Status::forbidden("policy", "poddisruptionbudget", name, why));
    if number("disruptionsAllowed") < 0 {
        return forbidden("pdb disruptions allowed is negative");
    }
    if status["disruptedPods"].as_object().is_some_and(|pods| pods.len() > MAX_DISRUPTED_PODS) {
        return forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller");
    }
    if number("disruptionsAllowed") > 0 {
        return Ok(());
    }
    let (desired, current) = (number("desiredHealthy"), number("currentHealthy"));
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let told = conditions.into_iter().find(|c| c["type"] == "DisruptionAllowed" && c["status"] == "False");
    let text = |field: &str| told.and_then(|c| c[field].as_str()).unwrap_or_default();
    let head = format!("The disruption budget {name} does not allow evicting pods currently");
    let message = match (text("reason"), text("message")) {
        ("SyncFailed", message) if !message.is_empty() => format!("{head} because it failed sync: {message}"),
        _ if current <= desired => {
            format!("The disruption budget {name} needs {desired} healthy pods and has {current} currently")
        }
        (reason, message) if !message.is_empty() => format!("{head} ({reason}): {message}"),
        _ => head,
    };
    Err(too_many(message, 0))
}

fn being_processed(budget: &str) -> Status {
    too_many(format!("The disruption budget {budget} is still being processed by the server."), RETRY_SECONDS)
}

fn too_many(cause: String, retry: u32) -> Status {
    let mut status = Status::new(429, "TooManyRequests", REFUSED);
    status.causes.push(Cause::new("DisruptionBudget", cause, ""));
    status.retry_after_seconds = retry;
    status
}

/// Says in the pod why it goes, then deletes it.
async fn delete(context: &mut Context, mut options: DeleteOptions) -> Result<(), Status> {
    let subresource = std::mem::take(&mut context.target.subresource);
    if !options.dry_run {
        let wanted = options.clone();
        let mut mark = |context: &mut Context, old: &Value| {
            super::delete::check_preconditions(&context.target, &wanted, old)?;
            let mut pod = old.clone();
            let why = ("EvictionByEvictionAPI", "Eviction API: evicting");
            pod::set_condition(&mut pod, "DisruptionTarget", "True", Some(why));
            Ok(pod)
        };
        let marked = modify(context, Part::Status, false, &mut mark).await?;
        if options.resource_version.is_some() {
            options.resource_version = Some(marked.meta_str("resourceVersion").to_owned());
        }
    }
    let deleted = delete_object(context, &options).await;
    context.target.subresource = subresource;
    deleted.map(drop)
}
