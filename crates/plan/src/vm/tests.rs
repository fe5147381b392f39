use std::sync::Arc;

use fv_api::config::ClusterConfig;
use fv_api::{VirtualMachine, VirtualMachineInstance};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::plan::{Effect, EffectFailure, Plan, Requeue, failures};

const VM_UID: &str = "vm-uid";
const VMI_UID: &str = "vmi-uid";

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().expect("a timestamp")
}

fn vm(strategy: &str, status: Value) -> VirtualMachine {
    serde_json::from_value(json!({
        "metadata": {"name": "demo", "namespace": "ns", "uid": VM_UID, "resourceVersion": "10", "generation": 1,
                     "finalizers": ["kubevirt.io/virtualMachineControllerFinalize"]},
        "spec": {"runStrategy": strategy, "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"domain": {"devices": {}, "memory": {"guest": "64Mi"}}}}},
        "status": status,
    }))
    .expect("a VM")
}

/// An instance as it would have been made from [`vm`].
fn vmi(phase: &str, history: &[&str]) -> VirtualMachineInstance {
    let mut vmi = build::instance(&vm("Always", json!({})), build::StartPaused::No);
    vmi.metadata.uid = Some(VMI_UID.into());
    let history: Vec<Value> = history
        .iter()
        .map(|phase| json!({"phase": phase, "phaseTransitionTimestamp": "2026-01-01T11:00:00Z"}))
        .collect();
    vmi.status =
        serde_json::from_value(json!({"phase": phase, "phaseTransitionTimestamps": history})).expect("a status");
    vmi
}

fn deleting(mut vmi: VirtualMachineInstance) -> VirtualMachineInstance {
    vmi.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    vmi
}

fn observe(vm: VirtualMachine, vmi: Option<VirtualMachineInstance>) -> Observed {
    Observed { vm: Arc::new(vm), vmi: vmi.map(Arc::new), last_failure: None }
}

fn plan(vm: VirtualMachine, vmi: Option<VirtualMachineInstance>) -> Plan {
    decide(&observe(vm, vmi), &ClusterConfig::default(), now())
}

/// The plan in one word.
fn word(plan: &Plan) -> &'static str {
    match plan.effects.as_slice() {
        [] => match (&plan.status, plan.requeue) {
            (Some(write), _) if write.patch["status"]["stateChangeRequests"] == json!([{"action": "Start"}]) => {
                "queue start"
            }
            (_, Requeue::After(_)) => "wait",
            _ => "nothing",
        },
        [step] => match &step.effect {
            Effect::CreateVmi(vmi) if vmi.spec.start_strategy.as_deref() == Some("Paused") => "create paused",
            Effect::CreateVmi(_) => "create",
            Effect::DeleteVmi { uid, intent, .. } => {
                assert_eq!(
                    (uid.as_str(), intent.vm_uid.as_str(), intent.vm_resource_version.as_str()),
                    (VMI_UID, VM_UID, "10")
                );
                "delete"
            }
            Effect::PatchVm { patch, .. } if patch["spec"]["runStrategy"] == "Always" => "become Always",
            other => panic!("unexpected {other:?}"),
        },
        more => panic!("more than one effect: {more:?}"),
    }
}

fn start() -> Value {
    json!({"action": "Start"})
}

fn stop() -> Value {
    json!({"action": "Stop", "uid": VMI_UID})
}

