//! How large the values in an expression may be: as a schema bounds them, or as they are.

use std::rc::Rc;

use serde_json::Value;

use crate::schema::cel::expression::{METADATA, TEXT, escaped};

/// The largest request that Kubernetes' estimates reckon with.
const REQUEST: u64 = 3 << 20;

/// Alternatives looked at before an estimate is given up as too high.
pub(super) const MOST: usize = 5_000_000;

/// One of these.
#[derive(Clone, Default)]
pub(super) struct Shape<'v>(Vec<Part<'v>>);

#[derive(Clone)]
enum Part<'v> {
    /// What this schema describes.
    Declared(&'v Value),
    /// This value.
    Seen(&'v Value),
    /// What the expression makes: so long, of such elements.
    Made { size: u64, elements: Rc<Shape<'v>> },
}

impl<'v> Shape<'v> {
    pub(super) fn declared(schema: &'v Value) -> Self {
        Shape(vec![Part::Declared(schema)])
    }

    pub(super) fn seen(value: &'v Value) -> Self {
        Shape(vec![Part::Seen(value)])
    }

    pub(super) fn made(size: u64, elements: Shape<'v>) -> Self {
        Shape(vec![Part::Made { size, elements: Rc::new(elements) }])
    }

    /// A number, a truth value, a moment.
    pub(super) fn scalar() -> Self {
        Shape::made(1, Shape::default())
    }

    /// A text.
    pub(super) fn text(size: u64) -> Self {
        Shape::made(size, Shape::default())
    }

    pub(super) fn or(mut self, other: Shape<'v>) -> Self {
        for part in other.0 {
            if !self.0.iter().rev().take(8).any(|own| own.is(&part)) {
                self.0.push(part);
            }
        }
        self
    }

    /// How many alternatives there are, a measure of the work of looking at them.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Characters of a text, items of a list, entries of a map: at most.
    pub(super) fn size(&self) -> u64 {
        self.0.iter().map(Part::size).max().unwrap_or(0)
    }

    /// Everything within, as far as it is known: the number of values and so many shares of the bytes of texts.
    pub(super) fn weight(&self, bytes: f64) -> u64 {
        self.0.iter().map(|part| part.weight(bytes)).max().unwrap_or(0)
    }

    /// A field, by its name in expressions.
    pub(super) fn field(&self, name: &str) -> Self {
        Shape(self.0.iter().filter_map(|part| part.field(name)).collect())
    }

    /// Items of lists, values of maps.
    pub(super) fn elements(&self) -> Self {
        let mut found = Shape::default();
        for part in &self.0 {
            part.elements(&mut found);
        }
        found
    }

    /// Adds values; of scalars and texts only the largest counts.
    fn extend(&mut self, values: impl Iterator<Item = &'v Value>) {
        let mut flat: Option<u64> = None;
        for value in values {
            match value {
                Value::Array(_) | Value::Object(_) => self.0.push(Part::Seen(value)),
                _ => flat = flat.max(Some(Part::Seen(value).size())),
            }
        }
        if let Some(size) = flat {
            self.0.push(Part::Made { size, elements: Rc::default() });
        }
    }

    /// What a loop with one variable goes through: items of lists, keys of maps.
    pub(super) fn range(&self) -> Self {
        let mut found = Shape::default();
        for part in &self.0 {
            match part.keys() {
                Some(longest) => found = found.or(Shape::text(longest)),
                None => part.elements(&mut found),
            }
        }
        found
    }
}

impl<'v> Part<'v> {
    fn is(&self, other: &Part<'v>) -> bool {
        match (self, other) {
            (Part::Declared(a), Part::Declared(b)) | (Part::Seen(a), Part::Seen(b)) => std::ptr::eq(*a, *b),
            (Part::Made { size: a, elements: x }, Part::Made { size: b, elements: y }) => {
                a == b && (Rc::ptr_eq(x, y) || x.0.is_empty() && y.0.is_empty())
            }
            _ => false,
        }
    }

    fn size(&self) -> u64 {
        match self {
            Part::Declared(schema) => largest(schema),
            Part::Seen(Value::String(text)) => text.len() as u64,
            Part::Seen(Value::Array(list)) => list.len() as u64,
            Part::Seen(Value::Object(map)) => map.len() as u64,
            Part::Seen(_) => 1,
            Part::Made { size, .. } => *size,
        }
    }

    fn weight(&self, bytes: f64) -> u64 {
        match self {
            Part::Declared(schema) => largest(schema),
            Part::Seen(value) => weight(value, bytes) as u64,
            Part::Made { size, elements } if elements.0.is_empty() => 1 + (*size as f64 * bytes) as u64,
            Part::Made { size, elements } => size.saturating_mul(elements.weight(bytes).max(1)),
        }
    }

    fn field(&self, name: &str) -> Option<Part<'v>> {
        match self {
            Part::Declared(schema) => Some(declared_field(schema, name)),
            Part::Seen(value) => {
                let map = value.as_object()?;
                let direct = map.get(name).or_else(|| map.iter().find(|(key, _)| escaped(key) == name).map(|(_, v)| v));
                direct.map(Part::Seen)
            }
            Part::Made { elements, .. } => Some(Part::Made { size: elements.size(), elements: elements.clone() }),
        }
    }

    fn elements(&self, found: &mut Shape<'v>) {
        match self {
            _ if found.0.len() > MOST => {}
            Part::Declared(schema) => {
                let key = match schema["type"].as_str() {
                    Some("array") => "items",
                    Some("object") | None => "additionalProperties",
                    Some(_) => return,
                };
                found.0.push(match schema.get(key).filter(|below| below.is_object()) {
                    Some(below) => Part::Declared(below),
                    None => unknown(),
                });
            }
            Part::Seen(Value::Array(list)) => found.extend(list.iter()),
            Part::Seen(Value::Object(map)) => found.extend(map.values()),
            Part::Seen(_) => {}
            Part::Made { elements, .. } => found.0.extend(elements.0.iter().cloned()),
        }
    }

    /// The longest key, if this is a map.
    fn keys(&self) -> Option<u64> {
        match self {
            // Kubernetes gives keys no size.
            Part::Declared(schema) => (schema["type"] == "object").then_some(0),
            Part::Seen(Value::Object(map)) => Some(map.keys().map(|key| key.len() as u64).max().unwrap_or(0)),
            Part::Seen(_) | Part::Made { .. } => None,
        }
    }
}

fn declared_field<'v>(schema: &'v Value, name: &str) -> Part<'v> {
    if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
        return Part::Declared(values);
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    let found = properties.into_iter().flatten().find(|(property, _)| escaped(property) == name);
    match (found, name) {
        (_, "metadata") if found.is_none_or(|(_, schema)| schema.get("properties").is_none()) => {
            Part::Declared(&METADATA)
        }
        (Some((_, schema)), _) => Part::Declared(schema),
        (None, "apiVersion" | "kind") => Part::Declared(&TEXT),
        (None, _) => unknown(),
    }
}

