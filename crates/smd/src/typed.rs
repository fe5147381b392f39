//! Walks over values that a schema steers.

mod compare;
mod fields;
mod merge;
mod named;
mod reconcile;
mod remove;
mod validate;

use std::fmt;

use serde_json::Value;

use crate::path::Element;
use crate::schema::{List, Relation, Schema, TypeRef, resolve};

pub use compare::Comparison;
pub use validate::Duplicates;

/// A schema and the place in it where a value belongs.
#[derive(Clone, Copy)]
pub struct Type<'s> {
    pub(crate) schema: &'s dyn Schema,
    pub(crate) root: TypeRef,
}

impl<'s> Type<'s> {
    /// The type of the values at a place of a schema.
    pub fn new(schema: &'s dyn Schema, root: TypeRef) -> Type<'s> {
        Type { schema, root }
    }

    pub(crate) fn at(self, root: TypeRef) -> Type<'s> {
        Type { root, ..self }
    }

    /// The step to an item of a list.
    pub(crate) fn item(self, list: &List<'_>, item: &Value) -> Result<Element, String> {
        match list.relation {
            Relation::Atomic => Err("invalid indexing of non-associative list".to_owned()),
            Relation::Set => match item {
                Value::Object(_) => Err("associative list without keys has an element that's a map type".to_owned()),
                Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
                Value::Null => Err("associative list without keys has an element that's an explicit null".to_owned()),
                scalar => Ok(Element::Value(Box::new(scalar.clone()))),
            },
            Relation::Keys(names) => self.keyed_item(names, list.items, item),
        }
    }

    fn keyed_item(self, names: &[Box<str>], items: TypeRef, item: &Value) -> Result<Element, String> {
        let map = match item {
            Value::Object(map) => map,
            Value::Null => return Err("associative list with keys may not have a null element".to_owned()),
            _ => return Err("associative list with keys may not have non-map elements".to_owned()),
        };
        let mut keys = Vec::with_capacity(names.len());
        for name in names {
            let given = map.get(&**name);
            let value = given.or_else(|| {
                let fields = resolve(self.schema, items).map?;
                fields.named(self.schema, name)?.default
            });
            // A key that is not there makes another item than the same key with a value.
            keys.extend(value.map(|value| (name.clone(), value.clone())));
        }
        if keys.is_empty() {
            let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
            return Err(format!(
                "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values \
                 for any key fields)",
                quoted.join(" ")
            ));
        }
        Ok(Element::key(keys))
    }
}

impl fmt::Debug for Type<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Type").field("root", &self.root).finish_non_exhaustive()
    }
}

/// A value that does not fit its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: `.spec.ports[0]`.
    pub path: String,
    /// What is wrong.
    pub message: String,
}

/// All that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    pub(crate) fn one(path: impl Into<String>, message: impl Into<String>) -> Problems {
        Problems(vec![Problem { path: path.into(), message: message.into() }])
    }

    /// The problems as seen from above.
    pub(crate) fn below(mut self, element: &Element) -> Problems {
        for problem in &mut self.0 {
            problem.path.insert_str(0, &element.to_string());
        }
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => one.fmt(f),
            many => {
                f.write_str("errors:")?;
                many.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}
