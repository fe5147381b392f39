//! Readiness and liveness probes.

use fv_api::{Probe, VirtualMachineInstanceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::causes::{Causes, Field};

const SCHEMES: [&str; 2] = ["HTTP", "HTTPS"];

pub(super) fn check(spec: &VirtualMachineInstanceSpec, field: &Field, causes: &mut Causes) {
    let has_pod_network = spec.networks.iter().any(|network| network.pod.is_some());
    for (name, probe) in [("readinessProbe", &spec.readiness_probe), ("livenessProbe", &spec.liveness_probe)] {
        let Some(probe) = probe else { continue };
        let at = field.child(name);
        handler(probe, &at, causes);
        numbers(probe, &at, causes);
        let on_network = probe.http_get.is_some() || probe.tcp_socket.is_some();
        if on_network && !has_pod_network {
            causes.invalid(&at, format!("{at} is only allowed if the Pod Network is attached"));
        }
    }
    let Some(probe) = &spec.liveness_probe else { return };
    let at = field.child("livenessProbe");
    if spec.start_strategy.as_deref() == Some("Paused") {
        let start = field.child("startStrategy");
        causes.invalid(
            &start,
            format!("either {start} or {at} should be provided.Pausing VMI with LivenessProbe is not supported"),
        );
    }
    if let Some(threshold) = probe.success_threshold.filter(|threshold| ![0, 1].contains(threshold)) {
        let at = at.child("successThreshold");
        causes.invalid(&at, format!("{at} '{threshold}': must be 1"));
    }
}

/// One way to ask the guest.
fn handler(probe: &Probe, at: &Field, causes: &mut Causes) {
    let kinds =
        [probe.exec.is_some(), probe.guest_agent_ping.is_some(), probe.http_get.is_some(), probe.tcp_socket.is_some()];
    match kinds.into_iter().filter(|set| *set).count() {
        0 => causes.invalid(
            at,
            format!(
                "either {}, {} or {} must be set if a {at} is specified",
                at.child("tcpSocket"),
                at.child("exec"),
                at.child("httpGet")
            ),
        ),
        1 => {}
        _ => causes.invalid(at, format!("{at} must have exactly one probe type set")),
    }
    if let Some(action) = &probe.exec
        && action.command.as_ref().is_none_or(Vec::is_empty)
    {
        let at = at.child("exec.command");
        causes.required(&at, format!("{at} must name a program in the guest"));
    }
    if let Some(action) = &probe.http_get {
        let at = at.child("httpGet");
        port(&action.port, &at, causes);
        host(action.host.as_deref(), &at, causes);
        if let Some(scheme) = action.scheme.as_deref().filter(|scheme| !scheme.is_empty() && !SCHEMES.contains(scheme))
        {
            let at = at.child("scheme");
            causes.not_supported(&at, format!("{at} '{scheme}' is not supported: use one of {}", SCHEMES.join(", ")));
        }
    }
    if let Some(action) = &probe.tcp_socket {
        let at = at.child("tcpSocket");
        port(&action.port, &at, causes);
        host(action.host.as_deref(), &at, causes);
    }
}

/// The launcher has no named ports: a name could mean nothing.
fn port(port: &IntOrString, at: &Field, causes: &mut Causes) {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(text) => text.parse().ok(),
    };
    if number.is_none_or(|number| !(1..=65535).contains(&number)) {
        let shown = match port {
            IntOrString::Int(number) => number.to_string(),
            IntOrString::String(text) => text.clone(),
        };
        let at = at.child("port");
        causes.invalid(&at, format!("{at} '{shown}': must be a number between 1 and 65535, inclusive"));
    }
}

/// Nobody resolves names where probes are made.
fn host(host: Option<&str>, at: &Field, causes: &mut Causes) {
    if let Some(host) = host.filter(|host| !host.is_empty() && host.parse::<std::net::IpAddr>().is_err()) {
        let at = at.child("host");
        causes.invalid(&at, format!("{at} '{host}': must be an IP address; leave it out for the guest's own"));
    }
}

fn numbers(probe: &Probe, at: &Field, causes: &mut Causes) {
    for (name, value) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("periodSeconds", probe.period_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        if let Some(value) = value.filter(|value| *value < 0) {
            let at = at.child(name);
            causes.invalid(&at, format!("{at} '{value}': must be greater than or equal to 0"));
        }
    }
}
