//! What a configuration makes of an object.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Problems, Type};
use crate::path::Element;
use crate::schema::{List, Map, Relation, Shape, deduce, resolve, shape};

impl Type<'_> {
    /// The object with the fields of the configuration: structs and maps by field, lists with keys and sets by item, all else
    /// replaced.
    pub fn merge(self, object: &Value, config: &Value) -> Result<Value, Problems> {
        Ok(self.walk_merge(Some(object), Some(config))?.unwrap_or(Value::Null))
    }

    fn walk_merge(self, object: Option<&Value>, config: Option<&Value>) -> Result<Option<Value>, Problems> {
        let atom = resolve(self.schema, self.root);
        let atom = match config.or(object) {
            Some(value) => deduce(atom, value),
            None => return Ok(None),
        };
        let newer = || Ok(config.or(object).cloned());
        match shape(atom) {
            Shape::Map(map) => {
                let (object, config) = (object.and_then(Value::as_object), config.and_then(Value::as_object));
                let empty = |map: Option<&serde_json::Map<String, Value>>| map.is_none_or(|map| map.is_empty());
                if map.atomic || (empty(object) && empty(config)) {
                    return newer();
                }
                self.merge_fields(&map, object, config).map(Some)
            }
            Shape::List(list) => {
                let (object, config) = (object.and_then(Value::as_array), config.and_then(Value::as_array));
                let empty = |list: Option<&Vec<Value>>| list.is_none_or(|list| list.is_empty());
                if list.relation == Relation::Atomic || (empty(object) && empty(config)) {
                    return newer();
                }
                let (object, config) = (object.map(Vec::as_slice), config.map(Vec::as_slice));
                self.merge_items(&list, object.unwrap_or_default(), config.unwrap_or_default()).map(Some)
            }
            Shape::Scalar(_) | Shape::Nothing => newer(),
        }
    }

    fn merge_fields(
        self,
        map: &Map,
        object: Option<&serde_json::Map<String, Value>>,
        config: Option<&serde_json::Map<String, Value>>,
    ) -> Result<Value, Problems> {
        let mut out = serde_json::Map::new();
        let old = object.into_iter().flatten();
        let added = config.into_iter().flatten().filter(|(name, _)| object.is_none_or(|map| !map.contains_key(*name)));
        for (name, _) in old.chain(added) {
            let (old, new) = (object.and_then(|map| map.get(name)), config.and_then(|map| map.get(name)));
            // What the schema does not know was refused before, or is about to be pruned.
            let merged = match map.value_type(self.schema, name) {
                Some(ty) => self.at(ty).walk_merge(old, new).map_err(|p| p.below(&Element::field(name)))?,
                None => new.or(old).cloned(),
            };
            if let Some(merged) = merged {
                out.insert(name.clone(), merged);
            }
        }
        Ok(Value::Object(out))
    }

    /// Items the configuration has take its order; the others keep their place between them.
    fn merge_items(self, list: &List<'_>, object: &[Value], config: &[Value]) -> Result<Value, Problems> {
        let (old, new) = (self.elements(list, object)?, self.elements(list, config)?);
        let mut by_element: BTreeMap<&Element, Option<&Value>> = BTreeMap::new();
        for (element, item) in old.iter().zip(object) {
            // Repeated items are not merged with anything: the configuration replaces them all.
            by_element.entry(element).and_modify(|known| *known = None).or_insert(Some(item));
        }
        let applied: BTreeMap<&Element, &Value> = new.iter().zip(config).collect();
        if applied.len() < new.len() {
            return Err(Problems::one("", "duplicate entries in the applied list"));
        }
        let below = self.at(list.items);
        let merge = |element: &Element, old: Option<&Value>, new: Option<&Value>| {
            below.walk_merge(old, new).map_err(|problems| problems.below(element))
        };
        let both = |element: &Element| {
            let old = by_element.get(element).map(|item| item.unwrap_or(&Value::Null));
            merge(element, old, applied.get(element).copied())
        };

        let mut shared = new.iter().filter(|element| by_element.contains_key(element));
        let mut awaited = shared.next();
        let mut done: BTreeSet<&Element> = BTreeSet::new();
        let mut out = Vec::with_capacity(old.len().max(new.len()));
        let (mut l, mut r) = (0, 0);
        while l < old.len() || r < new.len() {
            if let (Some(left), Some(right)) = (old.get(l), new.get(r)) {
                if left == right {
                    out.extend(both(left)?);
                    done.insert(left);
                    (l, r) = (l + 1, r + 1);
                    awaited = shared.next();
                    continue;
                }
                if applied.contains_key(left) && awaited.is_some_and(|awaited| awaited != left) {
                    // It stands elsewhere in the configuration's order.
                    l += 1;
                    continue;
                }
            }
            if let Some(left) = old.get(l) {
                if !applied.contains_key(left) {
                    out.extend(merge(left, object.get(l), None)?);
                    l += 1;
                    continue;
                }
                if done.contains(left) {
                    l += 1;
                }
            }
            if let Some(right) = new.get(r) {
                out.extend(both(right)?);
                done.insert(right);
                r += 1;
                if awaited == Some(right) {
                    awaited = shared.next();
                }
            }
        }
        Ok(Value::Array(out))
    }
}
