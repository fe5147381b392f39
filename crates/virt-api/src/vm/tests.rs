use fv_api::{RestartOptions, StartOptions, StopOptions, VirtualMachine, VirtualMachineInstance};
use serde_json::{Value, json};

use super::{Change, restart, start, stop};

fn vm(spec: Value, status: Value) -> VirtualMachine {
    let mut full = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "demo", "namespace": "default"},
        "spec": {"template": {"spec": {"domain": {"devices": {}}}}}, "status": status,
    });
    json_patch::merge(&mut full["spec"], &spec);
    serde_json::from_value(full).unwrap()
}

fn vmi(phase: &str) -> VirtualMachineInstance {
    serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
        "metadata": {"name": "demo", "namespace": "default", "uid": "u1"},
        "spec": {"domain": {"devices": {}}, "terminationGracePeriodSeconds": 30}, "status": {"phase": phase},
    }))
    .unwrap()
}

const CONFLICT: &str = "Operation cannot be fulfilled on virtualmachine.kubevirt.io \"demo\": ";

#[test]
fn start_follows_upstreams_table() {
    let spec = |value| vec![Change::VmSpec(value)];
    let requests = |value| vec![Change::VmStatus(json!({"stateChangeRequests": value}))];
    let begin = json!([{"action": "Start"}]);
    let again = json!([{"action": "Stop", "uid": "u1"}, {"action": "Start"}]);
    let cases: Vec<(Value, Option<&str>, Result<Vec<Change>, &str>)> = vec![
        (json!({"running": false}), None, Ok(spec(json!({"running": true})))),
        (json!({"runStrategy": "Halted"}), None, Ok(spec(json!({"runStrategy": "Always"})))),
        (json!({"runStrategy": "Halted"}), Some("Succeeded"), Ok(spec(json!({"runStrategy": "Always"})))),
        (json!({"runStrategy": "Halted"}), Some("Running"), Err("VM is already running")),
        (json!({"runStrategy": "Manual"}), None, Ok(requests(begin.clone()))),
        (json!({"runStrategy": "Manual"}), Some("Failed"), Ok(requests(again.clone()))),
        (json!({"runStrategy": "RerunOnFailure"}), None, Ok(requests(begin))),
        (json!({"runStrategy": "RerunOnFailure"}), Some("Succeeded"), Ok(requests(again))),
        (
            json!({"runStrategy": "RerunOnFailure"}),
            Some("Failed"),
            Err("RerunOnFailure does not support starting VM from failed state"),
        ),
        (json!({"runStrategy": "Always"}), None, Err("Always does not support manual start requests")),
        (json!({"running": true}), None, Err("Always does not support manual start requests")),
        (json!({"runStrategy": "Once"}), Some("Failed"), Err("Once does not support manual start requests")),
    ];
    for (strategy, phase, expected) in cases {
        let vmi = phase.map(vmi);
        let outcome = start(&vm(strategy.clone(), json!({})), vmi.as_ref(), &StartOptions::default());
        match expected {
            Ok(changes) => assert_eq!(outcome, Ok(changes), "{strategy} {phase:?}"),
            Err(why) => {
                let error = outcome.unwrap_err();
                assert_eq!((error.code, error.message), (409, format!("{CONFLICT}{why}")), "{strategy} {phase:?}");
            }
        }
    }
}

#[test]
fn a_paused_start_of_a_halted_vm_is_a_request_and_clears_an_old_failure() {
    let options = StartOptions { paused: Some(true), ..StartOptions::default() };
    let vm = vm(json!({"runStrategy": "Halted"}), json!({"startFailure": {"consecutiveFailCount": 2}}));
    assert_eq!(
        start(&vm, None, &options).unwrap(),
        [
            Change::VmStatus(json!({"stateChangeRequests": [{"action": "Start", "data": {"paused": "true"}}]})),
            Change::VmStatus(json!({"startFailure": null})),
        ]
    );
}

