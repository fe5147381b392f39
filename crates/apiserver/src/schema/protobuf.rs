//! Reads the protobuf form of built-in kinds.
//!
//! Typed Go clients, `kubectl create namespace` among them, send built-in kinds as protobuf without asking. Answers are always
//! JSON, which they all accept. Field numbers come from a generated table (`cargo xtask kinds`); unknown fields are
//! skipped. Every length is checked against the body.

use std::collections::HashMap;
use std::sync::OnceLock;

use base64::Engine as _;
use serde_json::{Map, Value, json};

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// What every body starts with.
const MAGIC: &[u8] = b"k8s\0";
/// Deepest nesting of messages.
const MAX_DEPTH: usize = 40;

static TABLE: &str = include_str!("protobuf/table.txt");

/// Why a body cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// The envelope is missing.
    #[error("the body does not start as Kubernetes' protobuf does")]
    Envelope,
    /// The bytes end early or contradict themselves.
    #[error("the body is not valid protobuf")]
    Malformed,
    /// A kind without a table.
    #[error("{kind} in version {api_version:?} has no protobuf form here, send it as application/json")]
    Kind {
        /// apiVersion of the body.
        api_version: String,
        /// Kind of the body.
        kind: String,
    },
}

use ProtobufError::Malformed;

/// The object in a body, as JSON with apiVersion and kind.
pub fn decode(body: &[u8]) -> Result<Value, ProtobufError> {
    let body = body.strip_prefix(MAGIC).ok_or(ProtobufError::Envelope)?;
    let (mut api_version, mut kind, mut raw): (String, String, &[u8]) = Default::default();
    let mut envelope = Reader(body);
    while let Some((number, wire)) = envelope.field()? {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => {
                let mut reader = Reader(bytes);
                while let Some((number, wire)) = reader.field()? {
                    match (number, wire) {
                        (1, Wire::Bytes(bytes)) => api_version = text(bytes)?,
                        (2, Wire::Bytes(bytes)) => kind = text(bytes)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let package = match api_version.as_str() {
        _ if kind == "DeleteOptions" => "meta",
        "v1" => "core",
        "apps/v1" => "apps",
        "authentication.k8s.io/v1" => "authentication",
        "authorization.k8s.io/v1" => "authorization",
        "policy/v1" => "policy",
        "scheduling.k8s.io/v1" => "scheduling",
        "storage.k8s.io/v1" => "storage",
        "coordination.k8s.io/v1" => "coordination",
        "events.k8s.io/v1" => "events",
        _ => "",
    };
    let Some(message) = messages().get(format!("{package}.{kind}").as_str()) else {
        return Err(ProtobufError::Kind { api_version, kind });
    };
    let mut object = Map::new();
    object.insert("apiVersion".into(), Value::from(api_version));
    object.insert("kind".into(), Value::from(kind));
    read_message(message, raw, 0, &mut object)?;
    Ok(Value::Object(object))
}

struct Field {
    number: u32,
    /// `-`: its fields stand in the parent.
    name: &'static str,
    list: bool,
    map: bool,
    pointer: bool,
    ty: &'static str,
}

type Messages = HashMap<&'static str, Vec<Field>>;

fn messages() -> &'static Messages {
    static MESSAGES: OnceLock<Messages> = OnceLock::new();
    MESSAGES.get_or_init(|| {
        let line = |line: &'static str| {
            let mut words = line.split(' ');
            let name = words.next().unwrap_or_default();
            (name, words.filter_map(field).collect())
        };
        TABLE.lines().map(line).collect()
    })
}

/// `number:name:type`
fn field(word: &'static str) -> Option<Field> {
    let mut parts = word.splitn(3, ':');
    let (number, name, mut ty) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
    let mut strip = |prefix: &str| match ty.strip_prefix(prefix) {
        Some(rest) => {
            ty = rest;
            true
        }
        None => false,
    };
    let pointer = strip("*");
    let (list, map) = (strip("[]"), strip("{}"));
    Some(Field { number, name, list, map, pointer, ty })
}

enum Wire<'b> {
    Number(u64),
    Fixed64(u64),
    Bytes(&'b [u8]),
    Fixed32,
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(Malformed)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, length: usize) -> Result<&'b [u8], ProtobufError> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// The next field's number and value; `None` at the end.
    fn field(&mut self) -> Result<Option<(u32, Wire<'b>)>, ProtobufError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).map_err(|_| Malformed)?;
        let wire = match key & 7 {
            0 => Wire::Number(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| Malformed)?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Wire::Fixed32
            }
            _ => return Err(Malformed),
        };
        Ok(Some((number, wire)))
    }
}

