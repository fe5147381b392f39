//! Taking everything away: machines first, while there is still somebody to shut them down, then what was installed, in the
//! opposite order. The definitions go last, and only once nothing of their kinds is left.

use fv_render::install::Stage;
use jiff::Timestamp;

use super::objects::stage_of;
use super::status::{DELETION_FAILED, State, news, of_state};
use super::{Effect, FINALIZER, FINALIZER_OLD, Observed, POLL, Plan};
use crate::plan::Requeue;

const BLOCK: &str = "BlockUninstallIfWorkloadsExist";
const DELETING: &str = "Deleting";
const DELETED: &str = "Deleted";

pub(super) fn decide(observed: &Observed, now: Timestamp) -> Plan {
    let finalizers = observed.kubevirt.metadata.finalizers.clone().unwrap_or_default();
    let others: Vec<String> =
        finalizers.iter().filter(|name| *name != FINALIZER && *name != FINALIZER_OLD).cloned().collect();
    if others.len() == finalizers.len() {
        return Plan::default();
    }
    if !observed.elders.is_empty() {
        // What is installed belongs to another resource.
        let resource_version = observed.kubevirt.metadata.resource_version.clone().unwrap_or_default();
        return Plan {
            effects: vec![Effect::SetFinalizers { finalizers: others, resource_version }],
            ..Plan::default()
        };
    }
    let is_deleting = observed.status().phase.as_deref() == Some(DELETING);
    let is_blocked = observed.kubevirt.spec.uninstall_strategy.as_deref() == Some(BLOCK) && !is_deleting;
    if is_blocked && !observed.workloads.is_empty() {
        return blocked(observed, now);
    }
    let mut plan = Plan { effects: effects(observed), ..Plan::default() };
    let is_done = observed.owned().next().is_none() && observed.workloads.is_empty();
    let mut status = of_state(observed, &State::Deleting, now);
    status.phase = Some(if is_done { DELETED } else { DELETING }.to_owned());
    plan.status = news(observed, status);
    if is_done && plan.status.is_none() {
        let resource_version = observed.kubevirt.metadata.resource_version.clone().unwrap_or_default();
        plan.effects.push(Effect::SetFinalizers { finalizers: others, resource_version });
    } else {
        plan.requeue = Requeue::After(POLL);
    }
    // The phase is recorded before anything goes: a removal that has begun is not blocked half-way.
    if !is_deleting && !is_done {
        plan.effects.clear();
    }
    plan
}

/// The resource is on its way out although it should not be: the webhook was away. Nothing goes.
fn blocked(observed: &Observed, now: Timestamp) -> Plan {
    let machines = observed.workloads.len();
    let message = format!(
        "{machines} virtual machines exist and spec.uninstallStrategy is {BLOCK}: delete them, or set it to RemoveWorkloads"
    );
    let mut status = observed.status();
    let failed = State::Failed { reason: DELETION_FAILED, message };
    let failed = of_state(observed, &failed, now);
    status.conditions.retain(|condition| condition.type_ != fv_api::meta::conditions::SYNCHRONIZED);
    // What is installed works on; only the removal is in the way.
    status.conditions.extend(
        failed.conditions.into_iter().filter(|condition| condition.type_ == fv_api::meta::conditions::SYNCHRONIZED),
    );
    status.observed_generation = observed.kubevirt.metadata.generation;
    Plan { status: news(observed, status), requeue: Requeue::After(POLL), ..Plan::default() }
}

/// The deletions that are next: machines that belong to nobody else first; then the last stage that has anything left.
fn effects(observed: &Observed) -> Vec<Effect> {
    if !observed.workloads.is_empty() {
        return observed
            .workloads
            .iter()
            .filter(|workload| !workload.is_leaving)
            .map(|workload| Effect::DeleteWorkload(workload.clone()))
            .collect();
    }
    let order = [
        Stage::Monitoring,
        Stage::Registration,
        Stage::Handler,
        Stage::Controller,
        Stage::Api,
        Stage::Certificates,
        Stage::Services,
        Stage::Access,
        Stage::Definitions,
    ];
    let Some(stage) = order.into_iter().find(|stage| observed.owned().any(|(id, _)| stage_of(id) == *stage)) else {
        return Vec::new();
    };
    observed
        .owned()
        .filter(|(id, live)| stage_of(id) == stage && !live.is_leaving())
        .map(|(id, live)| Effect::Delete { id: id.clone(), uid: live.uid().to_owned() })
        .collect()
}
