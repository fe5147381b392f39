//! Boot loader and firmware identity.

use fv_api::VirtualMachineInstanceSpec;
use uuid::Uuid;

use super::disks::is_serial;
use crate::causes::{Causes, Field};

const LONGEST_SERIAL: usize = 256;

pub(super) fn check(spec: &VirtualMachineInstanceSpec, field: &Field, causes: &mut Causes) {
    let domain = field.child("domain");
    let Some(firmware) = &spec.domain.firmware else { return };
    let at = domain.child("firmware");
    if let Some(uuid) = firmware.uuid.as_deref().filter(|uuid| !uuid.is_empty() && Uuid::try_parse(uuid).is_err()) {
        let at = at.child("uuid");
        causes.invalid(&at, format!("{at} '{uuid}' is not a UUID such as 5d307ca9-b3ef-428c-8861-06e72d69f223"));
    }
    if let Some(serial) = firmware.serial.as_deref().filter(|serial| !serial.is_empty()) {
        let at = at.child("serial");
        if !is_serial(serial) {
            causes.invalid(
                &at,
                format!("{at} must be made up of the following characters [A-Za-z0-9_.+-], if specified"),
            );
        }
        if serial.chars().count() > LONGEST_SERIAL {
            causes.invalid(&at, format!("{at} must be less than or equal to {LONGEST_SERIAL} in length, if specified"));
        }
    }
    let Some(bootloader) = &firmware.bootloader else { return };
    let at = at.child("bootloader");
    if bootloader.efi.is_some() && bootloader.bios.is_some() {
        causes.invalid(&at, format!("{at} has both EFI and BIOS configured, but they are mutually exclusive."));
    }
    if let Some(efi) = &bootloader.efi {
        let smm = spec.domain.features.as_ref().and_then(|features| features.smm.as_ref());
        let has_smm = smm.is_some_and(|smm| smm.enabled.unwrap_or(true));
        if efi.secure_boot.unwrap_or(true) && !has_smm {
            causes.invalid(
                &domain,
                format!("{domain} has EFI SecureBoot enabled. SecureBoot requires SMM, which is currently disabled."),
            );
        }
    }
    let use_serial = bootloader.bios.as_ref().and_then(|bios| bios.use_serial) == Some(true);
    if use_serial && spec.domain.devices.autoattach_serial_console == Some(false) {
        let at = at.child("bios.useSerial");
        causes.invalid(&at, format!("{at} needs a serial console: autoattachSerialConsole is false"));
    }
}
