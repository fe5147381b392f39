//! Disks and what they attach.

use std::collections::{BTreeMap, BTreeSet};

use fv_api::{Disk, VirtualMachineInstanceSpec};

use crate::causes::{Causes, Field};
use crate::names;

const LONGEST_SERIAL: usize = 256;
const CACHES: [&str; 3] = ["none", "writethrough", "writeback"];
const IO_MODES: [&str; 2] = ["native", "threads"];
const ERROR_POLICIES: [&str; 4] = ["stop", "ignore", "report", "enospace"];
const BLOCK_SIZES: std::ops::RangeInclusive<i32> = 512..=2_097_152;
const TRAYS: [&str; 2] = ["open", "closed"];

pub(super) fn check(spec: &VirtualMachineInstanceSpec, field: &Field, causes: &mut Causes) {
    let list = field.child("domain.devices.disks");
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let volumes: BTreeSet<&str> = spec.volumes.iter().map(|volume| volume.name.as_str()).collect();
    for (index, disk) in spec.domain.devices.disks.iter().enumerate() {
        let at = list.index(index);
        match seen.get(disk.name.as_str()) {
            Some(other) => {
                causes.invalid(
                    &at.child("name"),
                    format!("{at} and {} must not have the same Name.", list.index(*other)),
                );
            }
            None => {
                seen.insert(&disk.name, index);
            }
        }
        for fault in names::dns_label(&disk.name) {
            causes.invalid(&at.child("name"), fault);
        }
        if !volumes.contains(disk.name.as_str()) {
            has_no_volume(disk, &at, causes);
        }
        target(disk, &at, causes);
        options(disk, &at, causes);
        pci_address(disk, &at, causes);
        block_size(disk, &at, causes);
    }
}

fn has_no_volume(disk: &Disk, at: &Field, causes: &mut Causes) {
    if disk.cdrom.is_some() {
        causes.unimplemented(
            &at.child("name"),
            "an empty CD-ROM drive",
            "add a volume of this name, or remove the disk",
        );
    } else {
        causes.invalid(&at.child("name"), format!("{} '{}' not found.", at.child("Name"), disk.name));
    }
}

/// One target, on a bus that can carry it.
fn target(disk: &Disk, at: &Field, causes: &mut Causes) {
    let targets = [
        ("disk", disk.disk.as_ref().map(|disk| disk.bus.as_deref())),
        ("lun", disk.lun.as_ref().map(|lun| lun.bus.as_deref())),
        ("cdrom", disk.cdrom.as_ref().map(|cdrom| cdrom.bus.as_deref())),
    ];
    let mut set = targets.into_iter().filter_map(|(kind, bus)| bus.map(|bus| (kind, bus.unwrap_or_default())));
    let Some((kind, bus)) = set.next() else { return };
    if set.next().is_some() {
        causes.invalid(at, format!("{at} can only have a single target type defined"));
        return;
    }
    let bus_at = at.child(kind).child("bus");
    match (bus, kind) {
        ("", _) => {}
        ("ide", _) => causes.invalid(&bus_at, "IDE bus is not supported"),
        ("virtio", "cdrom") => causes.invalid(&bus_at, "Bus type virtio is invalid for CD-ROM device"),
        ("sata", "disk") if disk.disk.as_ref().is_some_and(|disk| disk.readonly == Some(true)) => {
            causes.invalid(&bus_at, "sata hard-disks do not support read-only.");
        }
        ("virtio" | "sata", _) => {}
        ("scsi" | "usb", "cdrom") => causes.unimplemented(&bus_at, bus, "use sata"),
        ("scsi" | "usb", _) => causes.unimplemented(&bus_at, bus, "use virtio or sata"),
        _ => causes.invalid(
            &bus_at,
            format!("{at} is set with an unrecognized bus {bus}, must be one of: [virtio scsi sata usb]"),
        ),
    }
    let tray = disk.cdrom.as_ref().and_then(|cdrom| cdrom.tray.as_deref()).filter(|tray| !tray.is_empty());
    if let Some(tray) = tray.filter(|tray| !TRAYS.contains(tray)) {
        let at = at.child("cdrom.tray");
        causes.invalid(&at, format!("{at} has invalid value {tray}: use open or closed"));
    }
}

