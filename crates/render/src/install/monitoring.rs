//! What a Prometheus operator of the cluster is told, where there is one: what to scrape, what to alert of, and that its Prometheus may
//! look up our pods. Names are upstream's.

use fv_api::KubeVirtSpec;
use serde_json::{Value, json};

use super::rbac::{binding, role, rule};
use super::services::PROMETHEUS;
use super::{Install, ObjectId};

pub mod rules;

/// Group of the Prometheus operator's kinds.
pub const GROUP: &str = "monitoring.coreos.com";
/// Name of the ServiceMonitor and of the PrometheusRule.
const NAME: &str = "prometheus-kubevirt-rules";
/// Name of the role of Prometheus in our namespace.
const ROLE: &str = "kubevirt-monitoring";
/// Where a Prometheus is looked for unless the resource says.
const NAMESPACES: [&str; 2] = ["openshift-monitoring", "monitoring"];
/// Its service account unless the resource says.
const ACCOUNT: &str = "prometheus-k8s";

/// The Prometheus that scrapes us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Monitoring {
    /// Where it runs.
    pub namespace: String,
    /// As whom.
    pub account: String,
    /// Where the ServiceMonitor goes.
    pub monitor_namespace: String,
}

impl Monitoring {
    /// Where it may be, by what the resource says; the first whose service account exists is meant.
    pub fn candidates(spec: &KubeVirtSpec) -> Vec<Self> {
        let given = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        let namespaces = match given(&spec.monitor_namespace) {
            Some(namespace) => vec![namespace],
            None => NAMESPACES.map(str::to_owned).to_vec(),
        };
        let account = given(&spec.monitor_account).unwrap_or_else(|| ACCOUNT.to_owned());
        let monitors = given(&spec.service_monitor_namespace);
        namespaces
            .into_iter()
            .map(|namespace| Self {
                monitor_namespace: monitors.clone().unwrap_or_else(|| namespace.clone()),
                account: account.clone(),
                namespace,
            })
            .collect()
    }
}

/// Whether an object is the ServiceMonitor of an installation with this spec, wherever its Prometheus is.
pub fn is_monitor(id: &ObjectId, spec: &KubeVirtSpec) -> bool {
    id.group == GROUP
        && id.kind == "ServiceMonitor"
        && id.name == NAME
        && Monitoring::candidates(spec).iter().any(|candidate| candidate.monitor_namespace == id.namespace)
}

/// What Prometheus may in our namespace: find what it scrapes.
pub(super) fn access(install: &Install<'_>) -> Vec<Value> {
    let Some(Monitoring { namespace, account, .. }) = install.monitoring else { return Vec::new() };
    let find = rule("", &["endpoints", "pods", "services"], &["get", "list", "watch"]);
    let slices = rule("discovery.k8s.io", &["endpointslices"], &["get", "list", "watch"]);
    vec![
        role(install.namespace, ROLE, vec![find, slices]),
        binding(ROLE, Some(install.namespace), ROLE, (namespace.as_str(), account.as_str())),
    ]
}

/// The ServiceMonitor and the PrometheusRule.
pub(super) fn objects(install: &Install<'_>) -> Vec<Value> {
    let Some(Monitoring { monitor_namespace, .. }) = install.monitoring else { return Vec::new() };
    let object = |kind: &str, namespace: &str, spec: Value| {
        json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": kind,
            "metadata": {
                "name": NAME, "namespace": namespace,
                "labels": {"k8s-app": "kubevirt", PROMETHEUS: "true", "openshift.io/cluster-monitoring": ""}
            },
            "spec": spec
        })
    };
    let scrape = json!({
        "selector": {"matchLabels": {PROMETHEUS: "true"}},
        "namespaceSelector": {"matchNames": [install.namespace]},
        // Certificates carry the names of programs, not addresses; namespace, name and node are those of machines.
        "endpoints": [{"port": "metrics", "scheme": "https", "honorLabels": true, "tlsConfig": {"insecureSkipVerify": true}}]
    });
    let replicas = super::workloads::replicas(install);
    let alerts = json!({"groups": rules::groups(install.namespace, replicas)});
    vec![object("ServiceMonitor", monitor_namespace, scrape), object("PrometheusRule", install.namespace, alerts)]
}