fn text(bytes: &[u8]) -> Result<String, ProtobufError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Malformed)
}

fn read_message(
    fields: &[Field],
    bytes: &[u8],
    depth: usize,
    out: &mut Map<String, Value>,
) -> Result<(), ProtobufError> {
    if depth > MAX_DEPTH {
        return Err(Malformed);
    }
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.field()? {
        let Some(field) = fields.iter().find(|f| f.number == number) else { continue };
        match (&wire, messages().get(field.ty)) {
            (Wire::Bytes(bytes), Some(inner)) if field.name == "-" => {
                read_message(inner, bytes, depth + 1, out)?;
                continue;
            }
            _ => {}
        }
        if field.map {
            let Wire::Bytes(bytes) = wire else { return Err(Malformed) };
            let (mut key, mut value) = (String::new(), zero(field.ty));
            let mut entry = Reader(bytes);
            while let Some((number, wire)) = entry.field()? {
                match (number, wire) {
                    (1, Wire::Bytes(bytes)) => key = text(bytes)?,
                    (2, wire) => value = read_value(field.ty, wire, depth)?,
                    _ => {}
                }
            }
            if let Value::Object(map) = out.entry(field.name).or_insert_with(|| json!({})) {
                map.insert(key, value);
            }
            continue;
        }
        if field.list {
            let values = match (field.ty, wire) {
                // Numbers may come packed.
                ("i", Wire::Bytes(bytes)) => {
                    let mut packed = Reader(bytes);
                    let mut values = Vec::new();
                    while !packed.0.is_empty() {
                        values.push(json!(packed.varint()? as i64));
                    }
                    values
                }
                (ty, wire) => vec![read_value(ty, wire, depth)?],
            };
            if let Value::Array(list) = out.entry(field.name).or_insert_with(|| json!([])) {
                list.extend(values);
            }
            continue;
        }
        let value = read_value(field.ty, wire, depth)?;
        // Go sends what is not set; only behind a pointer is nothing a value.
        let nothing = value == zero(field.ty) || value.as_object().is_some_and(Map::is_empty) || value.is_null();
        if field.pointer && !value.is_null() || !nothing {
            out.insert(field.name.to_owned(), value);
        }
    }
    Ok(())
}

fn zero(ty: &str) -> Value {
    match ty {
        "s" | "b" => json!(""),
        "i" => json!(0),
        "t" => json!(false),
        "d" => json!(0.0),
        _ => Value::Null,
    }
}

