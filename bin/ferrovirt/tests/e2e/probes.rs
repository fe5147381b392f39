//! Probes of guests.

use serde_json::{Value, json};

use crate::harness::namespace::uid;
use crate::harness::{Instance, manifest};

/// A machine with the readiness probe is ready from when its guest does `open` until it does `close`.
fn is_ready_between(name: &str, mut probe: Value, open: &str, close: &str) {
    let ns = Instance::shared().namespace();
    probe["periodSeconds"] = json!(1);
    probe["timeoutSeconds"] = json!(5);
    let vmi = ns.run_vm(&manifest(name, "Always", |spec| spec["readinessProbe"] = probe));
    ns.booted(&vmi);
    let is_ready = |vm: &Value| vm["status"]["ready"] == true;
    assert!(!is_ready(&ns.get("vm", name)), "nothing answers yet");
    ns.sh(&vmi, open);
    ns.until("vm", name, "ready", is_ready);
    ns.sh(&vmi, close);
    ns.until("vm", name, "not ready", |vm| !is_ready(vm));
    assert_eq!(uid(&ns.get("vmi", name)), uid(&vmi), "readiness ends nothing");
}

#[test]
fn machine_is_ready_while_its_server_says_so() {
    let probe = json!({"httpGet": {"port": 80, "path": "/ready"}});
    is_ready_between("ready", probe, "echo yes >/var/www/ready\n", "rm /var/www/ready\n");
}

#[test]
fn machine_is_ready_while_its_port_is_open() {
    let open = "httpd -f -p 81 -h /var/www >/dev/null 2>&1 </dev/null & echo $! >/open\n";
    is_ready_between("open", json!({"tcpSocket": {"port": 81}}), open, "kill $(cat /open)\n");
}

#[test]
fn machine_without_a_guest_agent_is_not_ready_by_it_and_runs_on() {
    let ns = Instance::shared().namespace();
    let vmi = ns.run_vm(&manifest("agentless", "Always", |spec| {
        spec["readinessProbe"] = json!({"guestAgentPing": {}, "periodSeconds": 1});
    }));
    ns.booted(&vmi);
    let told = ns.until_event("agentless", "Unhealthy");
    assert!(told["message"].as_str().is_some_and(|m| m.starts_with("Readiness probe failed: ")), "{told}");
    assert!(ns.get("vm", "agentless")["status"]["ready"] != true);
    assert_eq!(uid(&ns.get("vmi", "agentless")), uid(&vmi), "readiness ends nothing");
}

#[test]
fn machine_whose_server_hangs_is_started_anew() {
    let ns = Instance::shared().namespace();
    let vmi = ns.run_vm(&manifest("alive", "Always", |spec| {
        spec["terminationGracePeriodSeconds"] = json!(5);
        spec["livenessProbe"] = json!({
            "httpGet": {"port": 80}, "initialDelaySeconds": 60, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 3,
        });
    }));
    let first = ns.booted(&vmi);
    // The kernel goes on taking connections for it.
    ns.sh(&vmi, "(sleep 1; kill -STOP $(pidof httpd)) >/dev/null 2>&1 </dev/null &\n");
    let event = ns.until_event("alive", "Unhealthy");
    assert_eq!(event["message"], "Liveness probe failed: no answer within 5 s");
    let next = ns.running("alive", Some(&vmi));
    assert_ne!(ns.booted(&next).boot_id, first.boot_id);
}
