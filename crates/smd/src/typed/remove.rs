//! A value without some of its fields.

use serde_json::Value;

use super::Type;
use crate::path::Element;
use crate::schema::{Relation, Shape, deduce, resolve, shape};
use crate::set::Set;

impl Type<'_> {
    /// The value without the members of a set. A map or list that loses everything becomes null.
    pub fn remove(self, value: &Value, gone: &Set) -> Value {
        match (shape(deduce(resolve(self.schema, self.root), value)), value) {
            (Shape::Map(map), Value::Object(fields)) if !map.atomic => {
                let kept = fields.iter().filter_map(|(name, value)| {
                    let element = Element::field(name);
                    if gone.has_member(&element) {
                        return None;
                    }
                    let kept = match (gone.child(&element), map.value_type(self.schema, name)) {
                        (Some(below), Some(ty)) if !below.is_empty() => self.at(ty).remove(value, below),
                        _ => value.clone(),
                    };
                    Some((name.clone(), kept))
                });
                let kept: serde_json::Map<String, Value> = kept.collect();
                if kept.is_empty() { Value::Null } else { Value::Object(kept) }
            }
            (Shape::List(list), Value::Array(items)) if list.relation != Relation::Atomic => {
                let kept = items.iter().filter_map(|item| {
                    let Ok(element) = self.item(&list, item) else { return Some(item.clone()) };
                    if gone.has_member(&element) {
                        return None;
                    }
                    Some(match gone.child(&element) {
                        Some(below) if !below.is_empty() => self.at(list.items).remove(item, below),
                        _ => item.clone(),
                    })
                });
                let kept: Vec<Value> = kept.collect();
                if kept.is_empty() { Value::Null } else { Value::Array(kept) }
            }
            (Shape::Scalar(_), scalar) => scalar.clone(),
            (Shape::Map(_) | Shape::List(_) | Shape::Nothing, _) => Value::Null,
        }
    }
}
