//! Feature states, timers, and what Hyper-V features need of each other.

use serde_json::{Value, json};

use crate::json;

/// Hyper-V features and the one each needs, leaves first.
pub(super) const HYPERV_NEEDS: [(&str, &str); 5] =
    [("evmcs", "vapic"), ("ipi", "vpindex"), ("tlbflush", "vpindex"), ("synictimer", "synic"), ("synic", "vpindex")];

const SPINLOCK_RETRIES: u32 = 4096;

/// s390x has no ACPI.
pub(super) fn architecture(spec: &mut Value) {
    if json::text(spec, "architecture") == Some("s390x") {
        json::default(spec, "domain.features.acpi.enabled", false);
    }
}

/// What is named is on: timers are present, features are enabled.
pub(super) fn states(spec: &mut Value) {
    for timer in ["hpet", "kvm", "pit", "rtc", "hyperv"] {
        on(spec, &format!("domain.clock.timer.{timer}"), "present");
    }
    for feature in ["apic", "smm", "pvspinlock"] {
        on(spec, &format!("domain.features.{feature}"), "enabled");
    }
    let hyperv: Vec<String> = json::get(spec, "domain.features.hyperv")
        .and_then(Value::as_object)
        .map(|h| h.keys().cloned().collect())
        .unwrap_or_default();
    for feature in hyperv {
        let path = format!("domain.features.hyperv.{feature}");
        on(spec, &path, "enabled");
        for part in ["direct", "extended"] {
            on(spec, &format!("{path}.{part}"), "enabled");
        }
    }
    if json::is_enabled(spec, "domain.features.hyperv.spinlocks") {
        json::default(spec, "domain.features.hyperv.spinlocks.spinlocks", SPINLOCK_RETRIES);
    }
}

fn on(spec: &mut Value, path: &str, key: &str) {
    if json::get(spec, path).is_some_and(Value::is_object) {
        json::default(spec, &format!("{path}.{key}"), true);
    }
}

/// Switches on what an enabled Hyper-V feature needs, unless the user said something about it.
pub(super) fn hyperv_dependencies(spec: &mut Value) {
    for (feature, needed) in HYPERV_NEEDS {
        let needed = format!("domain.features.hyperv.{needed}");
        let is_unsaid = json::get(spec, &needed).is_none_or(Value::is_null);
        if is_unsaid && json::is_enabled(spec, &format!("domain.features.hyperv.{feature}")) {
            json::default(spec, &needed, json!({"enabled": true}));
        }
    }
    if json::is_enabled(spec, "domain.features.hyperv.evmcs") {
        require_vmx(spec);
    }
}

/// Enlightened VMCS is about nested virtualisation: the guest needs the CPU feature.
fn require_vmx(spec: &mut Value) {
    let Some(cpu) = json::object(spec, "domain.cpu") else { return };
    let features = cpu.entry("features").or_insert(Value::Null);
    if features.is_null() {
        *features = json!([]);
    }
    let Some(features) = features.as_array_mut() else { return };
    match features.iter_mut().find(|feature| json::text(feature, "name") == Some("vmx")) {
        Some(feature) => {
            if let Some(feature) = feature.as_object_mut() {
                feature.insert("policy".into(), "require".into());
            }
        }
        None => features.push(json!({"name": "vmx", "policy": "require"})),
    }
}
