//! Between the form an object is stored in and the version a client speaks.
//!
//! Versions of a custom resource differ in `apiVersion` (conversion strategy None) and in what their schemas keep and fill in: objects of
//! another version, and those written before the definition changed, are given what the schema says when they are read. Events are stored once and served by two
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
    if !is_current(resource, object) {
        normalise(resource, &resource.storage_version, &mut value);
    }
    if differs(resource, version) {
        normalise(resource, version, &mut value);
    }
    if resource.group == "events.k8s.io" {
        rename(object_mut(&mut value), |(core, modern)| (core, modern));
    }
    set_type(resource, version, &mut value);
    Ok(value)
}

/// Turns a value of any version into the form it is stored in.
pub(crate) fn to_storage(resource: &Resource, value: &Value) -> Value {
    let mut value = value.clone();
    if resource.group == "events.k8s.io" {
        rename(object_mut(&mut value), |(core, modern)| (modern, core));
        object_mut(&mut value).insert("apiVersion".into(), json!("v1"));
        return value;
    }
    let storage = &resource.storage_version;
    let own = value.get("apiVersion").and_then(Value::as_str);
    let own = resource.versions.iter().find(|version| own == Some(&*resource.api_version(&version.name)));
    if own.is_some_and(|own| differs(resource, &own.name)) {
        normalise(resource, storage, &mut value);
    }
    set_type(resource, storage, &mut value);
    value
}

/// Whether the object was written as the definition of its kind now says.
pub(crate) fn is_current(resource: &Resource, object: &Object) -> bool {
    object.revision > resource.since
}

/// Whether a write that changes nothing would still store something else: the object as the definition now says.
pub(crate) fn is_stale(resource: &Resource, object: &Object, value: &Value) -> bool {
    !is_current(resource, object)
        && serde_json::from_slice::<Value>(&object.body).is_ok_and(|stored| stored != to_storage(resource, value))
}

/// Whether a custom resource's version has another schema than the one it is stored in.
fn differs(resource: &Resource, version: &str) -> bool {
    let schema = |name: &str| resource.version(name).and_then(|version| version.structural.as_ref());
    version != resource.storage_version
        && match (schema(version), schema(&resource.storage_version)) {
            (Some(own), Some(stored)) => !own.is(stored),
            _ => false,
        }
}

/// Drops what a version's schema does not know, and fills in its defaults.
fn normalise(resource: &Resource, version: &str, value: &mut Value) {
    if let Some(schema) = resource.version(version).and_then(|version| version.structural.as_ref()) {
        schema.normalise(value);
    }
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

/// Whether the stored bytes of an object that [`is_current`] can be sent as they are.
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
