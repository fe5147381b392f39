//! The liveness probe of one VM. Its verdict ends the VMI: to start the launcher container anew, as a kubelet would, does nothing for the
//! guest.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use fv_api::VirtualMachineInstance;
use fv_api::meta::phases::VmiPhase;
use fv_plan::EventKind;
use fv_render::kubernetes_probe;
use tokio::time::Instant;

use crate::engine::{Node, Shared};
use crate::probe::{AgentCheck, Check, Timing, Tracker};
use crate::vm::gate::GateState;

pub(crate) struct Liveness {
    node: Arc<Node>,
    shared: Arc<Shared>,
    tracker: Tracker,
    last: Option<Instant>,
}

impl Liveness {
    pub(crate) fn new(node: Arc<Node>, shared: Arc<Shared>) -> Self {
        Self { node, shared, tracker: Tracker::new(true), last: None }
    }

    /// The next check, made when it is due. `None` while the guest does not run, or has nothing to check.
    pub(crate) fn next_check(&self) -> Option<BoxFuture<'static, Result<(), String>>> {
        if self.shared.gate.lock().state() != GateState::Running || self.shared.unhealthy.lock().is_some() {
            return None;
        }
        let vmi = self.shared.present()?;
        let wanted = vmi.spec.liveness_probe.as_ref()?;
        let probe = kubernetes_probe(wanted);
        let timing = Timing::of(&probe);
        let due = self.due(&vmi, &timing);
        let node = Arc::clone(&self.node);
        if let Some(check) = AgentCheck::of(wanted) {
            let uuid = self.shared.uuid;
            return Some(Box::pin(async move {
                tokio::time::sleep_until(due).await;
                check.until_told(&*node.hypervisor, uuid, &timing).await
            }));
        }
        let check = Check::of(&probe)?;
        let guest = vmi.status.as_ref()?.interfaces.first()?.ip_address.as_deref()?.parse().ok()?;
        Some(Box::pin(async move {
            tokio::time::sleep_until(due).await;
            check.run(&*node.network, guest, timing.timeout).await
        }))
    }

    fn due(&self, vmi: &VirtualMachineInstance, timing: &Timing) -> Instant {
        let now = Instant::now();
        let again = self.last.map_or(now, |last| last + timing.period);
        let age = running_for(vmi, self.node.config.clock.now()).unwrap_or_default();
        again.max(now + timing.initial_delay.saturating_sub(age))
    }

    /// Takes the result of a check into account; whether there is a verdict to act on.
    pub(crate) fn note(&mut self, result: Result<(), String>) -> bool {
        self.last = Some(Instant::now());
        // A guest that was paused, or is being shut down, meanwhile could not answer.
        if self.shared.gate.lock().state() != GateState::Running {
            return false;
        }
        let Some(vmi) = self.shared.present() else { return false };
        let Some(probe) = &vmi.spec.liveness_probe else { return false };
        let healthy = self.tracker.note(result.is_ok(), &Timing::of(&kubernetes_probe(probe)));
        let Err(message) = result else { return false };
        let told = format!("Liveness probe failed: {message}");
        self.shared.event(&self.node.recorder, EventKind::Warning, "Unhealthy", &told);
        if !healthy {
            *self.shared.unhealthy.lock() = Some(message);
        }
        !healthy
    }
}

/// How long the guest has been running, by the status: it outlives this process.
fn running_for(vmi: &VirtualMachineInstance, now: jiff::Timestamp) -> Option<Duration> {
    let transitions = &vmi.status.as_ref()?.phase_transition_timestamps;
    let running = transitions.iter().find(|at| at.phase.as_deref() == Some(VmiPhase::Running.as_str()))?;
    Duration::try_from(now.duration_since(running.phase_transition_timestamp.as_ref()?.0)).ok()
}
