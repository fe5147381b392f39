//! Strategic merge patch: a merge patch that knows which lists are maps in disguise.
//!
//! Directives: `$patch: delete|replace` in an object, `$patch: delete|replace` in the items of a list with a merge key,
//! `$deleteFromPrimitiveList/<field>`, `$setElementOrder/<field>` and `$retainKeys`. Which lists have a merge key the schema of
//! the kind says ([`Place`]).

mod go;
mod order;

use serde_json::{Map, Value};

use order::Identity;

const PATCH: &str = "$patch";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";
const RETAIN: &str = "$retainKeys";

/// Deeper patches are refused rather than recursed into.
const MAX_DEPTH: usize = 100;

/// How a list is patched, or an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchMerge<'s> {
    /// Items are plain values; those of the patch are added.
    Set,
    /// Items are objects, the same when this field is the same.
    Key(&'s str),
    /// An object is replaced as a whole.
    Replace,
}

/// A place in the schema of a kind.
pub trait Place<'s>: Copy {
    /// The place of a field, whether named or one of a map.
    fn field(self, name: &str) -> Option<Self>;

    /// The place of a list's items.
    fn items(self) -> Option<Self>;

    /// `None` for lists that a patch replaces, and objects that it merges.
    fn merge(self) -> Option<PatchMerge<'s>>;
}

/// Why a patch cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A directive does not have its form.
    #[error("{0}")]
    Format(String),
    /// The patch does not fit the object.
    #[error("{0}")]
    Content(String),
}

fn format(directive: &str) -> Refused {
    Refused::Format(format!("invalid patch format of {directive}"))
}

/// Merges a patch into an object of a built-in kind.
///
/// # Errors
/// The patch is malformed, or does not fit the object; the object may have been changed in part.
pub fn patch<'s, P: Place<'s>>(object: &mut Value, patch: &Value, root: P) -> Result<(), Refused> {
    let (Value::Object(target), Value::Object(patch)) = (object, patch) else {
        return Err(Refused::Content("the patch and what it changes must be objects".to_owned()));
    };
    merge_object(target, patch, Some(root), 0)
}

type Fields = Map<String, Value>;

fn merge_object<'s, P: Place<'s>>(
    target: &mut Fields,
    patch: &Fields,
    place: Option<P>,
    depth: usize,
) -> Result<(), Refused> {
    if depth > MAX_DEPTH {
        return Err(Refused::Content(format!("the patch is nested deeper than {MAX_DEPTH} levels")));
    }
    match directive(patch)? {
        Some(Directive::Replace) => {
            *target = plain_fields(patch);
            return Ok(());
        }
        Some(Directive::Delete) => {
            target.clear();
            return Ok(());
        }
        None => {}
    }
    if let Some(keys) = patch.get(RETAIN) {
        retain(target, patch, keys)?;
    }
    let mut ordered: Vec<&str> = Vec::new();
    for (key, order) in patch {
        if let Some(field) = key.strip_prefix(ORDER) {
            let order = order.as_array().ok_or_else(|| not_a_list(order))?;
            merge_ordered(target, patch, field, order, place, depth)?;
            ordered.push(field);
        }
    }
    for (key, gone) in patch {
        if let Some(field) = key.strip_prefix(DELETE_FROM)
            && let (Some(Value::Array(list)), Value::Array(gone)) = (target.get_mut(field), gone)
        {
            list.retain(|item| !gone.contains(item));
        }
    }
    for (key, value) in patch {
        if !key.starts_with('$') && !ordered.contains(&key.as_str()) {
            merge_field(target, key, value, place, depth)?;
        }
    }
    Ok(())
}

fn merge_field<'s, P: Place<'s>>(
    target: &mut Fields,
    key: &str,
    value: &Value,
    place: Option<P>,
    depth: usize,
) -> Result<(), Refused> {
    if value.is_null() {
        target.shift_remove(key);
        return Ok(());
    }
    let below = place.and_then(|place| place.field(key));
    match (target.get_mut(key), value) {
        (Some(Value::Object(target)), Value::Object(patch)) if !is_replaced(below) => {
            merge_object(target, patch, below, depth + 1)
        }
        (Some(Value::Array(list)), Value::Array(items)) => merge_list(list, items, below, depth),
        _ => {
            match plain(value) {
                Some(plain) => target.insert(key.to_owned(), plain),
                None => target.shift_remove(key),
            };
            Ok(())
        }
    }
}

/// Whether an object is replaced as a whole.
fn is_replaced<'s, P: Place<'s>>(place: Option<P>) -> bool {
    place.and_then(P::merge) == Some(PatchMerge::Replace)
}

