//! Boot order over all devices; input, video and watchdog devices; the chassis.

use std::collections::BTreeSet;

use fv_api::VirtualMachineInstanceSpec;

use crate::causes::{Causes, Field};

const VIDEO_AMD64: [&str; 5] = ["vga", "cirrus", "virtio", "ramfb", "bochs"];
const VIDEO_ARM64: [&str; 2] = ["virtio", "ramfb"];
const WATCHDOG_ACTIONS: [&str; 3] = ["poweroff", "reset", "shutdown"];

/// No two disks or interfaces have the same place in the boot order.
pub(super) fn boot_order(spec: &VirtualMachineInstanceSpec, field: &Field, causes: &mut Causes) {
    let devices = &spec.domain.devices;
    let mut taken = BTreeSet::new();
    let at = field.child("domain.devices");
    for (index, disk) in devices.disks.iter().enumerate() {
        let at = at.child("disks").index(index).child("bootOrder");
        claim(disk.boot_order, &mut taken, &at, causes);
    }
    for (index, interface) in devices.interfaces.iter().enumerate() {
        let interface_at = at.child("interfaces").index(index);
        if interface.boot_order.is_some_and(|order| order < 1) {
            let at = interface_at.child("bootOrder");
            causes.invalid(&at, format!("{interface_at} must have a boot order > 0, if supplied"));
        } else {
            claim(interface.boot_order, &mut taken, &interface_at.child("bootOrder"), causes);
        }
    }
}

fn claim(order: Option<i32>, taken: &mut BTreeSet<i32>, at: &Field, causes: &mut Causes) {
    if order.is_some_and(|order| !taken.insert(order)) {
        causes.invalid(at, format!("Boot order for {at} already set for a different device."));
    }
}

/// Devices that are neither disks nor interfaces.
pub(super) fn check(spec: &VirtualMachineInstanceSpec, field: &Field, causes: &mut Causes) {
    let devices = &spec.domain.devices;
    let at = field.child("domain.devices");
    for (index, input) in devices.inputs.iter().enumerate() {
        let at = at.child("inputs").index(index);
        if !["", "usb", "virtio"].contains(&input.bus.as_deref().unwrap_or_default()) {
            causes.invalid(&at.child("bus"), "Input device can have only virtio or usb bus.");
        }
        if input.type_ != "tablet" {
            causes.invalid(&at.child("type"), "Input device can have only tablet type.");
        }
    }
    video(spec, &at.child("video"), causes);
    if let Some(action) = devices.watchdog.as_ref().and_then(|dog| dog.i6300esb.as_ref()?.action.as_deref()) {
        let at = at.child("watchdog.i6300esb.action");
        if !action.is_empty() && !WATCHDOG_ACTIONS.contains(&action) {
            causes.not_supported(&at, format!("{at} '{action}': use one of {}", WATCHDOG_ACTIONS.join(", ")));
        }
    }
    if let Some(chassis) = &spec.domain.chassis {
        let at = field.child("domain.chassis");
        for (name, text) in [
            ("asset", &chassis.asset),
            ("manufacturer", &chassis.manufacturer),
            ("serial", &chassis.serial),
            ("sku", &chassis.sku),
            ("version", &chassis.version),
        ] {
            if text.as_ref().is_some_and(|text| text.len() > 256 || text.chars().any(char::is_control)) {
                let at = at.child(name);
                causes.invalid(&at, format!("{at} must be at most 256 printable characters"));
            }
        }
    }
}

fn video(spec: &VirtualMachineInstanceSpec, at: &Field, causes: &mut Causes) {
    let Some(video) = &spec.domain.devices.video else { return };
    if spec.domain.devices.autoattach_graphics_device == Some(false) {
        causes.invalid(at, "Video configuration is not allowed when autoattachGraphicsDevice is set to false");
    }
    let model = video.type_.as_deref().unwrap_or_default();
    let architecture = spec.architecture.as_deref().unwrap_or("amd64");
    let known: &[&str] = if architecture == "arm64" { &VIDEO_ARM64 } else { &VIDEO_AMD64 };
    if !known.contains(&model) {
        causes.not_supported(
            &at.child("type"),
            format!("video model '{model}' is not supported on {architecture} architecture"),
        );
    }
}
