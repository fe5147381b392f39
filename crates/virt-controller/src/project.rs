//! What is kept of an object in memory.

use fv_api::{Condition, VirtualMachine, VirtualMachineInstance, VirtualMachineInstanceSpec};
use kube::ResourceExt;

/// Written by kubectl for kubectl: a copy of the whole manifest.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The VM without what no controller reads.
pub(crate) fn vm(mut vm: VirtualMachine) -> VirtualMachine {
    slim(&mut vm);
    if let Some(spec) = &mut vm.spec.template.spec {
        shrink(spec);
    }
    if let Some(status) = &mut vm.status {
        shrink_conditions(&mut status.conditions);
    }
    vm
}

/// The instance without what no controller reads.
pub(crate) fn vmi(mut vmi: VirtualMachineInstance) -> VirtualMachineInstance {
    slim(&mut vmi);
    shrink(&mut vmi.spec);
    if let Some(status) = &mut vmi.status {
        shrink_conditions(&mut status.conditions);
        status.interfaces.shrink_to_fit();
        status.volume_status.shrink_to_fit();
        status.phase_transition_timestamps.shrink_to_fit();
    }
    vmi
}

fn slim(object: &mut impl ResourceExt) {
    object.meta_mut().managed_fields = None;
    if object.annotations().contains_key(LAST_APPLIED) {
        object.annotations_mut().remove(LAST_APPLIED);
    }
}

/// Lists are read with room for four; their elements are large (a volume takes a kilobyte) and there are seldom more than
/// two. Together a quarter of an object's size.
fn shrink(spec: &mut VirtualMachineInstanceSpec) {
    spec.volumes.shrink_to_fit();
    spec.networks.shrink_to_fit();
    spec.tolerations.shrink_to_fit();
    let devices = &mut spec.domain.devices;
    devices.disks.shrink_to_fit();
    devices.interfaces.shrink_to_fit();
    for interface in &mut devices.interfaces {
        interface.ports.shrink_to_fit();
    }
}

fn shrink_conditions(conditions: &mut Vec<Condition>) {
    conditions.shrink_to_fit();
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bookkeeping_of_clients_is_not_kept() {
        let object: VirtualMachineInstance = serde_json::from_value(json!({
            "metadata": {"name": "a", "annotations": {LAST_APPLIED: "{}", "team": "blue"},
                         "managedFields": [{"manager": "kubectl", "operation": "Update"}]},
            "spec": {"domain": {"devices": {"disks": [{"name": "root"}]}}, "volumes": [{"name": "root"}]},
        }))
        .expect("a VMI");
        let kept = vmi(object);
        assert_eq!(kept.annotations().keys().collect::<Vec<_>>(), ["team"]);
        assert!(kept.metadata.managed_fields.is_none());
        assert_eq!((kept.spec.volumes.len(), kept.spec.volumes.capacity()), (1, 1));
    }
}
