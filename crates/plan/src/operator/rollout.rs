//! From what the cluster has to what it should have: the next writes.

use std::collections::{BTreeMap, BTreeSet};

use fv_api::GenerationStatus;
use fv_render::install::{ObjectId, Stage};

use super::drift::{is_as_wanted, must_be_made_anew};
use super::objects::{generation_entry, is_ready, replacement, resource};
use super::upkeep::Upkeep;
use super::{Effect, Observed, Target, certificates};

/// The first installation: virt-api answers before the API server is told to ask it, and before anybody needs its answers.
const INSTALL: [Stage; 9] = Stage::ALL;
/// An update: the node agents understand what is new before the control plane asks them for it.
const UPDATE: [Stage; 9] = [
    Stage::Definitions,
    Stage::Access,
    Stage::Services,
    Stage::Certificates,
    Stage::Handler,
    Stage::Controller,
    Stage::Api,
    Stage::Registration,
    Stage::Monitoring,
];

/// What is left to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rollout {
    pub(super) effects: Vec<Effect>,
    /// Objects that are as wanted and not ready.
    pub(super) waiting: Vec<ObjectId>,
    /// Objects of an earlier installation, to be deleted once the new one works.
    pub(super) stale: Vec<Effect>,
    /// `status.generations`.
    pub(super) generations: Vec<GenerationStatus>,
}

impl Rollout {
    /// Whether all is as wanted and works.
    pub(super) fn is_settled(&self) -> bool {
        self.effects.is_empty() && self.waiting.is_empty()
    }

    /// Whether a finished installation whose components work has objects that are not as wanted.
    pub(super) fn is_repair(&self, observed: &Observed, target: &Target) -> bool {
        !is_new(observed, target) && !self.effects.is_empty() && self.waiting.is_empty()
    }
}

/// Whether another installation than the last finished one is wanted.
pub(super) fn is_new(observed: &Observed, target: &Target) -> bool {
    observed.status().observed_deployment_id.as_ref() != Some(&target.identifier)
}

/// Whether a working installation is being changed.
pub(super) fn is_update(observed: &Observed, target: &Target) -> bool {
    is_new(observed, target) && observed.status().observed_deployment_id.is_some()
}

/// Works out what is left. While a new installation is rolled out each stage waits for the one before it; a finished one is
/// kept as it should be everywhere at once.
pub(super) fn plan(observed: &Observed, target: &Target, upkeep: &Upkeep) -> Rollout {
    let order = if is_update(observed, target) { UPDATE } else { INSTALL };
    let is_gated = is_new(observed, target);
    let written = written(observed);
    let mut rollout = Rollout { effects: upkeep.effects(), ..Rollout::default() };
    for stage in order {
        if stage == Stage::Certificates && !upkeep.is_begun {
            rollout.effects.extend(upkeep.renewals.iter().cloned().map(Effect::Certificates));
        }
        // What the API server is to trust is settled first.
        if stage != Stage::Registration || (upkeep.renewals.is_empty() && upkeep.bundles.is_empty()) {
            for object in target.objects.iter().filter(|object| object.stage == stage) {
                look_at(observed, &object.value, &written, &mut rollout);
            }
        }
        if is_gated && !rollout.is_settled() {
            break;
        }
    }
    let wanted: BTreeSet<ObjectId> = target.objects.iter().map(|object| object.id()).collect();
    let stale = observed.owned().filter(|(id, live)| {
        !wanted.contains(id) && !certificates::is_ours(id, &observed.namespace) && !live.is_leaving()
    });
    rollout.stale = stale.map(|(id, live)| Effect::Delete { id: id.clone(), uid: live.uid().to_owned() }).collect();
    rollout
}

fn look_at(
    observed: &Observed,
    wanted: &serde_json::Value,
    written: &BTreeMap<(String, String, String), i64>,
    rollout: &mut Rollout,
) {
    let id = ObjectId::of(wanted);
    let Some(live) = observed.live.get(&id) else {
        rollout.effects.push(Effect::Create(wanted.clone()));
        return;
    };
    if live.is_leaving() {
        rollout.waiting.push(id);
        return;
    }
    if must_be_made_anew(&live.value, wanted) {
        rollout.effects.push(Effect::Delete { uid: live.uid().to_owned(), id });
        return;
    }
    let known = observed.written.get(&id).or_else(|| written.get(&key(&id))).copied();
    if !is_as_wanted(live, wanted, known) {
        rollout.effects.push(Effect::Replace(replacement(live, wanted)));
        return;
    }
    if let Some(generation) = live.generation() {
        rollout.generations.push(generation_entry(&id, generation));
    }
    if !is_ready(&live.value) {
        rollout.waiting.push(id);
    }
}

fn key(id: &ObjectId) -> (String, String, String) {
    (resource(&id.kind), id.namespace.clone(), id.name.clone())
}

/// Generations as the status tells them.
fn written(observed: &Observed) -> BTreeMap<(String, String, String), i64> {
    let entries = observed.status().generations.into_iter();
    entries
        .map(|entry| ((entry.resource, entry.namespace.unwrap_or_default(), entry.name), entry.last_generation))
        .collect()
}
