//! `<disk>`.

use fv_api::{CustomBlockSize, Disk};

use crate::build::{Context, invalid};
use crate::cpu::Topology;
use crate::error::DomainError;
use crate::facts::{BuiltDisk, DiskFormat, DiskSource, SourceKind};
use crate::pci::pci_address;
use crate::xml::{Element, element, node_path, user_text};

pub(crate) struct Disks {
    pub(crate) elements: Vec<Element>,
    pub(crate) targets: Vec<BuiltDisk>,
}

/// What the guest sees of a disk.
struct Device<'a> {
    kind: &'static str,
    bus: &'a str,
    read_only: bool,
    tray: Option<&'a str>,
    pci_address: Option<&'a str>,
}

pub(crate) fn disks(context: &Context<'_>) -> Result<Disks, DomainError> {
    let mut disks = Disks { elements: Vec::new(), targets: Vec::new() };
    let (mut virtio, mut scsi) = (0, 0);
    for (index, disk) in context.vmi.spec.domain.devices.disks.iter().enumerate() {
        let field = format!("spec.domain.devices.disks[{index}]");
        let source = context.facts.disks.get(&disk.name).ok_or_else(|| DomainError::MissingFact {
            field: format!("{field}.name"),
            name: disk.name.chars().take(64).collect(),
            what: "volume",
        })?;
        let device = device(&field, disk)?;
        if device.kind == "disk" && device.bus == "sata" && (device.read_only || source.read_only) {
            let problem = "a sata disk cannot be read-only: use a cdrom, or bus virtio";
            return Err(invalid(&format!("{field}.disk.bus"), "sata", problem));
        }
        let target = match device.bus {
            "virtio" => target_name("vd", &mut virtio),
            _ => target_name("sd", &mut scsi),
        };
        disks.elements.push(write(context, &field, disk, source, &device, &target)?);
        disks.targets.push(BuiltDisk { name: disk.name.clone(), target });
    }
    Ok(disks)
}

/// `vda` … `vdz`, `vdaa` …
fn target_name(prefix: &str, next: &mut usize) -> String {
    let mut letters = Vec::new();
    let mut number = *next + 1;
    *next = number;
    while number > 0 {
        letters.push(b'a' + u8::try_from((number - 1) % 26).unwrap_or_default());
        number = (number - 1) / 26;
    }
    letters.reverse();
    format!("{prefix}{}", String::from_utf8_lossy(&letters))
}

fn device<'a>(field: &str, disk: &'a Disk) -> Result<Device<'a>, DomainError> {
    if disk.lun.is_some() {
        return Err(DomainError::Unsupported { field: format!("{field}.lun") });
    }
    let (name, device) = match (&disk.disk, &disk.cdrom) {
        (Some(_), Some(_)) => return Err(invalid(field, &disk.name, "it is a disk and a cdrom at once")),
        (None, Some(cdrom)) => (
            "cdrom",
            Device {
                kind: "cdrom",
                bus: cdrom.bus.as_deref().unwrap_or("sata"),
                read_only: cdrom.readonly.unwrap_or(true),
                tray: cdrom.tray.as_deref(),
                pci_address: None,
            },
        ),
        (disk, None) => (
            "disk",
            Device {
                kind: "disk",
                bus: disk.as_ref().and_then(|disk| disk.bus.as_deref()).unwrap_or("sata"),
                read_only: disk.as_ref().and_then(|disk| disk.readonly).unwrap_or(false),
                tray: None,
                pci_address: disk.as_ref().and_then(|disk| disk.pci_address.as_deref()).filter(|text| !text.is_empty()),
            },
        ),
    };
    match (device.kind, device.bus) {
        (_, "sata") | ("disk", "virtio") => {}
        ("cdrom", "virtio") => {
            return Err(invalid(&format!("{field}.cdrom.bus"), "virtio", "a cdrom needs another bus"));
        }
        (_, "scsi" | "usb") => {
            return Err(DomainError::Unsupported { field: format!("{field}.{name}.bus {}", device.bus) });
        }
        (_, other) => return Err(invalid(&format!("{field}.{name}.bus"), other, "it must be virtio or sata")),
    }
    if !matches!(device.tray, None | Some("" | "open" | "closed")) {
        let tray = device.tray.unwrap_or_default();
        return Err(invalid(&format!("{field}.cdrom.tray"), tray, "it must be open or closed"));
    }
    if device.pci_address.is_some() && device.bus != "virtio" {
        let address = device.pci_address.unwrap_or_default();
        return Err(invalid(&format!("{field}.disk.pciAddress"), address, "only virtio disks have a PCI address"));
    }
    Ok(device)
}

