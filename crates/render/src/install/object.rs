//! One object of an installation.

use std::fmt;

use serde_json::Value;

/// When an object is installed; also the order of [`super::Install::objects`]. Removal goes the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// CustomResourceDefinitions.
    Definitions,
    /// Service accounts, roles and their bindings.
    Access,
    /// Services, the priority class, policies.
    Services,
    /// Authority and certificates.
    Certificates,
    /// virt-api.
    Api,
    /// What makes the API server call virt-api; only once that answers.
    Registration,
    /// virt-controller.
    Controller,
    /// virt-handler.
    Handler,
    /// What others watch over all this by: nothing waits for it, and it is silent before anything goes.
    Monitoring,
}

impl Stage {
    pub const ALL: [Self; 9] = [
        Self::Definitions,
        Self::Access,
        Self::Services,
        Self::Certificates,
        Self::Api,
        Self::Registration,
        Self::Controller,
        Self::Handler,
        Self::Monitoring,
    ];
}

/// What an object is called: its place in the API, without a version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// Empty for the core group.
    pub group: String,
    pub kind: String,
    /// Empty for what belongs to no namespace.
    pub namespace: String,
    pub name: String,
}

impl ObjectId {
    /// The name of an object of the API.
    pub fn of(value: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let version = text(&value["apiVersion"]);
        Self {
            group: version.split_once('/').map(|(group, _)| group.to_owned()).unwrap_or_default(),
            kind: text(&value["kind"]),
            namespace: text(&value["metadata"]["namespace"]),
            name: text(&value["metadata"]["name"]),
        }
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

/// An object to install.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    pub stage: Stage,
    pub value: Value,
}

impl Object {
    pub(super) fn new(stage: Stage, value: Value) -> Self {
        Self { stage, value }
    }

    pub fn id(&self) -> ObjectId {
        ObjectId::of(&self.value)
    }
}
