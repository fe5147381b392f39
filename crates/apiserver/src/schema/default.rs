//! Defaulting, with Kubernetes' treatment of null: a null where null is not allowed means "not set". It is dropped, or, where
//! there is a default, replaced by it.

use serde_json::Value;

use super::{Additional, Node, NodeId, Structural, Type};

/// Removes nulls that are neither allowed nor replaced by a default. In a built-in kind an optional list or map that is empty
/// is not written either.
pub(crate) fn drop_nulls(schema: &Structural, id: NodeId, value: &mut Value) {
    let node = schema.node(id);
    match value {
        Value::Object(map) => {
            if let (true, Additional::Schema(sub)) = (schema.typed, &node.additional)
                && schema.node(*sub).ty == Type::String
            {
                // Go reads a null in a map of strings as the empty string.
                map.values_mut().filter(|v| v.is_null()).for_each(|v| *v = Value::from(""));
            }
            map.retain(|name, value| match (node.field(name), &*value) {
                (Some(sub), Value::Null) => {
                    let sub = schema.node(sub);
                    sub.nullable || sub.default.is_some()
                }
                (Some(sub), Value::Array(list)) if schema.typed && list.is_empty() => {
                    // With an empty list of managed fields a client gives them up.
                    name == "managedFields" || required(node, name) || schema.node(sub).ty != Type::Array
                }
                (Some(sub), Value::Object(map)) if schema.typed && map.is_empty() => {
                    required(node, name) || !matches!(schema.node(sub).additional, Additional::Schema(_))
                }
                _ => true,
            });
            for (name, value) in map.iter_mut() {
                if let Some(sub) = node.field(name) {
                    drop_nulls(schema, sub, value);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = node.items {
                for value in list {
                    drop_nulls(schema, items, value);
                }
            }
        }
        _ => {}
    }
}

fn required(node: &Node, name: &str) -> bool {
    node.required.iter().any(|field| **field == *name)
}

/// Fills in defaults, outside in: a default object is itself completed by the defaults of its fields.
pub(crate) fn fill(schema: &Structural, id: NodeId, value: &mut Value) {
    let node = schema.node(id);
    match value {
        Value::Object(map) => {
            for (name, sub) in &node.properties {
                let sub = schema.node(*sub);
                let Some(default) = &sub.default else { continue };
                match map.get_mut(&**name) {
                    None => {
                        map.insert(name.to_string(), (**default).clone());
                    }
                    Some(value) if value.is_null() && !sub.nullable => *value = (**default).clone(),
                    Some(_) => {}
                }
            }
            for (name, value) in map.iter_mut() {
                if let Some(sub) = node.field(name) {
                    replace_null(schema, sub, value);
                    fill(schema, sub, value);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = node.items {
                for value in list {
                    replace_null(schema, items, value);
                    fill(schema, items, value);
                }
            }
        }
        _ => {}
    }
}

fn replace_null(schema: &Structural, id: NodeId, value: &mut Value) {
    let node = schema.node(id);
    if value.is_null()
        && !node.nullable
        && let Some(default) = &node.default
    {
        *value = (**default).clone();
    }
}
