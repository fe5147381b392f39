//! The status of a VirtualMachineInstance, which has no status subresource, and its finalizer.

use fv_api::meta::{finalizers, phases::VmiPhase, users};
use serde_json::{Map, Value, json};

use crate::json;
use crate::request::Request;

/// User id QEMU's data belongs to, as upstream reports it.
const RUNTIME_USER: u32 = 107;

/// The status a VMI starts with. What a user sends as status is dropped.
pub(super) fn initial(request: &Request<'_>, vmi: &mut Value) {
    let Some(object) = vmi.as_object_mut() else { return };
    if !users::is_component(request.user) || !object.get("status").is_some_and(Value::is_object) {
        object.insert("status".into(), Value::Object(Map::new()));
    }
    if let Some(guest) = json::get(vmi, "spec.domain.memory.guest").filter(|guest| !guest.is_null()).cloned() {
        for amount in ["guestAtBoot", "guestCurrent", "guestRequested"] {
            json::default(vmi, &format!("status.memory.{amount}"), guest.clone());
        }
    }
    if json::get(vmi, "status.currentCPUTopology").is_none_or(Value::is_null) {
        for part in ["cores", "sockets", "threads"] {
            let count = json::get(vmi, &format!("spec.domain.cpu.{part}")).filter(|n| n.is_number()).cloned();
            if let Some(count) = count {
                json::default(vmi, &format!("status.currentCPUTopology.{part}"), count);
            }
        }
    }
    json::default(vmi, "status.runtimeUser", RUNTIME_USER);
    json::default(vmi, "status.phase", VmiPhase::Pending.as_str());
    let since = request.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let phase = json::text(vmi, "status.phase").unwrap_or_default().to_owned();
    if json::get(vmi, "status.phaseTransitionTimestamps").is_none_or(Value::is_null) {
        json::default(
            vmi,
            "status.phaseTransitionTimestamps",
            json!([{"phase": phase, "phaseTransitionTimestamp": since}]),
        );
    }
}

/// Only our components write the status of a VMI.
pub(super) fn restore(request: &Request<'_>, vmi: &mut Value) {
    if users::is_component(request.user) {
        return;
    }
    let (Some(old), Some(object)) = (request.old, vmi.as_object_mut()) else { return };
    match old.get("status") {
        Some(status) => object.insert("status".into(), status.clone()),
        None => object.shift_remove("status"),
    };
}

/// Keeps the object until its guest is gone.
pub(super) fn finalizer(vmi: &mut Value) {
    let Some(metadata) = json::object(vmi, "metadata") else { return };
    let finalizers = metadata.entry("finalizers").or_insert(Value::Null);
    if finalizers.is_null() {
        *finalizers = json!([]);
    }
    let Some(finalizers) = finalizers.as_array_mut() else { return };
    if !finalizers.iter().any(|f| f == finalizers::VIRTUAL_MACHINE_INSTANCE) {
        finalizers.push(finalizers::VIRTUAL_MACHINE_INSTANCE.into());
    }
}
