//! Lists: merged by a key or as sets, or replaced.

use serde_json::Value;

use super::order::{self, Identity};
use super::{Directive, PATCH, PatchMerge, Place, Refused, directive, go, merge_object, no_merge_key, not_an_object};

/// What a list of the patch is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// It is merged into the one that is there, or replaces it.
    Merge,
    /// Its plain values go; objects are merged, for they may have directives of their own.
    Delete,
}

pub(super) fn merge<'s, P: Place<'s>>(
    list: &mut Vec<Value>,
    patch: &[Value],
    place: Option<P>,
    way: Way,
    depth: usize,
) -> Result<(), Refused> {
    let key = match place.and_then(P::merge) {
        Some(PatchMerge::Key(key)) => Some(key),
        Some(PatchMerge::Set) => None,
        _ if way == Way::Delete => None,
        _ => {
            *list = patch.to_vec();
            return Ok(());
        }
    };
    let Some(first) = alike(&[list, patch])? else { return Ok(()) };
    if first.is_object() {
        let why = || Refused::Content("cannot merge lists without merge key for struct".to_owned());
        return merge_items(list, patch, key.ok_or_else(why)?, place.and_then(P::items), depth);
    }
    if way == Way::Delete {
        list.retain(|item| !patch.contains(item));
        return Ok(());
    }
    if key.is_some() {
        return Err(not_an_object(first));
    }
    let before = list.clone();
    list.clear();
    for item in before.iter().chain(patch) {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
    order::arrange(list, patch, &before, Identity::Value);
    Ok(())
}

/// The first item of all the lists, whose items must be of one type, and no lists.
pub(super) fn alike<'v>(lists: &[&'v [Value]]) -> Result<Option<&'v Value>, Refused> {
    let mut items = lists.iter().flat_map(|list| list.iter());
    let Some(first) = items.next() else { return Ok(None) };
    match first {
        // Kubernetes panics.
        Value::Null => return Err(Refused::Content("lists that begin with null cannot be merged".to_owned())),
        Value::Array(_) => return Err(Refused::ListOfLists),
        _ => {}
    }
    if items.any(|item| go::kind(item) != go::kind(first)) {
        let lists: Vec<String> = lists.iter().map(|list| go::list(list)).collect();
        return Err(Refused::Content(format!("list element types are not identical: [{}]", lists.join(" "))));
    }
    Ok(Some(first))
}

fn merge_items<'s, P: Place<'s>>(
    list: &mut Vec<Value>,
    patch: &[Value],
    key: &str,
    place: Option<P>,
    depth: usize,
) -> Result<(), Refused> {
    let (mut ordinary, mut replaces) = (Vec::new(), false);
    for item in patch {
        let map = item.as_object().ok_or_else(|| not_an_object(item))?;
        if map.get(PATCH).is_some_and(|directive| directive == "merge") {
            return Err(Refused::Content("merging lists cannot yet be specified in the patch".to_owned()));
        }
        match directive(map)? {
            None => ordinary.push(item.clone()),
            Some(Directive::Replace) => replaces = true,
            Some(Directive::Delete) => {
                let id = map.get(key).ok_or_else(|| no_merge_key(item, key))?;
                list.retain(|old| old.get(key) != Some(id));
            }
        }
    }
    if replaces {
        *list = ordinary;
        return has_keys(list, key);
    }
    let before = list.clone();
    for item in &ordinary {
        let id = item.get(key).ok_or_else(|| no_merge_key(item, key))?;
        match (list.iter_mut().find(|old| old.get(key) == Some(id)), item) {
            (Some(Value::Object(old)), Value::Object(item)) => merge_object(old, item, place, depth + 1)?,
            _ => list.push(item.clone()),
        }
    }
    has_keys(list, key)?;
    order::arrange(list, &ordinary, &before, Identity::Key(key));
    Ok(())
}

/// Refuses lists with items that are no objects, or have no key.
pub(super) fn has_keys(list: &[Value], key: &str) -> Result<(), Refused> {
    for item in list {
        let map = item.as_object().ok_or_else(|| not_an_object(item))?;
        map.get(key).ok_or_else(|| no_merge_key(item, key))?;
    }
    Ok(())
}
