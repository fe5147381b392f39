//! What changes between two values.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Problems, Type};
use crate::path::Element;
use crate::schema::{Atom, List, Map, Relation, Shape, deduce, resolve, shape};
use crate::set::Set;
use crate::value;

/// The fields in which two values differ; no field is in more than one of the sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Only in the new one.
    pub added: Set,
    /// In both, with another value.
    pub modified: Set,
    /// Only in the old one.
    pub removed: Set,
}

impl Comparison {
    /// Whether nothing differs.
    pub fn is_same(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    /// What is new or other than before.
    pub fn changed(&self) -> Set {
        self.added.union(&self.modified)
    }

    /// Without these fields and all that is below them.
    pub(crate) fn without(mut self, ignored: &Set) -> Comparison {
        for set in [&mut self.added, &mut self.modified, &mut self.removed] {
            *set = set.recursive_difference(ignored);
        }
        self
    }
}

impl Type<'_> {
    /// Compares two values of the type.
    pub fn compare(self, old: &Value, new: &Value) -> Result<Comparison, Problems> {
        let mut found = Found::default();
        self.walk_compare(Some(old), Some(new), &mut found)?;
        Ok(found.finish())
    }

    /// Compares what is at a place; the answer is what is to be said of the place itself.
    fn walk_compare(
        self,
        old: Option<&Value>,
        new: Option<&Value>,
        found: &mut Found,
    ) -> Result<Option<Mark>, Problems> {
        let atom = resolve(self.schema, self.root);
        let before = old.map_or(atom, |value| deduce(atom, value));
        let after = new.map_or(atom, |value| deduce(atom, value));
        let modified = match (old, new) {
            (_, None) => self.compare_as(before, old, new, found)?,
            (None, _) => self.compare_as(after, old, new, found)?,
            _ if before == after => self.compare_as(after, old, new, found)?,
            _ => self.compare_as(before, old, new, found)? | self.compare_as(after, old, new, found)?,
        };
        Ok(match (old, new) {
            (None, _) => Some(Mark::Added),
            (_, None) => Some(Mark::Removed),
            _ => modified.then_some(Mark::Modified),
        })
    }

    /// Whether the place is a leaf that differs.
    fn compare_as(
        self,
        atom: Atom<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
        found: &mut Found,
    ) -> Result<bool, Problems> {
        let differs = || match (old, new) {
            (Some(old), Some(new)) => !value::equal(old, new),
            _ => false,
        };
        match shape(atom) {
            Shape::Map(map) => {
                let (old, new) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
                let empty = |map: Option<&serde_json::Map<String, Value>>| map.is_none_or(|map| map.is_empty());
                if map.atomic || (empty(old) && empty(new)) {
                    return Ok(differs());
                }
                self.compare_fields(&map, old, new, found)?;
                Ok(false)
            }
            Shape::List(list) => {
                let (old, new) = (old.and_then(Value::as_array), new.and_then(Value::as_array));
                let empty = |list: Option<&Vec<Value>>| list.is_none_or(|list| list.is_empty());
                if list.relation == Relation::Atomic || (empty(old) && empty(new)) {
                    return Ok(differs());
                }
                let (old, new) = (old.map(Vec::as_slice), new.map(Vec::as_slice));
                self.compare_items(&list, old.unwrap_or_default(), new.unwrap_or_default(), found)?;
                Ok(false)
            }
            Shape::Scalar(_) => Ok(differs()),
            Shape::Nothing => Ok(false),
        }
    }

    fn compare_fields(
        self,
        map: &Map,
        old: Option<&serde_json::Map<String, Value>>,
        new: Option<&serde_json::Map<String, Value>>,
        found: &mut Found,
    ) -> Result<(), Problems> {
        let before =
            old.into_iter().flatten().map(|(name, value)| (name, Some(value), new.and_then(|map| map.get(name))));
        let after = new.into_iter().flatten().filter(|(name, _)| old.is_none_or(|map| !map.contains_key(*name)));
        for (name, old, new) in before.chain(after.map(|(name, value)| (name, None, Some(value)))) {
            if let (Some(old), Some(new)) = (old, new)
                && old == new
            {
                continue;
            }
            let Some(ty) = map.value_type(self.schema, name) else { continue };
            self.at(ty).descend(Element::field(name), old, new, found)?;
        }
        Ok(())
    }

    fn compare_items(self, list: &List<'_>, old: &[Value], new: &[Value], found: &mut Found) -> Result<(), Problems> {
        if old == new {
            return Ok(());
        }
        let mut items: BTreeMap<Element, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for (element, item) in self.elements(list, old)?.into_iter().zip(old) {
            items.entry(element).or_default().0.push(item);
        }
        for (element, item) in self.elements(list, new)?.into_iter().zip(new) {
            items.entry(element).or_default().1.push(item);
        }
        let below = self.at(list.items);
        for (element, (old, new)) in items {
            // Items that share their keys count as one leaf.
            match (old.as_slice(), new.as_slice()) {
                ([] | [_], [] | [_]) => {
                    below.descend(element, old.first().copied(), new.first().copied(), found)?;
                }
                ([_, _, ..], [_, _, ..]) => {
                    let same = old.len() == new.len() && old.iter().zip(&new).all(|(a, b)| value::equal(a, b));
                    found.mark((!same).then_some(Mark::Modified), element);
                }
                ([_, _, ..], single) => {
                    if let [new] = single {
                        below.descend(element.clone(), None, Some(new), found)?;
                    }
                    found.mark(Some(Mark::Removed), element);
                }
                (single, [_, _, ..]) => {
                    if let [old] = single {
                        below.descend(element.clone(), Some(old), None, found)?;
                    }
                    found.mark(Some(Mark::Added), element);
                }
            }
        }
        Ok(())
    }

    fn descend(
        self,
        element: Element,
        old: Option<&Value>,
        new: Option<&Value>,
        found: &mut Found,
    ) -> Result<(), Problems> {
        let mut below = Found::default();
        let mark = self.walk_compare(old, new, &mut below).map_err(|problems| problems.below(&element))?;
        found.attach(&element, below.finish());
        found.mark(mark, element);
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Added,
    Modified,
    Removed,
}

/// Members and children of one level, in the order they are found.
#[derive(Default)]
struct Found {
    members: [Vec<Element>; 3],
    children: [Vec<(Element, Set)>; 3],
}

impl Found {
    fn mark(&mut self, mark: Option<Mark>, element: Element) {
        if let Some(mark) = mark {
            self.members[mark as usize].push(element);
        }
    }

    fn attach(&mut self, element: &Element, below: Comparison) {
        for (children, set) in self.children.iter_mut().zip([below.added, below.modified, below.removed]) {
            if !set.is_empty() {
                children.push((element.clone(), set));
            }
        }
    }

    fn finish(self) -> Comparison {
        let [added, modified, removed] = self.members;
        let [below_added, below_modified, below_removed] = self.children;
        Comparison {
            added: Set::from_parts(added, below_added),
            modified: Set::from_parts(modified, below_modified),
            removed: Set::from_parts(removed, below_removed),
        }
    }
}
