//! `<os>`, `<sysinfo>` and what the guest sees as the machine's identity.

use fv_api::VirtualMachineInstance;
use uuid::Uuid;

use crate::build::{Context, invalid};
use crate::error::DomainError;
use crate::xml::{Element, element, node_path, node_text, user_text};

/// The SMBIOS system table every guest of KubeVirt sees; a change re-activates Windows.
const MANUFACTURER: &str = "KubeVirt";
const PRODUCT: &str = "None";
const FAMILY: &str = "KubeVirt";

pub(crate) fn sysinfo(vmi: &VirtualMachineInstance) -> Result<Element, DomainError> {
    let domain = &vmi.spec.domain;
    let entry = |name: &str, value: &str| element("entry").attr("name", name.to_owned()).text(value);
    let mut system = element("system")
        .child(entry("manufacturer", MANUFACTURER))
        .child(entry("product", PRODUCT))
        .child(entry("family", FAMILY));
    if let Some(serial) = domain.firmware.as_ref().and_then(|firmware| firmware.serial.as_deref()) {
        system = system.child(entry("serial", &user_text("spec.domain.firmware.serial", serial)?));
    }
    let mut sysinfo = element("sysinfo").attr("type", "smbios").child(system);
    if let Some(chassis) = &domain.chassis {
        let entries = [
            ("manufacturer", &chassis.manufacturer),
            ("version", &chassis.version),
            ("serial", &chassis.serial),
            ("asset", &chassis.asset),
            ("sku", &chassis.sku),
        ];
        let mut node = element("chassis");
        let mut any = false;
        for (name, value) in entries {
            if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
                node = node.child(entry(name, &user_text(&format!("spec.domain.chassis.{name}"), value)?));
                any = true;
            }
        }
        if any {
            sysinfo = sysinfo.child(node);
        }
    }
    Ok(sysinfo)
}

pub(crate) fn os(context: &Context<'_>) -> Result<Element, DomainError> {
    let firmware = context.vmi.spec.domain.firmware.as_ref();
    let bootloader = firmware.and_then(|firmware| firmware.bootloader.as_ref());
    let mut os = element("os").child(
        element("type")
            .attr("arch", node_text("architecture", &context.facts.arch)?)
            .attr("machine", node_text("machine type", &context.facts.machine_type)?)
            .text("hvm"),
    );
    if let Some(efi) = bootloader.and_then(|bootloader| bootloader.efi.as_ref()) {
        let field = "spec.domain.firmware.bootloader.efi";
        let files = context.facts.efi.as_ref().ok_or_else(|| DomainError::MissingFact {
            field: field.to_owned(),
            name: "efi".to_owned(),
            what: "UEFI firmware",
        })?;
        let secure = efi.secure_boot.unwrap_or(true);
        if secure != files.secure {
            let problem = "the node chose UEFI firmware of the other kind";
            return Err(DomainError::InvalidFact { what: "UEFI firmware", value: files.code.clone(), problem });
        }
        os = os
            .child(
                element("loader")
                    .attr("readonly", "yes")
                    .attr("secure", yes_no(secure))
                    .attr("type", "pflash")
                    .text(node_path("UEFI code", &files.code)?),
            )
            .child(
                element("nvram")
                    .attr("template", node_path("UEFI variable template", &files.vars_template)?)
                    .text(node_path("UEFI variables", &files.vars)?),
            );
    }
    os = os.child(element("smbios").attr("mode", "sysinfo"));
    if bootloader.and_then(|bootloader| bootloader.bios.as_ref()).and_then(|bios| bios.use_serial) == Some(true) {
        if context.vmi.spec.domain.devices.autoattach_serial_console == Some(false) {
            let problem = "the VMI has no serial console (autoattachSerialConsole: false)";
            return Err(invalid("spec.domain.firmware.bootloader.bios.useSerial", true, problem));
        }
        os = os.child(element("bios").attr("useserial", "yes"));
    }
    Ok(os)
}

/// Whether the guest boots with Secure Boot, which needs SMM.
pub(crate) fn secure_boot(vmi: &VirtualMachineInstance) -> bool {
    let firmware = vmi.spec.domain.firmware.as_ref();
    firmware
        .and_then(|firmware| firmware.bootloader.as_ref()?.efi.as_ref())
        .is_some_and(|efi| efi.secure_boot.unwrap_or(true))
}

/// The user's `firmware.uuid` for the guest's eyes only. libvirt insists that the uuid in `<sysinfo>` is the domain's own, and has no
/// `<hwuuid>` before 11.6; of several `-smbios type=1` options QEMU takes the last value.
pub(crate) fn commandline(vmi: &VirtualMachineInstance) -> Result<Option<Element>, DomainError> {
    let firmware = vmi.spec.domain.firmware.as_ref();
    let Some(text) = firmware.and_then(|firmware| firmware.uuid.as_deref()).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let uuid = Uuid::parse_str(text).map_err(|_| invalid("spec.domain.firmware.uuid", text, "it is not a UUID"))?;
    let arg = |value: String| element("qemu:arg").attr("value", value);
    Ok(Some(
        element("qemu:commandline")
            .child(arg("-smbios".into()))
            .child(arg(format!("type=1,uuid={}", uuid.hyphenated()))),
    ))
}

pub(crate) fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}
