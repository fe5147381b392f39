//! What admission is asked and what it answers.

use fv_api::config::ClusterConfig;
use jiff::Timestamp;
use serde_json::Value;

use crate::json;

/// The kinds admission knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    VirtualMachine,
    VirtualMachineInstance,
}

impl Kind {
    /// The kind of this name in group `kubevirt.io`.
    pub fn parse(kind: &str) -> Option<Self> {
        match kind {
            "VirtualMachine" => Some(Self::VirtualMachine),
            "VirtualMachineInstance" => Some(Self::VirtualMachineInstance),
            _ => None,
        }
    }

    /// Its name in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::VirtualMachine => "VirtualMachine",
            Self::VirtualMachineInstance => "VirtualMachineInstance",
        }
    }

    /// Its name in messages of the API: plural, lower case.
    pub fn resource(self) -> &'static str {
        match self {
            Self::VirtualMachine => "virtualmachines",
            Self::VirtualMachineInstance => "virtualmachineinstances",
        }
    }
}

/// What is being done to the object. Patches and applies are updates (or creates).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
}

/// One write to be admitted. The object itself is an argument of its own.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub operation: Operation,
    pub kind: Kind,
    /// `Some("status")` for writes to the status subresource; those are not for defaults or spec validation.
    pub subresource: Option<&'a str>,
    /// Namespace of the object.
    pub namespace: &'a str,
    /// Who writes, as the connection states it; components are [`fv_api::meta::users`].
    pub user: &'a str,
    /// The stored object; `None` on create.
    pub old: Option<&'a Value>,
    pub config: &'a ClusterConfig,
    pub now: Timestamp,
}

impl Request<'_> {
    /// Whether the object is on its way out, so that nothing is asked of it any more. A new one is not, whatever its manifest says: the
    /// API server drops a deletion time that a client made up, and maybe after asking us.
    pub(crate) fn is_of_leaving(&self, object: &Value) -> bool {
        self.operation == Operation::Update && json::text(object, "metadata.deletionTimestamp").is_some()
    }
}

/// The machine-readable reason of a [`Cause`], as `metav1.CauseType` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CauseReason {
    FieldValueInvalid,
    FieldValueRequired,
    FieldValueNotFound,
    FieldValueNotSupported,
    FieldValueDuplicate,
    FieldValueForbidden,
}

impl CauseReason {
    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FieldValueInvalid => "FieldValueInvalid",
            Self::FieldValueRequired => "FieldValueRequired",
            Self::FieldValueNotFound => "FieldValueNotFound",
            Self::FieldValueNotSupported => "FieldValueNotSupported",
            Self::FieldValueDuplicate => "FieldValueDuplicate",
            Self::FieldValueForbidden => "FieldValueForbidden",
        }
    }
}

/// One reason to refuse a write.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cause {
    pub reason: CauseReason,
    /// What is wrong, and the way out.
    pub message: String,
    /// Path of the field, as `spec.template.spec.domain.devices.disks[0].name`; empty when it is about no single field.
    pub field: String,
}

/// The answer of validation: admitted when there is no cause. Warnings go to the client either way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub causes: Vec<Cause>,
    pub warnings: Vec<String>,
}

impl Verdict {
    /// Whether the write may go on.
    pub fn is_admitted(&self) -> bool {
        self.causes.is_empty()
    }
}
