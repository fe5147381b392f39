//! Pure: what is known of a machine → samples.

use std::collections::BTreeMap;
use std::sync::Arc;

use fv_api::meta::{conditions, labels};
use fv_api::{VirtualMachine, VirtualMachineInstance};
use fv_metrics::catalogue::machine::{
    VM_CREATED, VM_ERROR, VM_INFO, VM_MIGRATING, VM_NON_RUNNING, VM_RUNNING, VM_STARTING, VMI_INFO,
    VMI_LAUNCHER_OVERHEAD, VMI_NON_EVICTABLE, VMI_PHASE_COUNT,
};
use fv_metrics::{Definition, Samples};
use fv_plan::vmi::PodFacts;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Longest word of a guest about itself that becomes a label.
const MAX_GUEST_WORD: usize = 64;
/// Upstream's word for instance types and preferences whose vendor it does not know; ours come from no vendor.
const OTHER: &str = "<other>";

/// Groups of printable statuses, as upstream has them, and the metric that says since when a machine is in one.
const GROUPS: [(&str, &Definition, &[&str]); 5] = [
    ("starting", &VM_STARTING, &["Provisioning", "Starting", "WaitingForVolumeBinding", "WaitingForReceiver"]),
    ("running", &VM_RUNNING, &["Running"]),
    ("migrating", &VM_MIGRATING, &["Migrating"]),
    ("non_running", &VM_NON_RUNNING, &["Stopped", "Paused", "Stopping", "Terminating"]),
    (
        "error",
        &VM_ERROR,
        &[
            "CrashLoopBackOff",
            "Unknown",
            "ErrorUnschedulable",
            "ErrImagePull",
            "ImagePullBackOff",
            "ErrorPvcNotFound",
            "DataVolumeError",
        ],
    ),
];
/// Conditions whose change counts as a change of the status.
const STATUS_CONDITIONS: [&str; 3] = [conditions::READY, conditions::FAILURE, conditions::PAUSED];

fn seconds(time: &Time) -> f64 {
    time.0.as_second() as f64
}

/// What a template says of the guest in annotations: os, workload, flavor.
fn kind(annotations: Option<&BTreeMap<String, String>>) -> [&str; 3] {
    ["vm.kubevirt.io/os", "vm.kubevirt.io/workload", "vm.kubevirt.io/flavor"]
        .map(|name| annotations.and_then(|all| all.get(name)).map(String::as_str).unwrap_or_default())
}

pub(super) fn machine(all: &mut Samples, vm: &VirtualMachine) {
    let name = vm.metadata.name.as_deref().unwrap_or_default();
    let namespace = vm.metadata.namespace.as_deref().unwrap_or_default();
    let template = &vm.spec.template;
    let [os, workload, flavor] = kind(template.metadata.as_ref().and_then(|meta| meta.annotations.as_ref()));
    let machine = template.spec.as_ref().and_then(|spec| spec.domain.machine.as_ref()?.type_.as_deref());
    let status = vm.status.as_ref().and_then(|status| status.printable_status.as_deref()).unwrap_or_default();
    let group = GROUPS.iter().find(|(_, _, statuses)| statuses.contains(&status));
    let other = |is_there: bool| if is_there { OTHER } else { "" };
    all.push(
        &VM_INFO,
        &[
            name,
            namespace,
            os,
            workload,
            flavor,
            machine.unwrap_or_default(),
            other(vm.spec.instancetype.is_some()),
            other(vm.spec.preference.is_some()),
            status,
            group.map_or("<unknown>", |(word, ..)| *word),
        ],
        1.0,
    );
    if let Some(created) = &vm.metadata.creation_timestamp {
        all.push(&VM_CREATED, &[name, namespace], seconds(created));
    }
    let conditions = vm.status.iter().flat_map(|status| &status.conditions);
    let changed = conditions
        .filter(|condition| STATUS_CONDITIONS.contains(&condition.type_.as_str()))
        .filter_map(|condition| condition.last_transition_time.as_ref().map(seconds))
        .reduce(f64::max);
    // A machine that nobody has looked at yet is in no status.
    let (Some(changed), false) = (changed, status.is_empty()) else { return };
    let current = group.map_or("error", |(word, ..)| *word);
    for (word, metric, _) in GROUPS {
        all.push(metric, &[name, namespace], if word == current { changed } else { 0.0 });
    }
}

