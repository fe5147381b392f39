//! Whether a custom schema is *structural*: every field has a type, and combinators only restrict what is already described.

mod words;

use serde_json::{Map, Value, json};

use super::{Cause, compile};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// What makes the schema not structural, sorted by path. `path` is where the schema stands, such as
/// `spec.versions[0].schema.openAPIV3Schema`.
pub fn check_structural(schema: &Value, path: &str) -> Vec<Cause> {
    let mut causes = Vec::new();
    let Some(map) = schema.as_object() else {
        return vec![Cause::invalid(path, schema, "must be an object")];
    };
    node(map, Level::Root, path, &mut causes);
    words::check(map, path, &mut causes);
    causes.sort_by(|a, b| (&a.field, &a.message).cmp(&(&b.field, &b.message)));
    causes.dedup();
    causes
}

fn is_true(map: &Map<String, Value>, key: &str) -> bool {
    map.get(key) == Some(&Value::Bool(true))
}

fn type_of(map: &Map<String, Value>) -> &str {
    map.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn objects<'v>(map: &'v Map<String, Value>, key: &str) -> impl Iterator<Item = (&'v String, &'v Map<String, Value>)> {
    map.get(key).and_then(Value::as_object).into_iter().flatten().filter_map(|(k, v)| v.as_object().map(|v| (k, v)))
}

fn list<'v>(map: &'v Map<String, Value>, key: &str) -> impl Iterator<Item = (usize, &'v Map<String, Value>)> {
    map.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object).enumerate()
}

fn node(map: &Map<String, Value>, level: Level, path: &str, causes: &mut Vec<Cause>) {
    let ty = type_of(map);
    let int_or_string = is_true(map, "x-kubernetes-int-or-string");
    let preserve = is_true(map, "x-kubernetes-preserve-unknown-fields");
    let embedded = is_true(map, "x-kubernetes-embedded-resource");
    if ty == "array" && !map.get("items").is_some_and(Value::is_object) {
        causes.push(Cause::required(format!("{path}.items"), "must be specified"));
    }
    if let Some(items) = map.get("items").and_then(Value::as_object) {
        node(items, Level::Item, &format!("{path}.items"), causes);
    }
    for (name, sub) in objects(map, "properties") {
        let at = format!("{path}.properties[{name}]");
        if name == "metadata" && (level == Level::Root || embedded) {
            metadata(sub, level, &at, causes);
        } else {
            node(sub, Level::Field, &at, causes);
        }
        if (level == Level::Root || embedded) && (name == "kind" || name == "apiVersion") && type_of(sub) != "string" {
            causes.push(Cause::invalid(format!("{at}.type"), &json!(type_of(sub)), "must be string"));
        }
    }
    if let Some(additional) = map.get("additionalProperties").filter(|v| !v.is_null()) {
        let at = format!("{path}.additionalProperties");
        if level == Level::Root {
            causes.push(Cause::forbidden(at.clone(), "must not be used at the root"));
        }
        if embedded {
            let detail = "must not be used if x-kubernetes-embedded-resource is set";
            causes.push(Cause::forbidden(at.clone(), detail));
        }
        if objects(map, "properties").next().is_some() {
            let detail = "additionalProperties and properties are mutual exclusive";
            causes.push(Cause::forbidden(at.clone(), detail));
        }
        if additional == &Value::Bool(false) {
            causes.push(Cause::forbidden(at.clone(), "must not be false"));
        }
        if let Some(sub) = additional.as_object() {
            node(sub, Level::Field, &at, causes);
        }
    }
    if int_or_string && preserve {
        let at = format!("{path}.x-kubernetes-preserve-unknown-fields");
        causes.push(Cause::invalid(at, &json!(true), "must be false if x-kubernetes-int-or-string is true"));
    }
    if int_or_string && embedded {
        let at = format!("{path}.x-kubernetes-embedded-resource");
        causes.push(Cause::invalid(at, &json!(true), "must be false if x-kubernetes-int-or-string is true"));
    }
    type_present(map, ty, level, int_or_string, preserve, embedded, path, causes);
    lists(map, ty, path, causes);
    // The two forms in which int-or-string may name its types.
    let pair = json!([{"type": "integer"}, {"type": "string"}]);
    let skip_any_of = int_or_string && map.get("anyOf") == Some(&pair);
    let skip_all_of =
        int_or_string && list(map, "allOf").next().is_some_and(|(_, first)| first.get("anyOf") == Some(&pair));
    values(map, map, skip_any_of, skip_all_of, path, path, causes);
}

