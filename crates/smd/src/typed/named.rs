//! Named fields as members.

use super::Type;
use crate::path::Element;
use crate::schema::{TypeRef, resolve};
use crate::set::Set;

impl Type<'_> {
    /// The set, and every named field that has something below it. A value's own set leaves these out, because a struct is
    /// there by what is in it; to remove a whole struct they are needed.
    pub fn with_named_fields(self, set: &Set) -> Set {
        named(self, Some(self.root), set)
    }
}

fn named(ty: Type<'_>, root: Option<TypeRef>, set: &Set) -> Set {
    let atom = root.map(|root| resolve(ty.schema, root)).unwrap_or_default();
    let mut members = set.members.clone();
    let children = set.children.iter().map(|(element, below)| {
        let root = match element {
            Element::Field(name) => atom.map.and_then(|map| {
                let field = map.named(ty.schema, name);
                members.extend(field.is_some().then(|| element.clone()));
                field.map(|field| field.ty).or(map.values)
            }),
            Element::Key(_) => atom.list.map(|list| list.items),
            Element::Value(_) | Element::Index(_) => None,
        };
        (element.clone(), named(ty, root, below))
    });
    let children = children.collect();
    Set::from_parts(members, children)
}
