//! The VirtualMachineInstance controller: observe, decide, execute.

use fv_plan::ObjectKey;
use fv_plan::vmi::{Observed, QuotaFacts, claims_of, decide};
use fv_runtime::Again;
use tracing::Instrument;

use crate::Shared;

pub(crate) async fn reconcile(shared: &Shared, key: ObjectKey) -> Again {
    let Some(vmi) = shared.vmis.get(&key) else {
        shared.vmi_memory.forget(&key);
        return Again::OnChange;
    };
    if shared.vmi_memory.is_replaced(&key, vmi.metadata.resource_version.as_deref()) {
        return Again::OnChange;
    }
    let pods = vmi.metadata.uid.as_deref().map(|uid| shared.pods.by_index(uid)).unwrap_or_default();
    let claim = |name: &str| shared.claims.get(&ObjectKey::new(&key.namespace, name));
    let claims = claims_of(&vmi).into_iter().filter_map(claim).collect();
    let auto_limits =
        QuotaFacts::auto_limits(&shared.quotas.by_index(&key.namespace), &shared.ranges.by_index(&key.namespace));
    let node = vmi.status.as_ref().and_then(|status| status.node_name.as_deref());
    let host = node.and_then(|name| shared.nodes.get(&ObjectKey::new("", name)));
    let observed = Observed { vmi, pods, claims, auto_limits, host, last_failure: shared.vmi_memory.failure(&key) };
    let plan = decide(&observed, &shared.config, shared.clock.now());
    let span = tracing::debug_span!("reconcile", controller = "vmi", vmi = %key);
    shared.execute(&key, &shared.vmi_memory, plan).instrument(span).await
}