pub(super) fn instance(all: &mut Samples, vmi: &VirtualMachineInstance, pods: &[Arc<PodFacts>]) {
    let status = vmi.status.clone().unwrap_or_default();
    let name = vmi.metadata.name.as_deref().unwrap_or_default();
    let namespace = vmi.metadata.namespace.as_deref().unwrap_or_default();
    let node = status.node_name.as_deref().unwrap_or_default();
    let phase = status.phase.as_deref().unwrap_or_default().to_lowercase();
    let [os, workload, flavor] = kind(vmi.metadata.annotations.as_ref());
    let annotated = |names: [&str; 2]| {
        let annotations = vmi.metadata.annotations.as_ref();
        let there = annotations.is_some_and(|all| names.iter().any(|name| all.contains_key(*name)));
        if there { OTHER } else { "" }
    };
    let instance_type = annotated(["kubevirt.io/instancetype-name", "kubevirt.io/cluster-instancetype-name"]);
    let preference = annotated(["kubevirt.io/preference-name", "kubevirt.io/cluster-preference-name"]);
    let guest = status.guest_os_info.clone().unwrap_or_default();
    let machine = status.machine.as_ref().and_then(|machine| machine.type_.as_deref()).unwrap_or_default();
    let [kernel, arch, guest_name, version] =
        [&guest.kernel_release, &guest.machine, &guest.name, &guest.version_id].map(|word| short(word.as_deref()));
    let common =
        [&phase, os, workload, flavor, instance_type, preference, &kernel, machine, &arch, &guest_name, &version];
    let evictable = is_evictable(vmi);
    let outdated = vmi.metadata.labels.as_ref().is_some_and(|all| all.contains_key(labels::OUTDATED_LAUNCHER_IMAGE));
    let runs = |pod: &&Arc<PodFacts>| pod.phase == "Running" && pod.node.as_deref() == status.node_name.as_deref();
    let pod = pods.iter().find(runs).map(|pod| pod.key.name.as_str()).unwrap_or_default();
    let word = |is: bool| if is { "true" } else { "false" };
    let mut values = vec![node, namespace, name];
    values.extend(common);
    values.extend([word(evictable), word(outdated), pod]);
    all.push(&VMI_INFO, &values, 1.0);
    let mut values = vec![node];
    values.extend(common);
    all.add(&VMI_PHASE_COUNT, &values, 1.0);
    all.push(&VMI_NON_EVICTABLE, &[node, namespace, name], f64::from(u8::from(!evictable)));
    if let Some(overhead) = status.memory.as_ref().and_then(|memory| memory.memory_overhead.as_ref()) {
        all.push(&VMI_LAUNCHER_OVERHEAD, &[namespace, name], overhead.bytes() as f64);
    }
}

/// What a guest says, cut short.
fn short(word: Option<&str>) -> String {
    word.unwrap_or_default().chars().take(MAX_GUEST_WORD).collect()
}

