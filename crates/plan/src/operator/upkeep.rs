//! What must go on whatever else is in the way: a rollout that is stuck, a resource that is invalid, a removal that waits for machines.
//! Certificates run out by themselves, and with them everything that is installed.

use std::time::Duration;

use fv_render::install::{Stage, webhooks};
use jiff::Timestamp;

use super::certificates::{self, CertificateStep};
use super::objects::stage_of;
use super::{Effect, FINALIZER, Observed, Plan};

/// What is due.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Upkeep {
    /// Whether there is something to keep up; otherwise certificates are a stage of the rollout like others.
    pub(super) is_begun: bool,
    /// What calls us and does not trust the published bundle. Before renewals: an authority that signs must be trusted.
    pub(super) bundles: Vec<Effect>,
    pub(super) renewals: Vec<CertificateStep>,
    /// When to look at certificates again.
    pub(super) due: Option<Duration>,
}

/// Works out what is due.
pub(super) fn plan(observed: &Observed, now: Timestamp) -> Upkeep {
    let (renewals, due) = certificates::renewals(&observed.authority, observed.rotation(), &observed.namespace, now);
    let is_begun = is_begun(observed);
    let bundles = if is_begun { bundles(observed) } else { Vec::new() };
    Upkeep { is_begun, bundles, renewals, due }
}

impl Upkeep {
    /// What is due of an installation, in order.
    pub(super) fn effects(&self) -> Vec<Effect> {
        if !self.is_begun {
            return Vec::new();
        }
        self.bundles.iter().cloned().chain(self.renewals.iter().cloned().map(Effect::Certificates)).collect()
    }

    /// Does what is due before a plan's own effects, of which one may fail.
    pub(super) fn before(&self, plan: Plan) -> Plan {
        let mut effects = self.effects();
        effects.extend(plan.effects);
        Plan { effects, ..plan }
    }
}

/// Whether there is an installation of ours that has come to certificates and is not being taken apart.
fn is_begun(observed: &Observed) -> bool {
    let is_followed = observed.kubevirt.metadata.finalizers.iter().flatten().any(|name| name == FINALIZER);
    let is_going = observed.is_deleting() && observed.workloads.is_empty();
    let mut certificates = observed.live.iter().filter(|(id, _)| certificates::is_ours(id, &observed.namespace));
    is_followed
        && !is_going
        && observed.elders.is_empty()
        && certificates.all(|(id, live)| observed.owns(id, live) && !live.is_leaving())
        && observed.owned().any(|(id, _)| stage_of(id) >= Stage::Certificates)
}

fn bundles(observed: &Observed) -> Vec<Effect> {
    let bundle = certificates::published(&observed.authority);
    if bundle.is_empty() {
        return Vec::new();
    }
    let callers = observed.owned().filter(|(id, live)| stage_of(id) == Stage::Registration && !live.is_leaving());
    callers.filter_map(|(_, live)| webhooks::with_bundle(&live.value, &bundle)).map(Effect::Replace).collect()
}
