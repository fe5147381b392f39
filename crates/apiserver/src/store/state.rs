//! What readers see: objects and history by table, and how a batch of writes changes them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::history::{Change, Event, History};
use super::{Action, Expect, Object, Write, WriteError};

/// The history a reader asks for is no longer kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("history starts after revision {oldest}, {requested} was asked for")]
pub struct Gone {
    /// What was asked for.
    pub requested: u64,
    /// The oldest revision one may ask for.
    pub oldest: u64,
}

/// Objects at one revision.
#[derive(Debug)]
pub struct Listing {
    /// The revision.
    pub revision: u64,
    /// The objects, in the order of their keys.
    pub objects: Vec<Arc<Object>>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) revision: u64,
    tables: HashMap<Arc<str>, Table>,
    /// Where the histories of tables without a change yet begin.
    loaded_at: u64,
}

#[derive(Debug)]
struct Table {
    objects: BTreeMap<Arc<str>, Arc<Object>>,
    history: History,
    changed: watch::Sender<u64>,
}

impl Table {
    fn starting_at(revision: u64) -> Self {
        Table {
            objects: BTreeMap::new(),
            history: History::starting_at(revision),
            changed: watch::Sender::new(revision),
        }
    }
}

impl State {
    pub(super) fn empty() -> Self {
        State::loaded(1, Vec::new())
    }

    /// The state of a database: its newest revision and its rows as (table, object).
    pub(super) fn loaded(revision: u64, rows: Vec<(Arc<str>, Object)>) -> Self {
        let mut state = State { revision, tables: HashMap::new(), loaded_at: revision };
        for (table, object) in rows {
            let object = Arc::new(object);
            state.table_mut(&table).objects.insert(object.key.clone(), object);
        }
        state
    }

    fn table_mut(&mut self, table: &Arc<str>) -> &mut Table {
        let loaded_at = self.loaded_at;
        self.tables.entry(table.clone()).or_insert_with(|| Table::starting_at(loaded_at))
    }

    /// Number of objects.
    pub(super) fn objects(&self) -> usize {
        self.tables.values().map(|table| table.objects.len()).sum()
    }

    pub(super) fn get(&self, table: &str, key: &str) -> Option<Arc<Object>> {
        self.tables.get(table)?.objects.get(key).cloned()
    }

    pub(super) fn is_empty(&self, table: &str, prefix: &str) -> bool {
        self.tables.get(table).is_none_or(|t| range(&t.objects, prefix).next().is_none())
    }

    pub(super) fn has_more_than(&self, table: &str, prefix: &str, count: usize) -> bool {
        self.tables.get(table).is_some_and(|t| range(&t.objects, prefix).nth(count).is_some())
    }

    pub(super) fn list(&self, table: &str, prefix: &str, at: Option<u64>) -> Result<Listing, Gone> {
        let at = at.unwrap_or(self.revision).min(self.revision);
        let Some(table) = self.tables.get(table) else {
            return Ok(Listing { revision: at, objects: Vec::new() });
        };
        if at == self.revision {
            let objects = range(&table.objects, prefix).map(|(_, o)| o.clone()).collect();
            return Ok(Listing { revision: at, objects });
        }
        let oldest = table.history.complete_after();
        if at < oldest {
            return Err(Gone { requested: at, oldest });
        }
        let mut objects: BTreeMap<_, _> = range(&table.objects, prefix).map(|(k, o)| (k.clone(), o.clone())).collect();
        for event in table.history.after(at).rev().filter(|e| e.object.key.starts_with(prefix)) {
            match &event.previous {
                Some(previous) => objects.insert(previous.key.clone(), previous.clone()),
                None => objects.remove(&event.object.key),
            };
        }
        Ok(Listing { revision: at, objects: objects.into_values().collect() })
    }

    /// A receiver which is told of every change of the table, and whether history reaches back to `after`.
    pub(super) fn subscribe(&mut self, table: &Arc<str>, after: u64) -> Result<watch::Receiver<u64>, Gone> {
        let table = self.table_mut(table);
        let oldest = table.history.complete_after();
        if after < oldest {
            return Err(Gone { requested: after, oldest });
        }
        Ok(table.changed.subscribe())
    }

