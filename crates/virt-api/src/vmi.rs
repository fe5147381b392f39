//! Which request a VMI's state allows: pure, with upstream's order and texts.

use fv_api::VirtualMachineInstance;
use fv_api::meta::conditions;
use fv_api::meta::phases::VmiPhase;
use fv_stream::agent::VmiRef;
use kube::ResourceExt;

use crate::error::{ApiError, VMI};

/// A running VMI and where it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Located {
    pub node: String,
    pub vmi: VmiRef,
}

fn phase(vmi: &VirtualMachineInstance) -> VmiPhase {
    VmiPhase::parse(vmi.status.as_ref().and_then(|s| s.phase.as_deref()))
}

fn holds(vmi: &VirtualMachineInstance, condition: &str) -> bool {
    let conditions = vmi.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    conditions.iter().any(|c| c.type_ == condition && c.status == "True")
}

fn conflict<T>(vmi: &VirtualMachineInstance, why: &str) -> Result<T, ApiError> {
    Err(ApiError::conflict(VMI, &vmi.name_any(), why))
}

fn locate(vmi: &VirtualMachineInstance) -> Result<Located, ApiError> {
    let Some(node) = vmi.status.as_ref().and_then(|s| s.node_name.clone()) else {
        return conflict(vmi, "VMI is not running");
    };
    let reference = VmiRef {
        namespace: vmi.namespace().unwrap_or_default(),
        name: vmi.name_any(),
        uid: vmi.uid().unwrap_or_default(),
    };
    Ok(Located { node, vmi: reference })
}

fn running(vmi: &VirtualMachineInstance) -> Result<(), ApiError> {
    if phase(vmi) == VmiPhase::Running { Ok(()) } else { conflict(vmi, "VMI is not running") }
}

/// Whether the VMI may be paused.
///
/// # Errors
/// 409 unless it runs and is not paused; 403 when a liveness probe would take the pause for death.
pub fn pause(vmi: &VirtualMachineInstance) -> Result<Located, ApiError> {
    running(vmi)?;
    if vmi.spec.liveness_probe.as_ref().is_some_and(|p| p.guest_agent_ping.is_none()) {
        return Err(ApiError::forbidden(
            VMI,
            &vmi.name_any(),
            "Pausing VMIs with LivenessProbe is currently not supported",
        ));
    }
    if holds(vmi, conditions::PAUSED) {
        return conflict(vmi, "VMI is already paused");
    }
    locate(vmi)
}

/// Whether the VMI may be resumed.
///
/// # Errors
/// 409 unless it is paused.
pub fn unpause(vmi: &VirtualMachineInstance) -> Result<Located, ApiError> {
    running(vmi)?;
    if !holds(vmi, conditions::PAUSED) {
        return conflict(vmi, "VMI is not paused");
    }
    locate(vmi)
}

/// Whether the guest may be asked to reboot.
///
/// # Errors
/// 409 unless it runs, is not paused, and has an agent or ACPI to ask through.
pub fn soft_reboot(vmi: &VirtualMachineInstance) -> Result<Located, ApiError> {
    running(vmi)?;
    if holds(vmi, conditions::PAUSED) {
        return conflict(vmi, "VMI is paused");
    }
    let acpi = vmi.spec.domain.features.as_ref().and_then(|f| f.acpi.as_ref()).and_then(|a| a.enabled) != Some(false);
    if !acpi && !holds(vmi, conditions::AGENT_CONNECTED) {
        return conflict(vmi, "VMI neither have the agent connected nor the ACPI feature enabled");
    }
    locate(vmi)
}

/// A hard reset has no precondition but a running domain, which the node agent checks.
///
/// # Errors
/// 409 when the VMI is on no node.
pub fn reset(vmi: &VirtualMachineInstance) -> Result<Located, ApiError> {
    running(vmi)?;
    locate(vmi)
}

/// Whether the guest agent can be asked.
///
/// # Errors
/// 409 unless the VMI runs; 404 with the reason while no agent is connected.
pub fn guest_agent(vmi: &VirtualMachineInstance) -> Result<Located, ApiError> {
    running(vmi)?;
    if !holds(vmi, conditions::AGENT_CONNECTED) {
        let mut error = ApiError::not_found(VMI, &vmi.name_any());
        error.message = format!("{}: VMI does not have guest agent connected", vmi.name_any());
        return Err(error);
    }
    locate(vmi)
}

/// Whether the serial console can be opened.
///
/// # Errors
/// 400 without a console or before the VMI runs, 409 after it failed.
pub fn console(vmi: &VirtualMachineInstance) -> Result<Located, ApiError> {
    if vmi.spec.domain.devices.autoattach_serial_console == Some(false) {
        return Err(ApiError::bad_request("No serial consoles are present."));
    }
    if phase(vmi) == VmiPhase::Failed {
        return conflict(vmi, "VMI is in failed status");
    }
    if phase(vmi) != VmiPhase::Running {
        return Err(ApiError::bad_request("VMI is not running"));
    }
    locate(vmi)
}

