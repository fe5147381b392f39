//! Facts in, what to do out.

use jiff::Timestamp;

use super::rollout::{self, Rollout};
use super::status::{ANOTHER_NAMESPACE, DEPLOYMENT_FAILED, EXISTING_DEPLOYMENT, State, news, of_state};
use super::upkeep::{self, Upkeep};
use super::{Effect, FINALIZER, Observed, POLL, Plan, Target, removal};
use crate::plan::Requeue;

const DEPLOYING: &str = "Deploying";
const DEPLOYED: &str = "Deployed";

/// Decides about the KubeVirt resource.
pub fn decide(observed: &Observed, now: Timestamp) -> Plan {
    if observed.is_anothers() {
        return Plan::default();
    }
    if observed.is_elsewhere() {
        return elsewhere(observed, now);
    }
    let upkeep = upkeep::plan(observed, now);
    if observed.is_deleting() {
        return upkeep.before(removal::decide(observed, now));
    }
    if let Some(refused) = refused(observed, now) {
        return upkeep.before(refused);
    }
    let target = match &observed.target {
        Ok(target) => target,
        Err(message) => return upkeep.before(failed(observed, DEPLOYMENT_FAILED, message.clone(), now)),
    };
    if let Some(adopt) = ensure_finalizer(observed) {
        return Plan { effects: vec![adopt], ..Plan::default() };
    }
    install(observed, target, &upkeep, now)
}

/// A resource for which we would install half here and half there. It may be that of an operator which has not come to it yet, so only
/// its conditions are written.
fn elsewhere(observed: &Observed, now: Timestamp) -> Plan {
    if observed.is_deleting() {
        return Plan::default();
    }
    let metadata = &observed.kubevirt.metadata;
    let message = format!(
        "KubeVirt resource {} is in namespace {}, and this operator installs in its own namespace {} only: make the resource there instead",
        metadata.name.as_deref().unwrap_or_default(),
        metadata.namespace.as_deref().unwrap_or_default(),
        observed.namespace,
    );
    failed(observed, ANOTHER_NAMESPACE, message, now)
}

/// Nothing is done, not even a finalizer set, where another installation is.
fn refused(observed: &Observed, now: Timestamp) -> Option<Plan> {
    const MOST: usize = 5;
    if let Some(elder) = observed.elders.first() {
        return Some(failed(
            observed,
            EXISTING_DEPLOYMENT,
            format!("There is an existing KubeVirt deployment: {elder}"),
            now,
        ));
    }
    let foreign = observed.foreign();
    if foreign.is_empty() {
        return None;
    }
    let mut names = foreign.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
    if foreign.len() > MOST {
        names.push_str(&format!(" and {} more", foreign.len() - MOST));
    }
    let message =
        format!("There is an existing KubeVirt deployment that this operator did not make: {names}. Remove it first");
    Some(failed(observed, EXISTING_DEPLOYMENT, message, now))
}

fn failed(observed: &Observed, reason: &'static str, message: String, now: Timestamp) -> Plan {
    let status = of_state(observed, &State::Failed { reason, message }, now);
    Plan { status: news(observed, status), requeue: Requeue::After(POLL), ..Plan::default() }
}

fn ensure_finalizer(observed: &Observed) -> Option<Effect> {
    let metadata = &observed.kubevirt.metadata;
    let mut finalizers = metadata.finalizers.clone().unwrap_or_default();
    if finalizers.iter().any(|name| name == FINALIZER) {
        return None;
    }
    finalizers.push(FINALIZER.to_owned());
    Some(Effect::SetFinalizers { finalizers, resource_version: metadata.resource_version.clone().unwrap_or_default() })
}

fn install(observed: &Observed, target: &Target, upkeep: &Upkeep, now: Timestamp) -> Plan {
    let rollout = rollout::plan(observed, target, upkeep);
    let state = match &observed.failure {
        Some(message) => State::Failed { reason: DEPLOYMENT_FAILED, message: message.clone() },
        None if rollout.is_settled() => State::Ready,
        None if rollout::is_update(observed, target) => State::Updating,
        // What is installed works. It is put right first; the next look tells what came of that.
        None if rollout.is_repair(observed, target) => return Plan { effects: rollout.effects, ..Plan::default() },
        None => State::Deploying,
    };
    let is_ready = state == State::Ready;
    let mut status = of_state(observed, &state, now);
    if is_ready {
        status.phase = Some(DEPLOYED.to_owned());
        status.observed_deployment_config = Some(target.config.clone());
        status.observed_deployment_id = Some(target.identifier.clone());
        status.observed_kube_virt_registry = Some(target.registry.clone());
        status.observed_kube_virt_version = Some(target.version.clone());
    } else if rollout::is_new(observed, target) && !rollout::is_update(observed, target) {
        status.phase = Some(DEPLOYING.to_owned());
    }
    let Rollout { mut effects, waiting, stale, generations } = rollout;
    if !generations.is_empty() {
        status.generations = merged(status.generations, generations, is_ready);
    }
    if is_ready {
        effects.extend(stale);
    }
    let requeue = match (waiting.is_empty(), upkeep.due) {
        (false, _) => Requeue::After(POLL),
        (true, Some(due)) => Requeue::After(due),
        (true, None) => Requeue::OnChange,
    };
    Plan { effects, status: news(observed, status), requeue }
}

/// New entries over old ones. A finished rollout has looked at everything, so what it did not meet is gone.
fn merged(
    old: Vec<fv_api::GenerationStatus>,
    new: Vec<fv_api::GenerationStatus>,
    is_complete: bool,
) -> Vec<fv_api::GenerationStatus> {
    let is_same = |a: &fv_api::GenerationStatus, b: &fv_api::GenerationStatus| {
        (&a.resource, &a.namespace, &a.name) == (&b.resource, &b.namespace, &b.name)
    };
    let mut all: Vec<fv_api::GenerationStatus> =
        old.into_iter().filter(|entry| !is_complete && !new.iter().any(|newer| is_same(entry, newer))).collect();
    all.extend(new);
    all.sort_by(|a, b| (&a.resource, &a.namespace, &a.name).cmp(&(&b.resource, &b.namespace, &b.name)));
    all
}
