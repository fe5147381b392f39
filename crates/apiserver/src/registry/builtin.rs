//! The built-in resources. A kind stands here only when it has behaviour.

use tokio_util::sync::CancellationToken;

use super::resource::{Origin, Resource, Scope, Subresource, Version};

/// Verbs of an ordinary resource.
pub const ALL_VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
/// Verbs of a custom resource, in the order discovery lists them.
pub const CUSTOM_VERBS: &[&str] = &["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
/// Namespaces cannot be deleted as a collection.
const NAMESPACE_VERBS: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
/// Verbs of reviews, which are answered and not stored, and of subresources that are deeds.
pub const CREATE_ONLY: &[&str] = &["create"];
/// Verbs of a subresource which is a view of the object.
pub const VIEW_VERBS: &[&str] = &["get", "patch", "update"];

struct Row {
    group: &'static str,
    plural: &'static str,
    kind: &'static str,
    short: &'static [&'static str],
    categories: &'static [&'static str],
    scope: Scope,
    /// Subresources as (name, kind, verbs).
    sub: &'static [(&'static str, &'static str, &'static [&'static str])],
    selectable: &'static [&'static str],
    verbs: &'static [&'static str],
}

/// What most rows have.
const ROW: Row = Row {
    group: "",
    plural: "",
    kind: "",
    short: &[],
    categories: &[],
    scope: Scope::Namespaced,
    sub: &[],
    selectable: &[],
    verbs: ALL_VERBS,
};

/// Every built-in kind is served in this version.
const VERSION: &str = "v1";

const ROWS: &[Row] = &[
    Row { plural: "configmaps", kind: "ConfigMap", short: &["cm"], ..ROW },
    Row {
        plural: "events",
        kind: "Event",
        short: &["ev"],
        selectable: &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        ..ROW
    },
    Row { plural: "limitranges", kind: "LimitRange", short: &["limits"], ..ROW },
    Row {
        plural: "namespaces",
        kind: "Namespace",
        short: &["ns"],
        scope: Scope::Cluster,
        sub: &[("finalize", "Namespace", &["update"]), ("status", "Namespace", VIEW_VERBS)],
        selectable: &["status.phase"],
        verbs: NAMESPACE_VERBS,
        ..ROW
    },
    Row {
        plural: "nodes",
        kind: "Node",
        short: &["no"],
        scope: Scope::Cluster,
        sub: &[("status", "Node", VIEW_VERBS)],
        selectable: &["spec.unschedulable"],
        ..ROW
    },
    Row {
        plural: "persistentvolumeclaims",
        kind: "PersistentVolumeClaim",
        short: &["pvc"],
        sub: &[("status", "PersistentVolumeClaim", VIEW_VERBS)],
        ..ROW
    },
    Row {
        plural: "persistentvolumes",
        kind: "PersistentVolume",
        short: &["pv"],
        scope: Scope::Cluster,
        sub: &[("status", "PersistentVolume", VIEW_VERBS)],
        ..ROW
    },
    Row {
        plural: "pods",
        kind: "Pod",
        short: &["po"],
        categories: &["all"],
        sub: &[
            ("binding", "Binding", CREATE_ONLY),
            ("eviction", "Eviction", CREATE_ONLY),
            ("log", "Pod", &["get"]),
            ("status", "Pod", VIEW_VERBS),
        ],
        selectable: &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        ..ROW
    },
    Row {
        plural: "resourcequotas",
        kind: "ResourceQuota",
        short: &["quota"],
        sub: &[("status", "ResourceQuota", VIEW_VERBS)],
        ..ROW
    },
    Row { plural: "secrets", kind: "Secret", selectable: &["type"], ..ROW },
    Row {
        plural: "serviceaccounts",
        kind: "ServiceAccount",
        short: &["sa"],
        sub: &[("token", "TokenRequest", CREATE_ONLY)],
        ..ROW
    },
    Row {
        group: "apiextensions.k8s.io",
        plural: "customresourcedefinitions",
        kind: "CustomResourceDefinition",
        short: &["crd", "crds"],
        categories: &["api-extensions"],
        scope: Scope::Cluster,
        sub: &[("status", "CustomResourceDefinition", VIEW_VERBS)],
        ..ROW
    },
    Row { group: "apps", plural: "controllerrevisions", kind: "ControllerRevision", ..ROW },
    Row {
        group: "authentication.k8s.io",
        plural: "selfsubjectreviews",
        kind: "SelfSubjectReview",
        scope: Scope::Cluster,
        verbs: CREATE_ONLY,
        ..ROW
    },
    Row {
        group: "authorization.k8s.io",
        plural: "selfsubjectaccessreviews",
        kind: "SelfSubjectAccessReview",
        scope: Scope::Cluster,
        verbs: CREATE_ONLY,
        ..ROW
    },
    Row {
        group: "authorization.k8s.io",
        plural: "selfsubjectrulesreviews",
        kind: "SelfSubjectRulesReview",
        scope: Scope::Cluster,
        verbs: CREATE_ONLY,
        ..ROW
    },
    Row { group: "coordination.k8s.io", plural: "leases", kind: "Lease", ..ROW },
    Row {
        group: "events.k8s.io",
        plural: "events",
        kind: "Event",
        short: &["ev"],
        selectable: &[
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "reason",
            "reportingController",
            "type",
        ],
        ..ROW
    },
    Row {
        group: "policy",
        plural: "poddisruptionbudgets",
        kind: "PodDisruptionBudget",
        short: &["pdb"],
        sub: &[("status", "PodDisruptionBudget", VIEW_VERBS)],
        ..ROW
    },
    Row {
        group: "scheduling.k8s.io",
        plural: "priorityclasses",
        kind: "PriorityClass",
        short: &["pc"],
        scope: Scope::Cluster,
        ..ROW
    },
    Row {
        group: "storage.k8s.io",
        plural: "storageclasses",
        kind: "StorageClass",
        short: &["sc"],
        scope: Scope::Cluster,
        ..ROW
    },
];

