//! The VirtualMachine controller: observe, decide, execute.

use fv_plan::ObjectKey;
use fv_plan::vm::{Observed, decide};
use fv_runtime::Again;
use tracing::Instrument;

use crate::Shared;

pub(crate) async fn reconcile(shared: &Shared, key: ObjectKey) -> Again {
    let Some(vm) = shared.vms.get(&key) else {
        shared.vm_memory.forget(&key);
        return Again::OnChange;
    };
    if shared.vm_memory.is_replaced(&key, vm.metadata.resource_version.as_deref()) {
        return Again::OnChange;
    }
    let observed = Observed { vm, vmi: shared.vmis.get(&key), last_failure: shared.vm_memory.failure(&key) };
    let plan = decide(&observed, &shared.config, shared.clock.now());
    let span = tracing::debug_span!("reconcile", controller = "vm", vm = %key);
    shared.execute(&key, &shared.vm_memory, plan).instrument(span).await
}
