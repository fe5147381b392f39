//! The OpenAPI v2 document as protobuf.
//!
//! Go clients up to Kubernetes 1.26 read the document in this form only, newer ones still do for `apply` and v2 `explain`. The
//! messages are those of gnostic's `openapi.v2` package: the tables below say which field of the JSON document has which number.
//! Vendor extensions and other free values travel as YAML text, of which JSON is a part.

use serde_json::Value;

/// The media types clients ask for.
pub(super) const MEDIA_TYPES: [&str; 2] = [
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
];
/// The media type of the answer: the older spelling is no valid media type, and clients which parse it fail.
pub(super) const MEDIA_TYPE: &str = MEDIA_TYPES[0];

/// How a field of the JSON document is written.
enum Form {
    Text,
    Flag,
    Integer,
    Number,
    /// Repeated text.
    Texts,
    /// A free value.
    Yaml,
    /// A list of free values.
    Yamls,
    One(&'static Message),
    /// A message inside messages which hold nothing but it: their field numbers, outermost first.
    Within(&'static [u32], &'static Message),
    /// An object as a message that repeats (name, value) under this number.
    Map(u32, &'static Form),
    Many(&'static Message),
    /// A text or a list of texts, as a message that repeats them.
    Type,
    /// A schema or a list of schemas, as a message that repeats them.
    Items,
    /// A schema or a boolean.
    Additional,
    Parameters,
}

struct Message {
    /// (JSON field, number, form)
    fields: &'static [(&'static str, u32, Form)],
    /// Number of the repeated field for `x-…`.
    extensions: u32,
}

use Form::*;

static DOCUMENT: Message = Message {
    fields: &[
        ("swagger", 1, Text),
        ("info", 2, One(&INFO)),
        ("host", 3, Text),
        ("basePath", 4, Text),
        ("schemes", 5, Texts),
        ("consumes", 6, Texts),
        ("produces", 7, Texts),
        ("paths", 8, Map(2, &One(&PATH_ITEM))),
        ("definitions", 9, Map(1, &One(&SCHEMA))),
    ],
    extensions: 16,
};

static INFO: Message =
    Message { fields: &[("title", 1, Text), ("version", 2, Text), ("description", 3, Text)], extensions: 7 };

static PATH_ITEM: Message = Message {
    fields: &[
        ("get", 2, One(&OPERATION)),
        ("put", 3, One(&OPERATION)),
        ("post", 4, One(&OPERATION)),
        ("delete", 5, One(&OPERATION)),
        ("options", 6, One(&OPERATION)),
        ("head", 7, One(&OPERATION)),
        ("patch", 8, One(&OPERATION)),
        ("parameters", 9, Parameters),
    ],
    extensions: 10,
};

static OPERATION: Message = Message {
    fields: &[
        ("tags", 1, Texts),
        ("summary", 2, Text),
        ("description", 3, Text),
        ("operationId", 5, Text),
        ("produces", 6, Texts),
        ("consumes", 7, Texts),
        ("parameters", 8, Parameters),
        ("responses", 9, Map(1, &Within(&[1], &RESPONSE))),
        ("schemes", 10, Texts),
        ("deprecated", 11, Flag),
    ],
    extensions: 13,
};

static RESPONSE: Message =
    Message { fields: &[("description", 1, Text), ("schema", 2, Within(&[1], &SCHEMA))], extensions: 5 };

static BODY_PARAMETER: Message = Message {
    fields: &[
        ("description", 1, Text),
        ("name", 2, Text),
        ("in", 3, Text),
        ("required", 4, Flag),
        ("schema", 5, One(&SCHEMA)),
    ],
    extensions: 6,
};

static QUERY_PARAMETER: Message = Message {
    fields: &[
        ("required", 1, Flag),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("allowEmptyValue", 5, Flag),
        ("type", 6, Text),
        ("format", 7, Text),
        ("uniqueItems", 20, Flag),
    ],
    extensions: 23,
};

static PATH_PARAMETER: Message = Message {
    fields: &[
        ("required", 1, Flag),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("type", 5, Text),
        ("format", 6, Text),
        ("uniqueItems", 19, Flag),
    ],
    extensions: 22,
};

static SCHEMA: Message = Message {
    fields: &[
        ("$ref", 1, Text),
        ("format", 2, Text),
        ("title", 3, Text),
        ("description", 4, Text),
        ("default", 5, Yaml),
        ("multipleOf", 6, Number),
        ("maximum", 7, Number),
        ("exclusiveMaximum", 8, Flag),
        ("minimum", 9, Number),
        ("exclusiveMinimum", 10, Flag),
        ("maxLength", 11, Integer),
        ("minLength", 12, Integer),
        ("pattern", 13, Text),
        ("maxItems", 14, Integer),
        ("minItems", 15, Integer),
        ("uniqueItems", 16, Flag),
        ("maxProperties", 17, Integer),
        ("minProperties", 18, Integer),
        ("required", 19, Texts),
        ("enum", 20, Yamls),
        ("additionalProperties", 21, Additional),
        ("type", 22, Type),
        ("items", 23, Items),
        ("allOf", 24, Many(&SCHEMA)),
        ("properties", 25, Map(1, &One(&SCHEMA))),
        ("discriminator", 26, Text),
        ("readOnly", 27, Flag),
        ("externalDocs", 29, One(&EXTERNAL_DOCS)),
        ("example", 30, Yaml),
    ],
    extensions: 31,
};

static EXTERNAL_DOCS: Message = Message { fields: &[("description", 1, Text), ("url", 2, Text)], extensions: 3 };

/// The JSON document as protobuf.
pub(super) fn encode(document: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 20);
    message(&DOCUMENT, document, &mut out);
    out
}