#[test]
fn run_strategies_follow_the_table() {
    let ran = || Some(vmi("Succeeded", &["Running", "Succeeded"]));
    let failed = || Some(vmi("Failed", &["Running", "Failed"]));
    let runs = || Some(vmi("Running", &["Running"]));
    let paused = json!({"action": "Start", "data": {"paused": "true"}});
    // strategy, last strategy, requests, instance → action
    let table: Vec<(&str, &str, Value, Option<VirtualMachineInstance>, &str)> = vec![
        ("Always", "", json!([]), None, "create"),
        ("Always", "Always", json!([paused]), None, "create paused"),
        ("Always", "Always", json!([]), runs(), "nothing"),
        ("Always", "Always", json!([]), ran(), "delete"),
        ("Always", "Always", json!([]), failed(), "delete"),
        ("Always", "Always", json!([stop(), start()]), runs(), "delete"),
        ("Always", "Always", json!([stop(), start()]), None, "create"),
        ("Always", "Always", json!([start()]), runs().map(deleting), "nothing"),
        ("RerunOnFailure", "", json!([]), None, "create"),
        ("RerunOnFailure", "Halted", json!([]), None, "create"),
        ("RerunOnFailure", "RerunOnFailure", json!([]), None, "nothing"),
        ("RerunOnFailure", "RerunOnFailure", json!([start()]), None, "create"),
        ("RerunOnFailure", "RerunOnFailure", json!([]), runs(), "nothing"),
        ("RerunOnFailure", "RerunOnFailure", json!([stop()]), runs(), "delete"),
        ("RerunOnFailure", "RerunOnFailure", json!([]), failed(), "queue start"),
        ("RerunOnFailure", "RerunOnFailure", json!([start()]), failed(), "delete"),
        ("RerunOnFailure", "RerunOnFailure", json!([]), ran(), "delete"),
        ("Manual", "Manual", json!([]), None, "nothing"),
        ("Manual", "", json!([]), None, "nothing"),
        ("Manual", "Manual", json!([start()]), None, "create"),
        ("Manual", "Manual", json!([paused]), None, "create paused"),
        ("Manual", "Manual", json!([]), ran(), "nothing"),
        ("Manual", "Manual", json!([]), failed(), "nothing"),
        ("Manual", "Manual", json!([stop()]), failed(), "delete"),
        ("Manual", "Manual", json!([stop()]), runs(), "delete"),
        ("Manual", "Manual", json!([{"action": "Stop", "uid": "another"}]), runs(), "nothing"),
        ("Halted", "Always", json!([]), None, "nothing"),
        ("Halted", "Always", json!([]), runs(), "delete"),
        ("Halted", "Halted", json!([]), ran(), "delete"),
        ("Halted", "Halted", json!([paused]), None, "become Always"),
        ("Halted", "RerunOnFailure", json!([start()]), None, "nothing"),
        ("Halted", "Always", json!([stop(), start()]), None, "nothing"),
        ("Halted", "Always", json!([stop(), start()]), runs(), "delete"),
        ("Once", "", json!([]), None, "create"),
        ("Once", "Once", json!([]), None, "create"),
        ("Once", "Once", json!([]), ran(), "nothing"),
        ("Once", "Once", json!([]), failed(), "nothing"),
        ("Once", "Once", json!([]), runs(), "nothing"),
        ("WaitAsReceiver", "", json!([]), None, "nothing"),
        ("WaitAsReceiver", "", json!([]), runs(), "nothing"),
    ];
    for (strategy, last, requests, instance, expected) in table {
        let status = json!({"runStrategy": last, "stateChangeRequests": requests});
        let phase = instance.as_ref().and_then(|i| i.status.as_ref()).and_then(|s| s.phase.clone());
        let got = word(&plan(vm(strategy, status), instance));
        assert_eq!(got, expected, "{strategy} (was {last:?}), requests {requests}, instance {phase:?}");
    }
}

#[test]
fn starts_queued_before_a_vm_was_halted_are_forgotten() {
    let paused = json!({"action": "Start", "data": {"paused": "true"}});
    // requests, whether an instance is ending → requests left
    let table = [
        (json!([start()]), false, Value::Null),
        (json!([stop(), start()]), false, Value::Null),
        (json!([stop(), start()]), true, json!([stop()])),
        (json!([stop()]), true, json!([stop()])),
        (json!([start(), paused]), false, json!([paused])),
    ];
    for (requests, ending, expected) in table {
        let status = json!({"runStrategy": "Always", "stateChangeRequests": requests});
        let observed = Observed {
            // With a failure to tell, the status is written along with whatever is done.
            last_failure: Some(EffectFailure { reason: failures::UPDATE, message: "no".into() }),
            ..observe(vm("Halted", status), ending.then(|| deleting(vmi("Running", &["Running"]))))
        };
        let plan = decide(&observed, &ClusterConfig::default(), now());
        let written = plan.status.expect("a status").patch["status"].clone();
        let left = written.get("stateChangeRequests").unwrap_or(&requests);
        assert_eq!(*left, expected, "{requests}, ending: {ending}");
    }
}