fn read_value(ty: &str, wire: Wire<'_>, depth: usize) -> Result<Value, ProtobufError> {
    match (ty, wire) {
        ("i", Wire::Number(value)) => Ok(json!(value as i64)),
        ("t", Wire::Number(value)) => Ok(json!(value != 0)),
        ("d", Wire::Fixed64(bits)) => Ok(json!(f64::from_bits(bits))),
        ("s", Wire::Bytes(bytes)) => Ok(Value::from(text(bytes)?)),
        ("b", Wire::Bytes(bytes)) => Ok(Value::from(base64::engine::general_purpose::STANDARD.encode(bytes))),
        ("time", Wire::Bytes(bytes)) => time(bytes),
        ("quantity", Wire::Bytes(bytes)) => single_text(bytes),
        ("raw", Wire::Bytes(bytes)) => {
            let inner = single_bytes(bytes)?;
            if inner.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(inner).map_err(|_| Malformed) }
        }
        ("intorstring", Wire::Bytes(bytes)) => {
            let (mut is_text, mut number, mut words) = (false, 0, String::new());
            let mut reader = Reader(bytes);
            while let Some((field, wire)) = reader.field()? {
                match (field, wire) {
                    (1, Wire::Number(value)) => is_text = value == 1,
                    (2, Wire::Number(value)) => number = value as i64,
                    (3, Wire::Bytes(bytes)) => words = text(bytes)?,
                    _ => {}
                }
            }
            Ok(if is_text { Value::from(words) } else { json!(number) })
        }
        (message, Wire::Bytes(bytes)) => {
            let fields = messages().get(message).ok_or(Malformed)?;
            let mut object = Map::new();
            read_message(fields, bytes, depth + 1, &mut object)?;
            Ok(Value::Object(object))
        }
        _ => Err(Malformed),
    }
}

/// Field 1 of a message, as bytes.
fn single_bytes(bytes: &[u8]) -> Result<&[u8], ProtobufError> {
    let mut reader = Reader(bytes);
    let mut found: &[u8] = &[];
    while let Some((number, wire)) = reader.field()? {
        if let (1, Wire::Bytes(bytes)) = (number, wire) {
            found = bytes;
        }
    }
    Ok(found)
}

fn single_text(bytes: &[u8]) -> Result<Value, ProtobufError> {
    Ok(Value::from(text(single_bytes(bytes)?)?))
}

/// Seconds and nanoseconds as RFC 3339; an empty message is no time.
fn time(bytes: &[u8]) -> Result<Value, ProtobufError> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanos) = (0_i64, 0_i32);
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.field()? {
        match (number, wire) {
            (1, Wire::Number(value)) => seconds = value as i64,
            (2, Wire::Number(value)) => nanos = value as i32,
            _ => {}
        }
    }
    let time = jiff::Timestamp::new(seconds, nanos).map_err(|_| Malformed)?;
    Ok(Value::from(time.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ConfigMap as kubectl sends it: empty strings for what is not set.
    fn config_map() -> Vec<u8> {
        let mut body = MAGIC.to_vec();
        body.extend(b"\x0a\x0f\x0a\x02v1\x12\x09ConfigMap");
        let metadata = b"\x0a\x01c\x12\x00\x1a\x00\x22\x00\x2a\x00\x32\x00\x38\x00\x42\x00";
        let mut raw = vec![0x0a, metadata.len() as u8];
        raw.extend(metadata);
        raw.extend(b"\x12\x06\x0a\x01a\x12\x01b");
        raw.extend(b"\x20\x00");
        body.extend([0x12, raw.len() as u8]);
        body.extend(raw);
        body.extend(b"\x1a\x00\x22\x00");
        body
    }

    #[test]
    fn what_is_not_set_is_left_out() {
        let value = decode(&config_map()).unwrap();
        // `immutable` is a pointer: false is a value.
        let expected = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "b"}, "immutable": false});
        assert_eq!(value, expected);
    }

    #[test]
    fn foreign_and_damaged_bodies_are_errors() {
        assert_eq!(decode(b"{}"), Err(ProtobufError::Envelope));
        let body = b"k8s\0\x0a\x0d\x0a\x02v1\x12\x07Service";
        assert!(matches!(decode(body), Err(ProtobufError::Kind { .. })));
        let body = config_map();
        for end in 4..body.len() {
            // Cut anywhere: an error or a smaller object, never a panic.
            let _ = decode(&body[..end]);
        }
        for at in 4..body.len() {
            let mut changed = body.clone();
            changed[at] ^= 0xff;
            let _ = decode(&changed);
        }
    }
}
