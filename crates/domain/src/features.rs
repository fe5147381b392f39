//! `<features>` and `<clock>`.

use fv_api::{FeatureState, TLBFlush, Timer};

use crate::build::{Context, invalid};
use crate::error::DomainError;
use crate::facts::Accelerator;
use crate::firmware::{secure_boot, yes_no};
use crate::xml::{Element, element, user_text};

/// Translation cache of the software emulator; unbounded it grows to a gigabyte, a quarter of which no guest needs.
const TB_CACHE_MIB: u32 = 32;

/// Whether the guest has ACPI (and so can be asked to shut down).
pub fn has_acpi(vmi: &fv_api::VirtualMachineInstance) -> bool {
    vmi.spec.domain.features.as_ref().and_then(|features| features.acpi.as_ref()).is_none_or(is_on)
}

fn is_on(state: &FeatureState) -> bool {
    state.enabled.unwrap_or(true)
}

fn on_off(value: bool) -> &'static str {
    if value { "on" } else { "off" }
}

fn state(name: &'static str, value: bool) -> Element {
    element(name).attr("state", on_off(value))
}

pub(crate) fn features(context: &mut Context<'_>) -> Result<Element, DomainError> {
    let vmi = context.vmi;
    let default = fv_api::Features::default();
    let spec = vmi.spec.domain.features.as_ref().unwrap_or(&default);
    let mut features = element("features");
    if has_acpi(vmi) {
        features = features.child(element("acpi"));
    }
    if let Some(apic) = &spec.apic
        && apic.enabled.unwrap_or(true)
    {
        features = features.child(element("apic").attr_opt("eoi", apic.end_of_interrupt.map(on_off)));
    }
    if let Some(hyperv) = &spec.hyperv
        && context.kvm_only("spec.domain.features.hyperv")
    {
        features = features.children(hyperv_element(hyperv)?);
    }
    if let Some(kvm) = &spec.kvm
        && context.kvm_only("spec.domain.features.kvm")
    {
        features = features.child(element("kvm").child(state("hidden", kvm.hidden.unwrap_or(false))));
    }
    if let Some(pvspinlock) = &spec.pvspinlock
        && context.kvm_only("spec.domain.features.pvspinlock")
    {
        features = features.child(state("pvspinlock", is_on(pvspinlock)));
    }
    let smm = spec.smm.as_ref().map(is_on);
    if secure_boot(vmi) && smm == Some(false) {
        return Err(invalid("spec.domain.features.smm", "false", "Secure Boot needs SMM"));
    }
    if secure_boot(vmi) || smm.is_some() {
        features = features.child(state("smm", smm.unwrap_or(true)));
    }
    if context.facts.accelerator == Accelerator::Tcg {
        features = features.child(element("tcg").child(element("tb-cache").attr("unit", "MiB").text(TB_CACHE_MIB)));
    }
    Ok(features)
}

fn hyperv_element(spec: &fv_api::FeatureHyperv) -> Result<Option<Element>, DomainError> {
    let field = "spec.domain.features.hyperv";
    let plain = [
        ("relaxed", &spec.relaxed),
        ("vapic", &spec.vapic),
        ("vpindex", &spec.vpindex),
        ("runtime", &spec.runtime),
        ("synic", &spec.synic),
        ("reset", &spec.reset),
        ("frequencies", &spec.frequencies),
        ("reenlightenment", &spec.reenlightenment),
        ("ipi", &spec.ipi),
        ("evmcs", &spec.evmcs),
    ];
    let mut children: Vec<Element> =
        plain.into_iter().filter_map(|(name, value)| Some(state(name, is_on(value.as_ref()?)))).collect();
    if let Some(spinlocks) = &spec.spinlocks {
        let on = spinlocks.enabled.unwrap_or(true);
        let retries = spinlocks.spinlocks.unwrap_or(4096);
        if on && !(4095..=i64::from(u32::MAX)).contains(&retries) {
            return Err(invalid(&format!("{field}.spinlocks.spinlocks"), retries, "it must be at least 4095"));
        }
        children.push(state("spinlocks", on).attr_opt("retries", on.then_some(retries)));
    }
    if let Some(timer) = &spec.synictimer {
        let direct = timer.direct.as_ref().map(|direct| state("direct", is_on(direct)));
        children.push(state("stimer", timer.enabled.unwrap_or(true)).children(direct));
    }
    if let Some(flush) = &spec.tlbflush {
        children.push(tlbflush(flush)?);
    }
    if let Some(vendor) = &spec.vendorid {
        let on = vendor.enabled.unwrap_or(true);
        let id = vendor.vendorid.as_deref().unwrap_or_default();
        if on && (id.is_empty() || id.len() > 12) {
            return Err(invalid(&format!("{field}.vendorid.vendorid"), id, "it must have 1 to 12 characters"));
        }
        let id = user_text(&format!("{field}.vendorid.vendorid"), id)?;
        children.push(state("vendor_id", on).attr_opt("value", on.then_some(id)));
    }
    Ok((!children.is_empty()).then(|| element("hyperv").attr("mode", "custom").children(children)))
}

