//! The Node controller: observe, decide, execute.

use fv_api::VirtualMachineInstance;
use fv_api::meta::phases::VmiPhase;
use fv_plan::node::{Observed, decide};
use fv_plan::{ObjectKey, ObjectRef};
use fv_runtime::Again;
use tracing::Instrument;

use crate::Shared;

pub(crate) async fn reconcile(shared: &Shared, key: ObjectKey) -> Again {
    let Some(node) = shared.nodes.get(&key) else { return Again::OnChange };
    let heartbeat = node.heartbeat;
    let guests: Vec<_> = shared.vmis.all().iter().filter_map(|vmi| guest_of(&key.name, vmi)).collect();
    let count = guests.len();
    let plan = decide(&Observed { node, guests, since: shared.since }, shared.clock.now());
    let span = tracing::debug_span!("reconcile", controller = "node", node = %key.name);
    let outcome = shared.executor.execute(plan).instrument(span).await;
    if outcome.writes > 0 {
        let last_heartbeat = heartbeat.map(tracing::field::display);
        tracing::warn!(node = key.name, last_heartbeat, guests = count, "virt-handler is not responsive");
    }
    outcome.again
}

/// Whether the agent of `node` holds the instance.
pub(crate) fn is_on(vmi: &VirtualMachineInstance, node: &str) -> bool {
    vmi.status.as_ref().and_then(|status| status.node_name.as_deref()) == Some(node)
}

/// The instance, if the agent of `node` holds it and it has not ended.
fn guest_of(node: &str, vmi: &VirtualMachineInstance) -> Option<ObjectRef> {
    let status = vmi.status.as_ref().filter(|_| is_on(vmi, node))?;
    (!VmiPhase::parse(status.phase.as_deref()).is_final()).then(|| ObjectRef {
        api_version: "kubevirt.io/v1",
        kind: "VirtualMachineInstance",
        key: ObjectKey::of(vmi),
        uid: vmi.metadata.uid.clone().unwrap_or_default(),
    })
}
