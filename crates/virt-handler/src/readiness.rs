//! The readiness probe of one VM, where it asks the guest agent, which only the node agent reaches. What it finds goes into a file of the
//! launcher pod; the pod's own probe reads it there and counts. So a guest stays as ready as it was while the node agent is away.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use fv_render::{READINESS_FILE, kubernetes_probe};
use tokio::time::Instant;

use crate::engine::{Node, Shared, pods_here};
use crate::probe::{AgentCheck, Timing};
use crate::vm::gate::GateState;

/// What each launcher pod on this node was told last, by its uid; nothing is wrong where the text is empty.
pub(crate) type Told = BTreeMap<String, String>;

pub(crate) struct Readiness {
    node: Arc<Node>,
    shared: Arc<Shared>,
    last: Option<Instant>,
    told: Told,
}

impl Readiness {
    pub(crate) fn new(node: Arc<Node>, shared: Arc<Shared>) -> Self {
        Self { node, shared, last: None, told: Told::new() }
    }

    /// The next check, made when it is due and told to the launcher pods; goes into [`Readiness::note`]. `None` while the guest does not
    /// run, or has no agent to be asked. The probe's delay and counts are the pod's.
    pub(crate) fn next_check(&self) -> Option<BoxFuture<'static, Told>> {
        if !is_running(&self.shared) {
            return None;
        }
        let vmi = self.shared.present()?;
        let probe = vmi.spec.readiness_probe.as_ref()?;
        let check = AgentCheck::of(probe)?;
        let timing = Timing::of(&kubernetes_probe(probe));
        let due = self.last.map_or_else(Instant::now, |last| last + timing.period);
        let (node, shared, told) = (Arc::clone(&self.node), Arc::clone(&self.shared), self.told.clone());
        Some(Box::pin(async move {
            tokio::time::sleep_until(due).await;
            let finding = check.until_told(&*node.hypervisor, shared.uuid, &timing).await.err().unwrap_or_default();
            // One that was paused, or is being shut down, meanwhile could not answer.
            if is_running(&shared) { tell(&node, &shared, told, &finding).await } else { told }
        }))
    }

    /// Takes note of a check that was made.
    pub(crate) fn note(&mut self, told: Told) {
        self.last = Some(Instant::now());
        self.told = told;
    }
}

fn is_running(shared: &Shared) -> bool {
    shared.gate.lock().state() == GateState::Running
}

/// Writes the finding for those pods that were told otherwise, or nothing yet.
async fn tell(node: &Node, shared: &Shared, before: Told, finding: &str) -> Told {
    let Some(vmi) = shared.present() else { return before };
    let mut told = Told::new();
    for pod in pods_here(&vmi, &node.config.node_name) {
        if before.get(pod).is_some_and(|last| last == finding) || write(node, pod, finding).await {
            told.insert(pod.clone(), finding.to_owned());
        }
    }
    told
}

/// Whether the pod has been told; it is tried again with the next check.
async fn write(node: &Node, pod: &str, finding: &str) -> bool {
    match node.tell_launcher(pod, READINESS_FILE, finding.as_bytes().to_vec()).await {
        Ok(written) => written,
        Err(error) => {
            tracing::warn!(pod, error = %error.chain(), "a launcher pod is not told whether its guest is ready");
            false
        }
    }
}