/// Every built-in resource, in discovery order.
pub fn resources() -> Vec<Resource> {
    ROWS.iter().map(resource).collect()
}

/// Group and version of a subresource's kind from another group.
fn foreign(kind: &str) -> Option<(String, String)> {
    let group = match kind {
        "Eviction" => "policy",
        "TokenRequest" => "authentication.k8s.io",
        _ => return None,
    };
    Some((group.to_owned(), VERSION.to_owned()))
}

fn resource(row: &Row) -> Resource {
    let subresources = row
        .sub
        .iter()
        .map(|(name, kind, verbs)| Subresource {
            name: (*name).to_owned(),
            kind: (*kind).to_owned(),
            group_version: foreign(kind),
            verbs,
        })
        .collect();
    let strings = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    // Events of both groups are the same objects.
    let table = if row.group.is_empty() || row.plural == "events" { "core" } else { row.group };
    Resource {
        group: row.group.to_owned(),
        plural: row.plural.to_owned(),
        singular: row.kind.to_lowercase(),
        kind: row.kind.to_owned(),
        list_kind: format!("{}List", row.kind),
        short_names: strings(row.short),
        categories: strings(row.categories),
        scope: row.scope,
        origin: Origin::Builtin,
        versions: vec![Version {
            name: VERSION.to_owned(),
            served: true,
            deprecation_warning: None,
            schema: None,
            structural: None,
            subresources,
            columns: Vec::new(),
            selectable_fields: strings(row.selectable),
            scale: None,
            withdrawn: CancellationToken::new(),
        }],
        storage_version: VERSION.to_owned(),
        verbs: row.verbs,
        storage: format!("{table}/{}", row.plural).into(),
        since: 0,
        terminating: false,
    }
}
