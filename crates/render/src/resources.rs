//! What one VM costs the node: CPU, memory beyond the guest's own, scratch disk.

use std::collections::BTreeMap;

use fv_api::config::ClusterConfig;
use fv_api::{Quantity, VirtualMachineInstanceSpec};
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as PodQuantity;

use crate::pod::AutoLimits;

const MIB: i128 = 1 << 20;

/// QEMU itself: code, device models, firmware images, qcow2 tables. Measured: 65 MB outside guest RAM with a running Linux
/// guest (QEMU 7.2, q35, virtio disk, net, rng, balloon), 32 MB while only the firmware runs.
const QEMU: i128 = 66 * MIB;
/// The launcher container: DHCP server and a waiting process, for moments that of a readiness probe. Measured: about 2 MiB resident.
const LAUNCHER: i128 = 4 * MIB;
/// One vCPU: thread stack, per-thread translator context. Measured: under 1 MiB each while idle (1 to 8 vCPUs); a busy
/// thread dirties its stack and its memory arenas.
const VCPU: i128 = 4 * MIB;
/// The main I/O path: worker threads and request buffers.
const IO_THREAD: i128 = 2 * MIB;
/// Graphics: 16 MiB of video memory, all of it touched once the guest draws, and VNC's copy of the surface.
const GRAPHICS: i128 = 24 * MIB;
/// The translation cache of software emulation, bounded to this in the domain definition.
const TRANSLATION_CACHE: i128 = 32 * MIB;
/// Host page tables: eight bytes for each 4 KiB page of guest memory.
const PAGE_TABLE_RATIO: i128 = 512;

/// Scratch space asked for by every launcher pod (console log, DHCP file, NVRAM).
const SCRATCH: i128 = 50_000_000;
/// Scratch space asked for the overlay of a containerDisk or ephemeral disk: what a guest writes while it boots. More is used when there is more;
/// the virtual size of the image is not known before it is pulled.
const OVERLAY: i128 = 100 * MIB;

/// vCPUs of a VMI: sockets × cores × threads, each at least one.
pub fn vcpus(spec: &VirtualMachineInstanceSpec) -> u64 {
    let count = |value: Option<i64>| u64::try_from(value.unwrap_or(1)).unwrap_or(1).max(1);
    spec.domain
        .cpu
        .as_ref()
        .map_or(1, |cpu| count(cpu.sockets).saturating_mul(count(cpu.cores)).saturating_mul(count(cpu.threads)))
}

/// Guest memory in bytes: `memory.guest`, else the memory request, else the limit; zero when none is given (admission
/// refuses that).
pub fn guest_memory(spec: &VirtualMachineInstanceSpec) -> i128 {
    let resources = spec.domain.resources.as_ref();
    spec.domain
        .memory
        .as_ref()
        .and_then(|memory| memory.guest.as_ref())
        .or_else(|| resources.and_then(|r| r.requests.get("memory")))
        .or_else(|| resources.and_then(|r| r.limits.get("memory")))
        .map_or(0, Quantity::value)
        .max(0)
}

/// Host memory in bytes that the VM needs beyond its guest's RAM.
///
/// The sum of [`QEMU`], [`LAUNCHER`], [`IO_THREAD`], one [`VCPU`] for each vCPU, page tables, [`GRAPHICS`] unless switched
/// off, [`TRANSLATION_CACHE`] where software emulation is allowed, and `memory.reservedOverhead.addedOverhead`. For one vCPU
/// it is less than half of what upstream asks for, because libvirt and its helpers are the node's, not the pod's.
pub fn memory_overhead(spec: &VirtualMachineInstanceSpec, config: &ClusterConfig) -> i128 {
    let graphics = spec.domain.devices.autoattach_graphics_device.unwrap_or(true);
    let added = spec
        .domain
        .memory
        .as_ref()
        .and_then(|memory| memory.reserved_overhead.as_ref())
        .and_then(|reserved| reserved.added_overhead.as_ref())
        .map_or(0, Quantity::value)
        .max(0);
    let fixed = QEMU + LAUNCHER + IO_THREAD;
    let optional = if graphics { GRAPHICS } else { 0 } + if config.use_emulation { TRANSLATION_CACHE } else { 0 };
    let scaled = i128::from(vcpus(spec)).saturating_mul(VCPU).saturating_add(guest_memory(spec) / PAGE_TABLE_RATIO);
    round_up(fixed.saturating_add(optional).saturating_add(scaled).saturating_add(added), 1024)
}