/// What no schema describes.
fn unknown<'v>() -> Part<'v> {
    Part::Made { size: REQUEST, elements: Rc::new(Shape::text(REQUEST)) }
}

fn weight(value: &Value, bytes: f64) -> f64 {
    let text = |text: &str| 1.0 + text.len() as f64 * bytes;
    match value {
        Value::String(value) => text(value),
        Value::Array(list) => 1.0 + list.iter().map(|item| weight(item, bytes)).sum::<f64>(),
        Value::Object(map) => 1.0 + map.iter().map(|(key, value)| text(key) + weight(value, bytes)).sum::<f64>(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 1.0,
    }
}

/// The largest size of a value of this schema, as Kubernetes estimates it. Scalars and objects with named fields have none.
fn largest(schema: &Value) -> u64 {
    let number = |word: &str| schema.get(word).and_then(Value::as_u64);
    let is_set = |word: &str| schema.get(word) == Some(&Value::Bool(true));
    if is_set("x-kubernetes-int-or-string") {
        return number("maxLength").map_or(REQUEST - 2, |length| length.saturating_mul(4));
    }
    match schema["type"].as_str().unwrap_or_default() {
        "array" => number("maxItems").unwrap_or_else(|| (REQUEST - 2) / (smallest(&schema["items"]) + 1)),
        "object" => match &schema["additionalProperties"] {
            values @ Value::Object(_) => {
                number("maxProperties").unwrap_or_else(|| (REQUEST - 2) / (smallest(values) + 6))
            }
            any if any == &Value::Bool(true) || is_set("x-kubernetes-preserve-unknown-fields") => (REQUEST - 2) / 7,
            _ => 0,
        },
        "string" => longest(schema),
        "" => REQUEST,
        _ => 0,
    }
}

fn longest(schema: &Value) -> u64 {
    let length = schema.get("maxLength").and_then(Value::as_u64);
    match (schema["format"].as_str().unwrap_or_default(), schema["enum"].as_array()) {
        ("byte", _) => length.unwrap_or(REQUEST - 2),
        ("duration" | "date-time", _) => 32,
        ("date", _) => 12,
        (_, Some(words)) if length.is_none() && !words.is_empty() => {
            words.iter().filter_map(Value::as_str).map(str::len).max().unwrap_or(0) as u64
        }
        // Counted in bytes, of which a character has up to four.
        _ => length.map_or(REQUEST - 2, |length| length.saturating_mul(4)),
    }
}

/// The fewest bytes that a value of this schema takes in JSON.
fn smallest(schema: &Value) -> u64 {
    match schema["type"].as_str().unwrap_or_default() {
        "array" => 2,
        "object" if schema["additionalProperties"].is_object() => 2,
        "object" => {
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let fields = required.filter_map(|name| Some((name, schema.get("properties")?.get(name)?)));
            let given = fields.filter(|(_, field)| field.get("default").is_none_or(Value::is_null));
            2 + given.map(|(name, field)| name.len() as u64 + smallest(field) + 4).sum::<u64>()
        }
        "string" => match schema["format"].as_str().unwrap_or_default() {
            "duration" => 3,
            "date" => 12,
            "date-time" => 21,
            _ => 2,
        },
        "boolean" => 4,
        _ => 1,
    }
}

/// How many values of this schema may be in a request.
pub(super) fn most(schema: &Value) -> u64 {
    REQUEST / (smallest(schema) + 1)
}