#[test]
fn stop_follows_upstreams_table() {
    let request = || Change::VmStatus(json!({"stateChangeRequests": [{"action": "Stop", "uid": "u1"}]}));
    let grace = |s: i64| Change::VmiSpec(json!({"terminationGracePeriodSeconds": s}));
    let halted = "Halted only supports manual stop requests with a shorter graceperiod";
    let cases: Vec<(Value, Option<&str>, Option<i64>, Result<Vec<Change>, &str>)> = vec![
        (json!({"running": true}), Some("Running"), None, Ok(vec![Change::VmSpec(json!({"running": false}))])),
        (json!({"runStrategy": "Always"}), None, None, Ok(vec![Change::VmSpec(json!({"runStrategy": "Halted"}))])),
        (
            json!({"runStrategy": "Always"}),
            Some("Running"),
            Some(0),
            Ok(vec![grace(0), Change::VmSpec(json!({"runStrategy": "Halted"}))]),
        ),
        (json!({"runStrategy": "Manual"}), Some("Running"), None, Ok(vec![request()])),
        (json!({"runStrategy": "Manual"}), Some("Succeeded"), None, Err("VM is not running")),
        (json!({"runStrategy": "RerunOnFailure"}), None, None, Err("VM is not running")),
        (json!({"runStrategy": "Halted"}), None, None, Err("VM is not running")),
        (json!({"runStrategy": "Halted"}), Some("Running"), None, Err(halted)),
        (json!({"runStrategy": "Halted"}), Some("Running"), Some(30), Err(halted)),
        (json!({"runStrategy": "Halted"}), Some("Running"), Some(1), Ok(vec![grace(1), request()])),
    ];
    for (strategy, phase, grace_period, expected) in cases {
        let vmi = phase.map(vmi);
        let options = StopOptions { grace_period, ..StopOptions::default() };
        let outcome = stop(&vm(strategy.clone(), json!({})), vmi.as_ref(), &options);
        match expected {
            Ok(changes) => assert_eq!(outcome, Ok(changes), "{strategy} {phase:?} {grace_period:?}"),
            Err(why) => assert_eq!(outcome.unwrap_err().message, format!("{CONFLICT}{why}"), "{strategy} {phase:?}"),
        }
    }
}

#[test]
fn a_stop_replaces_pending_requests_and_a_restart_does_not() {
    let pending = json!({"stateChangeRequests": [{"action": "Stop", "uid": "u1"}, {"action": "Start"}]});
    let vm = vm(json!({"runStrategy": "Manual"}), pending);
    assert!(stop(&vm, Some(&vmi("Running")), &StopOptions::default()).is_ok());
    let error = restart(&vm, Some(&vmi("Running")), &RestartOptions::default()).unwrap_err();
    assert_eq!(error.code, 500);
    assert!(error.message.ends_with("unable to complete request: stop/start already underway"));
}

#[test]
fn restart_refuses_what_upstream_refuses() {
    let cases = [
        (
            json!({"runStrategy": "Halted"}),
            None,
            None,
            409,
            "RunStategy Halted does not support manual restart requests",
        ),
        (json!({"runStrategy": "Once"}), Some("Running"), None, 409, "RunStategy Once does not support manual restart"),
        (json!({"runStrategy": "Always"}), None, None, 409, "VM is not running: Halted"),
        (
            json!({"runStrategy": "Always"}),
            Some("Running"),
            Some(5),
            400,
            "For force restart, only gracePeriod=0 is supported for now",
        ),
        (
            json!({"runStrategy": "Always"}),
            Some("Running"),
            Some(-1),
            400,
            "gracePeriod has to be greater or equal to 0",
        ),
    ];
    for (strategy, phase, seconds, code, text) in cases {
        let vmi = phase.map(vmi);
        let options = RestartOptions { grace_period_seconds: seconds, ..RestartOptions::default() };
        let error = restart(&vm(strategy, json!({})), vmi.as_ref(), &options).unwrap_err();
        assert_eq!(error.code, code, "{}", error.message);
        assert!(error.message.contains(text), "{}", error.message);
    }
}

#[test]
fn a_forced_restart_leaves_the_guest_one_second() {
    let options = RestartOptions { grace_period_seconds: Some(0), ..RestartOptions::default() };
    let changes = restart(&vm(json!({"running": true}), json!({})), Some(&vmi("Running")), &options).unwrap();
    assert_eq!(changes[0], Change::VmiSpec(json!({"terminationGracePeriodSeconds": 1})));
    assert_eq!(
        changes[1],
        Change::VmStatus(json!({"stateChangeRequests": [{"action": "Stop", "uid": "u1"}, {"action": "Start"}]}))
    );
}
