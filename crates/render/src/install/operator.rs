//! `kubevirt-operator.yaml` and `kubevirt-cr.yaml`: what a cluster admin applies.

use fv_api::KubeVirt;
use serde_json::{Value, json};

use super::images::{Component, ImageSource};
use super::rbac::{binding, cluster_role, components, granted, role, rule, service_account};
use super::services::PROMETHEUS;
use super::workloads::spread;
use super::{Install, Monitoring, RenderError};

/// Namespace of upstream's manifests.
pub const NAMESPACE: &str = "kubevirt";
const ACCOUNT: &str = "kubevirt-operator";

/// Everything an operator needs to run, in the order to apply it.
pub fn manifest(namespace: &str, source: &ImageSource, pull_policy: &str) -> Result<Vec<Value>, RenderError> {
    // What is given to others depends on no setting.
    let kubevirt = KubeVirt::default();
    let images = source.resolve(&kubevirt.spec);
    let monitoring = Monitoring::candidates(&kubevirt.spec);
    let install =
        Install { kubevirt: &kubevirt, namespace, images: &images, ca_bundle: "", monitoring: monitoring.first() };
    let with_granted = |mut rules: Vec<Value>, kind| {
        for rule in granted(&install, kind) {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
        rules
    };
    let subject = (namespace, ACCOUNT);
    let mut objects = vec![
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {
                "name": namespace,
                "labels": {
                    "kubevirt.io": "", "pod-security.kubernetes.io/enforce": "privileged",
                    "openshift.io/cluster-monitoring": "true"
                }
            }
        }),
        super::definition(fv_api::crd::kubevirt()?)?,
        json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "kubevirt-operator-critical"},
            "value": 1_000_000_000, "globalDefault": false,
            "description": "This priority class is for virt-operator only; what it installs has one of its own."
        }),
        admins(),
        service_account(namespace, ACCOUNT),
        role(namespace, ACCOUNT, with_granted(components::operator_namespace_rules(), "Role")),
        binding(&format!("{ACCOUNT}-rolebinding"), Some(namespace), ACCOUNT, subject),
        cluster_role(ACCOUNT, with_granted(components::operator_rules(), "ClusterRole")),
        binding(ACCOUNT, None, ACCOUNT, subject),
        deployment(namespace, source, pull_policy),
    ];
    for object in &mut objects {
        object["metadata"]["labels"][fv_api::meta::labels::OPERATOR] = json!("");
    }
    Ok(objects)
}

/// The resource that asks for an installation: upstream's example.
pub fn example(namespace: &str, pull_policy: &str) -> Value {
    json!({
        "apiVersion": "kubevirt.io/v1", "kind": "KubeVirt",
        "metadata": {"name": "kubevirt", "namespace": namespace},
        "spec": {
            "certificateRotateStrategy": {},
            "configuration": {"developerConfiguration": {"featureGates": []}},
            "customizeComponents": {},
            "imagePullPolicy": pull_policy,
            "workloadUpdateStrategy": {}
        }
    })
}

/// Admins of the cluster's own making may handle the resource, as upstream lets them.
fn admins() -> Value {
    let verbs = ["get", "delete", "create", "update", "patch", "list", "watch", "deletecollection"];
    let mut role = cluster_role("kubevirt.io:operator", vec![rule("kubevirt.io", &["kubevirts"], &verbs)]);
    role["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-admin"] = json!("true");
    role
}

fn deployment(namespace: &str, source: &ImageSource, pull_policy: &str) -> Value {
    let name = Component::Operator.as_str();
    let images = source.resolve(&fv_api::KubeVirtSpec::default());
    let mut env = vec![
        json!({"name": "NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}),
        json!({"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}),
        json!({"name": Component::Operator.variable(), "value": images.of(Component::Operator)}),
        json!({"name": "KUBEVIRT_VERSION", "value": source.tag}),
    ];
    let pinned = source.pinned.iter().filter(|(component, _)| **component != Component::Operator);
    env.extend(pinned.map(|(component, image)| json!({"name": component.variable(), "value": image})));
    let probe = |path: &str, delay: u32, period: u32| {
        json!({
            "httpGet": {"scheme": "HTTPS", "port": 8443, "path": path},
            "initialDelaySeconds": delay, "periodSeconds": period, "timeoutSeconds": 10
        })
    };
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": {"kubevirt.io": name}},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"kubevirt.io": name}},
            "strategy": {"type": "RollingUpdate"},
            "template": {
                "metadata": {"labels": {"kubevirt.io": name, "name": name, PROMETHEUS: "true"}},
                "spec": {
                    "serviceAccountName": ACCOUNT,
                    "priorityClassName": "kubevirt-operator-critical",
                    "affinity": spread(name),
                    "securityContext": {"runAsNonRoot": true, "runAsUser": 1001, "seccompProfile": {"type": "RuntimeDefault"}},
                    "tolerations": [
                        {"key": "CriticalAddonsOnly", "operator": "Exists"},
                        {"key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule"}
                    ],
                    "containers": [{
                        "name": name,
                        "image": images.of(Component::Operator),
                        "imagePullPolicy": pull_policy,
                        "env": env,
                        "ports": [
                            {"name": "metrics", "containerPort": 8443, "protocol": "TCP"},
                            {"name": "webhooks", "containerPort": 8444, "protocol": "TCP"}
                        ],
                        "readinessProbe": probe("/healthz", 1, 5),
                        "livenessProbe": probe("/livez", 15, 45),
                        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
                        "securityContext": {
                            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}
                        }
                    }]
                }
            }
        }
    })
}
