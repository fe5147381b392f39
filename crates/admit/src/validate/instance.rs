//! What is peculiar to VirtualMachineInstances: names, grace period, eviction, and that they do not change.

use fv_api::VirtualMachineInstanceSpec;
use fv_api::meta::users;
use serde_json::Value;

use super::meta;
use crate::causes::{Causes, Field};
use crate::json;
use crate::names;
use crate::request::{Cause, Request};

const EVICTION: [&str; 4] = ["LiveMigrate", "LiveMigrateIfPossible", "None", "External"];

pub(super) fn check(spec: &VirtualMachineInstanceSpec, field: &Field, causes: &mut Causes) {
    if let Some(hostname) = spec.hostname.as_deref().filter(|name| !name.is_empty()) {
        let at = field.child("hostname");
        let faults = names::dns_label(hostname);
        if !faults.is_empty() {
            causes.invalid(
                &at,
                format!("{at} does not conform to the kubernetes DNS_LABEL rules : {}", faults.join(", ")),
            );
        }
    }
    if let Some(subdomain) = spec.subdomain.as_deref().filter(|name| !name.is_empty()) {
        let at = field.child("subdomain");
        let faults = names::dns_subdomain(subdomain);
        if !faults.is_empty() {
            causes.invalid(
                &at,
                format!("{at} does not conform to the kubernetes DNS_SUBDOMAIN rules : {}", faults.join(", ")),
            );
        }
    }
    if let Some(seconds) = spec.termination_grace_period_seconds.filter(|seconds| *seconds < 0) {
        let at = field.child("terminationGracePeriodSeconds");
        causes.invalid(&at, format!("{at} '{seconds}': must be greater than or equal to 0."));
    }
    if let Some(strategy) = spec.eviction_strategy.as_deref().filter(|strategy| !["", "None"].contains(strategy)) {
        let at = field.child("evictionStrategy");
        if EVICTION.contains(&strategy) {
            causes.unimplemented(&at, strategy, "use None or leave it out");
        } else {
            causes.invalid(&at, format!("{at} is set with an unrecognized option: {strategy}"));
        }
    }
    if let Some(strategy) = spec.start_strategy.as_deref().filter(|strategy| *strategy != "Paused") {
        let at = field.child("startStrategy");
        causes.invalid(&at, format!("{at} is set with an unrecognized option: {strategy}"));
    }
}

/// An instance's spec and reserved labels are changed by our components only.
pub(super) fn update(request: &Request<'_>, old: &Value, new: &Value) -> Vec<Cause> {
    let mut causes = Causes::default();
    if users::is_component(request.user) {
        return causes.into_vec();
    }
    let nowhere = Field::new("");
    if !same_spec(old.get("spec"), new.get("spec")) {
        causes.not_supported(&nowhere, "update of VMI object is restricted");
    }
    let labels = |object| meta::reserved(json::get(object, "metadata.labels"));
    let (mut before, mut after) = (labels(old), labels(new));
    before.sort_by_key(|(key, _)| *key);
    after.sort_by_key(|(key, _)| *key);
    if before != after {
        causes.not_supported(
            &nowhere,
            "modification of the following reserved kubevirt.io/ labels on a VMI object is prohibited",
        );
    }
    causes.into_vec()
}

/// Whether two specs say the same: clients may write amounts otherwise and leave out what is empty.
fn same_spec(old: Option<&Value>, new: Option<&Value>) -> bool {
    if old == new {
        return true;
    }
    let (Some(old), Some(new)) = (old, new) else { return false };
    let read = |spec: &Value| serde_json::from_value::<VirtualMachineInstanceSpec>(without_empty(spec, "")).ok();
    match (read(old), read(new)) {
        (Some(old), Some(new)) => old == new,
        _ => false,
    }
}

/// A value without what upstream's typed clients leave out: nulls, empty texts and lists, zeroes, and `false` where its Go type
/// knows no difference between false and absent. `within` is the key the value stands at.
fn without_empty(value: &Value, within: &str) -> Value {
    const PLAIN_SWITCHES: [(&str, &str); 6] = [
        ("cpu", "dedicatedCpuPlacement"),
        ("cpu", "isolateEmulatorThread"),
        ("disk", "readonly"),
        ("lun", "readonly"),
        ("lun", "reservation"),
        ("resources", "overcommitGuestOverhead"),
    ];
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(key, field)| match field {
                Value::Null => false,
                Value::String(text) => !text.is_empty(),
                Value::Array(items) => !items.is_empty(),
                Value::Number(number) => number.as_i64() != Some(0),
                Value::Bool(false) => !PLAIN_SWITCHES.contains(&(within, key.as_str())),
                Value::Bool(true) | Value::Object(_) => true,
            })
            .map(|(key, field)| (key.clone(), without_empty(field, key)))
            .collect(),
        Value::Array(items) => items.iter().map(|item| without_empty(item, within)).collect(),
        other => other.clone(),
    }
}
