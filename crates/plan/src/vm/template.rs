//! The template: what the instance was started with, and whether it has changed since.
//!
//! The instance carries a digest of the template it was made from (annotation `TEMPLATE_HASH`). The defaults that admission fills in
//! make the instance's spec differ from the template from the first moment, and a copy of the template would put its
//! cloud-init data into yet another place, so the digest is what "has the template changed?" is asked of.

use fv_api::{Firmware, VirtualMachine, VirtualMachineInstanceSpec};
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Scheme of the digest. A digest of another scheme says nothing.
const SCHEME: &str = "v1-";

/// Namespace of upstream's name-derived firmware uuids.
const LEGACY_NAMESPACE: Uuid = Uuid::from_u128(0x6a1a24a1_4061_4607_8bf4_a3963d0c5895);

/// The firmware uuid of a VM whose template names none: upstream's, derived from the VM's name, so that guests keep their
/// identity when their VM is taken over.
pub fn legacy_firmware_uuid(vm_name: &str) -> String {
    Uuid::new_v5(&LEGACY_NAMESPACE, vm_name.as_bytes()).to_string()
}

/// The instance's spec as the template has it, with its firmware uuid filled in.
pub(super) fn instance_spec(vm: &VirtualMachine) -> VirtualMachineInstanceSpec {
    let mut spec = vm.spec.template.spec.clone().unwrap_or_default();
    let firmware = spec.domain.firmware.get_or_insert_with(Firmware::default);
    if firmware.uuid.as_deref().unwrap_or_default().is_empty() {
        firmware.uuid = Some(legacy_firmware_uuid(vm.metadata.name.as_deref().unwrap_or_default()));
    }
    spec
}

/// Digest of what an instance of `vm` would be started with.
pub(super) fn hash(vm: &VirtualMachine) -> String {
    let mut canonical = String::new();
    if let Ok(value) = serde_json::to_value(instance_spec(vm)) {
        write_sorted(&value, &mut canonical);
    }
    let digest = hex::encode(Sha256::digest(canonical.as_bytes()));
    format!("{SCHEME}{}", &digest[..16])
}

/// Whether `started` (the annotation's value) is a digest of another template than `current`; `None` when it cannot tell.
pub(super) fn differs(started: Option<&str>, current: &str) -> Option<bool> {
    started.filter(|hash| hash.starts_with(SCHEME)).map(|hash| hash != current)
}

/// JSON with sorted keys: equal values, equal text.
fn write_sorted(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut keys: Vec<_> = fields.iter().collect();
            keys.sort_by(|a, b| a.0.cmp(b.0));
            out.push('{');
            for (key, value) in keys {
                out.push_str(key);
                out.push('\u{0}');
                write_sorted(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write_sorted(item, out);
                out.push(',');
            }
            out.push(']');
        }
        leaf => out.push_str(&leaf.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legacy_uuid_is_upstreams() {
        // Computed with an independent UUIDv5 implementation from upstream's namespace.
        assert_eq!(legacy_firmware_uuid("testvm"), "5a9fc181-957e-5c32-9e5a-2de5e9673531");
        assert_ne!(legacy_firmware_uuid("testvm"), legacy_firmware_uuid("testvm2"));
    }
}
