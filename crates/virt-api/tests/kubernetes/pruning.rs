//! Objects that have every field there is, to see that a real API server keeps all of them.

use serde_json::{Map, Value, json};

/// An object of a definition's stored version with a value in every field.
pub(crate) fn filled(definition: &Value) -> Value {
    let versions = definition["spec"]["versions"].as_array().unwrap();
    let version = versions.iter().find(|version| version["storage"] == true).unwrap();
    let mut object = value(&version["schema"]["openAPIV3Schema"]);
    object["apiVersion"] =
        json!(format!("{}/{}", definition["spec"]["group"].as_str().unwrap(), version["name"].as_str().unwrap()));
    object["kind"] = definition["spec"]["names"]["kind"].clone();
    object["metadata"] = json!({"name": "filled", "namespace": "default"});
    object
}

/// Any value that the schema allows, with all of its fields.
fn value(schema: &Value) -> Value {
    if let Some(word) = schema["enum"].as_array().and_then(|words| words.first()) {
        return word.clone();
    }
    if schema["x-kubernetes-int-or-string"] == true {
        return json!(1);
    }
    match schema["type"].as_str().unwrap_or_default() {
        "object" => object(schema),
        "array" => json!([value(&schema["items"])]),
        "integer" => json!(schema["minimum"].as_f64().unwrap_or(1.0) as i64),
        "number" => json!(1.5),
        "boolean" => json!(true),
        _ if schema["format"] == "date-time" => json!("2026-01-01T00:00:00Z"),
        _ => json!("a"),
    }
}

fn object(schema: &Value) -> Value {
    let mut fields = Map::new();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        fields.insert(name.clone(), value(field));
    }
    if schema["additionalProperties"].is_object() {
        fields.insert("key".into(), value(&schema["additionalProperties"]));
    }
    if schema["x-kubernetes-preserve-unknown-fields"] == true {
        fields.insert("labels".into(), json!({"free": "kept"}));
    }
    Value::Object(fields)
}

/// Paths of what `whole` has and `kept` lacks, or has otherwise.
pub(crate) fn lost(whole: &Value, kept: &Value, path: &str) -> Vec<String> {
    match (whole, kept) {
        (Value::Object(whole), Value::Object(kept)) => {
            let missing = Value::Null;
            let below = |(name, value): (&String, &Value)| {
                lost(value, kept.get(name).unwrap_or(&missing), &format!("{path}.{name}"))
            };
            whole.iter().flat_map(below).collect()
        }
        (Value::Array(whole), Value::Array(kept)) if whole.len() == kept.len() => {
            whole.iter().zip(kept).flat_map(|(a, b)| lost(a, b, &format!("{path}[]"))).collect()
        }
        _ if whole == kept => Vec::new(),
        _ => vec![path.to_owned()],
    }
}