/// An instance that an eviction is to migrate can be evicted once it says that it can be migrated; any other can be evicted.
fn is_evictable(vmi: &VirtualMachineInstance) -> bool {
    if !matches!(vmi.spec.eviction_strategy.as_deref(), Some("LiveMigrate")) {
        return true;
    }
    let conditions = vmi.status.iter().flat_map(|status| &status.conditions);
    conditions
        .into_iter()
        .any(|condition| condition.type_ == conditions::LIVE_MIGRATABLE && condition.status != "False")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of_machine(status: Value) -> Vec<String> {
        let vm = serde_json::from_value(json!({
            "metadata": {"name": "a", "namespace": "ns", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"template": {
                "metadata": {"annotations": {"vm.kubevirt.io/os": "debian"}},
                "spec": {"domain": {"machine": {"type": "q35"}, "devices": {}}}
            }},
            "status": status
        }));
        let mut all = Samples::default();
        machine(&mut all, &vm.unwrap());
        all.lines()
    }

    #[test]
    fn the_status_of_a_machine_has_the_time_of_its_last_change_and_all_others_zero() {
        let condition = |kind: &str, at: &str| json!({"type": kind, "status": "True", "lastTransitionTime": at});
        let lines = of_machine(json!({
            "printableStatus": "Paused",
            "conditions": [
                condition("Ready", "2026-01-02T00:00:00Z"),
                condition("Paused", "2026-01-03T00:00:00Z"),
                condition("LiveMigratable", "2026-01-04T00:00:00Z"),
            ]
        }));
        let labels = "{name=\"a\",namespace=\"ns\"}";
        let at = |group: &str, time: u64| {
            format!("kubevirt_vm_{group}_status_last_transition_timestamp_seconds{labels} {time}")
        };
        assert_eq!(
            lines,
            [
                format!("kubevirt_vm_create_date_timestamp_seconds{labels} 1767225600"),
                at("error", 0),
                "kubevirt_vm_info{name=\"a\",namespace=\"ns\",os=\"debian\",machine_type=\"q35\",status=\"Paused\",\
                 status_group=\"non_running\"} 1"
                    .to_owned(),
                at("migrating", 0),
                at("non_running", 1_767_398_400),
                at("running", 0),
                at("starting", 0),
            ]
        );
    }

    #[test]
    fn each_status_belongs_to_one_group_and_an_unknown_one_is_an_error() {
        for (status, group) in [
            ("Starting", "starting"),
            ("Running", "running"),
            ("Migrating", "migrating"),
            ("Stopped", "non_running"),
            ("ErrorUnschedulable", "error"),
            ("Perplexed", "error"),
        ] {
            let lines = of_machine(json!({
                "printableStatus": status,
                "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-02T00:00:00Z"}]
            }));
            let set: Vec<_> =
                lines.iter().filter(|line| line.contains("_status_last_") && !line.ends_with(" 0")).collect();
            assert_eq!(set.len(), 1, "{status}: {set:?}");
            assert!(set[0].starts_with(&format!("kubevirt_vm_{group}_status")), "{status}: {set:?}");
        }
    }

    #[test]
    fn a_machine_that_nobody_has_looked_at_has_no_time_of_a_status() {
        assert_eq!(of_machine(json!({})).len(), 2);
    }

    fn instances(statuses: &[Value]) -> Vec<String> {
        let mut all = Samples::default();
        for (number, status) in statuses.iter().enumerate() {
            let vmi = serde_json::from_value(json!({
                "metadata": {"name": format!("v{number}"), "namespace": "ns", "uid": "u"},
                "spec": {"domain": {"devices": {}}, "evictionStrategy": status["evictionStrategy"]},
                "status": status
            }));
            let pod = PodFacts {
                key: fv_plan::ObjectKey::new("ns", "virt-launcher-v"),
                phase: "Running".into(),
                node: Some("n".into()),
                ..PodFacts::default()
            };
            instance(&mut all, &vmi.unwrap(), &[Arc::new(pod)]);
        }
        all.lines()
    }

    #[test]
    fn instances_are_counted_by_phase_and_described() {
        let running = json!({"phase": "Running", "nodeName": "n", "memory": {"memoryOverhead": "220Mi"}});
        let lines = instances(&[running.clone(), running, json!({"phase": "Pending"})]);
        assert!(lines.contains(&"kubevirt_vmi_phase_count{node=\"n\",phase=\"running\"} 2".to_owned()), "{lines:#?}");
        assert!(lines.contains(&"kubevirt_vmi_phase_count{phase=\"pending\"} 1".to_owned()));
        let info = "kubevirt_vmi_info{node=\"n\",namespace=\"ns\",name=\"v0\",phase=\"running\",evictable=\"true\",\
                    outdated=\"false\",vmi_pod=\"virt-launcher-v\"} 1";
        assert!(lines.contains(&info.to_owned()), "{lines:#?}");
        let overhead = "kubevirt_vmi_launcher_memory_overhead_bytes{namespace=\"ns\",name=\"v0\"} 230686720";
        assert!(lines.contains(&overhead.to_owned()), "{lines:#?}");
    }

    #[test]
    fn what_a_guest_says_is_cut_short() {
        let name = "x".repeat(5000);
        let lines =
            instances(&[json!({"phase": "Running", "guestOSInfo": {"name": name, "kernelRelease": "6.1\n\"}"}})]);
        let info = lines.iter().find(|line| line.starts_with("kubevirt_vmi_info")).unwrap();
        assert!(info.contains(&format!("guest_os_name=\"{}\"", "x".repeat(MAX_GUEST_WORD))), "{info}");
        assert!(info.contains("guest_os_kernel_release=\"6.1?\\\"}\""), "{info}");
    }

    #[test]
    fn an_instance_that_is_to_be_migrated_and_cannot_be_is_not_evictable() {
        let lines = instances(&[
            json!({"evictionStrategy": "LiveMigrate"}),
            json!({"evictionStrategy": "LiveMigrate", "conditions": [{"type": "LiveMigratable", "status": "True"}]}),
        ]);
        assert!(lines.contains(&"kubevirt_vmi_non_evictable{namespace=\"ns\",name=\"v0\"} 1".to_owned()), "{lines:#?}");
        assert!(lines.contains(&"kubevirt_vmi_non_evictable{namespace=\"ns\",name=\"v1\"} 0".to_owned()));
    }
}
