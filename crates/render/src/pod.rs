//! The launcher pod.

use fv_api::config::ClusterConfig;
use fv_api::meta::{annotations, conditions, labels};
use fv_api::{VirtualMachineInstance, VirtualMachineInstanceSpec};
use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, ExecAction, LocalObjectReference, Pod, PodReadinessGate, PodSpec, Probe,
    ResourceRequirements, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as PodQuantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use std::collections::{BTreeMap, BTreeSet};

use crate::{
    COMPUTE_CONTAINER, CONSOLE_LOG_CONTAINER, DEFAULT_GRACE_PERIOD_SECONDS, READINESS_FILE, SHARE_DIR, SHARE_VOLUME,
    names, resources,
};

mod container_disk;
mod placement;
mod secrets;
mod security;
mod volumes;

use volumes::Use;

pub use container_disk::container_name as container_disk_container;
pub use secrets::volume_name as secret_volume_name;
pub use volumes::{device_path as volume_device_path, mount_path as volume_mount_path, volume_name as pod_volume_name};

const LAUNCHER_BINARY: &str = "/usr/bin/virt-launcher";
/// What the pod gets on top of the guest's grace period: the node agent destroys the guest at its end, then releases
/// disks and network and lets the launcher go.
const RELEASE_SECONDS: i64 = 30;
/// What reading the node agent's finding may take on a busy node; the probe's own timeout is the guest's.
const FINDING_SECONDS: i32 = 10;
/// Annotation prefixes that describe the VMI object itself and mean nothing on its pod.
const PRIVATE_ANNOTATIONS: [&str; 3] = ["kubectl.kubernetes.io", "kubevirt.io/", "ferrovirt.io/"];

/// What a launcher pod depends on besides the VMI and the cluster's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LauncherPodOptions {
    /// Counts the pods made for this VMI while an older one still holds its name.
    pub attempt: u32,
    /// The node that holds the guest already: a replacement pod may go nowhere else.
    pub pinned_node: Option<String>,
    /// Volumes whose claims are block devices.
    pub block_volumes: BTreeSet<String>,
    /// Limits that the pod must have although its user named none.
    pub auto_limits: AutoLimits,
}

/// Resources that a quota of the namespace limits: Kubernetes refuses pods without a limit of them there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AutoLimits {
    pub cpu: bool,
    pub memory: bool,
}

/// Builds the launcher pod of `vmi`. Deterministic; the same arguments give the same pod and the same name.
pub fn launcher_pod(vmi: &VirtualMachineInstance, config: &ClusterConfig, options: &LauncherPodOptions) -> Pod {
    let vmi_name = vmi.metadata.name.clone().unwrap_or_default();
    let uid = vmi.metadata.uid.clone().unwrap_or_default();
    let namespace = vmi.metadata.namespace.clone().unwrap_or_default();
    let spec = &vmi.spec;
    let hostname = names::hostname(&vmi_name, spec.hostname.as_deref());
    let grace = spec.termination_grace_period_seconds.unwrap_or(DEFAULT_GRACE_PERIOD_SECONDS).max(0);

    let metadata = ObjectMeta {
        name: Some(names::launcher_pod_name(&vmi_name, &uid, options.attempt)),
        namespace: Some(namespace.clone()),
        labels: Some(pod_labels(vmi, &vmi_name, &uid, &hostname)),
        annotations: Some(pod_annotations(vmi, config, &vmi_name)),
        owner_references: Some(vec![owner_reference(&vmi_name, &uid)]),
        ..Default::default()
    };
    let disks = container_disk::containers(spec, config);
    let mut containers = vec![compute_container(spec, config, options, &[&vmi_name, &namespace, &uid], grace)];
    let mut init_containers: Vec<Container> = container_disk::installer(&disks, config).into_iter().collect();
    let mut pod_volumes = vec![empty_dir(SHARE_VOLUME)];
    pod_volumes.extend((!disks.is_empty()).then(|| empty_dir(container_disk::BINARY_VOLUME)));
    containers.extend(disks);
    for (volume, mount) in secrets::volumes(spec, config) {
        pod_volumes.push(volume);
        containers[0].volume_mounts.get_or_insert_default().push(mount);
    }
    for (volume, used) in volumes::volumes(spec, &options.block_volumes) {
        pod_volumes.push(volume);
        match used {
            Use::Mount(mount) => containers[0].volume_mounts.get_or_insert_default().push(mount),
            Use::Device(device) => containers[0].volume_devices.get_or_insert_default().push(device),
        }
    }
    init_containers.extend(logs_console(spec, config).then(|| console_log_container(config)));
    let pod_spec = PodSpec {
        affinity: placement::affinity(spec, config, options),
        automount_service_account_token: Some(false),
        containers,
        dns_config: spec.dns_config.clone(),
        dns_policy: spec.dns_policy.clone(),
        enable_service_links: Some(false),
        hostname: Some(hostname).filter(|name| !name.is_empty()),
        image_pull_secrets: image_pull_secrets(spec),
        init_containers: (!init_containers.is_empty()).then_some(init_containers),
        node_selector: Some(placement::node_selector(spec, config, options)),
        priority_class_name: spec.priority_class_name.clone(),
        readiness_gates: Some(vec![PodReadinessGate { condition_type: conditions::POD_VM_UNPAUSED.to_owned() }]),
        // A crashed launcher comes back in its place; the guest has not noticed.
        restart_policy: Some("OnFailure".to_owned()),
        scheduler_name: spec.scheduler_name.clone(),
        security_context: Some(security::pod_context()),
        service_account_name: volumes::service_account(spec).or_else(|| spec.service_account_name.clone()),
        subdomain: spec.subdomain.clone(),
        termination_grace_period_seconds: Some(grace.saturating_add(RELEASE_SECONDS)),
        tolerations: (!spec.tolerations.is_empty()).then(|| spec.tolerations.clone()),
        topology_spread_constraints: (!spec.topology_spread_constraints.is_empty())
            .then(|| spec.topology_spread_constraints.clone()),
        volumes: Some(pod_volumes),
        ..Default::default()
    };
    Pod { metadata, spec: Some(pod_spec), status: None }
}

