//! Features, timers and the clock.

use fv_api::VirtualMachineInstanceSpec;
use serde_json::Value;

use crate::causes::{Causes, Field};
use crate::defaults::hyperv_requirements;
use crate::json;

const LEAST_RETRIES: i64 = 4095;
const LONGEST_VENDOR: usize = 12;

pub(super) fn check(spec: &VirtualMachineInstanceSpec, field: &Field, causes: &mut Causes) {
    if let Some(hyperv) = spec.domain.features.as_ref().and_then(|features| features.hyperv.as_ref()) {
        let at = field.child("domain.features.hyperv");
        if let Some(retries) =
            hyperv.spinlocks.as_ref().and_then(|s| s.spinlocks).filter(|n| *n != 0 && *n < LEAST_RETRIES)
        {
            let at = at.child("spinlocks.spinlocks");
            causes.invalid(&at, format!("{at} '{retries}': must be at least {LEAST_RETRIES}"));
        }
        let is_nameless = hyperv
            .vendorid
            .as_ref()
            .is_some_and(|v| v.enabled != Some(false) && v.vendorid.as_deref().unwrap_or("").is_empty());
        if is_nameless {
            let at = at.child("vendorid.vendorid");
            causes.required(&at, format!("{at} must have 1 to {LONGEST_VENDOR} characters when vendorid is enabled"));
        }
        let vendor = hyperv.vendorid.as_ref().and_then(|v| v.vendorid.as_deref());
        if let Some(vendor) =
            vendor.filter(|v| v.len() > LONGEST_VENDOR || !v.bytes().all(|b| b.is_ascii_graphic() || b == b' '))
        {
            let at = at.child("vendorid.vendorid");
            causes.invalid(&at, format!("{at} '{vendor}': at most {LONGEST_VENDOR} printable ASCII characters"));
        }
    }
    clock(spec, &field.child("domain.clock"), causes);
}

fn clock(spec: &VirtualMachineInstanceSpec, field: &Field, causes: &mut Causes) {
    let Some(clock) = &spec.domain.clock else { return };
    if let Some(zone) = clock.timezone.as_deref().filter(|zone| !zone.is_empty()) {
        let at = field.child("timezone");
        if !zone.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+-/".contains(&b)) {
            causes.invalid(&at, format!("{at} '{zone}' is no time zone's name, such as Europe/Berlin"));
        }
        if clock.utc.is_some() {
            causes.invalid(&at, format!("{at} and {} are mutually exclusive: keep one of them", field.child("utc")));
        }
    }
    let Some(timer) = &clock.timer else { return };
    let words: [(&str, Option<&String>, &[&str]); 4] = [
        (
            "hpet.tickPolicy",
            timer.hpet.as_ref().and_then(|t| t.tick_policy.as_ref()),
            &["delay", "catchup", "merge", "discard"],
        ),
        ("pit.tickPolicy", timer.pit.as_ref().and_then(|t| t.tick_policy.as_ref()), &["delay", "catchup", "discard"]),
        ("rtc.tickPolicy", timer.rtc.as_ref().and_then(|t| t.tick_policy.as_ref()), &["delay", "catchup"]),
        ("rtc.track", timer.rtc.as_ref().and_then(|t| t.track.as_ref()), &["guest", "wall"]),
    ];
    for (path, word, known) in words {
        if let Some(word) = word.filter(|word| !word.is_empty() && !known.contains(&word.as_str())) {
            let at = field.child("timer").child(path);
            causes.not_supported(&at, format!("{at} '{word}' is not supported: use one of {}", known.join(", ")));
        }
    }
}

/// An enabled Hyper-V feature has what it needs.
pub(super) fn hyperv_needs(spec: &VirtualMachineInstanceSpec, field: &Field, causes: &mut Causes) {
    let Some(hyperv) = spec.domain.features.as_ref().and_then(|features| features.hyperv.as_ref()) else { return };
    let hyperv = serde_json::to_value(hyperv).unwrap_or(Value::Null);
    for (feature, needed) in hyperv_requirements() {
        if json::is_enabled(&hyperv, feature) && !json::is_enabled(&hyperv, needed) {
            let at = field.child("domain.features.hyperv");
            let (feature, needed) = (at.child(feature), at.child(needed));
            causes.invalid(&feature, format!("'{feature}' requires '{needed}', which was disabled."));
        }
    }
}
