//! Between the form an object is stored in and the version a client speaks.
//!
//! Versions of a custom resource differ in `apiVersion` only (conversion strategy None). Events are stored once and served by two
//! groups, whose fields have different names.

use serde_json::{Map, Value, json};

use crate::meta::object_mut;
use crate::registry::Resource;
use crate::status::Status;
use crate::store::Object;

/// Fields of an event: name in core, name in `events.k8s.io`.
const EVENT_FIELDS: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("count", "deprecatedCount"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("source", "deprecatedSource"),
];

/// The stored object in a version.
pub(crate) fn decode(resource: &Resource, version: &str, object: &Object) -> Result<Value, Status> {
    let mut value: Value = serde_json::from_slice(&object.body)
        .map_err(|e| Status::internal(format!("stored {} {} cannot be read: {e}", resource.qualified(), object.key)))?;
    present(resource, version, &mut value);
    Ok(value)
}

/// Turns a value from its stored form into a version, in place.
pub(crate) fn present(resource: &Resource, version: &str, value: &mut Value) {
    if resource.group == "events.k8s.io" {
        rename(object_mut(value), |(core, modern)| (core, modern));
    }
    set_type(resource, version, value);
}

/// Turns a value of any version into the form it is stored in.
pub(crate) fn to_storage(resource: &Resource, value: &Value) -> Value {
    let mut value = value.clone();
    if resource.group == "events.k8s.io" {
        rename(object_mut(&mut value), |(core, modern)| (modern, core));
        object_mut(&mut value).insert("apiVersion".into(), json!("v1"));
    } else {
        set_type(resource, &resource.storage_version, &mut value);
    }
    value
}

/// The object in another version of its kind, named by the `apiVersion`.
pub(crate) fn in_version(value: &Value, api_version: &str) -> Value {
    let mut value = value.clone();
    let object = object_mut(&mut value);
    match (object.get("apiVersion").and_then(Value::as_str), api_version) {
        (Some("v1"), "events.k8s.io/v1") => rename(object, |(core, modern)| (core, modern)),
        (Some("events.k8s.io/v1"), "v1") => rename(object, |(core, modern)| (modern, core)),
        _ => {}
    }
    object.insert("apiVersion".into(), json!(api_version));
    value
}

/// Whether the stored bytes can be sent as they are.
pub(crate) fn same_as_stored(resource: &Resource, version: &str) -> bool {
    resource.group != "events.k8s.io" && version == resource.storage_version
}

fn set_type(resource: &Resource, version: &str, value: &mut Value) {
    let object = object_mut(value);
    let api_version = json!(resource.api_version(version));
    let kind = json!(resource.kind);
    if object.get("apiVersion") == Some(&api_version) && object.get("kind") == Some(&kind) {
        return;
    }
    // First in the object, where people look for them.
    object.shift_remove("apiVersion");
    object.shift_remove("kind");
    object.shift_insert(0, "apiVersion".into(), api_version);
    object.shift_insert(1, "kind".into(), kind);
}

fn rename(
    object: &mut Map<String, Value>,
    direction: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str),
) {
    for pair in EVENT_FIELDS {
        let (from, to) = direction(*pair);
        if let Some(value) = object.shift_remove(from) {
            object.insert(to.to_owned(), value);
        }
    }
}
