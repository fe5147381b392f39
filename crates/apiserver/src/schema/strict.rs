//! Reading a request body, and what `fieldValidation` makes of unknown and duplicate fields.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value, json};

use super::cause::quote;

/// Most findings of one answer, like Kubernetes.
const MAX_FINDINGS: usize = 100;

/// The `fieldValidation` parameter of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    /// Unknown and duplicate fields are dropped silently.
    Ignore,
    /// They are dropped, with a `Warning:` header each.
    #[default]
    Warn,
    /// They are errors.
    Strict,
}

impl FieldValidation {
    /// Reads the query parameter; absent or empty means `Warn`.
    pub fn from_query(value: Option<&str>) -> Result<FieldValidation, String> {
        match value {
            None | Some("" | "Warn") => Ok(FieldValidation::Warn),
            Some("Ignore") => Ok(FieldValidation::Ignore),
            Some("Strict") => Ok(FieldValidation::Strict),
            Some(other) => Err(format!(
                "fieldValidation: Unsupported value: {}: supported values: \"Ignore\", \"Strict\", \"Warn\"",
                quote(other)
            )),
        }
    }
}

/// Fields that a body has but the stored object will not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StrictReport {
    /// Paths of keys given more than once; the last one counts.
    pub duplicate: Vec<String>,
    /// Paths of unknown fields.
    pub unknown: Vec<String>,
}

impl StrictReport {
    /// Texts for `Warning:` headers in mode `Warn`.
    pub fn warnings(&self) -> Vec<String> {
        let duplicate = self.duplicate.iter().map(|path| format!("duplicate field {}", quote(path)));
        let unknown = self.unknown.iter().map(|path| format!("unknown field {}", quote(path)));
        duplicate.chain(unknown).take(MAX_FINDINGS).collect()
    }

    /// The text of a 400 in mode `Strict`; `None` when all is well.
    pub fn error(&self) -> Option<String> {
        let findings = self.warnings();
        (!findings.is_empty()).then(|| format!("strict decoding error: {}", findings.join(", ")))
    }
}

/// The text of the 400 for a body that cannot become an object of the kind.
pub fn cannot_handle(kind: &str, version: &str, why: &str) -> String {
    format!("{kind} in version {} cannot be handled as a {kind}: {why}", quote(version))
}

/// The body is not JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the body is not valid JSON: {0}")]
pub struct DecodeError(pub String);

/// Reads JSON and lists the keys that occur twice in one object. As in Kubernetes the last value wins.
pub fn decode(body: &[u8]) -> Result<(Value, Vec<String>), DecodeError> {
    let mut tracker = Tracker { path: String::new(), duplicate: Vec::new() };
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = Seed(&mut tracker).deserialize(&mut deserializer).map_err(|e| DecodeError(e.to_string()))?;
    deserializer.end().map_err(|e| DecodeError(e.to_string()))?;
    Ok((value, tracker.duplicate))
}

struct Tracker {
    path: String,
    duplicate: Vec<String>,
}

struct Seed<'t>(&'t mut Tracker);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        // Go reads a number beyond its largest integer as a float.
        Ok(i64::try_from(value).map_or_else(|_| json!(value as f64), Value::from))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        // As Go writes a float: without a fraction when there is none.
        if value.fract() == 0.0 && value.abs() < 9.0e18 {
            return Ok(Value::Number((value as i64).into()));
        }
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        use fmt::Write as _;
        let tracker = self.0;
        let length = tracker.path.len();
        let mut list = Vec::new();
        loop {
            let _ = write!(tracker.path, "[{}]", list.len());
            let next = access.next_element_seed(Seed(tracker));
            tracker.path.truncate(length);
            match next? {
                Some(value) => list.push(value),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let tracker = self.0;
        let length = tracker.path.len();
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            if length > 0 {
                tracker.path.push('.');
            }
            tracker.path.push_str(&key);
            if map.contains_key(&key)
                && tracker.duplicate.len() < MAX_FINDINGS
                && !tracker.duplicate.contains(&tracker.path)
            {
                tracker.duplicate.push(tracker.path.clone());
            }
            let value = access.next_value_seed(Seed(tracker));
            tracker.path.truncate(length);
            map.insert(key, value?);
        }
        Ok(Value::Object(map))
    }
}
