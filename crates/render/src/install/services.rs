//! Services and the priority class.

use serde_json::{Value, json};

use super::Install;

/// Keeps our pods from being preempted by others'; upstream's name and value.
pub(super) const PRIORITY_CLASS: &str = "kubevirt-cluster-critical";
/// Label of pods that serve metrics.
pub(super) const PROMETHEUS: &str = "prometheus.kubevirt.io";

pub(super) fn objects(install: &Install<'_>) -> Vec<Value> {
    let service = |name: &str, selector: Value, ports: Value| {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": install.namespace, "labels": {"kubevirt.io": name}},
            "spec": {"type": "ClusterIP", "selector": selector, "ports": ports}
        })
    };
    let mut metrics = service(
        "kubevirt-prometheus-metrics",
        json!({PROMETHEUS: "true"}),
        json!([{"name": "metrics", "port": 443, "protocol": "TCP", "targetPort": "metrics"}]),
    );
    metrics["spec"]["clusterIP"] = json!("None");
    metrics["metadata"]["labels"][PROMETHEUS] = json!("true");
    vec![
        json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": PRIORITY_CLASS},
            "value": 1_000_000_000, "globalDefault": false, "preemptionPolicy": "PreemptLowerPriority",
            "description": "This priority class should be used for KubeVirt core components only."
        }),
        service(
            "virt-api",
            json!({"kubevirt.io": "virt-api"}),
            json!([{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 8443}]),
        ),
        service(
            "kubevirt-operator-webhook",
            json!({"kubevirt.io": "virt-operator"}),
            json!([{"name": "webhooks", "port": 443, "protocol": "TCP", "targetPort": "webhooks"}]),
        ),
        metrics,
    ]
}
