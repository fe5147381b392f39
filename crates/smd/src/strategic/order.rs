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
    pub(super) fn same(self, a: &Value, b: &Value) -> bool {
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
    sort(&mut named, wanted, identity);
    sort(&mut others, before, identity);
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

/// Sorts by the places in another list. Items without a place there go in front of whatever stands before them, one by one,
/// which is how Kubernetes comes to reverse them.
fn sort(items: &mut [Value], order: &[Value], identity: Identity<'_>) {
    let mut places: Vec<Option<usize>> = items.iter().map(|item| identity.place(order, item)).collect();
    for last in 1..items.len() {
        let mut at = last;
        while at > 0 && !matches!((places[at], places[at - 1]), (Some(here), Some(above)) if here >= above) {
            items.swap(at, at - 1);
            places.swap(at, at - 1);
            at -= 1;
        }
    }
}

/// The old order by which Kubernetes goes when a patch deletes items: new ones have taken the places that became free at the end.
pub(super) fn refilled(before: Vec<Value>, patch: &[Value], key: &str) -> Vec<Value> {
    let identity = Identity::Key(key);
    let directive = |item: &Value, word: &str| item.get("$patch").is_some_and(|it| it == word);
    let gone = |old: &Value| patch.iter().any(|item| directive(item, "delete") && identity.same(item, old));
    let length = before.len();
    let mut left: Vec<Value> = before.into_iter().filter(|old| !gone(old)).collect();
    if patch.iter().any(|item| directive(item, "replace")) {
        return left;
    }
    let given = patch.iter().filter(|item| item.get("$patch").is_none());
    let new: Vec<Value> = given.filter(|item| identity.place(&left, item).is_none()).cloned().collect();
    left.extend(new);
    left.truncate(length);
    left
}
