//! What an object gets that its author left out, in upstream's order.

use fv_api::config::ClusterConfig;
use serde_json::Value;
use uuid::Uuid;

use crate::json;
use crate::request::{Kind, Operation, Request};

mod cpu;
mod devices;
mod features;
mod firmware;
mod memory;
mod network;
mod platform;
mod status;
mod volumes;

/// Fills in the defaults of `object` in place. `random` gives fresh random (version 4) UUIDs.
///
/// It adds only what is absent, and does nothing to what is not of the expected shape: that is for [`crate::validate`] to
/// refuse. Applying it twice gives the same object as applying it once. Of a VirtualMachineInstance that anyone but our
/// components writes it restores the status: the kind has no status subresource.
pub fn mutate(request: &Request<'_>, object: &mut Value, random: &mut dyn FnMut() -> Uuid) {
    let is_spec_write = request.subresource.is_none() && object.is_object();
    match (request.operation, request.kind) {
        (Operation::Delete, _) => {}
        _ if !is_spec_write => {}
        (Operation::Create, Kind::VirtualMachineInstance) => create_instance(request, object, random),
        (Operation::Update, Kind::VirtualMachineInstance) => status::restore(request, object),
        (_, Kind::VirtualMachine) => virtual_machine(request, object, random),
    }
}

/// A VirtualMachine gets few defaults: most are applied to the instances made of it.
fn virtual_machine(request: &Request<'_>, vm: &mut Value, random: &mut dyn FnMut() -> Uuid) {
    if request.is_of_leaving(vm) || !json::get(vm, "spec.template").is_some_and(Value::is_object) {
        return;
    }
    if request.operation == Operation::Create {
        firmware::identity(vm, "spec.template.spec.domain.firmware", random);
        platform::pci_topology(vm, "spec.template.metadata.annotations");
    }
    let Some(template) = json::get_mut(vm, "spec.template") else { return };
    if json::object(template, "spec").is_none() {
        return;
    }
    if let Some(spec) = template.get_mut("spec") {
        platform::architecture(spec, request.config);
        platform::machine_type(spec, request.config);
    }
}

fn create_instance(request: &Request<'_>, vmi: &mut Value, random: &mut dyn FnMut() -> Uuid) {
    if let Some(spec) = vmi.get_mut("spec").filter(|spec| spec.is_object()) {
        instance_spec(spec, request.config);
        features::architecture(spec);
        firmware::uuid(spec, random);
        json::object(spec, "domain.features");
        json::default(spec, "domain.features.acpi.enabled", true);
        devices::targets(spec);
        features::states(spec);
        features::hyperv_dependencies(spec);
        devices::buses(spec);
        devices::inputs_and_watchdog(spec);
        cpu::model(spec, request.config);
    }
    status::initial(request, vmi);
    platform::pci_topology(vmi, "metadata.annotations");
    status::finalizer(vmi);
}

/// The defaults a template is validated with, too.
pub(crate) fn instance_spec(spec: &mut Value, config: &ClusterConfig) {
    platform::architecture(spec, config);
    platform::machine_type(spec, config);
    cpu::requests(spec, config);
    memory::guest(spec);
    cpu::topology(spec);
    volumes::pull_policies(spec);
    network::default_interface(spec, config);
    volumes::disks(spec);
}

/// Hyper-V features and the feature each needs.
pub(crate) fn hyperv_requirements() -> impl Iterator<Item = (&'static str, &'static str)> {
    features::HYPERV_NEEDS.into_iter()
}