#[test]
fn a_vm_without_a_strategy_is_left_alone() {
    let mut vm = vm("Always", json!({}));
    vm.spec.run_strategy = None;
    assert_eq!(word(&plan(vm.clone(), None)), "nothing");
    assert_eq!(word(&plan(vm.clone(), Some(vmi("Running", &["Running"])))), "nothing");
    vm.spec.running = Some(false);
    assert_eq!(word(&plan(vm.clone(), Some(vmi("Running", &["Running"])))), "delete");
    vm.spec.running = Some(true);
    assert_eq!(word(&plan(vm, None)), "create");
}

#[test]
fn a_failed_start_is_counted_before_its_instance_is_deleted() {
    let first = plan(vm("Always", json!({})), Some(vmi("Failed", &["Pending", "Failed"])));
    assert!(first.effects.is_empty(), "the count would be lost with the instance");
    let failure = &first.status.as_ref().expect("a status").patch["status"]["startFailure"];
    assert_eq!((&failure["consecutiveFailCount"], &failure["lastFailedVMIUID"]), (&json!(1), &json!(VMI_UID)));

    let counted = json!({"startFailure": failure});
    assert_eq!(word(&plan(vm("Always", counted.clone()), Some(vmi("Failed", &["Pending", "Failed"])))), "delete");
    let waiting = plan(vm("Always", counted.clone()), None);
    assert_eq!(word(&waiting), "wait");
    assert_eq!(waiting.status.expect("a status").patch["status"]["printableStatus"], "CrashLoopBackOff");

    let later = now() + jiff::SignedDuration::from_secs(16);
    assert_eq!(
        word(&decide(&observe(vm("Always", counted.clone()), None), &ClusterConfig::default(), later)),
        "create"
    );
    let ran = plan(vm("Always", counted.clone()), Some(vmi("Running", &["Running"])));
    assert_eq!(ran.status.expect("a status").patch["status"]["startFailure"], Value::Null);
    let halted = plan(vm("Halted", counted), None);
    assert_eq!(halted.status.expect("a status").patch["status"]["startFailure"], Value::Null);
}

#[test]
fn rerun_on_failure_stays_new_until_its_instance_is_there() {
    let failing = Observed {
        last_failure: Some(EffectFailure { reason: failures::CREATE, message: "quota".into() }),
        ..observe(vm("RerunOnFailure", json!({"runStrategy": "Halted"})), None)
    };
    let plan = decide(&failing, &ClusterConfig::default(), now());
    assert_eq!(word(&plan), "create");
    let status = plan.status.expect("the failure is told").patch["status"].clone();
    assert_eq!(status.get("runStrategy"), None, "or the start would be forgotten");
    let failure = status["conditions"].as_array().and_then(|all| all.iter().find(|c| c["type"] == "Failure")).cloned();
    assert_eq!(failure.map(|failure| failure["reason"].clone()), Some(json!("FailedCreate")));
}

fn printable(vm: VirtualMachine, vmi: Option<VirtualMachineInstance>) -> String {
    let old = vm.status.as_ref().and_then(|status| status.printable_status.clone()).unwrap_or_default();
    let plan = plan(vm, vmi);
    plan.status.and_then(|write| write.patch["status"]["printableStatus"].as_str().map(str::to_owned)).unwrap_or(old)
}

