//! Lists whose order the patch sets (`$setElementOrder/<field>`).

use serde_json::Value;

use super::list::{self, Way};
use super::order::{self, Identity};
use super::{
    Fields, Nulls, ORDER, PATCH, PatchMerge, Place, Refused, below, format, go, not_a_list, not_an_object,
    without_directives,
};

/// Merges a list and puts it in order. Returns the field whose changes are done with that; `rest` is what follows the directive.
pub(super) fn merge<'p, 's, P: Place<'s>>(
    target: &mut Fields,
    patch: &Fields,
    rest: &'p str,
    wanted: &Value,
    place: Option<P>,
    depth: usize,
) -> Result<Option<&'p str>, Refused> {
    let wanted = wanted.as_array().ok_or_else(|| not_a_list(wanted))?;
    let field = rest.strip_prefix('/').ok_or_else(|| format("setElementOrder list"))?;
    let items = |value: &Value| value.as_array().cloned().ok_or_else(|| not_a_list(value));
    let old = target.get(field).map(items).transpose()?;
    let given = patch.get(field).map(items).transpose()?;
    let below = below(place, field, true)?;
    let identity = match below.and_then(P::merge) {
        Some(PatchMerge::Key(key)) => Identity::Key(key),
        _ => Identity::Value,
    };
    check(given.as_deref().unwrap_or_default(), wanted, identity)?;
    let mut merged = match (&old, &given) {
        (None, None) => return Ok(None),
        (Some(old), None) => old.clone(),
        (None, Some(given)) => given.iter().filter_map(|item| without_directives(item, Nulls::Keep)).collect(),
        (Some(old), Some(given)) => {
            let mut merged = old.clone();
            list::merge(&mut merged, given, below, Way::Merge, depth)?;
            merged
        }
    };
    let (old, given) = (old.unwrap_or_default(), given.unwrap_or_default());
    match identity {
        Identity::Value if merged.iter().chain(wanted).any(|item| item.is_object() || item.is_array()) => {
            // Kubernetes panics.
            return Err(Refused::Content(format!("{ORDER}/{field}: items without a merge key have no order")));
        }
        Identity::Value => {}
        Identity::Key(key) => comparable(&merged, wanted, key)?,
    }
    if list::alike(&[&old, &given])?.is_none() {
        return Err(Refused::Content("no elements in any of the given slices".to_owned()));
    }
    let before = match identity {
        Identity::Key(key) => {
            list::has_keys(wanted, key)?;
            order::refilled(old, &given, key)
        }
        Identity::Value => old,
    };
    order::arrange(&mut merged, wanted, &before, identity);
    target.insert(field.to_owned(), Value::Array(merged));
    Ok(Some(field))
}

/// Whether the items of a patch, deletions aside, stand in the order that is wanted, and all of them in it.
fn check(patch: &[Value], wanted: &[Value], identity: Identity<'_>) -> Result<(), Refused> {
    if patch.is_empty() || wanted.is_empty() {
        return Ok(());
    }
    let marked = |item: &Value| identity != Identity::Value && item.get(PATCH).is_some_and(|it| it == "delete");
    if let Identity::Key(_) = identity
        && let Some(other) = patch.iter().find(|item| !item.is_object())
    {
        return Err(not_an_object(other));
    }
    let mut items = patch.iter().filter(|item| !marked(item)).peekable();
    let mut places = wanted.iter();
    while let Some(item) = items.peek() {
        if item.get(PATCH).is_some() && places.len() > 0 {
            items.next();
            continue;
        }
        let Some(place) = places.next() else {
            let (patch, wanted) = (go::list(patch), go::list(wanted));
            let text = format!("The order in patch list:\n{patch}\n doesn't match {ORDER} list:\n{wanted}\n");
            return Err(Refused::Content(text));
        };
        if let Identity::Key(key) = identity {
            list::has_keys(&[(*item).clone(), place.clone()], key)?;
        }
        if identity.same(place, item) {
            items.next();
        }
    }
    Ok(())
}

/// Refuses a list whose items have no key, or cannot be looked for in what is wanted.
fn comparable(list: &[Value], wanted: &[Value], key: &str) -> Result<(), Refused> {
    for item in list {
        list::has_keys(std::slice::from_ref(item), key)?;
        let stop = wanted.iter().position(|other| !other.is_object() || Identity::Key(key).same(other, item));
        if let Some(at) = stop.filter(|at| !wanted[*at].is_object()) {
            return Err(Refused::Content(format!("value for key {at} is not a map")));
        }
    }
    Ok(())
}
