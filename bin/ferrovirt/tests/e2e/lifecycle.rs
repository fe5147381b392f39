//! What users ask of a machine.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::namespace::{qemu, uid};
use crate::harness::{Console, Instance, let_pass, manifest, page, web};

fn condition<'a>(object: &'a Value, name: &str) -> &'a Value {
    let all = object["status"]["conditions"].as_array();
    all.and_then(|all| all.iter().find(|c| c["type"] == name)).unwrap_or(&Value::Null)
}

#[test]
fn pause_stops_the_clock_and_unpause_lets_it_go_on() {
    let ns = Instance::shared().namespace();
    let vmi = ns.run_vm(&manifest("clock", "Always", |_| {}));
    let boot = ns.booted(&vmi);
    let started = Instant::now();
    let before = ns.uptime(&vmi);

    ns.virtctl(&["pause", "vm", "clock"]).success();
    let vm = ns.until_status("clock", "Paused");
    assert_eq!(condition(&vm, "Paused")["reason"], "PausedByUser");
    assert_eq!(condition(&ns.get("vmi", "clock"), "Ready")["status"], "False");
    let quiet = Instant::now();
    let_pass(Duration::from_secs(8));
    assert!(page(web(&vmi)).is_err(), "a paused guest answers");
    let error = ns.virtctl(&["pause", "vm", "clock"]).failure();
    assert!(error.contains("already paused"), "{error}");
    let paused_for = quiet.elapsed();

    ns.virtctl(&["unpause", "vm", "clock"]).success();
    ns.until_status("clock", "Running");
    assert_eq!(ns.booted(&vmi), boot);
    let after = ns.uptime(&vmi);
    let passed = started.elapsed().as_secs_f64();
    assert!(after > before, "the clock does not go on: {before} {after}");
    assert!(
        after - before < passed - paused_for.as_secs_f64() + 1.0,
        "{before} → {after} in {passed} s, {paused_for:?} of them paused"
    );
}

#[test]
fn pause_and_unpause_take_effect_before_they_answer() {
    let ns = Instance::shared().namespace();
    let vmi = ns.run_vm(&manifest("breath", "Always", |_| {}));
    ns.booted(&vmi);
    for _ in 0..5 {
        ns.virtctl(&["pause", "vmi", "breath"]).success();
        assert_eq!(condition(&ns.get("vmi", "breath"), "Paused")["status"], "True");
        ns.virtctl(&["unpause", "vmi", "breath"]).success();
        assert!(condition(&ns.get("vmi", "breath"), "Paused").is_null());
    }
    ns.booted(&vmi);
}

#[test]
fn restart_boots_the_machine_anew() {
    let ns = Instance::shared().namespace();
    let first = ns.run_vm(&manifest("again", "Always", |_| {}));
    let page = ns.booted(&first);
    ns.virtctl(&["restart", "again"]).success();
    let second = ns.running("again", Some(&first));
    let after = ns.booted(&second);
    assert_ne!(after.boot_id, page.boot_id);
    // Firmware identity is the machine's, not the instance's.
    assert_eq!(second["spec"]["domain"]["firmware"], first["spec"]["domain"]["firmware"]);
}

#[test]
fn soft_reboot_and_reset_keep_the_instance() {
    let ns = Instance::shared().namespace();
    let vmi = ns.run_vm(&manifest("reboot", "Always", |_| {}));
    let mut seen = ns.booted(&vmi).boot_id;
    let process = qemu(&vmi);
    ns.sh(&vmi, "touch /run/old\n");
    for verb in ["soft-reboot", "reset"] {
        ns.virtctl(&[verb, "reboot"]).success();
        let page = ns.until_page(&vmi, "another boot", |page| page.boot_id != seen);
        assert_eq!(ns.sh(&vmi, "ls /run/old 2>/dev/null\n"), "");
        seen = page.boot_id;
        let now = ns.get("vmi", "reboot");
        assert_eq!((uid(&now), &now["status"]["phase"]), (uid(&vmi), &json!("Running")));
        assert_eq!(qemu(&vmi), process);
    }
}