#[allow(clippy::too_many_arguments)]
fn type_present(
    map: &Map<String, Value>,
    ty: &str,
    level: Level,
    int_or_string: bool,
    preserve: bool,
    embedded: bool,
    path: &str,
    causes: &mut Vec<Cause>,
) {
    let at = format!("{path}.type");
    if embedded && ty != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        causes.push(if ty.is_empty() { Cause::required(at, detail) } else { Cause::invalid(at, &json!(ty), detail) });
    } else if ty.is_empty() && !int_or_string && !preserve {
        causes.push(Cause::required(
            at,
            match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            },
        ));
    } else if level == Level::Root && !ty.is_empty() && ty != "object" {
        causes.push(Cause::invalid(at, &json!(ty), "must be object at the root"));
    } else if !["", "object", "array", "string", "integer", "number", "boolean"].contains(&ty) {
        let supported = ["array", "boolean", "integer", "number", "object", "string"].map(str::to_owned);
        causes.push(Cause::not_supported(at, &json!(ty), &supported));
    }
    if embedded && !preserve && objects(map, "properties").next().is_none() {
        let detail =
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        causes.push(Cause::required(format!("{path}.properties"), detail));
    }
}

fn lists(map: &Map<String, Value>, ty: &str, path: &str, causes: &mut Vec<Cause>) {
    let at = format!("{path}.x-kubernetes-list-type");
    let keys: Vec<&str> = map
        .get("x-kubernetes-list-map-keys")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    match map.get("x-kubernetes-list-type").and_then(Value::as_str) {
        None => {}
        Some(kind @ ("atomic" | "set" | "map")) => {
            if ty != "array" {
                let detail = "must be array if x-kubernetes-list-type is specified";
                causes.push(Cause::invalid(format!("{path}.type"), &json!(ty), detail));
            }
            if kind == "map" {
                map_list(map, &keys, path, causes);
            }
        }
        Some(other) => {
            let supported = ["atomic", "set", "map"].map(str::to_owned);
            causes.push(Cause::not_supported(at, &json!(other), &supported));
        }
    }
    if !keys.is_empty() && map.get("x-kubernetes-list-type").and_then(Value::as_str) != Some("map") {
        let value = map.get("x-kubernetes-list-type").cloned().unwrap_or_else(|| json!(""));
        let at = format!("{path}.x-kubernetes-list-type");
        causes.push(Cause::invalid(at, &value, "must be map if x-kubernetes-list-map-keys is non-empty"));
    }
}

fn map_list(map: &Map<String, Value>, keys: &[&str], path: &str, causes: &mut Vec<Cause>) {
    let at = format!("{path}.x-kubernetes-list-map-keys");
    if keys.is_empty() {
        causes.push(Cause::required(at, "must not be empty if x-kubernetes-list-type is map"));
        return;
    }
    let Some(items) = map.get("items").and_then(Value::as_object) else { return };
    let required: Vec<&str> =
        items.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    for (i, key) in keys.iter().enumerate() {
        match objects(items, "properties").find(|(name, _)| name == key) {
            None => {
                let detail = "entries must all be names of item properties";
                causes.push(Cause::invalid(format!("{at}[{i}]"), &json!(key), detail));
            }
            Some((_, property)) => {
                if !required.contains(key) && !property.contains_key("default") {
                    let at = format!("{path}.items.properties[{key}].default");
                    let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
                    causes.push(Cause::required(at, detail));
                }
            }
        }
    }
}

