//! The `fieldsV1` form of a set: an object whose keys are the steps, `.` marking a parent that is itself a member.

use serde_json::{Map, Value};

use crate::path::Element;
use crate::set::Set;

/// A `fieldsV1` value that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("fieldsV1 at {path:?}: {why}")]
pub struct FieldsError {
    /// The key.
    pub path: String,
    /// What is wrong with it.
    pub why: String,
}

impl Set {
    /// The `fieldsV1` form.
    pub fn to_fields(&self) -> Value {
        self.write(false)
    }

    fn write(&self, member: bool) -> Value {
        let mut map = Map::with_capacity(self.members.len() + self.children.len() + usize::from(member));
        if member {
            map.insert(".".into(), Value::Object(Map::new()));
        }
        let (mut members, mut children) = (self.members.iter().peekable(), self.children.iter().peekable());
        loop {
            let order = match (members.peek(), children.peek()) {
                (None, None) => return Value::Object(map),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(member), Some((child, _))) => (*member).cmp(child),
            };
            let member = if order.is_le() { members.next() } else { None };
            match if order.is_ge() { children.next() } else { None } {
                Some((element, set)) => map.insert(element.encode(), set.write(member.is_some())),
                None => member.and_then(|element| map.insert(element.encode(), Value::Object(Map::new()))),
            };
        }
    }

    /// Reads the `fieldsV1` form. Steps of an unknown kind are dropped.
    pub fn from_fields(fields: &Value) -> Result<Set, FieldsError> {
        Ok(read(fields, "")?.1)
    }
}

/// Whether the place itself is a member, and what lies below.
fn read(fields: &Value, at: &str) -> Result<(bool, Set), FieldsError> {
    let map = match fields {
        Value::Object(map) => map,
        Value::Null => return Ok((true, Set::default())),
        _ => return Err(FieldsError { path: at.to_owned(), why: "is not an object".to_owned() }),
    };
    let (mut itself, mut members, mut children) = (false, Vec::new(), Vec::new());
    for (key, below) in map {
        if key == "." {
            itself = true;
            continue;
        }
        let Some(element) = Element::parse(key)? else { continue };
        let (member, set) = read(below, key)?;
        if !set.is_empty() {
            children.push((element.clone(), set));
        }
        if member {
            members.push(element);
        }
    }
    let set = Set::from_parts(members, children);
    Ok((itself || set.is_empty(), set))
}