#[test]
fn stop_shuts_the_guest_down_and_start_starts_it() {
    let ns = Instance::shared().namespace();
    let vmi = ns.run_vm(&manifest("stopped", "Manual", |_| {}));
    ns.booted(&vmi);
    let error = ns.virtctl(&["start", "stopped"]).failure();
    assert!(error.contains("already running"), "{error}");
    let mut console = Console::open(&ns, "stopped");
    ns.virtctl(&["stop", "stopped"]).success();
    // busybox's init says this when the power button was pressed, not when the plug is pulled.
    console.expect(&["going down", "SIGTERM", "Power down", "Requesting system poweroff"]);
    ns.until_gone("vmi", "stopped");
    let vm = ns.until_status("stopped", "Stopped");
    assert_ne!(vm["status"]["created"], true);
    assert_eq!(vm["spec"]["runStrategy"], "Manual");
    let error = ns.virtctl(&["stop", "stopped"]).failure();
    assert!(error.contains("not running") || error.contains("VM is not running"), "{error}");

    ns.virtctl(&["start", "stopped"]).success();
    let again = ns.running("stopped", Some(&vmi));
    ns.booted(&again);
}

#[test]
fn stopping_an_always_running_machine_halts_it_and_starting_sets_it_back() {
    let ns = Instance::shared().namespace();
    let vmi = ns.run_vm(&manifest("always", "Always", |_| {}));
    ns.booted(&vmi);
    ns.virtctl(&["stop", "always"]).success();
    ns.until_gone("vmi", "always");
    assert_eq!(ns.until_status("always", "Stopped")["spec"]["runStrategy"], "Halted");
    ns.virtctl(&["start", "always"]).success();
    ns.running("always", Some(&vmi));
    assert_eq!(ns.get("vm", "always")["spec"]["runStrategy"], "Always");
}

#[test]
fn forced_stop_does_not_wait_for_the_guest() {
    let ns = Instance::shared().namespace();
    // This guest ignores the power button, and would have ten minutes.
    let vmi = ns.run_vm(&manifest("deaf", "Always", |spec| spec["terminationGracePeriodSeconds"] = json!(600)));
    ns.booted(&vmi);
    ns.sh(&vmi, "killall acpid; sleep 1\n");
    ns.virtctl(&["stop", "deaf", "--force", "--grace-period=0"]).success();
    ns.until_gone("vmi", "deaf");
    ns.until_status("deaf", "Stopped");
}

#[test]
fn guest_that_ignores_the_power_button_is_switched_off_after_its_grace_period() {
    let ns = Instance::shared().namespace();
    let vmi = ns.run_vm(&manifest("stubborn", "Always", |spec| spec["terminationGracePeriodSeconds"] = json!(4)));
    ns.booted(&vmi);
    ns.sh(&vmi, "killall acpid; sleep 1\n");
    let asked = Instant::now();
    ns.virtctl(&["stop", "stubborn"]).success();
    ns.until_gone("vmi", "stubborn");
    assert!(asked.elapsed() >= Duration::from_secs(4), "it had only {:?}", asked.elapsed());
}

#[test]
fn machine_started_paused_runs_when_unpaused() {
    let ns = Instance::shared().namespace();
    ns.apply(&manifest("frozen", "Halted", |_| {})).success();
    ns.until_status("frozen", "Stopped");
    ns.virtctl(&["start", "frozen", "--paused"]).success();
    ns.until_status("frozen", "Paused");
    let vmi = ns.running("frozen", None);
    assert_eq!(condition(&vmi, "Paused")["status"], "True");
    assert!(page(web(&vmi)).is_err());
    ns.virtctl(&["unpause", "vm", "frozen"]).success();
    ns.until_status("frozen", "Running");
    ns.booted(&vmi);
}
