//! Who owns what after a write that is not an apply.

use std::borrow::Cow;
use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::cap::cap;
use crate::conflict::Conflict;
use crate::managed::{Managed, Manager, Owned};
use crate::set::Set;
use crate::strip::never_owned;
use crate::typed::{Comparison, Problems, Type};

/// The versions of a kind.
pub trait Versions {
    /// The type of objects in a version; `None` when the kind has no such version (any more).
    fn typed(&self, api_version: &str) -> Option<Type<'_>>;

    /// The object in another version.
    fn convert<'v>(&self, object: &'v Value, api_version: &str) -> Cow<'v, Value>;

    /// Fields that a write of this request cannot change, with all that is below them.
    fn ignored(&self, api_version: &str) -> Option<&Set>;
}

/// Records a create, update or patch: the manager owns what it changed, others lose it. Its entry gets the time of the
/// request when it gained something.
pub fn track(
    versions: &dyn Versions,
    managed: &mut Managed,
    old: &Value,
    new: &Value,
    (manager, api_version): (Manager, &str),
    now: Timestamp,
) -> Result<(), Problems> {
    reconcile(versions, managed);
    let comparison = compare(versions, old, new, api_version)?;
    let mine = comparison.changed().difference(never_owned());
    let taken = take(versions, managed, (old, new), (api_version, comparison), None)?;
    taken.release(managed);
    if !mine.is_empty() {
        let set = managed.entries.get(&manager).map_or_else(|| mine.clone(), |before| mine.union(&before.set));
        managed.entries.insert(manager, Owned { set, api_version: api_version.to_owned(), time: Some(now) });
    }
    cap(managed);
    Ok(())
}

/// Brings sets in line with the schemas of today.
pub(crate) fn reconcile(versions: &dyn Versions, managed: &mut Managed) {
    for owned in managed.entries.values_mut() {
        if let Some(set) = versions.typed(&owned.api_version).and_then(|ty| ty.reconcile(&owned.set)) {
            owned.set = set;
        }
    }
}

/// The difference in a version, without what the request cannot change.
pub(crate) fn compare(
    versions: &dyn Versions,
    old: &Value,
    new: &Value,
    api_version: &str,
) -> Result<Comparison, Problems> {
    let Some(ty) = versions.typed(api_version) else { return Ok(Comparison::default()) };
    let comparison = ty.compare(&versions.convert(old, api_version), &versions.convert(new, api_version))?;
    Ok(match versions.ignored(api_version) {
        Some(ignored) => comparison.without(ignored),
        None => comparison,
    })
}

/// What a write takes from other managers.
pub(crate) struct Taken {
    conflicts: Vec<(Manager, Set)>,
    removed: Vec<(Manager, Set)>,
    obsolete: Vec<Manager>,
}

/// Finds what a write changes of what others own; `writer` is not one of the others.
pub(crate) fn take(
    versions: &dyn Versions,
    managed: &Managed,
    (old, new): (&Value, &Value),
    (api_version, comparison): (&str, Comparison),
    writer: Option<&Manager>,
) -> Result<Taken, Problems> {
    let mut comparisons: HashMap<String, Comparison> = HashMap::from([(api_version.to_owned(), comparison)]);
    let mut taken = Taken { conflicts: Vec::new(), removed: Vec::new(), obsolete: Vec::new() };
    for (manager, owned) in managed.entries.iter().filter(|(manager, _)| Some(*manager) != writer) {
        if versions.typed(&owned.api_version).is_none() {
            taken.obsolete.push(manager.clone());
            continue;
        }
        if !comparisons.contains_key(&owned.api_version) {
            comparisons.insert(owned.api_version.clone(), compare(versions, old, new, &owned.api_version)?);
        }
        let comparison = &comparisons[&owned.api_version];
        let conflict = owned.set.intersection(&comparison.changed());
        if !conflict.is_empty() {
            taken.conflicts.push((manager.clone(), conflict));
        }
        if !comparison.removed.is_empty() {
            taken.removed.push((manager.clone(), comparison.removed.clone()));
        }
    }
    Ok(taken)
}

impl Taken {
    /// The fields somebody else owns, by owner.
    pub(crate) fn conflicts(&self) -> Vec<Conflict> {
        let of = |(manager, set): &(Manager, Set)| -> Vec<Conflict> {
            set.paths().into_iter().map(|path| Conflict { manager: manager.clone(), path }).collect()
        };
        let mut owners: Vec<&(Manager, Set)> = self.conflicts.iter().collect();
        owners.sort_by_cached_key(|(manager, _)| manager.identifier());
        owners.into_iter().flat_map(of).collect()
    }

    /// The others lose what was taken, and go when nothing is left to them.
    pub(crate) fn release(self, managed: &mut Managed) {
        for manager in &self.obsolete {
            managed.entries.remove(manager);
        }
        for (manager, set) in self.conflicts.iter().chain(&self.removed) {
            if let Some(owned) = managed.entries.get_mut(manager) {
                owned.set = owned.set.difference(set);
            }
        }
        managed.entries.retain(|_, owned| !owned.set.is_empty());
    }
}
