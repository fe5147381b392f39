//! Guest memory, its requests and limits.

use fv_api::{Quantity, VirtualMachineInstanceSpec};

use crate::causes::{Causes, Field};

/// Less memory than this is a forgotten suffix.
const LEAST: Quantity = Quantity::from_units(1_000_000);
/// What QEMU can start with, and what libvirt can count.
const LEAST_GUEST: Quantity = Quantity::from_bytes(1 << 20);
const MOST_GUEST: Quantity = Quantity::from_bytes(1 << 50);

/// Requests and limits of one resource.
pub(super) fn amounts(spec: &VirtualMachineInstanceSpec, resource: &str) -> (Option<Quantity>, Option<Quantity>) {
    let resources = spec.domain.resources.as_ref();
    let request = resources.and_then(|r| r.requests.get(resource)).copied();
    let limit = resources.and_then(|r| r.limits.get(resource)).copied();
    (request, limit)
}

pub(super) fn check(spec: &VirtualMachineInstanceSpec, field: &Field, causes: &mut Causes) {
    let (request, limit) = amounts(spec, "memory");
    let guest = spec.domain.memory.as_ref().and_then(|memory| memory.guest);
    let request_at = field.child("domain.resources.requests.memory");
    let limit_at = field.child("domain.resources.limits.memory");
    let guest_at = field.child("domain.memory.guest");
    let zero = Quantity::ZERO;

    if let Some(request) = request {
        if request < zero {
            causes.invalid(&request_at, format!("{request_at} '{request}': must be greater than or equal to 0."));
        } else if request > zero && request < LEAST {
            causes.invalid(&request_at, format!("{request_at} '{request}': must be greater than or equal to 1M."));
        }
    }
    if let Some(limit) = limit {
        if limit < zero {
            causes.invalid(&limit_at, format!("{limit_at} '{limit}': must be greater than or equal to 0."));
        }
        if let Some(request) = request.filter(|request| limit > zero && *request > limit) {
            causes.invalid(&request_at, format!("{request_at} '{request}' is greater than {limit_at} '{limit}'"));
        }
    }
    if let Some(guest) = guest {
        // A guest that only took over a faulty request is no fault of its own.
        let is_told = guest < LEAST && request == Some(guest);
        if !is_told && !(LEAST_GUEST..=MOST_GUEST).contains(&guest) {
            causes.invalid(&guest_at, format!("{guest_at} '{guest}': must be between {LEAST_GUEST} and {MOST_GUEST}"));
        }
        if let Some(limit) = limit.filter(|limit| !limit.is_zero() && *limit < guest) {
            causes.invalid(
                &guest_at,
                format!("{guest_at} '{guest}' must be equal to or less than the memory limit {limit_at} '{limit}'"),
            );
        }
    }
}

/// An instance has memory; a template may leave it to be added later.
pub(super) fn is_given(spec: &VirtualMachineInstanceSpec, field: &Field, causes: &mut Causes) {
    let (request, _) = amounts(spec, "memory");
    let memory = spec.domain.memory.as_ref();
    let is_given = request.is_some_and(|request| !request.is_zero())
        || memory.is_some_and(|memory| memory.guest.is_some() || memory.hugepages.is_some());
    if !is_given {
        let [guest, pages, request] =
            ["domain.memory.guest", "domain.memory.hugepages.pageSize", "domain.resources.requests.memory"]
                .map(|path| field.child(path));
        causes.required(
            &Field::new(""),
            format!("no memory requested, at least one of '{guest}', '{pages}' or '{request}' must be set"),
        );
    }
}