fn options(disk: &Disk, at: &Field, causes: &mut Causes) {
    if disk.boot_order.is_some_and(|order| order < 1) {
        causes.invalid(&at.child("bootOrder"), format!("{at} must have a boot order > 0, if supplied"));
    }
    if let Some(serial) = disk.serial.as_deref().filter(|serial| !serial.is_empty()) {
        let at_serial = at.child("serial");
        if !is_serial(serial) {
            causes.invalid(
                &at_serial,
                format!("{at} must be made up of the following characters [A-Za-z0-9_.+-], if specified"),
            );
        }
        if serial.chars().count() > LONGEST_SERIAL {
            causes.invalid(
                &at_serial,
                format!("{at} must be less than or equal to {LONGEST_SERIAL} in length, if specified"),
            );
        }
    }
    if let Some(cache) = disk.cache.as_deref().filter(|cache| !cache.is_empty() && !CACHES.contains(cache)) {
        let at = at.child("cache");
        causes.invalid(&at, format!("{at} has invalid value {cache}"));
    }
    if let Some(mode) = disk.io.as_deref().filter(|mode| !mode.is_empty() && !IO_MODES.contains(mode)) {
        let at = at.child("io");
        causes.not_supported(
            &at,
            format!("Disk IO mode for {at} is not supported: {mode}. Supported modes are: native, threads."),
        );
    }
    let is_cached = disk.cache.as_deref().is_some_and(|cache| ["writethrough", "writeback"].contains(&cache));
    if disk.io.as_deref() == Some("native") && is_cached {
        let at = at.child("io");
        causes.invalid(&at, format!("{at}: native works only with cache none: leave io out or set cache to none"));
    }
    if let Some(policy) =
        disk.error_policy.as_deref().filter(|policy| !policy.is_empty() && !ERROR_POLICIES.contains(policy))
    {
        let at = at.child("errorPolicy");
        causes.invalid(&at, format!("{at} has invalid value {policy:?}"));
    }
}

fn pci_address(disk: &Disk, at: &Field, causes: &mut Causes) {
    let Some(target) = &disk.disk else { return };
    let Some(address) = target.pci_address.as_deref().filter(|address| !address.is_empty()) else { return };
    let field = at.child("disk.pciAddress");
    if target.bus.as_deref() != Some("virtio") {
        let name = at.child("name");
        causes.invalid(&field, format!("disk {name} - setting a PCI address is only possible with bus type virtio."));
    }
    if !is_pci_address(address) {
        causes.invalid(&field, format!("disk {} has malformed PCI address ({address}).", at.child("name")));
    }
}

/// Whether a text is a PCI address such as `0000:81:01.0`.
pub(super) fn is_pci_address(text: &str) -> bool {
    let hex = |part: Option<&str>, digits: usize| {
        part.filter(|part| part.len() == digits && part.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|part| u32::from_str_radix(part, 16).ok())
    };
    let mut parts = text.split([':', '.']);
    let shape = text.bytes().filter(|b| !b.is_ascii_hexdigit()).eq(*b"::.");
    shape
        && hex(parts.next(), 4).is_some()
        && hex(parts.next(), 2).is_some()
        && hex(parts.next(), 2).is_some_and(|slot| slot <= 0x1f)
        && hex(parts.next(), 1).is_some_and(|function| function <= 7)
}

fn block_size(disk: &Disk, at: &Field, causes: &mut Causes) {
    let Some(custom) = disk.block_size.as_ref().and_then(|size| size.custom.as_ref()) else { return };
    let at = at.child("blockSize.custom");
    let (logical, physical) = (custom.logical.unwrap_or(0), custom.physical.unwrap_or(0));
    let bus =
        disk.disk.as_ref().and_then(|disk| disk.bus.as_deref()).or(disk.cdrom.as_ref().and_then(|c| c.bus.as_deref()));
    if logical > physical {
        causes.invalid(
            &at.child("logical"),
            format!("Logical size {logical} must be the same or less than the physical size of {physical}"),
        );
        return;
    }
    if bus == Some("sata") && logical != *BLOCK_SIZES.start() {
        causes.invalid(
            &at.child("logical"),
            format!("Logical size {logical} must be {} for SATA devices", BLOCK_SIZES.start()),
        );
        return;
    }
    for (name, size) in [("logical", logical), ("physical", physical)] {
        let fault = if size < *BLOCK_SIZES.start() {
            format!("is less than the supported minimum size of {}", BLOCK_SIZES.start())
        } else if size > *BLOCK_SIZES.end() {
            format!("is greater than the supported maximum size of {}", BLOCK_SIZES.end())
        } else if size.count_ones() != 1 {
            "is not a power of 2".to_owned()
        } else {
            continue;
        };
        causes.invalid(&at.child(name), format!("Provided size of {size} {fault}"));
    }
}

/// Every volume of an instance is attached by a disk (or a filesystem).
pub(super) fn every_volume_is_attached(spec: &VirtualMachineInstanceSpec, field: &Field, causes: &mut Causes) {
    let devices = &spec.domain.devices;
    let disks = devices.disks.iter().map(|disk| disk.name.as_str());
    let attached: BTreeSet<&str> = disks.chain(devices.filesystems.iter().map(|fs| fs.name.as_str())).collect();
    for (index, volume) in spec.volumes.iter().enumerate() {
        if !attached.contains(volume.name.as_str()) && volume.memory_dump.is_none() {
            let at = field.child("volumes").index(index).child("name");
            causes.invalid(&at, format!("{at} '{}' not found.", volume.name));
        }
    }
}

/// Whether a text may be the serial number of a disk or machine.
pub(super) fn is_serial(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.+-".contains(&b))
}
