//! Service accounts of the components and what each program uses.

use serde_json::Value;

use crate::install::SYSTEM_NAMESPACE;
use crate::install::monitoring::GROUP;

use super::{HANDLER_ACCOUNT, binding, cluster_role, named, role, rule, service_account};

const READ: &[&str] = &["get", "list", "watch"];
const FOLLOW: &[&str] = &["list", "watch"];

/// All objects of the components' access.
pub(crate) fn objects(namespace: &str) -> Vec<Value> {
    let mut objects = api(namespace);
    objects.extend(controller(namespace));
    objects.extend(handler(namespace));
    objects
}

/// virt-api: admission and subresources. It asks the API server whether a user may, then acts in its own name.
fn api(namespace: &str) -> Vec<Value> {
    let account = "kubevirt-apiserver";
    let subject = (namespace, account);
    vec![
        service_account(namespace, account),
        cluster_role(
            account,
            vec![
                rule("kubevirt.io", &["virtualmachines", "virtualmachineinstances"], &["get", "patch"]),
                rule("kubevirt.io", &["virtualmachines/status"], &["patch"]),
                rule("kubevirt.io", &["kubevirts"], FOLLOW),
                rule("authorization.k8s.io", &["subjectaccessreviews"], &["create"]),
                // The eviction webhook learns which machine is behind a pod.
                rule("", &["pods"], &["get"]),
            ],
        ),
        binding(account, None, account, subject),
        // Where the node agents are.
        role(namespace, account, vec![rule("", &["pods"], FOLLOW)]),
        binding(account, Some(namespace), account, subject),
        // Whose word about a user's identity it may take; the role is the API server's own.
        binding(
            "kubevirt-apiserver-auth-reader",
            Some(SYSTEM_NAMESPACE),
            "extension-apiserver-authentication-reader",
            subject,
        ),
    ]
}

/// virt-controller: machines, their instances and launcher pods.
fn controller(namespace: &str) -> Vec<Value> {
    let account = "kubevirt-controller";
    let subject = (namespace, account);
    vec![
        service_account(namespace, account),
        cluster_role(
            account,
            vec![
                rule("kubevirt.io", &["virtualmachines"], &["get", "list", "watch", "patch"]),
                rule("kubevirt.io", &["virtualmachines/status"], &["patch"]),
                // Owner references that block the owner's deletion.
                rule("kubevirt.io", &["virtualmachines/finalizers", "virtualmachineinstances/finalizers"], &["update"]),
                rule(
                    "kubevirt.io",
                    &["virtualmachineinstances"],
                    &["get", "list", "watch", "create", "patch", "delete"],
                ),
                rule("kubevirt.io", &["kubevirts"], FOLLOW),
                // Whether they exist, their sizes, whether they are block devices.
                rule("", &["persistentvolumeclaims"], FOLLOW),
                // Whether pods must have limits.
                rule("", &["resourcequotas", "limitranges"], FOLLOW),
                rule("", &["pods"], &["list", "watch", "create", "delete"]),
                rule("", &["pods/status"], &["patch"]),
                // An agent that is away cannot say so itself.
                rule("", &["nodes"], &["list", "watch", "patch"]),
                rule("", &["events"], &["create", "get", "patch"]),
            ],
        ),
        binding(account, None, account, subject),
        role(namespace, account, lease("virt-controller")),
        binding(account, Some(namespace), account, subject),
    ]
}

/// virt-handler: instances and its node. A policy holds it to its own node; Secrets it never sees.
fn handler(namespace: &str) -> Vec<Value> {
    let account = HANDLER_ACCOUNT;
    vec![
        service_account(namespace, account),
        cluster_role(
            account,
            vec![
                rule("kubevirt.io", &["virtualmachineinstances"], &["get", "list", "watch", "patch"]),
                rule("kubevirt.io", &["kubevirts"], FOLLOW),
                rule("", &["pods"], &["list", "watch"]),
                rule("", &["nodes"], &["get", "patch"]),
                rule("", &["nodes/status"], &["patch"]),
                rule("", &["events"], &["create", "get", "patch"]),
            ],
        ),
        binding(account, None, account, (namespace, account)),
    ]
}

/// The lease of a program; making one cannot be restricted to a name.
fn lease(name: &str) -> Vec<Value> {
    vec![
        rule("coordination.k8s.io", &["leases"], &["create"]),
        named("coordination.k8s.io", &["leases"], &[name], &["get", "update"]),
    ]
}

/// What the operator's own program uses in the whole cluster, beside what it hands out.
pub(crate) fn operator_rules() -> Vec<Value> {
    const WRITE: &[&str] = &["get", "list", "watch", "create", "update", "delete"];
    let cluster = |group, resources: &[&str]| rule(group, resources, WRITE);
    vec![
        rule("kubevirt.io", &["kubevirts"], &["list", "watch", "patch"]),
        rule("kubevirt.io", &["kubevirts/status"], &["update"]),
        // Removal takes the machines with it.
        rule("kubevirt.io", &["virtualmachines", "virtualmachineinstances"], &["list", "delete"]),
        // How many have outdated launchers.
        rule("kubevirt.io", &["virtualmachineinstances"], &["watch"]),
        cluster("apiextensions.k8s.io", &["customresourcedefinitions"]),
        cluster("apiregistration.k8s.io", &["apiservices"]),
        cluster(
            "admissionregistration.k8s.io",
            &[
                "mutatingwebhookconfigurations",
                "validatingadmissionpolicies",
                "validatingadmissionpolicybindings",
                "validatingwebhookconfigurations",
            ],
        ),
        cluster("rbac.authorization.k8s.io", &["clusterroles", "clusterrolebindings", "roles", "rolebindings"]),
        cluster("scheduling.k8s.io", &["priorityclasses"]),
        // A ServiceMonitor goes to where the Prometheus is.
        cluster(GROUP, &["prometheusrules", "servicemonitors"]),
        // The role of kube-system that virt-api is bound to is not the operator's to give otherwise.
        named("rbac.authorization.k8s.io", &["roles"], &["extension-apiserver-authentication-reader"], &["bind"]),
        // Objects of these kinds are watched by label, wherever they are; they are written in the own namespace only.
        rule("", &["services", "serviceaccounts", "configmaps"], READ),
        rule("apps", &["deployments", "daemonsets"], READ),
        rule("policy", &["poddisruptionbudgets"], READ),
    ]
}

/// What the operator's program uses in its own namespace, beside reading what it reads everywhere.
pub(crate) fn operator_namespace_rules() -> Vec<Value> {
    const WRITE: &[&str] = &["create", "update", "delete"];
    let mut rules = vec![
        rule("", &["secrets"], &["get", "list", "watch", "create", "update", "delete"]),
        rule("", &["configmaps", "serviceaccounts", "services"], WRITE),
        rule("apps", &["daemonsets", "deployments"], WRITE),
        rule("policy", &["poddisruptionbudgets"], WRITE),
    ];
    rules.extend(lease("virt-operator"));
    rules
}
