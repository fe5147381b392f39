//! virt-api, virt-controller and virt-handler: what runs.

use fv_api::{ComponentConfig, NodePlacement};
use serde_json::{Value, json};

use super::images::Component;
use super::object::{Object, Stage};
use super::services::{PRIORITY_CLASS, PROMETHEUS};
use super::{Install, certificates};

mod handler;

/// Replicas of the control plane when the resource does not say.
const REPLICAS: u8 = 2;
/// User of the control plane's containers.
const USER: u32 = 1001;
/// Where the bundle of authorities is mounted.
const BUNDLE_DIR: &str = "/etc/kubevirt-ca";

pub(super) fn objects(install: &Install<'_>) -> Vec<Object> {
    let infra = install.kubevirt.spec.infra.as_ref();
    let replicas = replicas(install);
    let mut objects = Vec::new();
    for (stage, deployment) in [(Stage::Api, api(install)), (Stage::Controller, controller(install))] {
        let name = deployment["metadata"]["name"].clone();
        let mut deployment = deployment;
        deployment["spec"]["replicas"] = json!(replicas);
        place(&mut deployment["spec"]["template"]["spec"], infra);
        objects.push(Object::new(stage, deployment));
        if replicas > 1 {
            objects.push(Object::new(stage, disruption_budget(install, &name, replicas)));
        }
    }
    objects.push(Object::new(Stage::Handler, handler::daemon_set(install)));
    objects
}

/// How many of each program of the control plane there are.
pub(super) fn replicas(install: &Install<'_>) -> u8 {
    install.kubevirt.spec.infra.as_ref().and_then(|infra| infra.replicas).unwrap_or(REPLICAS)
}

fn api(install: &Install<'_>) -> Value {
    let mut pod = pod(install, Component::Api, "kubevirt-apiserver", "/apis/subresources.kubevirt.io/v1/healthz");
    mount_secret(&mut pod, "kubevirt-virt-api-certs", "/etc/virt-api/certificates");
    mount_secret(&mut pod, "kubevirt-virt-handler-certs", "/etc/virt-handler/clientcertificates");
    deployment(install, Component::Api, pod)
}

fn controller(install: &Install<'_>) -> Value {
    let mut pod = pod(install, Component::Controller, "kubevirt-controller", "/healthz");
    mount_secret(&mut pod, "kubevirt-controller-certs", "/etc/virt-controller/certificates");
    pod["spec"]["containers"][0]["args"] = json!(["--launcher-image", install.images.of(Component::Launcher)]);
    deployment(install, Component::Controller, pod)
}

fn deployment(install: &Install<'_>, component: Component, pod: Value) -> Value {
    let name = component.as_str();
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": install.namespace, "labels": {"kubevirt.io": name}},
        "spec": {
            "selector": {"matchLabels": {"kubevirt.io": name}},
            // A new pod is ready before an old one goes, whatever the number of replicas.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": pod
        }
    })
}

fn disruption_budget(install: &Install<'_>, name: &Value, replicas: u8) -> Value {
    let budget = format!("{}-pdb", name.as_str().unwrap_or_default());
    json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": budget, "namespace": install.namespace},
        "spec": {"minAvailable": replicas - 1, "selector": {"matchLabels": {"kubevirt.io": name}}}
    })
}

/// The pod template of a component, with what all of them have.
fn pod(install: &Install<'_>, component: Component, service_account: &str, ready_path: &str) -> Value {
    let name = component.as_str();
    let probe = |path: &str, delay: u32, period: u32| {
        json!({
            "httpGet": {"scheme": "HTTPS", "port": 8443, "path": path},
            "initialDelaySeconds": delay, "periodSeconds": period, "timeoutSeconds": 10
        })
    };
    let mut pod = json!({
        "metadata": {"labels": {"kubevirt.io": name, PROMETHEUS: "true"}},
        "spec": {
            "serviceAccountName": service_account,
            "priorityClassName": PRIORITY_CLASS,
            "affinity": spread(name),
            "securityContext": {"runAsNonRoot": true, "runAsUser": USER, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": name,
                "image": install.images.of(component),
                "imagePullPolicy": pull_policy(install),
                "env": [{"name": "NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}],
                "ports": [{"name": "metrics", "containerPort": 8443, "protocol": "TCP"}],
                "readinessProbe": probe(ready_path, 1, 5),
                "livenessProbe": probe("/livez", 15, 45),
                // What a component uses at rest is a few MiB; the request is what it has under load.
                "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
                "securityContext": {
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}
                },
                "volumeMounts": [{"name": certificates::AUTHORITY, "mountPath": BUNDLE_DIR, "readOnly": true}]
            }],
            "volumes": [{"name": certificates::AUTHORITY, "configMap": {"name": certificates::AUTHORITY}}],
            // Control planes are tainted so that users' pods stay away; ours may go there.
            "tolerations": [
                {"key": "CriticalAddonsOnly", "operator": "Exists"},
                {"key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule"}
            ]
        }
    });
    let secrets = &install.kubevirt.spec.image_pull_secrets;
    if !secrets.is_empty() {
        pod["spec"]["imagePullSecrets"] = json!(secrets.iter().map(|s| json!({"name": s.name})).collect::<Vec<_>>());
    }
    pod
}

/// Replicas go to different nodes where there are several.
pub(super) fn spread(name: &str) -> Value {
    json!({
        "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
            "weight": 1,
            "podAffinityTerm": {
                "topologyKey": "kubernetes.io/hostname",
                "labelSelector": {"matchExpressions": [{"key": "kubevirt.io", "operator": "In", "values": [name]}]}
            }
        }]}
    })
}

fn pull_policy<'a>(install: &Install<'a>) -> &'a str {
    install.kubevirt.spec.image_pull_policy.as_deref().filter(|policy| !policy.is_empty()).unwrap_or("IfNotPresent")
}

fn mount_secret(pod: &mut Value, secret: &str, path: &str) {
    mount(pod, secret, json!({"secret": {"secretName": secret}}), json!({"mountPath": path, "readOnly": true}));
}

/// Adds a volume and its mount in the first container.
fn mount(pod: &mut Value, name: &str, mut volume: Value, mut place: Value) {
    volume["name"] = json!(name);
    place["name"] = json!(name);
    if let Some(volumes) = pod["spec"]["volumes"].as_array_mut() {
        volumes.push(volume);
    }
    if let Some(mounts) = pod["spec"]["containers"][0]["volumeMounts"].as_array_mut() {
        mounts.push(place);
    }
}

/// Where pods may run, on top of what they already say: selectors and tolerations are added, an affinity takes the place of ours.
fn place(spec: &mut Value, component: Option<&ComponentConfig>) {
    let Some(NodePlacement { affinity, node_selector, tolerations }) =
        component.and_then(|c| c.node_placement.as_ref())
    else {
        return;
    };
    for (key, value) in node_selector {
        spec["nodeSelector"][key] = json!(value);
    }
    if let Some(affinity) = affinity {
        spec["affinity"] = json!(affinity);
    }
    if let Some(known) = spec["tolerations"].as_array_mut() {
        known.extend(tolerations.iter().map(|toleration| json!(toleration)));
    }
}