#[test]
fn printable_status_is_the_first_that_holds() {
    let with = |phase: &str, conditions: Value| {
        let mut vmi = vmi(phase, &[]);
        let status = json!({"phase": phase, "conditions": conditions});
        vmi.status = serde_json::from_value(status).expect("a status");
        vmi
    };
    let claiming = |mut vmi: VirtualMachineInstance, capacity: Value| {
        let volumes = json!([{"name": "data", "target": "", "persistentVolumeClaimInfo": {"claimName": "c", "capacity": capacity}}]);
        vmi.status.as_mut().expect("a status").volume_status = serde_json::from_value(volumes).expect("volumes");
        vmi
    };
    let paused = json!({"type": "Paused", "status": "True"});
    let sync = |reason: &str| json!({"type": "Synchronized", "status": "False", "reason": reason});
    let unschedulable = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable"});
    let table = [
        (with("Running", json!([])), "Running"),
        (with("Running", json!([paused, sync("ErrImagePull")])), "Paused"),
        (deleting(with("Running", json!([paused]))), "Stopping"),
        (with("Scheduled", json!([sync("FailedPvcNotFound"), unschedulable])), "ErrorPvcNotFound"),
        (with("Scheduling", json!([unschedulable, sync("ErrImagePull")])), "ErrorUnschedulable"),
        (with("Scheduling", json!([{"type": "PodScheduled", "status": "False", "reason": "Other"}])), "Starting"),
        (with("Scheduled", json!([sync("ErrImagePull")])), "ErrImagePull"),
        (with("Scheduled", json!([sync("ImagePullBackOff")])), "ImagePullBackOff"),
        (with("Scheduled", json!([sync("Other"), paused])), "Starting"),
        (with("", json!([])), "Starting"),
        (with("Pending", json!([])), "Starting"),
        (with("Scheduling", json!([])), "Starting"),
        (with("Whatever", json!([])), "Unknown"),
        (claiming(with("Scheduling", json!([])), json!({})), "WaitingForVolumeBinding"),
        (claiming(with("Scheduling", json!([sync("ErrImagePull")])), json!({})), "WaitingForVolumeBinding"),
        (claiming(with("Scheduling", json!([unschedulable])), json!({})), "ErrorUnschedulable"),
        (claiming(with("Scheduling", json!([])), json!({"storage": "1Gi"})), "Starting"),
        (with("Succeeded", json!([paused])), "Stopped"),
        (deleting(with("Failed", json!([]))), "Stopped"),
    ];
    for (vmi, expected) in table {
        let what = serde_json::to_string(&vmi.status).expect("json");
        assert_eq!(printable(vm("Manual", json!({})), Some(vmi)), expected, "{what}");
    }
    assert_eq!(printable(vm("Halted", json!({})), None), "Stopped");
    let mut gone = vm("Always", json!({}));
    gone.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    assert_eq!(printable(gone, Some(deleting(vmi("Running", &["Running"])))), "Terminating");
}

#[test]
fn conditions_of_the_instance_are_copied_and_go_with_it() {
    let mut running = vmi("Running", &["Running"]);
    running.status.as_mut().expect("status").conditions = serde_json::from_value(json!([
        {"type": "Ready", "status": "True"}, {"type": "AgentConnected", "status": "True"}, {"type": "DomainDeleted", "status": "False"}
    ]))
    .expect("conditions");
    let first = plan(vm("Always", json!({})), Some(running)).status.expect("a status").patch["status"].clone();
    let types = |status: &Value| -> Vec<String> {
        let all = status["conditions"].as_array().cloned().unwrap_or_default();
        all.iter().map(|c| format!("{}={}", c["type"], c["status"]).replace('"', "")).collect()
    };
    assert_eq!(types(&first), ["AgentConnected=True", "Ready=True"]);
    assert_eq!((&first["ready"], &first["created"]), (&json!(true), &json!(true)));

    let second = plan(vm("Halted", first), None).status.expect("a status").patch["status"].clone();
    assert_eq!(types(&second), ["Ready=False"]);
    assert_eq!((&second["ready"], &second["created"]), (&Value::Null, &Value::Null));
    assert_eq!(second["conditions"][0]["reason"], "VMINotExists");
}

#[test]
fn a_changed_template_requires_a_restart_until_it_is_changed_back() {
    let running = || Some(vmi("Running", &["Running"]));
    let mut changed = vm("Always", json!({}));
    changed.metadata.generation = Some(2);
    changed.spec.template.spec.as_mut().expect("spec").hostname = Some("other".into());
    let status = plan(changed, running()).status.expect("a status").patch["status"].clone();
    let required = |status: &Value| status["conditions"].to_string().contains("RestartRequired");
    assert!(required(&status));
    assert_eq!((&status["observedGeneration"], &status["desiredGeneration"]), (&json!(1), &json!(2)));

    let mut same = vm("Always", status);
    same.metadata.generation = Some(3);
    let status = plan(same, running()).status.expect("a status").patch["status"].clone();
    assert!(!required(&status));
    assert_eq!((&status["observedGeneration"], &status["desiredGeneration"]), (&json!(3), &json!(3)));

    // Upstream writes the name-derived uuid back into old templates: no change for the guest.
    let mut written_back = vm("Always", json!({}));
    written_back.spec.template.spec.as_mut().expect("spec").domain.firmware =
        Some(fv_api::Firmware { uuid: Some(legacy_firmware_uuid("demo")), ..Default::default() });
    assert!(!required(&plan(written_back, running()).status.expect("a status").patch["status"]));
}

