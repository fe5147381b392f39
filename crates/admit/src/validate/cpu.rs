//! CPU amounts, topology, model and features.

use fv_api::{Quantity, VirtualMachineInstanceSpec};

use super::memory::amounts;
use crate::causes::{Causes, Field};

const POLICIES: [&str; 6] = ["", "force", "require", "optional", "disable", "forbid"];
/// More virtual CPUs than any machine type takes.
const MOST_VCPUS: i128 = 512;

pub(super) fn check(spec: &VirtualMachineInstanceSpec, field: &Field, causes: &mut Causes) {
    check_amounts(spec, field, causes);
    let Some(cpu) = &spec.domain.cpu else { return };
    let at = field.child("domain.cpu");
    let mut vcpus: i128 = 1;
    for (name, count) in [("cores", cpu.cores), ("sockets", cpu.sockets), ("threads", cpu.threads)] {
        let count = count.unwrap_or(1);
        if count < 0 {
            let at = at.child(name);
            causes.invalid(&at, format!("{at} '{count}': must be greater than or equal to 0."));
        }
        vcpus = vcpus.saturating_mul(i128::from(count.max(1)));
    }
    if vcpus > MOST_VCPUS {
        causes.invalid(
            &at,
            format!("{at} asks for {vcpus} virtual CPUs (sockets × cores × threads): at most {MOST_VCPUS} work"),
        );
    }
    if let Some(model) = cpu.model.as_deref().filter(|model| !is_word(model)) {
        let at = at.child("model");
        causes.invalid(
            &at,
            format!("{at} '{model}' is no CPU model: use host-model, host-passthrough or a model's name"),
        );
    }
    for (index, feature) in cpu.features.iter().enumerate() {
        let at = at.child("features").index(index);
        if !is_word(&feature.name) {
            causes.invalid(
                &at.child("name"),
                format!("{} '{}' is no CPU feature's name", at.child("name"), feature.name),
            );
        }
        let policy = feature.policy.as_deref().unwrap_or_default();
        if !POLICIES.contains(&policy) {
            causes.not_supported(
                &at.child("policy"),
                format!("CPU feature {} uses policy {policy} that is not supported.", feature.name),
            );
        }
    }
}

fn check_amounts(spec: &VirtualMachineInstanceSpec, field: &Field, causes: &mut Causes) {
    let (request, limit) = amounts(spec, "cpu");
    let request_at = field.child("domain.resources.requests.cpu");
    let limit_at = field.child("domain.resources.limits.cpu");
    for (amount, at) in [(request, &request_at), (limit, &limit_at)] {
        if let Some(amount) = amount.filter(Quantity::is_negative) {
            causes.invalid(at, format!("{at} '{amount}': must be greater than or equal to 0."));
        }
    }
    if let (Some(request), Some(limit)) = (request, limit)
        && limit > Quantity::ZERO
        && request > limit
    {
        causes.invalid(&request_at, format!("{request_at} '{request}' is greater than {limit_at} '{limit}'"));
    }
    let resources = spec.domain.resources.as_ref();
    for (name, list) in [("requests", resources.map(|r| &r.requests)), ("limits", resources.map(|r| &r.limits))] {
        for resource in
            list.into_iter().flat_map(|list| list.keys()).filter(|r| !["cpu", "memory"].contains(&r.as_str()))
        {
            let at = field.child("domain.resources").child(name);
            causes.unimplemented(&at, resource, "only cpu and memory can be asked for");
        }
    }
}

/// Letters, digits and `_.+-`, as QEMU's and libvirt's names are.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.len() <= 128 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.+-".contains(&b))
}
