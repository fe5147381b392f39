//! Strategic merge patch: a merge patch that knows which lists are maps in disguise.
//!
//! Directives: `$patch: delete|replace` in an object, `$patch: delete|replace` in the items of a list with a merge key,
//! `$deleteFromPrimitiveList/<field>`, `$setElementOrder/<field>` and `$retainKeys`. Which lists have a merge key the schema of
//! the kind says ([`Place`]). Only where something is merged they mean something: what is new, or replaces what was there, is
//! taken with any other key that begins with `$`, and what then becomes of it the schema decides.

mod go;
mod list;
mod order;
mod ordered;

use serde_json::{Map, Value};

const PATCH: &str = "$patch";
const DELETE_FROM: &str = "$deleteFromPrimitiveList";
const ORDER: &str = "$setElementOrder";
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

    /// Why nothing can be merged into a field, which should be a list or an object; `None` also where only the fields are known
    /// that are merged in a special way.
    fn refused(self, _field: &str, _list: bool) -> Option<String> {
        None
    }
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
    /// Lists within lists have no order and no keys.
    #[error("lists of lists are not supported")]
    ListOfLists,
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
            target.clone_from(patch);
            target.shift_remove(PATCH);
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
        if let Some(rest) = key.strip_prefix(ORDER) {
            ordered.extend(ordered::merge(target, patch, rest, order, place, depth)?);
        }
    }
    for (key, gone) in patch {
        if let Some(rest) = key.strip_prefix(DELETE_FROM) {
            let field = rest.strip_prefix('/').ok_or_else(|| format("primitive list"))?;
            if gone.is_null() || target.get(field).is_some_and(|old| go::kind(old) == go::kind(gone)) {
                merge_field(target, field, gone, place, list::Way::Delete, depth)?;
            }
        }
    }
    for (key, value) in patch {
        let special = key == RETAIN || key.starts_with(ORDER) || key.starts_with(DELETE_FROM);
        if !special && !ordered.contains(&key.as_str()) {
            merge_field(target, key, value, place, list::Way::Merge, depth)?;
        }
    }
    Ok(())
}

fn merge_field<'s, P: Place<'s>>(
    target: &mut Fields,
    key: &str,
    value: &Value,
    place: Option<P>,
    way: list::Way,
    depth: usize,
) -> Result<(), Refused> {
    if value.is_null() {
        target.shift_remove(key);
        return Ok(());
    }
    match (target.get_mut(key), value) {
        (Some(Value::Object(target)), Value::Object(patch)) => {
            let below = below(place, key, false)?;
            if below.and_then(P::merge) == Some(PatchMerge::Replace) {
                target.clone_from(patch);
                return Ok(());
            }
            merge_object(target, patch, below, depth + 1)
        }
        (Some(Value::Array(items)), Value::Array(patch)) => {
            list::merge(items, patch, below(place, key, true)?, way, depth)
        }
        _ => {
            match without_directives(value, Nulls::Drop) {
                Some(new) => target.insert(key.to_owned(), new),
                None => target.shift_remove(key),
            };
            Ok(())
        }
    }
}

/// The place of a field into which something is merged.
fn below<'s, P: Place<'s>>(place: Option<P>, field: &str, list: bool) -> Result<Option<P>, Refused> {
    let Some(place) = place else { return Ok(None) };
    match place.refused(field, list) {
        Some(why) => Err(Refused::Content(why)),
        None => Ok(place.field(field)),
    }
}

/// Leaves only the named fields, which must be all that the patch has.
fn retain(target: &mut Fields, patch: &Fields, keys: &Value) -> Result<(), Refused> {
    let keys = keys.as_array().ok_or_else(|| format("retainKeys"))?;
    if let Some(key) = keys.iter().find(|key| key.is_object() || key.is_array()) {
        return Err(Refused::Content(format!("a {} in {RETAIN} names no field", go::kind(key))));
    }
    let named = |field: &str| keys.iter().any(|key| key == field);
    let special = |field: &str| field == RETAIN || field.starts_with(DELETE_FROM) || field.starts_with(ORDER);
    if patch.iter().any(|(field, value)| !special(field) && !value.is_null() && !named(field)) {
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
        Some((other, _)) => {
            let text = go::text(other);
            Err(Refused::Content(format!("unknown patch type: {text} in map: {}", go::map(map))))
        }
    }
}

/// What becomes of null members of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nulls {
    Keep,
    Drop,
}

/// A value of the patch that is new in the object; what has a `$patch` is not meant.
fn without_directives(value: &Value, nulls: Nulls) -> Option<Value> {
    let dropped = |value: &Value| nulls == Nulls::Drop && value.is_null();
    match value {
        Value::Object(map) if map.get(PATCH).is_some_and(|directive| !dropped(directive)) => None,
        Value::Object(map) => {
            let fields = map.iter().filter(|(_, value)| !dropped(value));
            let fields = fields.filter_map(|(key, value)| Some((key.clone(), without_directives(value, nulls)?)));
            Some(Value::Object(fields.collect()))
        }
        Value::Array(items) => {
            Some(Value::Array(items.iter().filter_map(|item| without_directives(item, nulls)).collect()))
        }
        scalar => Some(scalar.clone()),
    }
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
