//! What virt-controller knows of virtual machines and their instances.

use crate::Program;
use crate::definition::definitions;

const NAME: &[&str] = &["name", "namespace"];
const NODE: &[&str] = &["node", "namespace", "name"];

definitions! { &[Program::Controller];
    VM_INFO: Gauge "kubevirt_vm_info"
        &["name", "namespace", "os", "workload", "flavor", "machine_type", "instance_type", "preference", "status", "status_group"],
        "What a virtual machine is and its printable status; always 1.";
    VM_CREATED: Gauge "kubevirt_vm_create_date_timestamp_seconds" NAME,
        "When the virtual machine was created.";
    VM_STARTING: Counter "kubevirt_vm_starting_status_last_transition_timestamp_seconds" NAME,
        "When the virtual machine began to start; 0 while it is not starting.";
    VM_RUNNING: Counter "kubevirt_vm_running_status_last_transition_timestamp_seconds" NAME,
        "When the virtual machine began to run; 0 while it does not run.";
    VM_MIGRATING: Counter "kubevirt_vm_migrating_status_last_transition_timestamp_seconds" NAME,
        "When the virtual machine began to migrate; 0 while it does not migrate.";
    VM_NON_RUNNING: Counter "kubevirt_vm_non_running_status_last_transition_timestamp_seconds" NAME,
        "When the virtual machine was stopped or paused; 0 while it is neither.";
    VM_ERROR: Counter "kubevirt_vm_error_status_last_transition_timestamp_seconds" NAME,
        "When the virtual machine came into an error status; 0 while it is in none.";
    VMI_INFO: Gauge "kubevirt_vmi_info"
        &[
            "node", "namespace", "name", "phase", "os", "workload", "flavor", "instance_type", "preference",
            "guest_os_kernel_release", "guest_os_machine", "guest_os_arch", "guest_os_name", "guest_os_version_id",
            "evictable", "outdated", "vmi_pod",
        ],
        "What a virtual machine instance is and where it runs; always 1. Labels guest_os_* are what the guest says of itself, cut short.";
    VMI_PHASE_COUNT: Gauge "kubevirt_vmi_phase_count"
        &[
            "node", "phase", "os", "workload", "flavor", "instance_type", "preference",
            "guest_os_kernel_release", "guest_os_machine", "guest_os_arch", "guest_os_name", "guest_os_version_id",
        ],
        "Virtual machine instances by node, phase and kind. Upstream has a recording rule make it of kubevirt_vmi_info.";
    VMI_NON_EVICTABLE: Gauge "kubevirt_vmi_non_evictable" NODE,
        "1 when the instance is to be migrated by an eviction and cannot be.";
    VMI_LAUNCHER_OVERHEAD: Gauge "kubevirt_vmi_launcher_memory_overhead_bytes" &["namespace", "name"],
        "Memory that the launcher pod requests on top of the guest's, estimated by upstream's formula.";
    PHASE_TRANSITION: Histogram "kubevirt_vmi_phase_transition_time_seconds" &["phase", "last_phase"],
        "Time between one phase of an instance and the next.";
    PHASE_FROM_CREATION: Histogram "kubevirt_vmi_phase_transition_time_from_creation_seconds" &["phase"],
        "Time from the creation of an instance to a phase.";
    PHASE_FROM_DELETION: Histogram "kubevirt_vmi_phase_transition_time_from_deletion_seconds" &["phase"],
        "Time from the request to delete an instance to its last phase.";
}

/// Buckets of the phase transition times: upstream's performance audit reads them.
pub const PHASE_BUCKETS: &[f64] =
    &[0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0];
