//! One served resource: names, scope, versions, subresources and printer columns.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

/// Whether objects of a resource live in namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Objects live in namespaces.
    Namespaced,
    /// Objects belong to the whole cluster.
    Cluster,
}

/// Who brought a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Compiled in.
    Builtin,
    /// Defined by the CustomResourceDefinition of this name.
    Crd(String),
}

/// A resource (`pods`, `virtualmachines.kubevirt.io`) in all its versions.
#[derive(Debug, Clone)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: String,
    /// Plural name, as in paths.
    pub plural: String,
    /// Singular name.
    pub singular: String,
    /// Kind of one object.
    pub kind: String,
    /// Kind of a list.
    pub list_kind: String,
    /// Short names, such as `po`.
    pub short_names: Vec<String>,
    /// Categories, such as `all`.
    pub categories: Vec<String>,
    /// Scope of the objects.
    pub scope: Scope,
    /// Built in or custom.
    pub origin: Origin,
    /// Served and unserved versions, in discovery order (preferred version first).
    pub versions: Vec<Version>,
    /// Name of the version objects are stored in.
    pub storage_version: String,
    /// Verbs on the main resource, as discovery lists them.
    pub verbs: &'static [&'static str],
    /// Table of the store which holds the objects, `group/plural`; two resources may share one (events).
    pub storage: Arc<str>,
    /// The revision of the store after which every object was written as the definition now says; older ones may have been written in
    /// another version, or with another schema.
    pub since: u64,
    /// The definition is being deleted: no object may be created any more.
    pub terminating: bool,
}

/// One version of a resource.
#[derive(Debug, Clone)]
pub struct Version {
    /// `v1`, `v1alpha3`, …
    pub name: String,
    /// Whether requests may use this version.
    pub served: bool,
    /// Text of the `Warning:` header for users of a deprecated version.
    pub deprecation_warning: Option<String>,
    /// `openAPIV3Schema` of a custom resource as JSON text, which is an order of magnitude smaller than its value; `None` for
    /// built-in kinds, whose schemas are tables of the `schema` module.
    pub schema: Option<Arc<str>>,
    /// The parsed schema of a custom resource.
    pub structural: Option<crate::schema::Structural>,
    /// Subresources, such as `status`.
    pub subresources: Vec<Subresource>,
    /// `additionalPrinterColumns` of a custom resource; built-in kinds have theirs in the `table` module.
    pub columns: Vec<PrinterColumn>,
    /// JSON paths of additional field selectors (without the leading dot).
    pub selectable_fields: Vec<String>,
    /// JSON paths of the scale subresource (without the leading dot).
    pub scale: Option<ScalePaths>,
    /// Cancelled when this version is served no more; its watches end then, as Kubernetes' do.
    pub withdrawn: CancellationToken,
}

/// A subresource as discovery lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subresource {
    /// `status`, `binding`, `log`, …
    pub name: String,
    /// Kind of the body.
    pub kind: String,
    /// Group and version of that kind where it differs from the resource's own.
    pub group_version: Option<(String, String)>,
    /// Verbs.
    pub verbs: &'static [&'static str],
}

/// Where a custom resource keeps the values of its `scale` subresource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalePaths {
    /// Desired replicas, under `spec`.
    pub spec_replicas: String,
    /// Observed replicas, under `status`.
    pub status_replicas: String,
    /// Serialised label selector.
    pub label_selector: Option<String>,
}

/// One entry of `additionalPrinterColumns`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrinterColumn {
    /// Header.
    pub name: String,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub column_type: String,
    /// OpenAPI format, often empty.
    pub format: String,
    /// Help text.
    pub description: String,
    /// 0 = always shown, above = only with `-o wide`.
    pub priority: i64,
    /// JSON path, such as `.status.phase`.
    pub json_path: String,
}

impl Resource {
    /// `pods` or `virtualmachines.kubevirt.io`: the form used in messages.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// `Pod` or `VirtualMachine.kubevirt.io`: the form used in validation messages.
    pub fn qualified_kind(&self) -> String {
        if self.group.is_empty() { self.kind.clone() } else { format!("{}.{}", self.kind, self.group) }
    }

    /// The version of this name, served or not.
    pub fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|v| v.name == name)
    }

    /// The `apiVersion` of objects in this version.
    pub fn api_version(&self, version: &str) -> String {
        group_version(&self.group, version)
    }

    /// Whether objects are stored as those of the other are: in the same version, with the same schema.
    pub fn stores_as(&self, other: &Resource) -> bool {
        let schema = |resource: &Resource| resource.version(&resource.storage_version).map(|v| v.schema.clone());
        self.storage_version == other.storage_version && schema(self) == schema(other)
    }

    /// Whether objects live in namespaces.
    pub fn namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    /// Whether the kind is compiled in.
    pub fn builtin(&self) -> bool {
        self.origin == Origin::Builtin
    }
}

impl Version {
    /// The subresource of this name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// Whether status is written apart from the rest.
    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }
}

/// `group/version`, or only the version in the core group.
pub fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}
