//! Volumes that are, or have, a disk image.

use std::collections::BTreeSet;

use fv_api::config::ClusterConfig;
use fv_api::{HostDisk, Quantity, VirtualMachineInstanceSpec, Volume};

use super::is_clean_path;
use crate::causes::{Causes, Field};
use crate::request::CauseReason;

const DISK: &str = "Disk";
const DISK_OR_CREATE: &str = "DiskOrCreate";

/// Judges the image sources of one volume.
pub(super) fn check(volume: &Volume, at: &Field, config: &ClusterConfig, causes: &mut Causes) {
    if let Some(disk) = &volume.host_disk {
        if !config.host_disk {
            causes.invalid(at, "HostDisk feature gate is not enabled");
        }
        host_disk(disk, &at.child("hostDisk"), causes);
    }
    let claim =
        volume.persistent_volume_claim.as_ref().map(|claim| ("persistentVolumeClaim", claim.claim_name.as_str()));
    let ephemeral = volume.ephemeral.as_ref().map(|disk| {
        let claim = disk.persistent_volume_claim.as_ref().map(|claim| claim.claim_name.as_str());
        ("ephemeral.persistentVolumeClaim", claim.unwrap_or_default())
    });
    for (source, name) in claim.into_iter().chain(ephemeral) {
        if name.is_empty() {
            let at = at.child(source).child("claimName");
            causes.required(&at, format!("{at} is a required field"));
        }
    }
}

/// A claim that is only read is on no bus whose disks cannot be read-only.
pub(super) fn read_only_claims(spec: &VirtualMachineInstanceSpec, field: &Field, causes: &mut Causes) {
    let is_fixed =
        |volume: &&Volume| volume.persistent_volume_claim.as_ref().is_some_and(|c| c.read_only == Some(true));
    let fixed: BTreeSet<&str> = spec.volumes.iter().filter(is_fixed).map(|volume| volume.name.as_str()).collect();
    for (index, disk) in spec.domain.devices.disks.iter().enumerate() {
        let bus = disk.disk.as_ref().and_then(|target| target.bus.as_deref()).unwrap_or_default();
        // Disks that say so themselves are judged with the disks.
        let says_so = disk.disk.as_ref().is_some_and(|target| target.readonly == Some(true));
        if fixed.contains(disk.name.as_str()) && disk.cdrom.is_none() && !says_so && matches!(bus, "" | "sata") {
            let at = field.child("domain.devices.disks").index(index).child("disk.bus");
            causes.invalid(&at, "sata hard-disks do not support read-only.");
        }
    }
}

fn host_disk(disk: &HostDisk, at: &Field, causes: &mut Causes) {
    let path = at.child("path");
    if disk.path.is_empty() {
        causes.add(CauseReason::FieldValueNotFound, &path, format!("{path} is required for hostDisk volume"));
    } else if !is_clean_path(&disk.path) || disk.path.ends_with('/') {
        causes.invalid(
            &path,
            format!("{path} '{}' must be an absolute path to a file without relative components", disk.path),
        );
    }
    let kind = at.child("type");
    let capacity = at.child("capacity");
    let is_given = disk.capacity.as_ref().is_some_and(|capacity| *capacity != Quantity::ZERO);
    match disk.type_.as_str() {
        // What the image's size is shows when it is there.
        DISK if is_given => causes
            .invalid(&capacity, format!("{capacity} is allowed to pass only with {kind} equal to '{DISK_OR_CREATE}'")),
        DISK => {}
        DISK_OR_CREATE if disk.capacity.as_ref().is_none_or(|capacity| *capacity <= Quantity::ZERO) => {
            causes.required(
                &capacity,
                format!("{capacity} greater than 0 is required with {kind} equal to '{DISK_OR_CREATE}'"),
            );
        }
        DISK_OR_CREATE => {}
        other => causes
            .invalid(&kind, format!("{kind} has invalid value '{other}', allowed are '{DISK}' or '{DISK_OR_CREATE}'")),
    }
}
