//! What is put into the cluster.

use serde_json::{Value, json};

/// Our definitions as they are published.
pub(crate) fn definitions() -> Vec<Value> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests/crds");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()).collect()
}

fn guest() -> Value {
    json!({
        "domain": {"devices": {"disks": [{"name": "root", "disk": {"bus": "virtio"}}]},
                   "resources": {"requests": {"memory": "64M"}}},
        "volumes": [{"name": "root", "containerDisk": {"image": "ferrovirt/demo-guest:latest"}}],
    })
}

pub(crate) fn vm(name: &str) -> Value {
    json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": name},
        "spec": {"runStrategy": "Halted", "template": {"spec": guest()}}})
}

pub(crate) fn running_vm(name: &str) -> Value {
    json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": name},
        "spec": {"running": false, "template": {"spec": guest()}}})
}

pub(crate) fn vmi(name: &str) -> Value {
    json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": name}, "spec": guest()})
}

pub(crate) fn launcher(vmi: &str, uid: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("virt-launcher-{vmi}-abcde"),
        "labels": {"kubevirt.io": "virt-launcher", "kubevirt.io/created-by": uid},
        "annotations": {"kubevirt.io/domain": vmi}},
        "spec": {"nodeName": "n1", "containers": [{"name": "compute", "image": "virt-launcher"}]}})
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
}

fn role(name: &str, user: &str, rules: &[Value]) -> [(&'static str, Value); 2] {
    [
        ("clusterroles", json!({"metadata": {"name": name}, "rules": rules})),
        (
            "clusterrolebindings",
            json!({"metadata": {"name": name}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                "name": name}, "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]}),
        ),
    ]
}

/// Roles and bindings: virt-api has what its documentation says and nothing else.
pub(crate) fn rights() -> Vec<(&'static str, Value)> {
    let ours = [
        rule("authorization.k8s.io", &["subjectaccessreviews"], &["create"]),
        rule("kubevirt.io", &["virtualmachines", "virtualmachineinstances"], &["get", "patch"]),
        rule("kubevirt.io", &["virtualmachines/status"], &["patch"]),
        rule("", &["pods"], &["get", "list", "watch"]),
        rule("", &["configmaps"], &["get", "list", "watch"]),
    ];
    let sub = "subresources.kubevirt.io";
    let view = [rule(sub, &["virtualmachineinstances/guestosinfo"], &["get"])];
    let edit = [
        rule("kubevirt.io", &["*"], &["*"]),
        rule(sub, &["virtualmachines/start", "virtualmachineinstances/pause"], &["update"]),
    ];
    let handler = [rule("kubevirt.io", &["virtualmachineinstances"], &["get", "patch"])];
    [
        role("virt-api", fv_api::meta::users::VIRT_API, &ours),
        role("viewer", "viewer", &view),
        role("owner", "owner", &edit),
        role("handler", fv_api::meta::users::VIRT_HANDLER, &handler),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The webhook configurations, reached at `url`.
pub(crate) fn webhooks(url: &str, bundle: &str) -> [(&'static str, Value); 2] {
    let client = |path: &str| json!({"url": format!("{url}/{path}"), "caBundle": bundle});
    let hook = |name: &str, path: &str, group: &str, resource: &str, operations: Value| {
        json!({"name": name, "clientConfig": client(path), "sideEffects": "NoneOnDryRun", "admissionReviewVersions": ["v1"],
            "failurePolicy": "Fail", "timeoutSeconds": 10,
            "rules": [{"apiGroups": [group], "apiVersions": ["v1"], "resources": [resource], "operations": operations}]})
    };
    let write = json!(["CREATE", "UPDATE"]);
    let (vms, vmis) = ("virtualmachines", "virtualmachineinstances");
    let mutating = json!({"metadata": {"name": "virt-api-mutator"}, "webhooks": [
        hook("virtualmachines-mutator.kubevirt.io", "virtualmachines-mutate", "kubevirt.io", vms, write.clone()),
        hook("virtualmachineinstances-mutator.kubevirt.io", "virtualmachineinstances-mutate", "kubevirt.io", vmis, write.clone()),
    ]});
    let mut eviction = hook(
        "virt-launcher-eviction-interceptor.kubevirt.io",
        "pod-eviction-validate",
        "",
        "pods/eviction",
        json!(["*"]),
    );
    eviction["matchConditions"] =
        json!([{"name": "only-vms", "expression": "object.metadata.name.startsWith(\"virt-launcher\")"}]);
    let validating = json!({"metadata": {"name": "virt-api-validator"}, "webhooks": [
        hook("virtualmachine-validator.kubevirt.io", "virtualmachines-validate", "kubevirt.io", vms, write),
        hook("virtualmachineinstances-create-validator.kubevirt.io", "virtualmachineinstances-validate-create", "kubevirt.io", vmis,
            json!(["CREATE"])),
        hook("virtualmachineinstances-update-validator.kubevirt.io", "virtualmachineinstances-validate-update", "kubevirt.io", vmis,
            json!(["UPDATE"])),
        eviction,
    ]});
    [("mutatingwebhookconfigurations", mutating), ("validatingwebhookconfigurations", validating)]
}

/// The service of virt-api and what leads to it.
pub(crate) fn service(address: std::net::SocketAddr) -> [(&'static str, Value); 2] {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "virt-api"},
        "spec": {"ports": [{"port": 443, "targetPort": address.port()}]}});
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "virt-api-1",
        "labels": {"kubernetes.io/service-name": "virt-api"}}, "addressType": "IPv4",
        "endpoints": [{"addresses": [address.ip().to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "", "port": address.port(), "protocol": "TCP"}]});
    [
        ("/api/v1/namespaces/kubevirt/services", service),
        ("/apis/discovery.k8s.io/v1/namespaces/kubevirt/endpointslices", slice),
    ]
}

pub(crate) fn api_service(version: &str, bundle: &str) -> Value {
    json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": format!("{version}.subresources.kubevirt.io")},
        "spec": {"group": "subresources.kubevirt.io", "version": version, "groupPriorityMinimum": 1000, "versionPriority": 15,
            "caBundle": bundle, "service": {"namespace": "kubevirt", "name": "virt-api", "port": 443}}})
}
