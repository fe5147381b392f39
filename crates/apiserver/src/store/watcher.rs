//! Following the changes of one table.

use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::watch;

use super::history::Event;
use super::state::{Gone, State};

/// A position in the history of a table. It buffers nothing: a watcher which falls behind the kept history is told `Gone`.
pub struct Watcher {
    state: Arc<RwLock<State>>,
    table: Arc<str>,
    position: u64,
    changed: watch::Receiver<u64>,
}

impl Watcher {
    pub(super) fn new(state: Arc<RwLock<State>>, table: &Arc<str>, after: u64) -> Result<Self, Gone> {
        let mut changed = state.write().subscribe(table, after)?;
        // Whatever happened before the subscription is read from the history first.
        changed.mark_changed();
        Ok(Watcher { state, table: table.clone(), position: after, changed })
    }

    /// The revision up to which every change was handed out.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next changes, at most `limit`; empty when there are none yet.
    pub fn take(&mut self, limit: usize) -> Result<Vec<Arc<Event>>, Gone> {
        let (events, upto) = self.state.read().changes(&self.table, self.position, limit)?;
        self.position = upto;
        Ok(events)
    }

    /// Waits until the table changes (or may have changed); false when the store is gone.
    pub async fn changed(&mut self) -> bool {
        self.changed.changed().await.is_ok()
    }
}
