//! What is wrong with an object. One topic a file; texts are upstream's where upstream has the check.

use fv_api::config::ClusterConfig;
use fv_api::{VirtualMachineInstanceSpec, VirtualMachineSpec};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::causes::{Causes, Field};
use crate::defaults;
use crate::json;
use crate::ratchet;
use crate::request::{Cause, Kind, Operation, Request, Verdict};
use crate::supported;

mod cpu;
mod devices;
mod disks;
mod features;
mod firmware;
mod instance;
mod machine;
mod memory;
mod meta;
mod network;
pub(crate) mod placement;
mod probes;
mod vm;
mod volumes;

/// Judges a write. Call it after [`crate::mutate`], with the object as it would be stored.
pub fn validate(request: &Request<'_>, object: &Value) -> Verdict {
    if request.operation == Operation::Delete || request.subresource.is_some() {
        return Verdict::default();
    }
    if request.is_of_leaving(object) {
        return Verdict::default();
    }
    let old = request.old.filter(|_| request.operation == Operation::Update);
    let causes = match (request.kind, old) {
        (Kind::VirtualMachine, None) => virtual_machine(request, object),
        (Kind::VirtualMachine, Some(old)) if old.get("spec") == object.get("spec") => Vec::new(),
        (Kind::VirtualMachine, Some(old)) => {
            ratchet::new_causes(virtual_machine(request, object), || virtual_machine(request, old))
        }
        (Kind::VirtualMachineInstance, None) => new_instance(request, object),
        (Kind::VirtualMachineInstance, Some(old)) => instance::update(request, old, object),
    };
    Verdict { causes, warnings: warnings(request, object) }
}

fn warnings(request: &Request<'_>, object: &Value) -> Vec<String> {
    let mut warnings = Vec::new();
    if request.kind == Kind::VirtualMachine
        && json::get(object, "spec.running").is_some_and(|running| !running.is_null())
    {
        warnings.push("spec.running is deprecated, please use spec.runStrategy instead.".to_owned());
    }
    let spec = match request.kind {
        Kind::VirtualMachine => Field::new("spec.template.spec"),
        Kind::VirtualMachineInstance => Field::new("spec"),
    };
    warnings.extend(network::ports_without_effect(object, &spec.child("domain.devices.interfaces")));
    warnings
}

/// Everything wrong with a VirtualMachine, whatever it was before.
fn virtual_machine(request: &Request<'_>, object: &Value) -> Vec<Cause> {
    let mut causes = Causes::default();
    let field = Field::new("spec");
    supported::check(Kind::VirtualMachine, object, &mut causes);
    let Some(stored) = object.get("spec").filter(|spec| spec.is_object()) else {
        causes.required(&field, "spec is a required field");
        return causes.into_vec();
    };
    // The template is judged as the instance made of it would be: with its defaults.
    let mut spec = stored.clone();
    if let Some(template) = json::get_mut(&mut spec, "template.spec").filter(|spec| spec.is_object()) {
        defaults::instance_spec(template, request.config);
    }
    if let Some(spec) = decode::<VirtualMachineSpec>(&spec, &field, &mut causes) {
        vm::run_strategy(&spec, &field, &mut causes);
        match &spec.template.spec {
            Some(template) => instance_spec(template, &field.child("template.spec"), request.config, &mut causes),
            None => causes.required(&field.child("template.spec"), "missing virtual machine template."),
        }
        meta::template(&spec, request.user, &field.child("template.metadata"), &mut causes);
    }
    causes.into_vec()
}

/// Everything wrong with a new VirtualMachineInstance.
fn new_instance(request: &Request<'_>, object: &Value) -> Vec<Cause> {
    let mut causes = Causes::default();
    let field = Field::new("spec");
    supported::check(Kind::VirtualMachineInstance, object, &mut causes);
    let Some(spec) = object.get("spec").filter(|spec| spec.is_object()) else {
        causes.required(&field, "spec is a required field");
        return causes.into_vec();
    };
    if let Some(spec) = decode::<VirtualMachineInstanceSpec>(spec, &field, &mut causes) {
        instance_spec(&spec, &field, request.config, &mut causes);
        disks::every_volume_is_attached(&spec, &field, &mut causes);
        memory::is_given(&spec, &field, &mut causes);
        features::hyperv_needs(&spec, &field, &mut causes);
    }
    meta::labels(object.get("metadata"), request.user, &Field::new("metadata"), &mut causes);
    causes.into_vec()
}