#[test]
fn the_instance_is_made_from_the_template() {
    let vm = vm("Always", json!({}));
    let plan = plan(vm, None);
    let [step] = plan.effects.as_slice() else { panic!("one effect") };
    let Effect::CreateVmi(vmi) = &step.effect else { panic!("a create") };
    assert_eq!(vmi.metadata.name.as_deref(), Some("demo"));
    assert_eq!(vmi.metadata.labels.as_ref().and_then(|l| l.get("app")).map(String::as_str), Some("web"));
    let notes = vmi.metadata.annotations.as_ref().expect("annotations");
    assert_eq!(notes["kubevirt.io/vm-generation"], "1");
    let owner = &vmi.metadata.owner_references.as_ref().expect("owner")[0];
    assert_eq!((owner.uid.as_str(), owner.controller, owner.kind.as_str()), (VM_UID, Some(true), "VirtualMachine"));
    assert_eq!(vmi.spec.domain.firmware.as_ref().and_then(|f| f.uuid.clone()), Some(legacy_firmware_uuid("demo")));
    assert_eq!(
        step.done.iter().map(|event| event.message.as_str()).collect::<Vec<_>>(),
        ["Started the virtual machine by creating the new virtual machine instance demo"]
    );
}

#[test]
fn a_foreign_instance_blocks_the_start_and_is_never_touched() {
    let mut foreign = vmi("Running", &["Running"]);
    foreign.metadata.owner_references = None;
    for strategy in ["Always", "Halted", "Manual", "RerunOnFailure", "Once"] {
        let plan = plan(vm(strategy, json!({})), Some(foreign.clone()));
        assert!(plan.effects.is_empty(), "{strategy}");
        let status = plan.status.expect("a status").patch["status"].clone();
        let told = status["conditions"].to_string().contains("does not belong to this virtual machine");
        assert_eq!(told, !matches!(strategy, "Halted" | "Manual"), "{strategy}");
    }
    let mut going = vm("Always", json!({}));
    going.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    let plan = plan(going, Some(foreign));
    assert!(matches!(plan.effects.as_slice(), [step] if matches!(step.effect, Effect::PatchVm { .. })));
}

#[test]
fn deletion_takes_the_instance_first_and_the_finalizer_last() {
    let mut going = vm("Always", json!({}));
    going.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    assert_eq!(word(&plan(going.clone(), Some(vmi("Running", &["Running"])))), "delete");
    let waiting = plan(going.clone(), Some(deleting(vmi("Running", &["Running"]))));
    assert!(waiting.effects.is_empty());
    let last = plan(going.clone(), None);
    let [step] = last.effects.as_slice() else { panic!("one effect") };
    let Effect::PatchVm { patch, .. } = &step.effect else { panic!("a patch") };
    assert_eq!(*patch, json!({"metadata": {"finalizers": [], "resourceVersion": "10"}}));

    // Orphaning keeps the guest.
    going.metadata.finalizers.as_mut().expect("finalizers").push("orphan".into());
    let orphaned = plan(going, Some(vmi("Running", &["Running"])));
    assert!(matches!(orphaned.effects.as_slice(), [step] if matches!(step.effect, Effect::PatchVm { .. })));
}

#[test]
fn copied_conditions_of_a_starting_instance_wait_for_the_next_step() {
    let mut starting = vmi("Scheduling", &["Scheduling"]);
    let settled =
        plan(vm("Always", json!({})), Some(starting.clone())).status.expect("a status").patch["status"].clone();
    let status = starting.status.as_mut().expect("status");
    status.phase_transition_timestamps[0].phase_transition_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    status.conditions =
        serde_json::from_value(json!([{"type": "LiveMigratable", "status": "False"}])).expect("conditions");
    let quiet = plan(vm("Always", settled.clone()), Some(starting.clone()));
    assert!(quiet.is_idle() && matches!(quiet.requeue, Requeue::After(_)), "{quiet:?}");
    let later = now() + jiff::SignedDuration::from_secs(3);
    let written = decide(&observe(vm("Always", settled), Some(starting)), &ClusterConfig::default(), later);
    assert!(written.status.is_some());
}
