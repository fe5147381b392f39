//! The order of a merged list.

use serde_json::Value;

/// When two items are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Identity<'k> {
    /// They are equal.
    Value,
    /// They have the same value in this field.
    Key(&'k str),
}

impl Identity<'_> {
    fn same(self, a: &Value, b: &Value) -> bool {
        match self {
            Identity::Value => a == b,
            Identity::Key(key) => a.get(key).is_some() && a.get(key) == b.get(key),
        }
    }

    fn place(self, list: &[Value], item: &Value) -> Option<usize> {
        list.iter().position(|other| self.same(other, item))
    }
}

/// Items named in `wanted` take its order. The others keep the order they had `before`, each in front of the first named item
/// that came after it.
pub(super) fn arrange(list: &mut Vec<Value>, wanted: &[Value], before: &[Value], identity: Identity<'_>) {
    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        std::mem::take(list).into_iter().partition(|item| identity.place(wanted, item).is_some());
    named.sort_by_key(|item| identity.place(wanted, item));
    others.sort_by_key(|item| identity.place(before, item));
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    while let Some(other) = others.peek() {
        let Some(next) = named.peek() else {
            list.extend(others);
            return;
        };
        let places = (identity.place(before, other), identity.place(before, next));
        let first = matches!(places, (Some(other), Some(next)) if other < next);
        list.extend(if first { others.next() } else { named.next() });
    }
    list.extend(named);
}

/// The old order by which Kubernetes goes when a patch deletes items: new ones have taken the places that became free at the end.
pub(super) fn refilled(before: Vec<Value>, patch: &[Value], key: &str) -> Vec<Value> {
    let identity = Identity::Key(key);
    let (deleted, given): (Vec<&Value>, Vec<&Value>) = patch.iter().partition(|item| item.get("$patch").is_some());
    let length = before.len();
    let gone = |item: &Value| deleted.iter().any(|other| identity.same(other, item));
    let mut left: Vec<Value> = before.into_iter().filter(|item| !gone(item)).collect();
    let new: Vec<Value> = given.into_iter().filter(|item| identity.place(&left, item).is_none()).cloned().collect();
    left.extend(new);
    left.truncate(length);
    left
}

/// Whether the items of a patch, deletions aside, stand in the order that is wanted, and all of them in it.
pub(super) fn agrees(patch: &[Value], wanted: &[Value], identity: Identity<'_>) -> bool {
    if patch.is_empty() || wanted.is_empty() {
        return true;
    }
    let mut items = patch.iter().filter(|item| item.get("$patch").is_none_or(|it| it != "delete")).peekable();
    let mut wanted = wanted.iter();
    while let Some(item) = items.peek() {
        if item.get("$patch").is_some() && wanted.len() > 0 {
            items.next();
            continue;
        }
        match wanted.next() {
            Some(place) if identity.same(place, item) => {
                items.next();
            }
            Some(_) => {}
            None => return false,
        }
    }
    true
}