fn tlbflush(flush: &TLBFlush) -> Result<Element, DomainError> {
    // libvirt has the finer switches from 10.x on.
    for (name, value) in [("direct", &flush.direct), ("extended", &flush.extended)] {
        if value.as_ref().is_some_and(is_on) {
            return Err(DomainError::Unsupported { field: format!("spec.domain.features.hyperv.tlbflush.{name}") });
        }
    }
    Ok(state("tlbflush", flush.enabled.unwrap_or(true)))
}

pub(crate) fn clock(context: &mut Context<'_>) -> Result<Element, DomainError> {
    let Some(spec) = context.vmi.spec.domain.clock.as_ref() else { return Ok(element("clock").attr("offset", "utc")) };
    let offset = spec.utc.as_ref().and_then(|utc| utc.offset_seconds);
    let clock = match (spec.timezone.as_deref(), offset) {
        (Some(timezone), None) if !timezone.is_empty() => {
            let timezone = user_text("spec.domain.clock.timezone", timezone)?;
            element("clock").attr("offset", "timezone").attr("timezone", timezone)
        }
        (Some(timezone), Some(_)) if !timezone.is_empty() => {
            return Err(invalid("spec.domain.clock.timezone", timezone, "it cannot be combined with utc"));
        }
        (_, Some(seconds)) => {
            element("clock").attr("offset", "variable").attr("adjustment", seconds).attr("basis", "utc")
        }
        (_, None) => element("clock").attr("offset", "utc"),
    };
    match spec.timer.as_ref() {
        Some(timer) => Ok(clock.children(timers(context, timer)?)),
        None => Ok(clock),
    }
}

fn timers(context: &mut Context<'_>, spec: &Timer) -> Result<Vec<Element>, DomainError> {
    let field = "spec.domain.clock.timer";
    let timer = |name: &str, present: Option<bool>| {
        element("timer").attr("name", name.to_owned()).attr("present", yes_no(present.unwrap_or(true)))
    };
    let word = |name: &str, value: &Option<String>, words: &[&str]| match value.as_deref() {
        None | Some("") => Ok(None),
        Some(value) if words.contains(&value) => Ok(Some(value.to_owned())),
        Some(value) => {
            Err(invalid(&format!("{field}.{name}"), value, format!("it must be one of {}", words.join(", "))))
        }
    };
    let mut timers = Vec::new();
    if let Some(rtc) = &spec.rtc {
        timers.push(
            timer("rtc", rtc.present)
                .attr_opt("tickpolicy", word("rtc.tickPolicy", &rtc.tick_policy, &["delay", "catchup"])?)
                .attr_opt("track", word("rtc.track", &rtc.track, &["guest", "wall"])?),
        );
    }
    if let Some(pit) = &spec.pit {
        let policy = word("pit.tickPolicy", &pit.tick_policy, &["delay", "catchup", "discard"])?;
        timers.push(timer("pit", pit.present).attr_opt("tickpolicy", policy));
    }
    if let Some(hpet) = &spec.hpet {
        let policy = word("hpet.tickPolicy", &hpet.tick_policy, &["delay", "catchup", "merge", "discard"])?;
        timers.push(timer("hpet", hpet.present).attr_opt("tickpolicy", policy));
    }
    if let Some(kvm) = &spec.kvm
        && context.kvm_only(&format!("{field}.kvm"))
    {
        timers.push(timer("kvmclock", kvm.present));
    }
    if let Some(hyperv) = &spec.hyperv
        && context.kvm_only(&format!("{field}.hyperv"))
    {
        timers.push(timer("hypervclock", hyperv.present));
    }
    Ok(timers)
}
