//! The set of a value's fields.

use serde_json::Value;

use super::{Problems, Type};
use crate::path::Element;
use crate::schema::{List, Map, Relation, Shape, deduce, resolve, shape};
use crate::set::Set;

impl Type<'_> {
    /// The fields a value has: its leaves, the keys of maps, the items of lists.
    pub fn fields(self, value: &Value) -> Result<Set, Problems> {
        Ok(self.walk_fields(value)?.1)
    }

    /// Whether the place itself is a leaf, and what lies below.
    fn walk_fields(self, value: &Value) -> Result<(bool, Set), Problems> {
        match (shape(deduce(resolve(self.schema, self.root), value)), value) {
            (Shape::Map(map), _) if map.atomic => Ok((true, Set::default())),
            (Shape::List(list), _) if list.relation == Relation::Atomic => Ok((true, Set::default())),
            (Shape::Map(map), Value::Object(fields)) => Ok((false, self.map_fields(&map, fields)?)),
            (Shape::List(list), Value::Array(items)) => Ok((false, self.list_fields(&list, items)?)),
            (Shape::Map(_) | Shape::List(_) | Shape::Nothing, _) => Ok((false, Set::default())),
            (Shape::Scalar(_), _) => Ok((true, Set::default())),
        }
    }

    fn map_fields(self, map: &Map, fields: &serde_json::Map<String, Value>) -> Result<Set, Problems> {
        let (mut members, mut children) = (Vec::with_capacity(fields.len()), Vec::new());
        for (name, value) in fields {
            let named = map.named(self.schema, name).map(|field| field.ty);
            let Some(ty) = named.or(map.values) else { continue };
            let element = Element::field(name);
            let (leaf, below) = self.at(ty).walk_fields(value).map_err(|problems| problems.below(&element))?;
            let empty = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
            if !below.is_empty() {
                children.push((element.clone(), below));
            }
            if leaf || empty || named.is_none() {
                members.push(element);
            }
        }
        Ok(Set::from_parts(members, children))
    }

    fn list_fields(self, list: &List<'_>, items: &[Value]) -> Result<Set, Problems> {
        let elements = self.elements(list, items)?;
        let mut sorted: Vec<&Element> = elements.iter().collect();
        sorted.sort();
        // Items that share their keys are owned as one, without what is in them.
        let repeated = |element: &Element| {
            let at = sorted.partition_point(|other| *other < element);
            sorted.get(at + 1).is_some_and(|next| *next == element)
        };
        let mut children = Vec::new();
        for (element, item) in elements.iter().zip(items) {
            if repeated(element) {
                continue;
            }
            let (_, below) = self.at(list.items).walk_fields(item).map_err(|problems| problems.below(element))?;
            children.push((element.clone(), below));
        }
        Ok(Set::from_parts(elements, children))
    }

    /// The steps to the items of a list, in their order.
    pub(super) fn elements(self, list: &List<'_>, items: &[Value]) -> Result<Vec<Element>, Problems> {
        let element = |(i, item)| self.item(list, item).map_err(|why| Problems::one("", format!("element {i}: {why}")));
        items.iter().enumerate().map(element).collect()
    }
}
