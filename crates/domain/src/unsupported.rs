//! Fields of the VMI a domain of ours cannot honour. Admission refuses them first; an object that came around admission must not get a
//! guest that silently lacks what it asked for.

use fv_api::VirtualMachineInstanceSpec;

use crate::error::DomainError;

pub(crate) fn check(spec: &VirtualMachineInstanceSpec) -> Result<(), DomainError> {
    let domain = &spec.domain;
    let devices = &domain.devices;
    let cpu = domain.cpu.as_ref();
    let firmware = domain.firmware.as_ref();
    let features = domain.features.as_ref();
    let bootloader = firmware.and_then(|firmware| firmware.bootloader.as_ref());
    let checks = [
        (domain.launch_security.is_some(), "spec.domain.launchSecurity"),
        (domain.io_threads.is_some(), "spec.domain.ioThreads"),
        (domain.io_threads_policy.is_some(), "spec.domain.ioThreadsPolicy"),
        (domain.memory.as_ref().is_some_and(|memory| memory.hugepages.is_some()), "spec.domain.memory.hugepages"),
        (cpu.and_then(|cpu| cpu.dedicated_cpu_placement) == Some(true), "spec.domain.cpu.dedicatedCpuPlacement"),
        (cpu.and_then(|cpu| cpu.isolate_emulator_thread) == Some(true), "spec.domain.cpu.isolateEmulatorThread"),
        (cpu.is_some_and(|cpu| cpu.numa.is_some()), "spec.domain.cpu.numa"),
        (cpu.is_some_and(|cpu| cpu.realtime.is_some()), "spec.domain.cpu.realtime"),
        (firmware.is_some_and(|firmware| firmware.kernel_boot.is_some()), "spec.domain.firmware.kernelBoot"),
        (firmware.is_some_and(|firmware| firmware.acpi.is_some()), "spec.domain.firmware.acpi"),
        (
            bootloader.and_then(|bootloader| bootloader.efi.as_ref()?.persistent) == Some(true),
            "spec.domain.firmware.bootloader.efi.persistent",
        ),
        (
            features.and_then(|features| features.hyperv_passthrough.as_ref()?.enabled) == Some(true),
            "spec.domain.features.hypervPassthrough",
        ),
        (devices.autoattach_vsock == Some(true), "spec.domain.devices.autoattachVSOCK"),
        (devices.client_passthrough.is_some(), "spec.domain.devices.clientPassthrough"),
        (devices.downward_metrics.is_some(), "spec.domain.devices.downwardMetrics"),
        (!devices.filesystems.is_empty(), "spec.domain.devices.filesystems"),
        (!devices.gpus.is_empty(), "spec.domain.devices.gpus"),
        (!devices.host_devices.is_empty(), "spec.domain.devices.hostDevices"),
        (devices.sound.is_some(), "spec.domain.devices.sound"),
        (devices.tpm.as_ref().is_some_and(|tpm| tpm.enabled.unwrap_or(true)), "spec.domain.devices.tpm"),
        (
            devices.disks.iter().any(|disk| disk.dedicated_io_thread == Some(true)),
            "spec.domain.devices.disks.dedicatedIOThread",
        ),
        (
            devices.disks.iter().any(|disk| disk.changed_block_tracking == Some(true)),
            "spec.domain.devices.disks.changedBlockTracking",
        ),
    ];
    match checks.into_iter().find(|(present, _)| *present) {
        Some((_, field)) => Err(DomainError::Unsupported { field: field.to_owned() }),
        None => Ok(()),
    }
}
