//! Field errors in the wording of Kubernetes.

use std::fmt::{self, Write as _};

use serde::Serialize;
use serde_json::Value;

/// The machine-readable reason of a [`Cause`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum CauseReason {
    /// A required value is missing.
    #[serde(rename = "FieldValueRequired")]
    Required,
    /// A value collides with another that must differ.
    #[serde(rename = "FieldValueDuplicate")]
    Duplicate,
    /// A malformed value.
    #[serde(rename = "FieldValueInvalid")]
    Invalid,
    /// A value outside an enumeration.
    #[serde(rename = "FieldValueNotSupported")]
    NotSupported,
    /// A value not permitted here.
    #[serde(rename = "FieldValueForbidden")]
    Forbidden,
    /// A too long value.
    #[serde(rename = "FieldValueTooLong")]
    TooLong,
    /// Too many items.
    #[serde(rename = "FieldValueTooMany")]
    TooMany,
    /// A value of the wrong JSON type.
    #[serde(rename = "FieldValueTypeInvalid")]
    TypeInvalid,
    /// A reference to something that does not exist.
    #[serde(rename = "FieldValueNotFound")]
    NotFound,
}

impl CauseReason {
    /// The reason as it stands in a Status.
    pub fn code(self) -> &'static str {
        match self {
            CauseReason::Required => "FieldValueRequired",
            CauseReason::Duplicate => "FieldValueDuplicate",
            CauseReason::Invalid => "FieldValueInvalid",
            CauseReason::NotSupported => "FieldValueNotSupported",
            CauseReason::Forbidden => "FieldValueForbidden",
            CauseReason::TooLong => "FieldValueTooLong",
            CauseReason::TooMany => "FieldValueTooMany",
            CauseReason::TypeInvalid => "FieldValueTypeInvalid",
            CauseReason::NotFound => "FieldValueNotFound",
        }
    }

    fn words(self) -> &'static str {
        match self {
            CauseReason::Required => "Required value",
            CauseReason::Duplicate => "Duplicate value",
            CauseReason::Invalid | CauseReason::TypeInvalid => "Invalid value",
            CauseReason::NotSupported => "Unsupported value",
            CauseReason::Forbidden => "Forbidden",
            CauseReason::TooLong => "Too long",
            CauseReason::TooMany => "Too many",
            CauseReason::NotFound => "Not found",
        }
    }
}

/// One thing wrong with an object: an element of `details.causes` of a 422 Status.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Cause {
    /// Reason.
    pub reason: CauseReason,
    /// Text without the field's path.
    pub message: String,
    /// Path, such as `spec.template.spec.domain`.
    pub field: String,
}

impl Cause {
    /// A required value is missing.
    pub fn required(field: impl Into<String>, detail: &str) -> Cause {
        Cause::without_value(CauseReason::Required, field, detail)
    }

    /// A malformed value.
    pub fn invalid(field: impl Into<String>, value: &Value, detail: &str) -> Cause {
        Cause::with_value(CauseReason::Invalid, field, value, detail)
    }

    /// A malformed value too large to be shown.
    pub(crate) fn invalid_value(field: impl Into<String>, detail: &str) -> Cause {
        Cause::without_value(CauseReason::Invalid, field, detail)
    }

    /// A repeated value too large to be shown.
    pub(crate) fn duplicate_value(field: impl Into<String>) -> Cause {
        Cause::without_value(CauseReason::Duplicate, field, "")
    }

    /// Something not permitted here.
    pub fn forbidden(field: impl Into<String>, detail: &str) -> Cause {
        Cause::without_value(CauseReason::Forbidden, field, detail)
    }

    /// A value that must be unique and is not.
    pub fn duplicate(field: impl Into<String>, value: &Value) -> Cause {
        Cause::with_value(CauseReason::Duplicate, field, value, "")
    }

    /// A value outside an enumeration.
    pub fn not_supported(field: impl Into<String>, value: &Value, supported: &[String]) -> Cause {
        let list: Vec<String> = supported.iter().map(|s| quote(s)).collect();
        let detail = if list.is_empty() { String::new() } else { format!("supported values: {}", list.join(", ")) };
        Cause::with_value(CauseReason::NotSupported, field, value, &detail)
    }

    /// A too long value.
    pub fn too_long(field: impl Into<String>, max: u64) -> Cause {
        let unit = if max == 1 { "byte" } else { "bytes" };
        Cause::without_value(CauseReason::TooLong, field, &format!("may not be more than {max} {unit}"))
    }

    /// Too many items.
    pub fn too_many(field: impl Into<String>, actual: u64, max: u64) -> Cause {
        let unit = if max == 1 { "item" } else { "items" };
        Cause::with_value(CauseReason::TooMany, field, &Value::from(actual), &format!("must have at most {max} {unit}"))
    }

    /// A value of the wrong type; by custom the message shows the type found, not the value.
    pub fn type_invalid(field: impl Into<String>, expected: &str, found: &str) -> Cause {
        let field = field.into();
        let detail = format!("{field} in body must be of type {expected}: {}", quote(found));
        Cause::with_value(CauseReason::TypeInvalid, field, &Value::from(found), &detail)
    }

    /// A text that does not have its format.
    pub(crate) fn bad_format(field: impl Into<String>, value: &Value, detail: &str) -> Cause {
        Cause::with_value(CauseReason::TypeInvalid, field, value, detail)
    }

    fn without_value(reason: CauseReason, field: impl Into<String>, detail: &str) -> Cause {
        let mut message = reason.words().to_owned();
        if !detail.is_empty() {
            let _ = write!(message, ": {detail}");
        }
        Cause { reason, message, field: field.into() }
    }

    fn with_value(reason: CauseReason, field: impl Into<String>, value: &Value, detail: &str) -> Cause {
        let shown = match value {
            Value::String(text) => quote(text),
            other => other.to_string(),
        };
        let mut message = format!("{}: {shown}", reason.words());
        if !detail.is_empty() {
            let _ = write!(message, ": {detail}");
        }
        Cause { reason, message, field: field.into() }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// `<Kind>.<group> "<name>" is invalid: …`, the message of a 422 Status.
pub fn invalid_message(qualified_kind: &str, name: &str, causes: &[Cause]) -> String {
    let mut texts: Vec<String> = Vec::new();
    for cause in causes {
        let text = cause.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    let head = format!("{qualified_kind} {} is invalid", quote(name));
    match texts.as_slice() {
        [] => head,
        [one] => format!("{head}: {one}"),
        many => format!("{head}: [{}]", many.join(", ")),
    }
}

/// A Go-like quoted string.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 || c == '\u{7f}' => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
