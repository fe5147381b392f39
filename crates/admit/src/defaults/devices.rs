//! Disk targets and buses, input and watchdog devices.

use serde_json::Value;

use crate::json;

/// A disk that does not say what it is is a disk; CD-ROMs are read-only and closed.
pub(super) fn targets(spec: &mut Value) {
    for disk in json::items_mut(spec, "domain.devices.disks") {
        if !["disk", "cdrom", "lun"].iter().any(|target| json::get(disk, target).is_some_and(|t| !t.is_null())) {
            json::object(disk, "disk");
        }
        if json::get(disk, "cdrom").is_some_and(Value::is_object) {
            json::default(disk, "cdrom.readonly", true);
            json::default(disk, "cdrom.tray", "closed");
        }
    }
}

/// Inputs are tablets on USB; a watchdog resets the guest.
pub(super) fn inputs_and_watchdog(spec: &mut Value) {
    for input in json::items_mut(spec, "domain.devices.inputs") {
        json::default(input, "bus", "usb");
        json::default(input, "type", "tablet");
    }
    if json::get(spec, "domain.devices.watchdog").is_some_and(Value::is_object)
        && !matches!(json::text(spec, "architecture"), Some("arm64" | "s390x"))
    {
        json::default(spec, "domain.devices.watchdog.i6300esb.action", "reset");
    }
}

/// The bus most guests support without drivers.
pub(super) fn buses(spec: &mut Value) {
    let bus = match json::text(spec, "architecture") {
        Some("arm64" | "s390x") => "virtio",
        _ => "sata",
    };
    if json::text(spec, "architecture") == Some("arm64")
        && json::get(spec, "domain.firmware.bootloader").is_none_or(Value::is_null)
    {
        json::default(spec, "domain.firmware.bootloader.efi.secureBoot", false);
    }
    for disk in json::items_mut(spec, "domain.devices.disks") {
        for target in ["disk", "cdrom", "lun"] {
            if json::get(disk, target).is_some_and(Value::is_object) {
                json::default(disk, &format!("{target}.bus"), bus);
            }
        }
    }
}