/// Whether VNC can be opened.
///
/// # Errors
/// 400 without a graphics device or before the VMI runs.
pub fn vnc(vmi: &VirtualMachineInstance) -> Result<Located, ApiError> {
    if vmi.spec.domain.devices.autoattach_graphics_device == Some(false) {
        return Err(ApiError::bad_request("No graphics devices are present."));
    }
    if phase(vmi) != VmiPhase::Running {
        return Err(ApiError::bad_request("VMI is not running"));
    }
    locate(vmi)
}

/// The address a port forward dials: the first of the VMI's first interface.
///
/// # Errors
/// 409 unless it runs unpaused, 400 without an interface that has an address.
pub fn port_forward(vmi: &VirtualMachineInstance) -> Result<String, ApiError> {
    running(vmi)?;
    if holds(vmi, conditions::PAUSED) {
        return conflict(vmi, "VMI is paused");
    }
    let interfaces = vmi.status.as_ref().map(|s| s.interfaces.as_slice()).unwrap_or_default();
    interfaces
        .first()
        .and_then(|i| i.ip_address.clone())
        .ok_or_else(|| ApiError::bad_request("no network interfaces are present"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn vmi(extra: Value) -> VirtualMachineInstance {
        let mut full = json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
            "metadata": {"name": "demo", "namespace": "default", "uid": "u1"},
            "spec": {"domain": {"devices": {}}}, "status": {"phase": "Running", "nodeName": "n"},
        });
        json_patch::merge(&mut full, &extra);
        serde_json::from_value(full).unwrap()
    }

    fn with_condition(type_: &str) -> Value {
        json!({"status": {"conditions": [{"type": type_, "status": "True"}]}})
    }

    type Check = fn(&VirtualMachineInstance) -> Result<Located, ApiError>;

    #[test]
    fn each_request_is_refused_as_upstream_refuses_it() {
        let failed = json!({"status": {"phase": "Failed"}});
        let scheduled = json!({"status": {"phase": "Scheduled"}});
        let cases: Vec<(Check, Value, Option<(u16, &str)>)> = vec![
            (pause, json!({}), None),
            (pause, scheduled.clone(), Some((409, "VMI is not running"))),
            (pause, with_condition("Paused"), Some((409, "VMI is already paused"))),
            (pause, json!({"spec": {"livenessProbe": {"tcpSocket": {"port": 80}}}}), Some((403, "LivenessProbe"))),
            (unpause, json!({}), Some((409, "VMI is not paused"))),
            (unpause, with_condition("Paused"), None),
            (soft_reboot, json!({}), None),
            (soft_reboot, with_condition("Paused"), Some((409, "VMI is paused"))),
            (
                soft_reboot,
                json!({"spec": {"domain": {"features": {"acpi": {"enabled": false}}}}}),
                Some((409, "VMI neither have the agent connected nor the ACPI feature enabled")),
            ),
            (guest_agent, json!({}), Some((404, "VMI does not have guest agent connected"))),
            (guest_agent, with_condition("AgentConnected"), None),
            (console, json!({}), None),
            (console, failed, Some((409, "VMI is in failed status"))),
            (console, scheduled.clone(), Some((400, "VMI is not running"))),
            (
                console,
                json!({"spec": {"domain": {"devices": {"autoattachSerialConsole": false}}}}),
                Some((400, "No serial consoles are present.")),
            ),
            (vnc, scheduled, Some((400, "VMI is not running"))),
            (
                vnc,
                json!({"spec": {"domain": {"devices": {"autoattachGraphicsDevice": false}}}}),
                Some((400, "No graphics devices are present.")),
            ),
        ];
        for (check, extra, expected) in cases {
            match (check(&vmi(extra.clone())), expected) {
                (Ok(located), None) => assert_eq!(located.node, "n"),
                (Err(error), Some((code, text))) => {
                    assert_eq!(error.code, code, "{extra}");
                    assert!(error.message.contains(text), "{}", error.message);
                }
                (outcome, expected) => panic!("{extra}: {outcome:?} instead of {expected:?}"),
            }
        }
    }

    #[test]
    fn port_forward_needs_an_address() {
        let with = json!({"status": {"interfaces": [{"ipAddress": "10.0.0.7"}]}});
        assert_eq!(port_forward(&vmi(with)).unwrap(), "10.0.0.7");
        assert_eq!(port_forward(&vmi(json!({}))).unwrap_err().message, "no network interfaces are present");
    }
}