/// The root's metadata is implicit; a schema may only restrict its names.
fn metadata(map: &Map<String, Value>, level: Level, path: &str, causes: &mut Vec<Cause>) {
    if type_of(map) != "object" {
        causes.push(Cause::invalid(format!("{path}.type"), &json!(type_of(map)), "must be object"));
    }
    if level != Level::Root {
        return;
    }
    let names_only = objects(map, "properties").all(|(name, _)| name == "name" || name == "generateName");
    let others = map.keys().all(|k| matches!(k.as_str(), "type" | "properties" | "description" | "default" | "title"));
    if !names_only || !others {
        let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        causes.push(Cause::forbidden(path, detail));
    }
}

/// Value validations: combinators must not bring structure of their own, and must not speak of undescribed fields.
fn values(
    rules: &Map<String, Value>,
    structure: &Map<String, Value>,
    skip_any_of: bool,
    skip_all_of: bool,
    path: &str,
    structure_path: &str,
    causes: &mut Vec<Cause>,
) {
    if let Some(pattern) = rules.get("pattern").and_then(Value::as_str)
        && let Err(error) = compile(pattern)
    {
        let error = error.to_string().replace('\n', " ");
        let detail = format!("must be a valid regular expression, but isn't: {error}");
        causes.push(Cause::invalid(format!("{path}.pattern"), &json!(pattern), &detail));
    }
    for key in ["anyOf", "allOf", "oneOf"] {
        if key == "anyOf" && skip_any_of {
            continue;
        }
        for (i, sub) in list(rules, key) {
            let skip = key == "allOf" && skip_all_of && i == 0;
            nested(sub, Some(structure), skip, &format!("{path}.{key}[{i}]"), structure_path, causes);
        }
    }
    if let Some(not) = rules.get("not").and_then(Value::as_object) {
        nested(not, Some(structure), false, &format!("{path}.not"), structure_path, causes);
    }
}

fn nested(
    rules: &Map<String, Value>,
    structure: Option<&Map<String, Value>>,
    skip_any_of: bool,
    path: &str,
    structure_path: &str,
    causes: &mut Vec<Cause>,
) {
    let Some(structure) = structure else {
        causes.push(Cause::required(structure_path, &format!("because it is defined in {path}")));
        return;
    };
    values(rules, structure, skip_any_of, false, path, structure_path, causes);
    let forbidden: [(&str, &str); 12] = [
        ("type", "must be empty to be structural"),
        ("additionalProperties", "must be undefined to be structural"),
        ("default", "must be undefined to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("nullable", "must be false to be structural"),
        ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
        ("x-kubernetes-embedded-resource", "must be false to be structural"),
        ("x-kubernetes-int-or-string", "must be false to be structural"),
        ("x-kubernetes-list-map-keys", "must be empty to be structural"),
        ("x-kubernetes-list-type", "must be undefined to be structural"),
        ("x-kubernetes-validations", "must be empty to be structural"),
    ];
    for (key, detail) in forbidden {
        let given = match rules.get(key) {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Array(list)) => !list.is_empty(),
            Some(_) => true,
        };
        if given {
            causes.push(Cause::forbidden(format!("{path}.{key}"), detail));
        }
    }
    if let Some(items) = rules.get("items").and_then(Value::as_object) {
        let below = structure.get("items").and_then(Value::as_object);
        nested(items, below, false, &format!("{path}.items"), &format!("{structure_path}.items"), causes);
    }
    for (name, sub) in objects(rules, "properties") {
        let at = format!("{path}.properties[{name}]");
        if name == "metadata" {
            causes.push(Cause::forbidden(at, "must not be specified in a nested context"));
            continue;
        }
        let below = objects(structure, "properties").find(|(n, _)| *n == name).map(|(_, v)| v);
        nested(sub, below, false, &at, &format!("{structure_path}.properties[{name}]"), causes);
    }
}