/// The fields of an object, in its own order: readers show properties in the order they come.
fn message(message: &Message, value: &Value, out: &mut Vec<u8>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        if key.starts_with("x-") {
            nested(message.extensions, out, |out| named(key, out, |out| nested(2, out, |out| yaml(value, out))));
        } else if let Some((_, number, form)) = message.fields.iter().find(|(name, ..)| name == key) {
            field(*number, form, value, out);
        }
    }
}

fn field(number: u32, form: &'static Form, value: &Value, out: &mut Vec<u8>) {
    match form {
        Text => value.as_str().into_iter().for_each(|v| text(number, v, out)),
        Flag => {
            if value.as_bool() == Some(true) {
                tag(number, 0, out);
                out.push(1);
            }
        }
        Integer => {
            if let Some(value) = value.as_i64() {
                tag(number, 0, out);
                varint(value as u64, out);
            }
        }
        Number => {
            if let Some(value) = value.as_f64() {
                tag(number, 1, out);
                out.extend_from_slice(&value.to_le_bytes());
            }
        }
        Texts => each(value, |v| field(number, &Text, v, out)),
        Yaml => nested(number, out, |out| yaml(value, out)),
        Yamls => each(value, |v| field(number, &Yaml, v, out)),
        One(of) => nested(number, out, |out| message(of, value, out)),
        Within(path, of) => {
            nested(number, out, |out| within(path, out, |out| message(of, value, out)));
        }
        Map(entry, form) => nested(number, out, |out| {
            for (key, value) in value.as_object().into_iter().flatten() {
                nested(*entry, out, |out| named(key, out, |out| field(2, form, value, out)));
            }
        }),
        Many(of) => each(value, |v| nested(number, out, |out| message(of, v, out))),
        Type => nested(number, out, |out| each(value, |v| field(1, &Text, v, out))),
        Items => nested(number, out, |out| each(value, |v| nested(1, out, |out| message(&SCHEMA, v, out)))),
        Additional => nested(number, out, |out| match value {
            Value::Bool(allowed) => {
                tag(2, 0, out);
                out.push(u8::from(*allowed));
            }
            _ => nested(1, out, |out| message(&SCHEMA, value, out)),
        }),
        Parameters => each(value, |v| {
            // ParametersItem.parameter, then Parameter.body_parameter, or non_body_parameter and its query or path form.
            let (path, of): (&[u32], _) = match v.get("in").and_then(Value::as_str) {
                Some("body") => (&[1, 1], &BODY_PARAMETER),
                Some("path") => (&[1, 2, 4], &PATH_PARAMETER),
                _ => (&[1, 2, 3], &QUERY_PARAMETER),
            };
            nested(number, out, |out| within(path, out, |out| message(of, v, out)));
        }),
    }
}

/// The elements of a list, or the one value.
fn each<'v>(value: &'v Value, mut write: impl FnMut(&'v Value)) {
    match value {
        Value::Array(list) => list.iter().for_each(write),
        one => write(one),
    }
}

fn named(name: &str, out: &mut Vec<u8>, value: impl FnOnce(&mut Vec<u8>)) {
    text(1, name, out);
    value(out);
}

/// A free value, inside its `Any`.
fn yaml(value: &Value, out: &mut Vec<u8>) {
    text(2, &value.to_string(), out);
}

fn within(path: &[u32], out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = Vec::new();
    body(&mut bytes);
    for number in path.iter().rev() {
        let mut outer = Vec::with_capacity(bytes.len() + 8);
        delimited(*number, &bytes, &mut outer);
        bytes = outer;
    }
    out.extend_from_slice(&bytes);
}

fn nested(number: u32, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = Vec::new();
    body(&mut bytes);
    delimited(number, &bytes, out);
}

fn text(number: u32, value: &str, out: &mut Vec<u8>) {
    delimited(number, value.as_bytes(), out);
}

fn delimited(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    tag(number, 2, out);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn tag(number: u32, wire: u64, out: &mut Vec<u8>) {
    varint(u64::from(number) << 3 | wire, out);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests;
