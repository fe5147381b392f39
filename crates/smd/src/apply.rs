//! Applying a configuration.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use crate::conflict::{Conflict, message};
use crate::last_applied::allowed_conflicts;
use crate::managed::{Managed, Manager, Operation, Owned};
use crate::set::Set;
use crate::strip::never_owned;
use crate::track::{Versions, compare, reconcile, take, track};
use crate::typed::{Duplicates, Problems, Type};
use crate::value;

/// Who owns the fields of an object that nobody owned before it was first applied to.
pub const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// The manager whose client-side applies become server-side ones without conflict.
const KUBECTL: &str = "kubectl";

/// An apply.
#[derive(Debug, Clone, Copy)]
pub struct Application<'a> {
    /// The object as it is.
    pub live: &'a Value,
    /// What an object has that nobody wrote anything into.
    pub blank: &'a Value,
    /// The configuration.
    pub config: &'a Value,
    /// Name of the manager.
    pub manager: &'a str,
    /// Version of the request, and of the configuration.
    pub api_version: &'a str,
    /// Subresource of the request.
    pub subresource: &'a str,
    /// Whether to take fields from others.
    pub force: bool,
    /// Time of the request.
    pub now: Timestamp,
}

/// Why a configuration is not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Others own what it would change.
    #[error("{}", message(.0))]
    Conflicts(Vec<Conflict>),
    /// The configuration does not fit the schema.
    #[error("{0}")]
    Config(Problems),
    /// The stored object does not.
    #[error("{0}")]
    Live(Problems),
}

/// Applies the configuration: the manager owns what it names, and what it named before and does not name now goes, unless
/// somebody else owns it. Returns the new object, or `None` when the object stays as it is (ownership may change all the same).
pub fn apply(
    versions: &dyn Versions,
    managed: &mut Managed,
    application: &Application<'_>,
) -> Result<Option<Value>, ApplyError> {
    let Application { live, blank, manager, api_version, subresource, now, .. } = *application;
    if managed.is_empty() {
        let before = Manager::new(BEFORE_FIRST_APPLY, Operation::Update, api_version, subresource);
        track(versions, managed, blank, live, (before, api_version), now).map_err(ApplyError::Live)?;
    }
    let untouched = managed.clone();
    match apply_once(versions, managed, application, application.force) {
        Err(ApplyError::Conflicts(conflicts)) if manager == KUBECTL => {
            *managed = untouched;
            let Some(allowed) = allowed_conflicts(versions, live, api_version) else {
                return Err(ApplyError::Conflicts(conflicts));
            };
            let others: Vec<Conflict> = conflicts.into_iter().filter(|c| !allowed.has(&c.path)).collect();
            if others.is_empty() {
                apply_once(versions, managed, application, true)
            } else {
                Err(ApplyError::Conflicts(others))
            }
        }
        outcome => outcome,
    }
}

fn apply_once(
    versions: &dyn Versions,
    managed: &mut Managed,
    application: &Application<'_>,
    force: bool,
) -> Result<Option<Value>, ApplyError> {
    let Application { live, config, api_version, now, .. } = *application;
    let Some(ty) = versions.typed(api_version) else {
        return Err(ApplyError::Config(Problems::one("", format!("no type for version {api_version:?}"))));
    };
    ty.validate(config, Duplicates::Refused).map_err(ApplyError::Config)?;
    reconcile(versions, managed);
    let merged = ty.merge(live, config).map_err(ApplyError::Live)?;
    let mut set = ty.fields(config).map_err(ApplyError::Config)?;
    if let Some(ignored) = versions.ignored(api_version) {
        set = set.recursive_difference(ignored);
    }
    let manager = Manager::new(application.manager, Operation::Apply, api_version, application.subresource);
    let last = managed.entries.get(&manager).cloned();
    let time = last.as_ref().and_then(|last| last.time);
    managed.entries.insert(manager.clone(), Owned { set, api_version: api_version.to_owned(), time });
    let new = match last {
        Some(last) if !last.set.is_empty() => {
            prune(versions, merged, managed, &last, api_version).map_err(ApplyError::Live)?
        }
        _ => merged,
    };
    let comparison = compare(versions, live, &new, api_version).map_err(ApplyError::Live)?;
    let taken =
        take(versions, managed, (live, &new), (api_version, comparison), Some(&manager)).map_err(ApplyError::Live)?;
    let conflicts = taken.conflicts();
    if !force && !conflicts.is_empty() {
        return Err(ApplyError::Conflicts(conflicts));
    }
    taken.release(managed);
    let changed = !value::equal(live, &new);
    if let Some(owned) = managed.entries.get_mut(&manager) {
        owned.set = owned.set.difference(never_owned());
        if changed {
            owned.time = Some(now);
        }
        if owned.set.is_empty() {
            managed.entries.remove(&manager);
        }
    }
    Ok(changed.then_some(new))
}

/// Removes what the manager applied last time, not now, and nobody else owns.
fn prune(
    versions: &dyn Versions,
    merged: Value,
    managed: &Managed,
    last: &Owned,
    api_version: &str,
) -> Result<Value, Problems> {
    let Some(ty) = versions.typed(&last.api_version) else { return Ok(merged) };
    let merged = versions.convert(&merged, &last.api_version).into_owned();
    let pruned = ty.remove(&merged, &ty.with_named_fields(&last.set));
    let pruned = add_back_owned(versions, &merged, pruned, &last.api_version, managed)?;
    let pruned = versions.convert(&pruned, &last.api_version).into_owned();
    // What went but was not the manager's comes back.
    let before = ty.with_named_fields(&ty.fields(&merged)?);
    let after = ty.with_named_fields(&ty.fields(&pruned)?);
    let gone = before.difference(&after).intersection(&ty.with_named_fields(&last.set));
    let pruned = ty.remove(&merged, &gone);
    Ok(versions.convert(&pruned, api_version).into_owned())
}

/// Puts back what was removed and any manager (the applier's new configuration among them) owns.
fn add_back_owned(
    versions: &dyn Versions,
    merged: &Value,
    mut pruned: Value,
    first: &str,
    managed: &Managed,
) -> Result<Value, Problems> {
    let mut by_version: BTreeMap<&str, Set> = BTreeMap::new();
    for owned in managed.entries.values() {
        let all = by_version.entry(&owned.api_version).or_default();
        *all = all.union(&owned.set);
    }
    let mut order: Vec<&str> = by_version.keys().copied().collect();
    order.sort_by_key(|version| *version != first);
    for version in order {
        let Some(ty) = versions.typed(version) else { continue };
        let (here, kept) = (versions.convert(merged, version), versions.convert(&pruned, version));
        pruned = restore(ty, &here, &kept, &by_version[version])?;
    }
    Ok(pruned)
}

fn restore(ty: Type<'_>, merged: &Value, pruned: &Value, owned: &Set) -> Result<Value, Problems> {
    let before = ty.with_named_fields(&ty.fields(merged)?);
    let kept = ty.with_named_fields(&ty.fields(pruned)?).union(&ty.with_named_fields(owned));
    Ok(ty.remove(merged, &before.difference(&kept)))
}
