//! Paths of fields, and the list of causes that grows while an object is looked through.

use std::fmt;

use crate::request::{Cause, CauseReason};

/// Path of a field, as `spec.domain.devices.disks[0].name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field(String);

impl Field {
    pub(crate) fn new(path: &str) -> Self {
        Self(path.to_owned())
    }

    /// A field (or a dotted path of fields) below this one.
    pub(crate) fn child(&self, path: &str) -> Self {
        if self.0.is_empty() { Self::new(path) } else { Self(format!("{}.{path}", self.0)) }
    }

    /// An item of this list.
    pub(crate) fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The causes found so far.
#[derive(Debug, Default)]
pub(crate) struct Causes(Vec<Cause>);

impl Causes {
    pub(crate) fn add(&mut self, reason: CauseReason, field: &Field, message: impl Into<String>) {
        self.0.push(Cause { reason, message: message.into(), field: field.0.clone() });
    }

    pub(crate) fn invalid(&mut self, field: &Field, message: impl Into<String>) {
        self.add(CauseReason::FieldValueInvalid, field, message);
    }

    pub(crate) fn required(&mut self, field: &Field, message: impl Into<String>) {
        self.add(CauseReason::FieldValueRequired, field, message);
    }

    pub(crate) fn not_supported(&mut self, field: &Field, message: impl Into<String>) {
        self.add(CauseReason::FieldValueNotSupported, field, message);
    }

    pub(crate) fn duplicate(&mut self, field: &Field, message: impl Into<String>) {
        self.add(CauseReason::FieldValueDuplicate, field, message);
    }

    /// A value upstream knows and we do not implement, with the way out.
    pub(crate) fn unimplemented(&mut self, field: &Field, value: &str, way_out: &str) {
        self.not_supported(field, format!("{field}: {value} is not supported yet by Ferrovirt: {way_out}"));
    }

    pub(crate) fn into_vec(self) -> Vec<Cause> {
        self.0
    }
}
