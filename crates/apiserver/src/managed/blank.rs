//! What an object of a kind has before anybody wrote into it.
//!
//! A field that is there from the start is not owned by whoever fills it, only what is in it is. For built-in kinds that is what
//! the zero value of the Go type has when it is written: structs and required fields.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use crate::meta::object_mut;
use crate::registry::Resource;
use crate::schema::{NodeId, Structural, Type, builtin};

/// Deepest nesting of required fields.
const MAX_DEPTH: usize = 8;

/// The blank object.
pub(super) fn blank(resource: &Resource, version: &str) -> Value {
    let mut object = match builtin::schema(&resource.group, version, &resource.kind) {
        Some(schema) if resource.builtin() => fields(schema, schema.root(), 0),
        _ => Map::new(),
    };
    if resource.builtin() && resource.kind == "PersistentVolumeClaim" {
        // A struct though it is optional; the schema does not tell such from pointers.
        object.insert("spec".into(), json!({"resources": {}}));
    }
    object.insert("apiVersion".into(), json!(resource.api_version(version)));
    object.insert("kind".into(), json!(resource.kind));
    Value::Object(object)
}

/// The object with what it would have if it were blank.
pub(super) fn filled<'v>(object: &'v Value, blank: &Value) -> Cow<'v, Value> {
    let mut object = Cow::Borrowed(object);
    for (name, value) in blank.as_object().into_iter().flatten() {
        if object.get(name).is_none() {
            object_mut(object.to_mut()).insert(name.clone(), value.clone());
        }
    }
    object
}

fn fields(schema: &Structural, id: NodeId, depth: usize) -> Map<String, Value> {
    let node = schema.node(id);
    let mut out = Map::new();
    for (name, sub) in &node.properties {
        let top = depth == 0 && matches!(&**name, "metadata" | "spec" | "status");
        if depth < MAX_DEPTH && (top || node.required.contains(name)) {
            out.insert(name.to_string(), zero(schema, *sub, depth + 1));
        }
    }
    out
}

fn zero(schema: &Structural, id: NodeId, depth: usize) -> Value {
    let node = schema.node(id);
    let time = node.rules.as_ref().is_some_and(|rules| rules.format.as_deref() == Some("date-time"));
    match node.ty {
        Type::Object if !node.properties.is_empty() => Value::Object(fields(schema, id, depth)),
        Type::String if !time => json!(""),
        Type::Integer | Type::Number => json!(0),
        Type::Boolean => json!(false),
        Type::Any | Type::Object | Type::Array | Type::String | Type::IntOrString => Value::Null,
    }
}
