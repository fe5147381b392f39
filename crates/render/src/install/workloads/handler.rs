//! virt-handler: the node agent. It is privileged because libvirt, QEMU, network namespaces and cgroups of the node are its
//! business; each path of the node it sees is listed here and nowhere else.

use serde_json::{Value, json};

use super::super::Install;
use super::super::images::Component;
use super::{mount, mount_secret, place, pod};

/// Name, path, type, whether it is read only, and how mounts pass between node and pod.
type HostPath = (&'static str, &'static str, &'static str, bool, Option<&'static str>);

const HOST_PATHS: &[HostPath] = &[
    // Sockets of libvirt, pid files of QEMU.
    ("libvirt-run", "/run/libvirt", "DirectoryOrCreate", false, Some("HostToContainer")),
    // Why a guest ended; its log is removed with it.
    ("libvirt-log", "/var/log/libvirt", "DirectoryOrCreate", false, None),
    // Records, disks and images; QEMU opens these paths.
    ("state", "/var/lib/ferrovirt", "DirectoryOrCreate", false, None),
    // Network namespaces of machines, console and VNC sockets.
    ("run", "/run/ferrovirt", "DirectoryOrCreate", false, Some("Bidirectional")),
    // What launcher pods share with the node agent, device plugins' sockets, which CPUs are given away.
    ("kubelet", "/var/lib/kubelet", "Directory", false, Some("HostToContainer")),
    // QEMU's cgroup is beside that of its pod.
    ("cgroup", "/sys/fs/cgroup", "Directory", false, None),
    // KVM, tun and the health of device plugins.
    ("dev", "/dev", "Directory", false, None),
    // UEFI firmware.
    ("firmware", "/usr/share", "Directory", true, None),
];

pub(super) fn daemon_set(install: &Install<'_>) -> Value {
    let name = Component::Handler.as_str();
    let mut pod = pod(install, Component::Handler, "kubevirt-handler", "/healthz");
    mount_secret(&mut pod, "kubevirt-virt-handler-server-certs", "/etc/virt-handler/servercertificates");
    for (name, path, kind, is_read_only, propagation) in HOST_PATHS {
        let mut place = json!({"mountPath": path});
        if *is_read_only {
            place["readOnly"] = json!(true);
        }
        if let Some(propagation) = propagation {
            place["mountPropagation"] = json!(propagation);
        }
        mount(&mut pod, name, json!({"hostPath": {"path": path, "type": kind}}), place);
    }
    let spec = &mut pod["spec"];
    spec["hostPID"] = json!(true);
    spec["securityContext"] = json!({});
    // A guest belongs to its node: no taint drives the agent away from it.
    spec["tolerations"] = json!([{"operator": "Exists"}]);
    if let Some(spec) = spec.as_object_mut() {
        spec.shift_remove("affinity");
    }
    spec["nodeSelector"] = json!({"kubernetes.io/os": "linux"});
    place(spec, install.kubevirt.spec.workloads.as_ref());
    let container = &mut spec["containers"][0];
    container["securityContext"] = json!({"privileged": true, "runAsUser": 0, "readOnlyRootFilesystem": true});
    if let Some(env) = container["env"].as_array_mut() {
        for (name, field) in [("NODE_NAME", "spec.nodeName"), ("MY_POD_IP", "status.podIP")] {
            env.push(json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": field}}}));
        }
    }
    if let Some(ports) = container["ports"].as_array_mut() {
        ports.push(json!({"name": "agent", "containerPort": 8186, "protocol": "TCP"}));
    }
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": install.namespace, "labels": {"kubevirt.io": name}},
        "spec": {
            "selector": {"matchLabels": {"kubevirt.io": name}},
            // Guests do not notice that their agent is replaced; a tenth at a time keeps the others reachable.
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%"}},
            "template": pod
        }
    })
}
