//! The instance a VM starts.

use fv_api::meta::{annotations, finalizers};
use fv_api::{VirtualMachine, VirtualMachineInstance};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::template;

/// Whether the new guest's CPUs wait for an unpause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartPaused {
    Yes,
    No,
}

/// Builds the instance of `vm` from its template.
pub(super) fn instance(vm: &VirtualMachine, paused: StartPaused) -> VirtualMachineInstance {
    let template_meta = vm.spec.template.metadata.clone().unwrap_or_default();
    let mut notes = template_meta.annotations.unwrap_or_default();
    notes.insert(annotations::VM_GENERATION.to_owned(), vm.metadata.generation.unwrap_or_default().to_string());
    notes.insert(annotations::TEMPLATE_HASH.to_owned(), template::hash(vm));
    let name = vm.metadata.name.clone().unwrap_or_default();
    let mut spec = template::instance_spec(vm);
    if paused == StartPaused::Yes {
        spec.start_strategy = Some("Paused".to_owned());
    }
    let metadata = ObjectMeta {
        name: Some(name.clone()),
        namespace: vm.metadata.namespace.clone(),
        labels: template_meta.labels,
        annotations: Some(notes),
        owner_references: Some(vec![OwnerReference {
            api_version: "kubevirt.io/v1".to_owned(),
            kind: "VirtualMachine".to_owned(),
            name,
            uid: vm.metadata.uid.clone().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]),
        finalizers: Some(vec![finalizers::VIRTUAL_MACHINE_INSTANCE.to_owned()]),
        ..Default::default()
    };
    VirtualMachineInstance { metadata, spec, status: None }
}
