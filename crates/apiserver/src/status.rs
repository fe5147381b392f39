//! `metav1.Status`: how every failure is told to clients.

mod constructors;

use std::ops::{Deref, DerefMut};

use serde_json::{Map, Value, json};

/// One entry of `details.causes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Machine-readable reason, such as `FieldValueRequired`.
    pub reason: String,
    /// Text for people.
    pub message: String,
    /// Path of the field, such as `spec.containers[0].name`.
    pub field: String,
}

/// A failure (or, rarely, a success without an object), as JSON `v1.Status`. Small to return: the parts live in a box, and are
/// read and written through it as fields.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.message)]
pub struct Status(Box<Parts>);

/// The fields of a [`Status`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parts {
    /// HTTP status code.
    pub code: u16,
    /// `NotFound`, `AlreadyExists`, …; empty when Kubernetes knows no reason for the code.
    pub reason: String,
    /// Text for people.
    pub message: String,
    /// Name of the object.
    pub name: String,
    /// Group of the object.
    pub group: String,
    /// Resource or kind of the object.
    pub kind: String,
    /// UID of the object.
    pub uid: String,
    /// Single problems.
    pub causes: Vec<Cause>,
    /// Whether `details` is written even when it says nothing, as Kubernetes' router does.
    pub bare_details: bool,
    /// When to try again; 0 = unsaid.
    pub retry_after_seconds: u32,
    /// Token with which an expired list may go on inconsistently.
    pub continue_token: Option<String>,
}

impl Deref for Status {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl DerefMut for Status {
    fn deref_mut(&mut self) -> &mut Parts {
        &mut self.0
    }
}

impl From<crate::schema::Cause> for Cause {
    fn from(cause: crate::schema::Cause) -> Self {
        Cause { reason: cause.reason.code().into(), message: cause.message, field: cause.field }
    }
}

impl Cause {
    /// A cause.
    pub fn new(reason: impl Into<String>, message: impl Into<String>, field: impl Into<String>) -> Self {
        Cause { reason: reason.into(), message: message.into(), field: field.into() }
    }
}

impl Status {
    /// A failure with a code, reason and message.
    pub fn new(code: u16, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Status(Box::new(Parts { code, reason: reason.into(), message: message.into(), ..Parts::default() }))
    }

    /// Names the object in `details`.
    pub fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        self.group = group.to_owned();
        self.kind = kind.to_owned();
        self.name = name.to_owned();
        self
    }

    /// The JSON object clients get.
    pub fn to_json(&self) -> Value {
        let mut metadata = Map::new();
        if let Some(token) = &self.continue_token {
            metadata.insert("continue".into(), json!(token));
        }
        let mut status = Map::new();
        status.insert("kind".into(), json!("Status"));
        status.insert("apiVersion".into(), json!("v1"));
        status.insert("metadata".into(), Value::Object(metadata));
        status.insert("status".into(), json!(if self.code < 400 { "Success" } else { "Failure" }));
        let mut put = |key: &str, text: &str| {
            if !text.is_empty() {
                status.insert(key.into(), json!(text));
            }
        };
        put("message", &self.message);
        put("reason", &self.reason);
        let details = self.details();
        if self.bare_details || !details.is_empty() {
            status.insert("details".into(), Value::Object(details));
        }
        status.insert("code".into(), json!(self.code));
        Value::Object(status)
    }

    fn details(&self) -> Map<String, Value> {
        let mut details = Map::new();
        for (key, text) in [("name", &self.name), ("group", &self.group), ("kind", &self.kind), ("uid", &self.uid)] {
            if !text.is_empty() {
                details.insert(key.into(), json!(text));
            }
        }
        if !self.causes.is_empty() {
            let causes = self.causes.iter().map(Cause::to_json).collect();
            details.insert("causes".into(), Value::Array(causes));
        }
        if self.retry_after_seconds > 0 {
            details.insert("retryAfterSeconds".into(), json!(self.retry_after_seconds));
        }
        details
    }
}

impl Cause {
    fn to_json(&self) -> Value {
        let mut cause = Map::new();
        for (key, text) in [("reason", &self.reason), ("message", &self.message), ("field", &self.field)] {
            if !text.is_empty() {
                cause.insert(key.into(), json!(text));
            }
        }
        Value::Object(cause)
    }
}
