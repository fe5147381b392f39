//! Sets written under an earlier schema.

use super::Type;
use crate::path::Element;
use crate::schema::{Relation, Shape, TypeRef, resolve, shape};
use crate::set::Set;

impl Type<'_> {
    /// The set after lists and maps became atomic: whoever owned something in one owns it as a whole. `None` when nothing did.
    pub fn reconcile(self, set: &Set) -> Option<Set> {
        let mut whole = Set::default();
        walk(self, Some(set), false, &mut Vec::new(), &mut whole);
        (!whole.is_empty()).then(|| set.recursive_difference(&whole).union(&whole))
    }
}

/// Collects the places that are atomic now; `leaf` says that the set has the place and nothing below it.
fn walk(ty: Type<'_>, set: Option<&Set>, leaf: bool, path: &mut Vec<Element>, whole: &mut Set) {
    let schema = ty.schema;
    match shape(resolve(schema, ty.root)) {
        Shape::Map(map) => {
            // Open maps cannot be marked atomic.
            if map.values == Some(TypeRef::Deduced) && map.fields.is_none() {
                return;
            }
            if !leaf && map.atomic {
                if set.is_some_and(|set| !set.is_empty()) {
                    whole.insert(path);
                }
                return;
            }
            each(ty, set, path, whole, |element| match element {
                Element::Field(name) => map.value_type(schema, name),
                _ => map.values,
            });
        }
        Shape::List(list) => {
            if !leaf && list.relation == Relation::Atomic {
                whole.insert(path);
                return;
            }
            each(ty, set, path, whole, |_| Some(list.items));
        }
        Shape::Scalar(_) | Shape::Nothing => {}
    }
}

fn each(
    ty: Type<'_>,
    set: Option<&Set>,
    path: &mut Vec<Element>,
    whole: &mut Set,
    type_of: impl Fn(&Element) -> Option<TypeRef>,
) {
    let Some(set) = set else { return };
    let only_children = set.children.iter().map(|(element, _)| element).filter(|element| !set.has_member(element));
    for element in only_children.chain(&set.members) {
        let Some(root) = type_of(element) else { continue };
        let below = set.child(element);
        path.push(element.clone());
        walk(ty.at(root), below, set.has_member(element) && below.is_none(), path, whole);
        path.pop();
    }
}
