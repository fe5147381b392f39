//! The protobuf document, read back with numbers of its own.

use serde_json::{Map, json};

use super::*;
use crate::registry::{Registry, Tables};

/// Fields of a message as (number, value); lengths must add up.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let key = number(&mut bytes);
        let field = match key & 7 {
            0 => Field::Number(number(&mut bytes)),
            1 => {
                let (value, rest) = bytes.split_at(8);
                bytes = rest;
                Field::Double(f64::from_le_bytes(value.try_into().unwrap()))
            }
            2 => {
                let length = number(&mut bytes) as usize;
                let (value, rest) = bytes.split_at(length);
                bytes = rest;
                Field::Bytes(value)
            }
            wire => panic!("wire type {wire}"),
        };
        out.push((key >> 3, field));
    }
    out
}

fn number(bytes: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return value;
        }
    }
}

#[derive(Clone, Copy)]
enum Field<'b> {
    Number(u64),
    Double(f64),
    Bytes(&'b [u8]),
}

impl<'b> Field<'b> {
    fn bytes(self) -> &'b [u8] {
        match self {
            Field::Bytes(bytes) => bytes,
            _ => panic!("not bytes"),
        }
    }

    fn text(self) -> &'b str {
        std::str::from_utf8(self.bytes()).unwrap()
    }
}

/// (name, value) of a named entry.
fn named_entry(field: Field<'_>) -> (String, &[u8]) {
    let parts = fields(field.bytes());
    assert_eq!((parts[0].0, parts[1].0, parts.len()), (1, 2, 2));
    (parts[0].1.text().to_owned(), parts[1].1.bytes())
}

fn any(bytes: &[u8]) -> Value {
    let parts = fields(bytes);
    assert_eq!((parts[0].0, parts.len()), (2, 1));
    serde_json::from_str(parts[0].1.text()).unwrap()
}

fn schema(bytes: &[u8]) -> Value {
    let mut out = Map::new();
    for (number, field) in fields(bytes) {
        let (key, value) = match number {
            1 => ("$ref", json!(field.text())),
            2 => ("format", json!(field.text())),
            4 => ("description", json!(field.text())),
            5 => ("default", any(field.bytes())),
            7 | 9 => match field {
                Field::Double(value) => (if number == 7 { "maximum" } else { "minimum" }, json!(value)),
                _ => panic!("not a double"),
            },
            11..=16 => match field {
                Field::Number(value) => match number {
                    11 => ("maxLength", json!(value)),
                    12 => ("minLength", json!(value)),
                    14 => ("maxItems", json!(value)),
                    15 => ("minItems", json!(value)),
                    _ => ("uniqueItems", json!(value == 1)),
                },
                _ => ("pattern", json!(field.text())),
            },
            19 | 20 => {
                let (key, value) =
                    if number == 19 { ("required", json!(field.text())) } else { ("enum", any(field.bytes())) };
                let list = out.entry(key).or_insert(json!([]));
                list.as_array_mut().unwrap().push(value);
                continue;
            }
            21 => match fields(field.bytes())[0] {
                (1, inner) => ("additionalProperties", schema(inner.bytes())),
                (_, Field::Number(value)) => ("additionalProperties", json!(value == 1)),
                _ => panic!("neither a schema nor a boolean"),
            },
            22 => ("type", json!(fields(field.bytes())[0].1.text())),
            23 => ("items", schema(fields(field.bytes())[0].1.bytes())),
            25 => {
                let entries = fields(field.bytes()).into_iter().map(|(_, f)| named_entry(f));
                ("properties", Value::Object(entries.map(|(name, value)| (name, schema(value))).collect()))
            }
            31 => {
                let (name, value) = named_entry(field);
                out.insert(name, any(value));
                continue;
            }
            other => panic!("field {other} of a schema"),
        };
        assert!(out.insert(key.to_owned(), value).is_none(), "{key} comes twice");
    }
    Value::Object(out)
}

/// Numbers compare as numbers: limits travel as doubles.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let entry = |(k, v): (&String, &Value)| {
                let limit = matches!(k.as_str(), "maximum" | "minimum") && v.is_number();
                (k.clone(), if limit { json!(v.as_f64()) } else { plain(v) })
            };
            Value::Object(map.iter().map(entry).collect())
        }
        Value::Array(list) => list.iter().map(plain).collect(),
        other => other.clone(),
    }
}

fn part(document: &[u8], number: u64) -> Vec<(String, &[u8])> {
    let found: Vec<_> = fields(document).into_iter().filter(|(n, _)| *n == number).collect();
    assert_eq!(found.len(), 1, "field {number}");
    fields(found[0].1.bytes()).into_iter().map(|(_, field)| named_entry(field)).collect()
}

#[test]
fn every_definition_survives_the_protobuf_form() {
    let tables: std::sync::Arc<Tables> = Registry::new(Vec::new()).tables();
    let mut document = crate::openapi::swagger_document(&tables);
    document["definitions"]["com.example.v1.Everything"] = json!({
        "type": "object",
        "properties": {
            "limited": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 2.5},
            "worded": {"type": "string", "pattern": "^a$", "minLength": 1, "maxLength": 300, "enum": ["a", "b c"]},
            "listed": {"type": "array", "minItems": 1, "maxItems": 9, "uniqueItems": true, "items": {"type": "string"}},
            "free": {"type": "object", "additionalProperties": true, "default": {"a": [1, null]}},
            "none": {},
        },
        "required": ["limited", "worded"],
        "x-kubernetes-group-version-kind": [{"group": "example.com", "kind": "Everything", "version": "v1"}],
    });
    let bytes = encode(&document);
    let definitions: Map<String, Value> =
        part(&bytes, 9).into_iter().map(|(name, value)| (name, schema(value))).collect();
    assert!(definitions.len() > 50);
    let wanted = document["definitions"].as_object().unwrap();
    assert_eq!(definitions.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    for (name, schema) in definitions {
        assert_eq!(schema, plain(&wanted[&name]), "{name}");
    }
}

#[test]
fn patch_operations_say_that_dry_run_is_supported() {
    let tables = Registry::new(Vec::new()).tables();
    let document = crate::openapi::swagger_document(&tables);
    let bytes = encode(&document);
    let paths = part(&bytes, 8);
    assert_eq!(paths.len(), document["paths"].as_object().unwrap().len());
    let (_, item) = paths.iter().find(|(name, _)| name == "/api/v1/namespaces/{namespace}/pods/{name}").unwrap();
    let patch = fields(item).into_iter().find(|(number, _)| *number == 8).unwrap().1.bytes();
    let mut parameters = Vec::new();
    let mut kind = Value::Null;
    for (number, field) in fields(patch) {
        match number {
            // parameter, non_body_parameter, query_parameter_sub_schema, name
            8 => {
                let parameter = fields(fields(field.bytes())[0].1.bytes())[0];
                if parameter.0 == 2 {
                    let query = fields(parameter.1.bytes())[0];
                    assert_eq!(query.0, 3);
                    parameters.extend(fields(query.1.bytes()).iter().find(|(n, _)| *n == 4).map(|f| f.1.text()));
                }
            }
            13 => {
                let (name, value) = named_entry(field);
                if name == "x-kubernetes-group-version-kind" {
                    kind = any(value);
                }
            }
            _ => {}
        }
    }
    assert!(parameters.contains(&"dryRun") && parameters.contains(&"fieldValidation"), "{parameters:?}");
    assert_eq!(kind, json!({"group": "", "version": "v1", "kind": "Pod"}));
}