    /// Up to `limit` changes after a revision, and the revision up to which they are complete.
    pub(super) fn changes(&self, table: &str, after: u64, limit: usize) -> Result<(Vec<Arc<Event>>, u64), Gone> {
        let Some(table) = self.tables.get(table) else { return Ok((Vec::new(), self.revision)) };
        let oldest = table.history.complete_after();
        if after < oldest {
            return Err(Gone { requested: after, oldest });
        }
        let events: Vec<Arc<Event>> = table.history.after(after).take(limit).cloned().collect();
        let upto = match events.last() {
            Some(last) if events.len() == limit => last.revision,
            _ => self.revision.max(after),
        };
        Ok((events, upto))
    }

    /// Makes staged writes visible, all at once.
    pub(super) fn publish(&mut self, staged: Staged) {
        let now = Instant::now();
        self.revision = staged.revision;
        for (name, event) in staged.events {
            let table = self.table_mut(&name);
            match event.change {
                Change::Deleted => table.objects.remove(&event.object.key),
                Change::Added | Change::Modified => {
                    table.objects.insert(event.object.key.clone(), event.object.clone())
                }
            };
            let revision = event.revision;
            table.history.push(event, now);
            table.changed.send_replace(revision);
        }
    }

    #[cfg(test)]
    pub(super) fn compact(&mut self, table: &Arc<str>, revision: u64) {
        self.table_mut(table).history.compact(revision);
    }
}

fn range<'a>(
    objects: &'a BTreeMap<Arc<str>, Arc<Object>>,
    prefix: &'a str,
) -> impl Iterator<Item = (&'a Arc<str>, &'a Arc<Object>)> {
    use std::ops::Bound;
    objects
        .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
        .take_while(move |(key, _)| key.starts_with(prefix))
}

/// Writes which passed their preconditions, in order, not yet visible.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) revision: u64,
    pub(super) events: Vec<(Arc<str>, Event)>,
}

/// Table and key.
type Slot = (Arc<str>, Arc<str>);

/// Collects writes against a state plus the writes before them.
#[derive(Debug)]
pub(super) struct Batch {
    staged: Staged,
    /// What the batch did so far, by table and key.
    overlay: HashMap<Slot, Option<Arc<Object>>>,
}

impl Batch {
    pub(super) fn new(state: &State) -> Self {
        Batch { staged: Staged { revision: state.revision, events: Vec::new() }, overlay: HashMap::new() }
    }

    /// Checks one write and takes it in.
    pub(super) fn stage(&mut self, state: &State, write: &Write) -> Result<Arc<Object>, WriteError> {
        let slot = (write.table.clone(), write.key.clone());
        let current = match self.overlay.get(&slot) {
            Some(current) => current.clone(),
            None => state.get(&slot.0, &slot.1),
        };
        match (write.expect, &current) {
            (Expect::Absent, None) => {}
            (Expect::Absent, Some(_)) => return Err(WriteError::Exists),
            (Expect::Revision(_), None) => return Err(WriteError::Missing),
            (Expect::Revision(expected), Some(current)) if current.revision == expected => {}
            (Expect::Revision(_), Some(current)) => return Err(WriteError::Conflict { current: current.revision }),
        }
        let revision = self.staged.revision + 1;
        let (encoded, removed) = match &write.action {
            Action::Put(encoded) => (encoded, false),
            Action::Delete(encoded) => (encoded, true),
        };
        let body = encoded.at(revision);
        let object = Arc::new(Object { key: slot.1.clone(), revision, body, labels: encoded.labels.clone() });
        let change = match (&current, removed) {
            (None, true) => return Err(WriteError::Missing),
            (Some(_), true) => Change::Deleted,
            (Some(_), false) => Change::Modified,
            (None, false) => Change::Added,
        };
        self.staged.revision = revision;
        self.staged
            .events
            .push((slot.0.clone(), Event { revision, change, object: object.clone(), previous: current }));
        self.overlay.insert(slot, (!removed).then(|| object.clone()));
        Ok(object)
    }

    pub(super) fn finish(self) -> Staged {
        self.staged
    }
}
