//! What virt-handler reads of the domains on its node. Samples carry the labels of the instance as well, see [`crate::vmi_labels`].

use crate::Program;
use crate::definition::definitions;

const BASE: &[&str] = &["node", "namespace", "name"];
const INTERFACE: &[&str] = &["node", "namespace", "name", "interface"];
const DRIVE: &[&str] = &["node", "namespace", "name", "drive"];
const VCPU: &[&str] = &["node", "namespace", "name", "id"];

definitions! { &[Program::Handler];
    CPU_USAGE: Counter "kubevirt_vmi_cpu_usage_seconds_total" BASE,
        "CPU time of the guest and of its hypervisor process together.";
    CPU_USER: Counter "kubevirt_vmi_cpu_user_usage_seconds_total" BASE, "The part of that time in user mode.";
    CPU_SYSTEM: Counter "kubevirt_vmi_cpu_system_usage_seconds_total" BASE, "The part of that time in system mode.";
    VCPU_SECONDS: Counter "kubevirt_vmi_vcpu_seconds_total" &["node", "namespace", "name", "id", "state"],
        "CPU time of each vCPU, with the state it is in now: offline, running or blocked.";
    VCPU_WAIT: Counter "kubevirt_vmi_vcpu_wait_seconds_total" VCPU, "Time each vCPU waited for I/O.";
    VCPU_DELAY: Counter "kubevirt_vmi_vcpu_delay_seconds_total" VCPU,
        "Time each vCPU was ready to run and waited for a CPU of the host.";
    MEMORY_RESIDENT: Gauge "kubevirt_vmi_memory_resident_bytes" BASE, "Resident memory of the hypervisor process.";
    MEMORY_DOMAIN: Gauge "kubevirt_vmi_memory_domain_bytes" BASE, "Memory the domain was given.";
    MEMORY_BALLOON: Gauge "kubevirt_vmi_memory_actual_balloon_bytes" BASE, "Memory that the balloon leaves to the guest.";
    MEMORY_AVAILABLE: Gauge "kubevirt_vmi_memory_available_bytes" BASE, "Memory the guest's kernel manages, as the guest says.";
    MEMORY_UNUSED: Gauge "kubevirt_vmi_memory_unused_bytes" BASE, "Memory that lies idle, as the guest says.";
    MEMORY_USABLE: Gauge "kubevirt_vmi_memory_usable_bytes" BASE,
        "Memory the guest could give up without swapping, as the guest says.";
    MEMORY_CACHED: Gauge "kubevirt_vmi_memory_cached_bytes" BASE, "Memory in reclaimable caches, as the guest says.";
    MEMORY_SWAP_IN: Gauge "kubevirt_vmi_memory_swap_in_traffic_bytes" BASE, "Data read from swap since the boot, as the guest says.";
    MEMORY_SWAP_OUT: Gauge "kubevirt_vmi_memory_swap_out_traffic_bytes" BASE,
        "Data written to swap since the boot, as the guest says.";
    MEMORY_MAJOR_FAULTS: Counter "kubevirt_vmi_memory_pgmajfault_total" BASE, "Page faults that needed the disk, as the guest says.";
    MEMORY_MINOR_FAULTS: Counter "kubevirt_vmi_memory_pgminfault_total" BASE,
        "Page faults that needed no disk, as the guest says.";
    RECEIVE_BYTES: Counter "kubevirt_vmi_network_receive_bytes_total" INTERFACE, "Bytes the guest received.";
    RECEIVE_PACKETS: Counter "kubevirt_vmi_network_receive_packets_total" INTERFACE, "Packets the guest received.";
    RECEIVE_ERRORS: Counter "kubevirt_vmi_network_receive_errors_total" INTERFACE, "Packets to the guest that were broken.";
    RECEIVE_DROPPED: Counter "kubevirt_vmi_network_receive_packets_dropped_total" INTERFACE,
        "Packets to the guest that were dropped.";
    TRANSMIT_BYTES: Counter "kubevirt_vmi_network_transmit_bytes_total" INTERFACE, "Bytes the guest sent.";
    TRANSMIT_PACKETS: Counter "kubevirt_vmi_network_transmit_packets_total" INTERFACE, "Packets the guest sent.";
    TRANSMIT_ERRORS: Counter "kubevirt_vmi_network_transmit_errors_total" INTERFACE, "Packets of the guest that were broken.";
    TRANSMIT_DROPPED: Counter "kubevirt_vmi_network_transmit_packets_dropped_total" INTERFACE,
        "Packets of the guest that were dropped.";
    TRAFFIC_BYTES: Counter "kubevirt_vmi_network_traffic_bytes_total" &["node", "namespace", "name", "interface", "type"],
        "Deprecated upstream: bytes received (type rx) and sent (tx).";
    STORAGE_READS: Counter "kubevirt_vmi_storage_iops_read_total" DRIVE, "Read operations.";
    STORAGE_WRITES: Counter "kubevirt_vmi_storage_iops_write_total" DRIVE, "Write operations.";
    STORAGE_READ_BYTES: Counter "kubevirt_vmi_storage_read_traffic_bytes_total" DRIVE, "Bytes read.";
    STORAGE_WRITE_BYTES: Counter "kubevirt_vmi_storage_write_traffic_bytes_total" DRIVE, "Bytes written.";
    STORAGE_READ_TIME: Counter "kubevirt_vmi_storage_read_times_seconds_total" DRIVE, "Time spent on reading.";
    STORAGE_WRITE_TIME: Counter "kubevirt_vmi_storage_write_times_seconds_total" DRIVE, "Time spent on writing.";
    STORAGE_FLUSHES: Counter "kubevirt_vmi_storage_flush_requests_total" DRIVE, "Flushes of the cache.";
    STORAGE_FLUSH_TIME: Counter "kubevirt_vmi_storage_flush_times_seconds_total" DRIVE, "Time spent on flushing the cache.";
}