/// What templates and instances are judged by alike.
fn instance_spec(spec: &VirtualMachineInstanceSpec, field: &Field, config: &ClusterConfig, causes: &mut Causes) {
    placement::check(spec, field, causes);
    memory::check(spec, field, causes);
    machine::check(spec, field, config, causes);
    firmware::check(spec, field, causes);
    cpu::check(spec, field, causes);
    features::check(spec, field, causes);
    network::check(spec, field, config, causes);
    disks::check(spec, field, causes);
    devices::boot_order(spec, field, causes);
    devices::check(spec, field, causes);
    volumes::check(spec, field, config, causes);
    probes::check(spec, field, causes);
    instance::check(spec, field, causes);
}

/// Reads a JSON value as one of our types; says where it does not fit.
pub(crate) fn decode<T: DeserializeOwned>(value: &Value, field: &Field, causes: &mut Causes) -> Option<T> {
    match serde_path_to_error::deserialize(value) {
        Ok(read) => Some(read),
        Err(error) => {
            let path = error.path().to_string();
            let at = if path == "." { field.clone() } else { field.child(&path) };
            let message = format!("{at}: {}", error.into_inner());
            causes.invalid(&at, message);
            None
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests of the time that is taken")]
mod tests {
    use std::time::{Duration, Instant};

    use fv_api::{Disk, DiskTarget, Interface, Network, PersistentVolumeClaimVolumeSource, Volume};
    use serde_json::json;

    use super::*;

    /// Far beyond what the schema allows; a webhook is asked before the schema is, and by anybody.
    const LENGTH: usize = 50_000;
    /// Comparing each with each takes three times as long at least.
    const MOST: Duration = Duration::from_secs(5);

    fn list<T>(item: impl Fn(usize) -> T) -> Vec<T> {
        (0..LENGTH).map(item).collect()
    }

    #[test]
    fn defaults_of_a_long_list_do_not_compare_each_with_each() {
        let mut spec = json!({"volumes": list(|n| json!({"name": n.to_string()}))});
        let began = Instant::now();
        defaults::instance_spec(&mut spec, &ClusterConfig::default());
        let took = began.elapsed();
        assert_eq!(json::list(&spec, "domain.devices.disks").len(), LENGTH);
        assert!(took < MOST, "{took:?}");
    }

    #[test]
    fn long_lists_are_judged_without_comparing_each_with_each() {
        let read_only = PersistentVolumeClaimVolumeSource {
            claim_name: "c".into(),
            read_only: Some(true),
            ..PersistentVolumeClaimVolumeSource::default()
        };
        let mut spec = VirtualMachineInstanceSpec {
            networks: list(|n| Network { name: n.to_string(), ..Network::default() }),
            volumes: list(|n| Volume {
                name: n.to_string(),
                persistent_volume_claim: Some(read_only.clone()),
                ..Volume::default()
            }),
            ..VirtualMachineInstanceSpec::default()
        };
        spec.domain.devices.interfaces =
            list(|n| Interface { name: (LENGTH - 1 - n).to_string(), ..Interface::default() });
        let target = DiskTarget { bus: Some("virtio".into()), ..DiskTarget::default() };
        spec.domain.devices.disks =
            list(|n| Disk { name: n.to_string(), disk: Some(target.clone()), ..Disk::default() });
        let (field, mut causes) = (Field::new("spec"), Causes::default());
        let began = Instant::now();
        instance_spec(&spec, &field, &ClusterConfig::default(), &mut causes);
        disks::every_volume_is_attached(&spec, &field, &mut causes);
        let took = began.elapsed();
        // Networks without a type, interfaces without a binding.
        assert_eq!(causes.into_vec().len(), 2 * LENGTH);
        assert!(took < MOST, "{took:?}");
    }
}
