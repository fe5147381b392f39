//! One step of a path to a field, and the text of a whole path.

use std::cmp::Ordering;
use std::fmt;

use serde_json::{Map, Value};

use crate::fieldsv1::FieldsError;
use crate::value;

/// One step of a path.
#[derive(Debug, Clone)]
pub enum Element {
    /// A field of a struct, or a key of a map.
    Field(Box<str>),
    /// The item of a list with keys that has these values in them, sorted by name.
    Key(Box<[(Box<str>, Value)]>),
    /// The item of a set that is this value.
    Value(Box<Value>),
    /// The item of an atomic list at this place.
    Index(i64),
}

impl Element {
    /// A named field.
    pub fn field(name: &str) -> Element {
        Element::Field(name.into())
    }

    /// The item with these keys.
    pub fn key(mut keys: Vec<(Box<str>, Value)>) -> Element {
        keys.sort_by(|a, b| a.0.cmp(&b.0));
        Element::Key(keys.into())
    }

    /// Reads a key of the `fieldsV1` form; `None` for a kind of step that is not known.
    pub(crate) fn parse(text: &str) -> Result<Option<Element>, FieldsError> {
        let wrong = |why: String| FieldsError { path: text.to_owned(), why };
        let Some((kind, rest)) = text.split_once(':') else {
            return Err(wrong("no colon, expected f:, k:, v: or i:".to_owned()));
        };
        let json = || serde_json::from_str::<Value>(rest).map_err(|e| wrong(e.to_string()));
        Ok(Some(match kind {
            "f" => Element::field(rest),
            "v" => Element::Value(Box::new(json()?)),
            "k" => match json()? {
                Value::Object(map) => Element::key(map.into_iter().map(|(k, v)| (k.into(), v)).collect()),
                _ => return Err(wrong("keys are not an object".to_owned())),
            },
            "i" => Element::Index(rest.parse().map_err(|_| wrong("an index is not a whole number".to_owned()))?),
            _ => return Ok(None),
        }))
    }

    /// The key of the `fieldsV1` form.
    pub(crate) fn encode(&self) -> String {
        match self {
            Element::Field(name) => format!("f:{name}"),
            Element::Key(keys) => {
                let map: Map<String, Value> = keys.iter().map(|(k, v)| (k.to_string(), v.clone())).collect();
                format!("k:{}", Value::Object(map))
            }
            Element::Value(value) => format!("v:{value}"),
            Element::Index(index) => format!("i:{index}"),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Element::Field(_) => 0,
            Element::Key(_) => 1,
            Element::Value(_) => 2,
            Element::Index(_) => 3,
        }
    }
}

impl Ord for Element {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Element::Field(a), Element::Field(b)) => a.cmp(b),
            (Element::Key(a), Element::Key(b)) => {
                let unequal = a.iter().zip(b).map(|(a, b)| a.0.cmp(&b.0).then_with(|| value::compare(&a.1, &b.1)));
                unequal.into_iter().find(|order| order.is_ne()).unwrap_or_else(|| a.len().cmp(&b.len()))
            }
            (Element::Value(a), Element::Value(b)) => value::compare(a, b),
            (Element::Index(a), Element::Index(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Element {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Element {}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Element::Field(name) => write!(f, ".{name}"),
            Element::Key(keys) => {
                let keys: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={}", value::text(v))).collect();
                write!(f, "[{}]", keys.join(","))
            }
            Element::Value(value) => write!(f, "[={}]", value::text(value)),
            Element::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// A path as clients see it: `.spec.containers[name="web"].image`.
#[derive(Debug, Clone, Copy)]
pub struct PathText<'p>(pub &'p [Element]);

impl fmt::Display for PathText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|element| element.fmt(f))
    }
}
