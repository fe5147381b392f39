//! A bound on the number of managers that only update.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::managed::{Managed, Manager, Operation};

/// Most managers that own by updates.
const MOST: usize = 10;
/// Who owns what the oldest of them owned.
const BUCKET: &str = "ancient-changes";

/// Merges the oldest updaters of each version into one, until there are few enough.
pub(crate) fn cap(managed: &mut Managed) {
    let updates = |manager: &&Manager| manager.operation == Operation::Update;
    let mut updaters: Vec<Manager> = managed.entries.keys().filter(updates).cloned().collect();
    let mut count = updaters.len();
    if count <= MOST {
        return;
    }
    let age = |manager: &Manager| managed.entries[manager].time.map_or(0, Timestamp::as_second);
    updaters.sort_by_cached_key(|manager| (age(manager), manager.identifier()));
    // A single old manager of a version keeps its name: merging it alone would gain nothing.
    let mut first_of: BTreeMap<String, Manager> = BTreeMap::new();
    for manager in updaters {
        if count <= MOST {
            return;
        }
        let version = managed.entries[&manager].api_version.clone();
        let Some(first) = first_of.get(&version) else {
            first_of.insert(version, manager);
            continue;
        };
        let bucket = Manager::new(BUCKET, Operation::Update, &version, "");
        if !managed.entries.contains_key(&bucket)
            && let Some(owned) = managed.entries.remove(first)
        {
            managed.entries.insert(bucket.clone(), owned);
        }
        if manager == bucket {
            continue;
        }
        if let Some(merged) = managed.entries.remove(&manager)
            && let Some(all) = managed.entries.get_mut(&bucket)
        {
            all.set = all.set.union(&merged.set);
            all.time = merged.time;
            count -= 1;
        }
    }
}