fn merge_list<'s, P: Place<'s>>(
    list: &mut Vec<Value>,
    patch: &[Value],
    place: Option<P>,
    depth: usize,
) -> Result<(), Refused> {
    let Some(merge) = place.and_then(P::merge) else {
        *list = patch.iter().filter_map(plain).collect();
        return Ok(());
    };
    let objects = list.first().or(patch.first()).is_some_and(Value::is_object);
    match merge {
        // Of objects only.
        PatchMerge::Replace => *list = patch.iter().filter_map(plain).collect(),
        PatchMerge::Set if objects => {
            return Err(Refused::Content("cannot merge lists without merge key".to_owned()));
        }
        PatchMerge::Set => {
            let before = list.clone();
            for item in patch {
                if !list.contains(item) {
                    list.push(item.clone());
                }
            }
            order::arrange(list, patch, &before, Identity::Value);
        }
        PatchMerge::Key(key) => merge_items(list, patch, key, place.and_then(P::items), depth)?,
    }
    Ok(())
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
        *list = ordinary.iter().filter_map(plain).collect();
        return Ok(());
    }
    let before = list.clone();
    for item in &ordinary {
        let id = item.get(key).ok_or_else(|| no_merge_key(item, key))?;
        match (list.iter_mut().find(|old| old.get(key) == Some(id)), item) {
            (Some(Value::Object(old)), Value::Object(item)) => merge_object(old, item, place, depth + 1)?,
            _ => list.extend(plain(item)),
        }
    }
    if let Some(bare) = list.iter().find(|item| item.get(key).is_none()) {
        return Err(no_merge_key(bare, key));
    }
    order::arrange(list, &ordinary, &before, Identity::Key(key));
    Ok(())
}

/// A list together with the order its items are to have.
fn merge_ordered<'s, P: Place<'s>>(
    target: &mut Fields,
    patch: &Fields,
    field: &str,
    wanted: &[Value],
    place: Option<P>,
    depth: usize,
) -> Result<(), Refused> {
    let below = place.and_then(|place| place.field(field));
    let merge = below.and_then(P::merge);
    let identity = match merge {
        Some(PatchMerge::Key(key)) => Identity::Key(key),
        _ => Identity::Value,
    };
    let given = match patch.get(field) {
        None | Some(Value::Null) => None,
        Some(Value::Array(items)) => Some(items),
        Some(other) => return Err(not_a_list(other)),
    };
    if let Some(given) = given
        && !order::agrees(given, wanted, identity)
    {
        let (given, wanted) = (go::list(given), go::list(wanted));
        let text = format!("The order in patch list:\n{given}\n doesn't match $setElementOrder list:\n{wanted}\n");
        return Err(Refused::Content(text));
    }
    let before = match target.get(field) {
        None => Vec::new(),
        Some(Value::Array(list)) => list.clone(),
        Some(other) => return Err(not_a_list(other)),
    };
    let before = match (given, identity) {
        (Some(given), Identity::Key(key)) => order::refilled(before, given, key),
        _ => before,
    };
    if let Some(given) = given {
        merge_field(target, field, &Value::Array(given.clone()), place, depth)?;
    }
    if let Some(Value::Array(list)) = target.get_mut(field) {
        if let Identity::Key(key) = identity
            && let Some(bare) = list.iter().chain(wanted).find(|item| item.get(key).is_none())
        {
            return Err(no_merge_key(bare, key));
        }
        order::arrange(list, wanted, &before, identity);
    }
    Ok(())
}

/// Leaves only the named fields, which must be all that the patch has.
fn retain(target: &mut Fields, patch: &Fields, keys: &Value) -> Result<(), Refused> {
    let keys = keys.as_array().ok_or_else(|| format("retainKeys"))?;
    let named = |field: &str| keys.iter().any(|key| key == field);
    let stray = |(field, value): (&String, &Value)| !field.starts_with('$') && !value.is_null() && !named(field);
    if patch.iter().any(stray) {
        return Err(format("retainKeys"));
    }
    target.retain(|field, _| named(field));
    Ok(())
}

enum Directive {
    Replace,
    Delete,
}

fn directive(map: &Fields) -> Result<Option<Directive>, Refused> {
    match map.get(PATCH).map(|directive| (directive, directive.as_str())) {
        None => Ok(None),
        Some((_, Some("replace"))) => Ok(Some(Directive::Replace)),
        Some((_, Some("delete"))) => Ok(Some(Directive::Delete)),
        Some((other, text)) => {
            let text = text.map_or_else(|| other.to_string(), str::to_owned);
            Err(Refused::Content(format!("unknown patch type: {text} in map: {}", go::map(map))))
        }
    }
}

/// A value of the patch that is new in the object: nulls and directives mean nothing there, and what has a directive is not meant.
fn plain(value: &Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.contains_key(PATCH) => None,
        Value::Object(map) => Some(Value::Object(plain_fields(map))),
        Value::Array(items) => Some(Value::Array(items.iter().filter_map(plain).collect())),
        scalar => Some(scalar.clone()),
    }
}

fn plain_fields(map: &Fields) -> Fields {
    let fields = map.iter().filter(|(key, value)| !key.starts_with('$') && !value.is_null());
    fields.filter_map(|(key, value)| Some((key.clone(), plain(value)?))).collect()
}

fn no_merge_key(item: &Value, key: &str) -> Refused {
    Refused::Content(format!("map: {} does not contain declared merge key: {key}", go::value(item)))
}

fn not_an_object(item: &Value) -> Refused {
    Refused::Content(format!("expected a map[string]interface {{}}, but received a {}", go::kind(item)))
}

fn not_a_list(value: &Value) -> Refused {
    Refused::Content(format!("expected a []interface {{}}, but received a {}", go::kind(value)))
}
