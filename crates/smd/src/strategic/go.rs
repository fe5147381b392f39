//! Values as Kubernetes prints them in its refusals.

use serde_json::{Map, Value};

pub(super) fn value(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => list(items),
        Value::Object(fields) => map(fields),
        plain => plain.to_string(),
    }
}

pub(super) fn list(items: &[Value]) -> String {
    format!("[{}]", items.iter().map(value).collect::<Vec<_>>().join(" "))
}

pub(super) fn map(fields: &Map<String, Value>) -> String {
    let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
    fields.sort_by_key(|(key, _)| *key);
    let fields: Vec<String> = fields.into_iter().map(|(key, field)| format!("{key}:{}", value(field))).collect();
    format!("map[{}]", fields.join(" "))
}

/// A value where a text was expected.
pub(super) fn text(given: &Value) -> String {
    match given {
        Value::String(text) => text.clone(),
        Value::Null => kind(given).to_owned(),
        Value::Bool(_) | Value::Number(_) => format!("%!s({}={given})", kind(given)),
        Value::Array(items) => format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let mut fields: Vec<String> = fields.iter().map(|(key, field)| format!("{key}:{}", text(field))).collect();
            fields.sort();
            format!("map[{}]", fields.join(" "))
        }
    }
}

/// The type of a value.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
