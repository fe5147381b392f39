//! Reading and filling in JSON without fear of its shape.

use serde_json::{Map, Value};

/// The value at a path of object keys.
pub(crate) fn get<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, key| value.get(key))
}

/// The text at a path; an empty one counts as absent, as in upstream's types.
pub(crate) fn text<'a>(value: &'a Value, path: &str) -> Option<&'a str> {
    get(value, path).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// The list at a path; empty when absent.
pub(crate) fn list<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    get(value, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The items of the list at a path, to change.
pub(crate) fn items_mut<'a>(value: &'a mut Value, path: &str) -> impl Iterator<Item = &'a mut Value> {
    get_mut(value, path).and_then(Value::as_array_mut).into_iter().flatten()
}

/// The value at a path of object keys, to change.
pub(crate) fn get_mut<'a>(value: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.').try_fold(value, |value, key| value.get_mut(key))
}

/// The object at a path, made when absent or null; `None` when something else is in the way.
pub(crate) fn object<'a>(value: &'a mut Value, path: &str) -> Option<&'a mut Map<String, Value>> {
    let mut value = value;
    for key in path.split('.').filter(|key| !key.is_empty()) {
        if value.is_null() {
            *value = Value::Object(Map::new());
        }
        value = value.as_object_mut()?.entry(key).or_insert(Value::Null);
    }
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut()
}

/// Puts a value at a path where there is none; zero values of upstream's types (null, empty text, 0) count as none.
pub(crate) fn default(value: &mut Value, path: &str, default: impl Into<Value>) {
    let (parent, key) = path.rsplit_once('.').unwrap_or(("", path));
    let Some(parent) = object(value, parent) else { return };
    let absent = match parent.get(key) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Number(number)) => number.as_i64() == Some(0),
        Some(_) => false,
    };
    if absent {
        parent.insert(key.to_owned(), default.into());
    }
}

/// Whether the feature at a path is wanted: there, and not switched off.
pub(crate) fn is_enabled(value: &Value, path: &str) -> bool {
    get(value, path).is_some_and(|state| state.is_object() && state.get("enabled") != Some(&Value::Bool(false)))
}