/// An automatic memory limit over the guest's memory, or over what is requested for it where that is more (upstream's default ratio).
const AUTO_MEMORY_RATIO: i128 = 2;

/// Requests and limits of the container `compute`. An automatic limit of CPU is all vCPUs.
pub(crate) fn compute_resources(
    spec: &VirtualMachineInstanceSpec,
    config: &ClusterConfig,
    auto: AutoLimits,
) -> ResourceRequirements {
    let empty = BTreeMap::new();
    let (requests, limits, skip_overhead) = match &spec.domain.resources {
        Some(r) => (&r.requests, &r.limits, r.overcommit_guest_overhead.unwrap_or(false)),
        None => (&empty, &empty, false),
    };
    let overhead = memory_overhead(spec, config);
    // What is not asked for is used all the same: it stays in the limit.
    let requested_overhead = if skip_overhead { 0 } else { overhead };
    // A limit of zero is none, as for admission: the API refuses pods whose limit is below their request.
    let limit = |name: &str| limits.get(name).filter(|limit| **limit > Quantity::ZERO);
    let mut pod_requests = BTreeMap::new();
    let mut pod_limits = BTreeMap::new();

    let cpu = requests.get("cpu").map(pod_quantity).unwrap_or_else(|| {
        let ratio = u64::from(config.cpu_allocation_ratio.max(1));
        PodQuantity(format!("{}m", vcpus(spec).saturating_mul(1000).div_ceil(ratio)))
    });
    pod_requests.insert("cpu".to_owned(), cpu);
    if let Some(limit) = limit("cpu") {
        pod_limits.insert("cpu".to_owned(), pod_quantity(limit));
    } else if auto.cpu {
        let requested = requests.get("cpu").map_or(0, Quantity::value);
        pod_limits.insert("cpu".to_owned(), PodQuantity(requested.max(i128::from(vcpus(spec))).to_string()));
    }

    let asked = requests
        .get("memory")
        .map(Quantity::value)
        .unwrap_or_else(|| guest_memory(spec).saturating_mul(100) / i128::from(config.memory_overcommit.max(1)));
    pod_requests.insert("memory".to_owned(), bytes(asked.max(0).saturating_add(requested_overhead)));
    if let Some(limit) = limit("memory") {
        pod_limits.insert("memory".to_owned(), bytes(limit.value().saturating_add(overhead)));
    } else if auto.memory {
        let limit = guest_memory(spec).max(asked).saturating_mul(AUTO_MEMORY_RATIO).saturating_add(overhead);
        pod_limits.insert("memory".to_owned(), bytes(limit));
    }

    pod_requests.insert("ephemeral-storage".to_owned(), bytes(ephemeral_storage(spec)));
    ResourceRequirements {
        requests: Some(pod_requests),
        limits: (!pod_limits.is_empty()).then_some(pod_limits),
        ..Default::default()
    }
}

/// Node-local disk space of a VMI: all of every emptyDisk, a start for each overlay, and a little for the pod.
fn ephemeral_storage(spec: &VirtualMachineInstanceSpec) -> i128 {
    spec.volumes.iter().fold(SCRATCH, |sum, volume| {
        let has_overlay = volume.container_disk.is_some() || volume.ephemeral.is_some();
        let size = match &volume.empty_disk {
            Some(disk) => disk.capacity.value().max(0),
            None if has_overlay => OVERLAY,
            None => 0,
        };
        sum.saturating_add(size)
    })
}

/// The same amount as the core API's type writes it.
pub(crate) fn pod_quantity(quantity: &Quantity) -> PodQuantity {
    let text = match serde_json::to_value(quantity) {
        Ok(serde_json::Value::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(_) => quantity.value().to_string(),
    };
    PodQuantity(text)
}

/// Bytes in the largest binary unit that loses nothing.
fn bytes(amount: i128) -> PodQuantity {
    PodQuantity(match amount {
        n if n != 0 && n % MIB == 0 => format!("{}Mi", n / MIB),
        n if n != 0 && n % 1024 == 0 => format!("{}Ki", n / 1024),
        n => n.to_string(),
    })
}

fn round_up(amount: i128, unit: i128) -> i128 {
    amount.saturating_add(unit - 1) / unit * unit
}
