//! Words of JSON schema that definitions may not use, or only in some places.

use serde_json::{Map, Value, json};

use crate::schema::Cause;

const UNSUPPORTED: [&str; 6] = ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"];

/// Checks a schema and everything below it.
pub(super) fn check(schema: &Map<String, Value>, path: &str, causes: &mut Vec<Cause>) {
    if schema.get("nullable") == Some(&Value::Bool(true)) {
        causes.push(Cause::forbidden(format!("{path}.nullable"), "nullable cannot be true at the root"));
    }
    for name in ["apiVersion", "kind", "metadata"] {
        if let Some(below) = schema.get("properties").and_then(|properties| properties.get(name)) {
            no_defaults(below, &format!("{path}.properties[{name}]"), name, causes);
        }
    }
    node(schema, path, causes);
}

fn no_defaults(schema: &Value, path: &str, within: &str, causes: &mut Vec<Cause>) {
    let Some(map) = schema.as_object() else { return };
    if given(map.get("default")) {
        causes.push(Cause::forbidden(format!("{path}.default"), &format!("must not be set in top-level {within}")));
    }
    for (below, at) in children(map, path) {
        no_defaults(below, &at, within, causes);
    }
}

fn node(schema: &Map<String, Value>, path: &str, causes: &mut Vec<Cause>) {
    for word in UNSUPPORTED {
        let used = match schema.get(word) {
            None | Some(Value::Null) => false,
            Some(Value::String(text)) => !text.is_empty() || word == "$ref",
            Some(Value::Object(map)) => !map.is_empty() || word != "definitions" && word != "patternProperties",
            Some(_) => true,
        };
        if used {
            causes.push(Cause::forbidden(format!("{path}.{word}"), &format!("{word} is not supported")));
        }
    }
    if schema.get("uniqueItems") == Some(&Value::Bool(true)) {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        causes.push(Cause::forbidden(format!("{path}.uniqueItems"), detail));
    }
    if schema.get("type").and_then(Value::as_str) == Some("null") {
        let detail = "type cannot be set to null, use nullable as an alternative";
        causes.push(Cause::forbidden(format!("{path}.type"), detail));
    }
    if schema.get("items").is_some_and(Value::is_array) {
        causes.push(Cause::forbidden(format!("{path}.items"), "items must be a schema object and not an array"));
    }
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        let at = format!("{path}.x-kubernetes-preserve-unknown-fields");
        causes.push(Cause::invalid(at, &json!(false), "must be true or undefined"));
    }
    maps(schema, path, causes);
    lists(schema, path, causes);
    for (below, at) in children(schema, path) {
        if let Some(below) = below.as_object() {
            node(below, &at, causes);
        }
    }
}

fn maps(schema: &Map<String, Value>, path: &str, causes: &mut Vec<Cause>) {
    let Some(kind) = schema.get("x-kubernetes-map-type").filter(|kind| !kind.is_null()) else { return };
    let ty = schema.get("type").and_then(Value::as_str).unwrap_or_default();
    if ty != "object" {
        let (at, detail) = (format!("{path}.type"), "must be object if x-kubernetes-map-type is specified");
        causes.push(if ty.is_empty() { Cause::required(at, detail) } else { Cause::invalid(at, &json!(ty), detail) });
    }
    if kind != "atomic" && kind != "granular" {
        let supported = ["atomic", "granular"].map(str::to_owned);
        causes.push(Cause::not_supported(format!("{path}.x-kubernetes-map-type"), kind, &supported));
    }
}

/// What the items of lists of type set and map may be.
fn lists(schema: &Map<String, Value>, path: &str, causes: &mut Vec<Cause>) {
    let Some(items) = schema.get("items").and_then(Value::as_object) else { return };
    let text =
        |map: &Map<String, Value>, word: &str| map.get(word).and_then(Value::as_str).unwrap_or_default().to_owned();
    let ty = text(items, "type");
    let atomic = "must be atomic as item of a list with x-kubernetes-list-type=set";
    match text(schema, "x-kubernetes-list-type").as_str() {
        "set" if ty == "array" && !["", "atomic"].contains(&text(items, "x-kubernetes-list-type").as_str()) => {
            let found = json!(text(items, "x-kubernetes-list-type"));
            causes.push(Cause::invalid(format!("{path}.items.x-kubernetes-list-type"), &found, atomic));
        }
        "set" if ty == "object" && text(items, "x-kubernetes-map-type") != "atomic" => {
            let found = json!(text(items, "x-kubernetes-map-type"));
            causes.push(Cause::invalid(format!("{path}.items.x-kubernetes-map-type"), &found, atomic));
        }
        "map" if ty != "object" => {
            let detail = "must be object if parent array's x-kubernetes-list-type is map";
            causes.push(Cause::invalid(format!("{path}.items.type"), &json!(ty), detail));
        }
        "map" => keys(schema, items, path, causes),
        _ => {}
    }
}

fn keys(schema: &Map<String, Value>, items: &Map<String, Value>, path: &str, causes: &mut Vec<Cause>) {
    let keys = schema.get("x-kubernetes-list-map-keys");
    let list = keys.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for (i, key) in list.iter().enumerate() {
        let name = key.as_str().unwrap_or_default();
        let ty = items.get("properties").and_then(|p| p.get(name)?.get("type")?.as_str()).unwrap_or_default();
        if ty == "array" || ty == "object" {
            let at = format!("{path}.items.properties[{name}].type");
            let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            causes.push(Cause::invalid(at, &json!(ty), detail));
        }
        if list[..i].contains(key) {
            let at = format!("{path}.x-kubernetes-list-map-keys");
            causes.push(Cause::invalid(at, &json!(list), "must not contain duplicate entries"));
        }
    }
}

fn given(value: Option<&Value>) -> bool {
    value.is_some_and(|value| !value.is_null())
}

/// The schemas directly below one, and where they stand.
fn children<'s>(schema: &'s Map<String, Value>, path: &str) -> Vec<(&'s Value, String)> {
    let mut found = Vec::new();
    for (name, below) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        found.push((below, format!("{path}.properties[{name}]")));
    }
    for word in ["items", "additionalProperties", "not"] {
        found.extend(schema.get(word).map(|below| (below, format!("{path}.{word}"))));
    }
    for word in ["allOf", "anyOf", "oneOf"] {
        for (i, below) in schema.get(word).and_then(Value::as_array).into_iter().flatten().enumerate() {
            found.push((below, format!("{path}.{word}[{i}]")));
        }
    }
    found
}