fn write(
    context: &Context<'_>,
    field: &str,
    disk: &Disk,
    source: &DiskSource,
    device: &Device<'_>,
    target: &str,
) -> Result<Element, DomainError> {
    let (kind, attribute) = match source.kind {
        SourceKind::File => ("file", "file"),
        SourceKind::Block => ("block", "dev"),
    };
    let mut node = element("disk").attr("type", kind).attr("device", device.kind);
    if device.bus == "virtio" {
        node = node.attr("model", context.virtio_model());
    }
    node = node
        .child(driver(context, field, disk, source, device)?)
        .child(element("source").attr(attribute, node_path("disk path", &source.path)?))
        .children(disk.block_size.as_ref().map(|size| block_size(field, size)).transpose()?.flatten())
        .child(
            element("target")
                .attr("dev", target)
                .attr("bus", device.bus)
                .attr_opt("tray", device.tray.filter(|tray| !tray.is_empty())),
        );
    if device.read_only || source.read_only {
        node = node.child(element("readonly"));
    }
    if disk.shareable == Some(true) {
        node = node.child(element("shareable"));
    }
    if let Some(serial) = disk.serial.as_deref().filter(|serial| !serial.is_empty()) {
        node = node.child(element("serial").text(user_text(&format!("{field}.serial"), serial)?));
    }
    if let Some(order) = disk.boot_order {
        if order < 1 {
            return Err(invalid(&format!("{field}.bootOrder"), order, "it must be at least 1"));
        }
        node = node.child(element("boot").attr("order", order));
    }
    node = node.children(alias(&disk.name));
    if let Some(address) = device.pci_address {
        node = node.child(pci_address(&format!("{field}.disk.pciAddress"), address)?);
    }
    Ok(node)
}

/// A device name that stays the same whatever libvirt counts; only where the name can be one.
pub(crate) fn alias(name: &str) -> Option<Element> {
    let fits =
        !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    fits.then(|| element("alias").attr("name", format!("ua-{name}")))
}

fn driver(
    context: &Context<'_>,
    field: &str,
    disk: &Disk,
    source: &DiskSource,
    device: &Device<'_>,
) -> Result<Element, DomainError> {
    let cache = match disk.cache.as_deref() {
        None | Some("") if source.direct_io => "none",
        None | Some("") => "writethrough",
        Some(word @ ("none" | "writethrough" | "writeback")) => word,
        Some(other) => {
            return Err(invalid(&format!("{field}.cache"), other, "it must be none, writethrough or writeback"));
        }
    };
    let io = match disk.io.as_deref() {
        None | Some("") if cache == "none" && (source.kind == SourceKind::Block || source.preallocated) => "native",
        None | Some("") => "threads",
        Some("native") if cache != "none" => {
            return Err(invalid(&format!("{field}.io"), "native", format!("it needs cache none, not {cache}")));
        }
        Some(word @ ("native" | "threads")) => word,
        Some(other) => return Err(invalid(&format!("{field}.io"), other, "it must be native or threads")),
    };
    let policy = match disk.error_policy.as_deref() {
        None | Some("") => "stop",
        Some("enospace") => "enospace",
        Some(word @ ("stop" | "ignore" | "report")) => word,
        Some(other) => {
            let problem = "it must be stop, ignore, report or enospace";
            return Err(invalid(&format!("{field}.errorPolicy"), other, problem));
        }
    };
    let queues = (device.bus == "virtio" && context.vmi.spec.domain.devices.block_multi_queue == Some(true))
        .then(|| Topology::of(context.vmi))
        .transpose()?
        .map(Topology::vcpus);
    Ok(element("driver")
        .attr("name", "qemu")
        .attr(
            "type",
            match source.format {
                DiskFormat::Raw => "raw",
                DiskFormat::Qcow2 => "qcow2",
            },
        )
        .attr("cache", cache)
        .attr("error_policy", policy)
        .attr("io", io)
        .attr("discard", "unmap")
        .attr_opt("queues", queues))
}

fn block_size(field: &str, size: &fv_api::BlockSize) -> Result<Option<Element>, DomainError> {
    if size.match_volume.as_ref().is_some_and(|state| state.enabled.unwrap_or(true)) {
        return Err(DomainError::Unsupported { field: format!("{field}.blockSize.matchVolume") });
    }
    let Some(CustomBlockSize { logical, physical, discard_granularity }) = &size.custom else { return Ok(None) };
    let field = format!("{field}.blockSize.custom");
    for (name, value) in [("logical", logical), ("physical", physical)] {
        if let Some(value) = value
            && (!(512..=2 << 20).contains(value) || value.count_ones() != 1)
        {
            let problem = "it must be a power of two between 512 and 2097152";
            return Err(invalid(&format!("{field}.{name}"), value, problem));
        }
    }
    if discard_granularity.is_some() {
        return Err(DomainError::Unsupported { field: format!("{field}.discardGranularity") });
    }
    Ok(Some(
        element("blockio")
            .attr_opt("logical_block_size", logical.as_ref())
            .attr_opt("physical_block_size", physical.as_ref()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_count_like_letters() {
        let mut next = 0;
        let names: Vec<String> = (0..703).map(|_| target_name("vd", &mut next)).collect();
        for (index, expected) in [(0, "vda"), (25, "vdz"), (26, "vdaa"), (701, "vdzz"), (702, "vdaaa")] {
            assert_eq!(names[index], expected);
        }
    }
}
