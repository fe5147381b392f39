//! What becomes of a machine whose guest ends by itself.

use serde_json::{Value, json};

use crate::harness::{Instance, Namespace, manifest};

const POWER_OFF: &str = "(sleep 1; poweroff) >/dev/null 2>&1 </dev/null &\n";
const PANIC: &str = "(sleep 1; echo c > /proc/sysrq-trigger) >/dev/null 2>&1 </dev/null &\n";

fn booted(run_strategy: &str) -> (Namespace, Value) {
    let ns = Instance::shared().namespace();
    let vmi = ns.run_vm(&manifest("strategy", run_strategy, |_| {}));
    ns.booted(&vmi);
    (ns, vmi)
}

fn ends(ns: &Namespace, phase: &str) {
    ns.until("vmi", "strategy", phase, |vmi| vmi["status"]["phase"] == phase);
}

#[test]
fn power_off_inside_an_always_machine_starts_it_again() {
    let (ns, first) = booted("Always");
    ns.sh(&first, POWER_OFF);
    let second = ns.running("strategy", Some(&first));
    ns.booted(&second);
}

#[test]
fn power_off_inside_a_rerun_on_failure_machine_leaves_it_stopped() {
    let (ns, vmi) = booted("RerunOnFailure");
    ns.sh(&vmi, POWER_OFF);
    ns.until_gone("vmi", "strategy");
    ns.until_status("strategy", "Stopped");
    ns.virtctl(&["start", "strategy"]).success();
    ns.booted(&ns.running("strategy", Some(&vmi)));
}

#[test]
fn power_off_inside_a_manual_machine_leaves_its_instance_in_place() {
    let (ns, vmi) = booted("Manual");
    ns.sh(&vmi, POWER_OFF);
    ends(&ns, "Succeeded");
    let vm = ns.until_status("strategy", "Stopped");
    assert_eq!(vm["spec"]["runStrategy"], "Manual");
    assert_eq!(ns.get("vmi", "strategy")["metadata"]["uid"], vmi["metadata"]["uid"]);
    ns.virtctl(&["start", "strategy"]).success();
    ns.booted(&ns.running("strategy", Some(&vmi)));
}

#[test]
fn power_off_inside_a_once_machine_ends_it() {
    let (ns, vmi) = booted("Once");
    ns.sh(&vmi, POWER_OFF);
    ends(&ns, "Succeeded");
    ns.until_status("strategy", "Stopped");
    assert_eq!(ns.get("vmi", "strategy")["metadata"]["uid"], vmi["metadata"]["uid"]);
}

#[test]
fn panic_inside_a_rerun_on_failure_machine_starts_it_again() {
    let (ns, first) = booted("RerunOnFailure");
    ns.sh(&first, PANIC);
    let second = ns.running("strategy", Some(&first));
    ns.booted(&second);
}

#[test]
fn panic_inside_a_manual_machine_is_reported_as_failure() {
    let (ns, vmi) = booted("Manual");
    ns.sh(&vmi, PANIC);
    ends(&ns, "Failed");
    ns.until_status("strategy", "Stopped");
}

#[test]
fn machine_whose_pod_is_evicted_is_shut_down_and_comes_back() {
    let ns = Instance::shared().namespace();
    let vmi = ns.run_vm(&manifest("evicted", "Always", |_| {}));
    let first = ns.booted(&vmi);
    let pod = ns.launcher_pod(&vmi)["metadata"]["name"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", ns.name);
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": ns.name}});
    ns.kubectl_with(&["create", "--raw", &path, "-f", "-"], &eviction.to_string()).success();
    ns.until_event("evicted", "Evicted");
    let next = ns.running("evicted", Some(&vmi));
    assert_ne!(ns.booted(&next).boot_id, first.boot_id);
    assert_eq!(ns.until_event("evicted", "Stopped")["message"], "The VirtualMachineInstance was shut down.");
}