fn empty_dir(name: &str) -> Volume {
    Volume { name: name.to_owned(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Default::default() }
}

/// Whether the guest's serial console is copied into a container's log.
pub fn logs_console(spec: &VirtualMachineInstanceSpec, config: &ClusterConfig) -> bool {
    let devices = &spec.domain.devices;
    let has_console = devices.autoattach_serial_console.unwrap_or(true);
    has_console && devices.log_serial_console.unwrap_or(!config.disable_serial_console_log)
}

fn owner_reference(vmi_name: &str, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: "kubevirt.io/v1".to_owned(),
        kind: "VirtualMachineInstance".to_owned(),
        name: vmi_name.to_owned(),
        uid: uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

fn pod_labels(vmi: &VirtualMachineInstance, vmi_name: &str, uid: &str, hostname: &str) -> BTreeMap<String, String> {
    let mut all = vmi.metadata.labels.clone().unwrap_or_default();
    // Says where the VMI is, not where the pod is; a replacement would carry it before it is bound.
    all.remove(labels::NODE_NAME);
    all.insert(labels::APP.to_owned(), labels::APP_LAUNCHER.to_owned());
    all.insert(labels::CREATED_BY.to_owned(), uid.to_owned());
    all.insert(labels::VM_NAME.to_owned(), hostname.to_owned());
    all.insert(labels::VMI_ID.to_owned(), names::vmi_id(vmi_name));
    all
}

fn pod_annotations(vmi: &VirtualMachineInstance, config: &ClusterConfig, vmi_name: &str) -> BTreeMap<String, String> {
    let mut all = vmi.metadata.annotations.clone().unwrap_or_default();
    all.retain(|key, _| !PRIVATE_ANNOTATIONS.iter().any(|prefix| key.starts_with(prefix)));
    all.insert(annotations::DOMAIN.to_owned(), vmi_name.to_owned());
    all.insert(annotations::DEFAULT_CONTAINER.to_owned(), COMPUTE_CONTAINER.to_owned());
    all.insert(annotations::MIGRATION_TRANSPORT_UNIX.to_owned(), "true".to_owned());
    all.insert(annotations::DESCHEDULER_EVICT_ONLY.to_owned(), String::new());
    let overhead = resources::memory_overhead(&vmi.spec, config);
    all.insert(annotations::MEMORY_OVERHEAD_BYTES.to_owned(), overhead.to_string());
    all
}

fn compute_container(
    spec: &VirtualMachineInstanceSpec,
    config: &ClusterConfig,
    options: &LauncherPodOptions,
    [name, namespace, uid]: &[&str; 3],
    grace: i64,
) -> Container {
    let grace = grace.to_string();
    let command =
        [LAUNCHER_BINARY, "run", "--share-dir", SHARE_DIR, "--name", name, "--namespace", namespace, "--uid", uid]
            .into_iter()
            .chain(["--grace-period-seconds", &grace])
            .map(str::to_owned)
            .collect();
    Container {
        name: COMPUTE_CONTAINER.to_owned(),
        image: Some(config.launcher_image.clone()),
        image_pull_policy: Some(config.launcher_pull_policy.clone()),
        command: Some(command),
        readiness_probe: spec.readiness_probe.as_ref().map(readiness_probe),
        resources: Some(resources::compute_resources(spec, config, options.auto_limits)),
        security_context: Some(security::container_context()),
        volume_mounts: Some(vec![share_mount(None)]),
        ..Default::default()
    }
}

/// The probe of the launcher's container. What is asked of the guest agent the node agent asks; the container's probe reads what it found.
fn readiness_probe(probe: &fv_api::Probe) -> Probe {
    let rendered = kubernetes_probe(probe);
    if probe.exec.is_none() && probe.guest_agent_ping.is_none() {
        return rendered;
    }
    let command = [LAUNCHER_BINARY, "probe", "--file"].into_iter().map(str::to_owned);
    let command = command.chain([format!("{SHARE_DIR}/{READINESS_FILE}")]).collect();
    Probe { exec: Some(ExecAction { command: Some(command) }), timeout_seconds: Some(FINDING_SECONDS), ..rendered }
}

/// A probe in Kubernetes' own words, without what is asked of the guest agent. Readiness goes onto the launcher's container; liveness does
/// not: to start the launcher anew does nothing for a guest, so that is the node agent's.
pub fn kubernetes_probe(probe: &fv_api::Probe) -> Probe {
    Probe {
        failure_threshold: probe.failure_threshold,
        http_get: probe.http_get.clone(),
        initial_delay_seconds: probe.initial_delay_seconds,
        period_seconds: probe.period_seconds,
        success_threshold: probe.success_threshold,
        tcp_socket: probe.tcp_socket.clone(),
        timeout_seconds: probe.timeout_seconds,
        ..Default::default()
    }
}

fn console_log_container(config: &ClusterConfig) -> Container {
    let command = [LAUNCHER_BINARY, "console-log", "--file"].into_iter().map(str::to_owned);
    Container {
        name: CONSOLE_LOG_CONTAINER.to_owned(),
        image: Some(config.launcher_image.clone()),
        image_pull_policy: Some(config.launcher_pull_policy.clone()),
        command: Some(command.chain([format!("{SHARE_DIR}/console.log")]).collect()),
        resources: Some(fixed_resources(&[("cpu", "5m"), ("memory", "35M")], &[("cpu", "15m"), ("memory", "60M")])),
        // A sidecar: started before `compute`, kept running beside it.
        restart_policy: Some("Always".to_owned()),
        security_context: Some(security::container_context()),
        volume_mounts: Some(vec![share_mount(Some(true))]),
        ..Default::default()
    }
}

/// Requests and limits that depend on nothing.
fn fixed_resources(requests: &[(&str, &str)], limits: &[(&str, &str)]) -> ResourceRequirements {
    let amounts = |all: &[(&str, &str)]| {
        let amount = |(name, amount): &(&str, &str)| ((*name).to_owned(), PodQuantity((*amount).to_owned()));
        Some(all.iter().map(amount).collect::<BTreeMap<_, _>>())
    };
    ResourceRequirements { requests: amounts(requests), limits: amounts(limits), ..Default::default() }
}

fn share_mount(read_only: Option<bool>) -> VolumeMount {
    VolumeMount { name: SHARE_VOLUME.to_owned(), mount_path: SHARE_DIR.to_owned(), read_only, ..Default::default() }
}

fn image_pull_secrets(spec: &VirtualMachineInstanceSpec) -> Option<Vec<LocalObjectReference>> {
    let mut secrets: Vec<LocalObjectReference> = Vec::new();
    for disk in spec.volumes.iter().filter_map(|volume| volume.container_disk.as_ref()) {
        if let Some(name) = disk.image_pull_secret.as_deref().filter(|name| !name.is_empty())
            && !secrets.iter().any(|known| known.name == name)
        {
            secrets.push(LocalObjectReference { name: name.to_owned() });
        }
    }
    (!secrets.is_empty()).then_some(secrets)
}

#[cfg(test)]
mod tests;
