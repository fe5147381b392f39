//! Sets of fields.

use std::cmp::Ordering;

use crate::path::{Element, PathText};

/// A set of paths. A path may be a member without its parents, and a parent without what is below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set {
    /// Members one step below, sorted.
    pub(crate) members: Vec<Element>,
    /// What lies deeper, sorted; no child is empty.
    pub(crate) children: Vec<(Element, Set)>,
}

impl Set {
    /// The set of these paths.
    pub fn of<'p>(paths: impl IntoIterator<Item = &'p [Element]>) -> Set {
        let mut set = Set::default();
        paths.into_iter().for_each(|path| set.insert(path));
        set
    }

    /// The set of these paths of field names, written with dots.
    pub fn of_fields(paths: &[&str]) -> Set {
        let mut set = Set::default();
        for path in paths {
            let path: Vec<Element> = path.split('.').map(Element::field).collect();
            set.insert(&path);
        }
        set
    }

    /// A set from parts in any order; empty children are left out.
    pub(crate) fn from_parts(mut members: Vec<Element>, mut children: Vec<(Element, Set)>) -> Set {
        members.sort();
        members.dedup();
        children.retain(|(_, set)| !set.is_empty());
        children.sort_by(|a, b| a.0.cmp(&b.0));
        // Only damaged input names a child twice.
        children.dedup_by(|later, first| {
            let same = later.0 == first.0;
            if same {
                first.1 = first.1.union(&later.1);
            }
            same
        });
        Set { members, children }
    }

    /// Adds a path. The empty one stands for the whole object, which nobody owns.
    pub fn insert(&mut self, path: &[Element]) {
        match path {
            [] => {}
            [last] => {
                if let Err(at) = self.members.binary_search(last) {
                    self.members.insert(at, last.clone());
                }
            }
            [first, rest @ ..] => {
                let at = match self.children.binary_search_by(|(element, _)| element.cmp(first)) {
                    Ok(at) => at,
                    Err(at) => {
                        self.children.insert(at, (first.clone(), Set::default()));
                        at
                    }
                };
                self.children[at].1.insert(rest);
            }
        }
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.iter().all(|(_, set)| set.is_empty())
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.members.len() + self.children.iter().map(|(_, set)| set.len()).sum::<usize>()
    }

    /// Whether a path is a member.
    pub fn has(&self, path: &[Element]) -> bool {
        match path {
            [] => false,
            [last] => self.has_member(last),
            [first, rest @ ..] => self.child(first).is_some_and(|set| set.has(rest)),
        }
    }

    pub(crate) fn has_member(&self, element: &Element) -> bool {
        self.members.binary_search(element).is_ok()
    }

    pub(crate) fn child(&self, element: &Element) -> Option<&Set> {
        let at = self.children.binary_search_by(|(other, _)| other.cmp(element)).ok()?;
        Some(&self.children[at].1)
    }

    /// Every path, parents before what is below them.
    pub fn paths(&self) -> Vec<Vec<Element>> {
        let mut out = Vec::new();
        self.collect(&mut Vec::new(), &mut out);
        out
    }

    fn collect(&self, prefix: &mut Vec<Element>, out: &mut Vec<Vec<Element>>) {
        for member in &self.members {
            let mut path = prefix.clone();
            path.push(member.clone());
            out.push(path);
        }
        for (element, set) in &self.children {
            prefix.push(element.clone());
            set.collect(prefix, out);
            prefix.pop();
        }
    }

    /// Members of either.
    pub fn union(&self, other: &Set) -> Set {
        let members = merge(&self.members, &other.members, |element| element, |a, b| a.or(b).cloned());
        let children = merge(
            &self.children,
            &other.children,
            |(element, _)| element,
            |a, b| match (a, b) {
                (Some((element, a)), Some((_, b))) => Some((element.clone(), a.union(b))),
                (one, other) => one.or(other).cloned(),
            },
        );
        Set { members, children }
    }

    /// Members of both.
    pub fn intersection(&self, other: &Set) -> Set {
        let members = merge(&self.members, &other.members, |element| element, |a, b| a.and(b).cloned());
        let children = merge(
            &self.children,
            &other.children,
            |(element, _)| element,
            |a, b| {
                let ((element, a), (_, b)) = (a?, b?);
                kept(element, a.intersection(b))
            },
        );
        Set { members, children }
    }

    /// Members that the other has not; a parent in the other takes nothing away from what is below it.
    pub fn difference(&self, other: &Set) -> Set {
        let children = merge(
            &self.children,
            &other.children,
            |(element, _)| element,
            |a, b| match (a?, b) {
                ((element, a), Some((_, b))) => kept(element, a.difference(b)),
                (alone, None) => Some(alone.clone()),
            },
        );
        Set { members: self.without_members(other), children }
    }

    /// Members that neither they nor a parent of theirs the other has.
    pub fn recursive_difference(&self, other: &Set) -> Set {
        let children = merge(
            &self.children,
            &other.children,
            |(element, _)| element,
            |a, b| match (a?, b) {
                ((element, _), _) if other.has_member(element) => None,
                ((element, a), Some((_, b))) => kept(element, a.recursive_difference(b)),
                (alone, None) => Some(alone.clone()),
            },
        );
        Set { members: self.without_members(other), children }
    }

    fn without_members(&self, other: &Set) -> Vec<Element> {
        merge(
            &self.members,
            &other.members,
            |element| element,
            |a, b| match (a, b) {
                (Some(a), None) => Some(a.clone()),
                _ => None,
            },
        )
    }
}

impl std::fmt::Display for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines: Vec<String> = self.paths().iter().map(|path| PathText(path).to_string()).collect();
        f.write_str(&lines.join("\n"))
    }
}

fn kept(element: &Element, set: Set) -> Option<(Element, Set)> {
    (!set.is_empty()).then(|| (element.clone(), set))
}

/// Walks two sorted lists together; `pick` sees each element with its counterpart, where there is one.
fn merge<T>(
    left: &[T],
    right: &[T],
    key: impl Fn(&T) -> &Element,
    pick: impl Fn(Option<&T>, Option<&T>) -> Option<T>,
) -> Vec<T> {
    let mut out = Vec::with_capacity(left.len().max(right.len()));
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return out,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => key(a).cmp(key(b)),
        };
        let a = if order.is_le() { left.next() } else { None };
        let b = if order.is_ge() { right.next() } else { None };
        out.extend(pick(a, b));
    }
}
