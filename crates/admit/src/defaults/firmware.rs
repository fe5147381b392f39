//! Firmware identity and, where the architecture needs it, the boot loader.

use serde_json::Value;
use uuid::Uuid;

use crate::json;

/// A new VM keeps one UUID and serial for life.
pub(super) fn identity(vm: &mut Value, firmware: &str, random: &mut dyn FnMut() -> Uuid) {
    for key in ["uuid", "serial"] {
        let path = format!("{firmware}.{key}");
        if json::text(vm, &path).is_none() {
            json::default(vm, &path, random().to_string());
        }
    }
}

/// A VMI gets a UUID; a serial only its VM gives it.
pub(super) fn uuid(spec: &mut Value, random: &mut dyn FnMut() -> Uuid) {
    if json::text(spec, "domain.firmware.uuid").is_none() {
        json::default(spec, "domain.firmware.uuid", random().to_string());
    }
}
