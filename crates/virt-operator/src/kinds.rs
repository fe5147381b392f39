//! The kinds of objects an installation has.

use fv_render::install::{ObjectId, monitoring};
use kube::core::{ApiResource, DynamicObject, DynamicResourceScope, GroupVersionKind};
use kube::{Api, Client, Resource};

/// How far a kind reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Cluster,
    /// In namespaces; looked at in all of them.
    Namespaces,
    /// In namespaces; only the own one is ours to read.
    OwnNamespace,
}

/// A kind, with the version that is used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) group: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) scope: Scope,
}

const fn kind(group: &'static str, kind: &'static str, scope: Scope) -> Kind {
    Kind { group, kind, scope }
}

/// All of them; each is served as `v1`.
pub(crate) const KINDS: &[Kind] = &[
    kind("apiextensions.k8s.io", "CustomResourceDefinition", Scope::Cluster),
    kind("", "ServiceAccount", Scope::Namespaces),
    kind("rbac.authorization.k8s.io", "ClusterRole", Scope::Cluster),
    kind("rbac.authorization.k8s.io", "ClusterRoleBinding", Scope::Cluster),
    kind("rbac.authorization.k8s.io", "Role", Scope::Namespaces),
    kind("rbac.authorization.k8s.io", "RoleBinding", Scope::Namespaces),
    kind("scheduling.k8s.io", "PriorityClass", Scope::Cluster),
    kind("", "Service", Scope::Namespaces),
    kind("", "ConfigMap", Scope::Namespaces),
    kind("", "Secret", Scope::OwnNamespace),
    kind("admissionregistration.k8s.io", "ValidatingAdmissionPolicy", Scope::Cluster),
    kind("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding", Scope::Cluster),
    kind("admissionregistration.k8s.io", "MutatingWebhookConfiguration", Scope::Cluster),
    kind("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", Scope::Cluster),
    kind("apiregistration.k8s.io", "APIService", Scope::Cluster),
    kind("apps", "Deployment", Scope::Namespaces),
    kind("apps", "DaemonSet", Scope::Namespaces),
    kind("policy", "PodDisruptionBudget", Scope::Namespaces),
    kind(monitoring::GROUP, "ServiceMonitor", Scope::Namespaces),
    kind(monitoring::GROUP, "PrometheusRule", Scope::Namespaces),
];

impl Kind {
    /// Whether a cluster may do without: the kinds of a Prometheus operator.
    pub(crate) fn is_optional(&self) -> bool {
        self.group == monitoring::GROUP
    }

    pub(crate) fn resource(&self) -> ApiResource {
        resource(self.group, self.kind)
    }

    /// Where objects of the kind are looked for.
    pub(crate) fn api<K>(&self, client: Client, own_namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>,
    {
        match self.scope {
            Scope::Cluster | Scope::Namespaces => Api::all_with(client, &self.resource()),
            Scope::OwnNamespace => Api::namespaced_with(client, own_namespace, &self.resource()),
        }
    }
}

/// Where an object is read and written.
pub(crate) fn api_of(client: Client, id: &ObjectId) -> Api<DynamicObject> {
    let resource = resource(&id.group, &id.kind);
    if id.namespace.is_empty() {
        Api::all_with(client, &resource)
    } else {
        Api::namespaced_with(client, &id.namespace, &resource)
    }
}

fn resource(group: &str, kind: &str) -> ApiResource {
    let plural = fv_plan::operator::objects::resource(kind);
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", kind), &plural)
}
