//! The revisioned store: every object under one growing revision, durable in SQLite, read from memory.
//!
//! ```text
//! put ──► writer (one thread) ── one transaction for everything that waits ──► SQLite (WAL, synchronous=FULL)
//!                │ after the commit
//!                ▼
//!          state in memory: objects by table and key + a bounded history of changes
//!                │                    │
//!            get, list            watch, list at an older revision
//! ```
//!
//! - A write is acknowledged only after its transaction is on disk; what readers see is always on disk.
//! - The revision of a write is the `resourceVersion` of its object and is spliced into the stored JSON by the writer.
//! - A store whose disk is full, or which has reached its bound, is read-only until a write fits again; readers notice nothing.
//! - The history is not stored: after a restart a watch from an older revision is told to list again.
//! - In memory mode writes happen inline, without a thread, so tests may pause tokio's clock.

mod backup;
mod database;
mod encode;
mod error;
mod history;
mod lock;
mod state;
mod watcher;
mod writer;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::oneshot;

pub use backup::{Copied, backup, exists, is_database, restore};
pub use encode::Encoded;
pub use error::{Full, OpenError, WriteError};
pub use history::{Change, Event};
pub use state::{Gone, Listing};
pub use watcher::Watcher;

use state::State;

/// The bound on the database file, as etcd's default: everything in it is in memory as well.
const MAX_BYTES: u64 = 2 << 30;

/// A stored object.
#[derive(Debug)]
pub struct Object {
    /// `namespace/name`, or `name` for cluster-scoped objects.
    pub key: Arc<str>,
    /// Revision of its last write.
    pub revision: u64,
    /// JSON, with `metadata.resourceVersion`.
    pub body: Bytes,
    /// `metadata.labels`, for selectors.
    pub labels: Arc<[(Box<str>, Box<str>)]>,
}

/// What must hold for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// No object has the key.
    Absent,
    /// The object was last written at this revision.
    Revision(u64),
}

/// What a write does.
#[derive(Debug)]
pub enum Action {
    /// Stores this value.
    Put(Encoded),
    /// Removes the object; watchers see this final value.
    Delete(Encoded),
}

/// One write.
#[derive(Debug)]
pub struct Write {
    /// `group/plural`.
    pub table: Arc<str>,
    /// `namespace/name` or `name`.
    pub key: Arc<str>,
    /// Precondition.
    pub expect: Expect,
    /// Effect.
    pub action: Action,
}

/// The store; clones share it.
#[derive(Clone)]
pub struct Store {
    state: Arc<RwLock<State>>,
    backend: Backend,
}

#[derive(Clone)]
enum Backend {
    Memory,
    Writer(Arc<writer::Writer>),
}

impl Store {
    /// Opens (or makes) the store in a directory, and locks it against other processes.
    pub fn open(dir: &Path) -> Result<Store, OpenError> {
        Self::open_limited(dir, MAX_BYTES)
    }

    /// As [`open`](Self::open), with another bound in bytes on the database file.
    pub fn open_limited(dir: &Path, max_bytes: u64) -> Result<Store, OpenError> {
        let lock = lock::DirLock::take(dir)?;
        let database = database::Database::open(dir)?;
        database.limit(max_bytes)?;
        let state = Arc::new(RwLock::new(database.load()?));
        let writer = writer::Writer::start(database, state.clone(), lock)?;
        Ok(Store { state, backend: Backend::Writer(Arc::new(writer)) })
    }

    /// A store which lives as long as the process.
    pub fn memory() -> Store {
        Store { state: Arc::new(RwLock::new(State::empty())), backend: Backend::Memory }
    }

    /// Why the store does not grow: what the last write that did not fit met.
    pub fn full(&self) -> Option<Full> {
        match &self.backend {
            Backend::Memory => None,
            Backend::Writer(writer) => writer.full(),
        }
    }

    /// The revision of the newest write readers can see.
    pub fn revision(&self) -> u64 {
        self.state.read().revision
    }

    /// The object under a key.
    pub fn get(&self, table: &str, key: &str) -> Option<Arc<Object>> {
        self.state.read().get(table, key)
    }

    /// Objects whose key starts with `prefix`, in the order of their keys, as of revision `at` or now.
    pub fn list(&self, table: &str, prefix: &str, at: Option<u64>) -> Result<Listing, Gone> {
        self.state.read().list(table, prefix, at)
    }

    /// Whether a table holds any object under the prefix.
    pub fn is_empty(&self, table: &str, prefix: &str) -> bool {
        self.state.read().is_empty(table, prefix)
    }

    /// Whether a table holds more than `count` objects under the prefix.
    pub fn has_more_than(&self, table: &str, prefix: &str, count: usize) -> bool {
        self.state.read().has_more_than(table, prefix, count)
    }

    /// Follows the changes of a table after a revision.
    pub fn watch(&self, table: &Arc<str>, after: u64) -> Result<Watcher, Gone> {
        Watcher::new(self.state.clone(), table, after)
    }

    /// Lists and follows from exactly there.
    pub fn list_and_watch(&self, table: &Arc<str>, prefix: &str) -> Result<(Listing, Watcher), Gone> {
        let listing = self.list(table, prefix, None)?;
        let watcher = self.watch(table, listing.revision)?;
        Ok((listing, watcher))
    }

    /// Writes one object; returns it as stored (or, for a deletion, its final state).
    pub async fn write(&self, write: Write) -> Result<Arc<Object>, WriteError> {
        match &self.backend {
            Backend::Memory => {
                let mut state = self.state.write();
                let mut batch = state::Batch::new(&state);
                let outcome = batch.stage(&state, &write);
                let staged = batch.finish();
                state.publish(staged);
                outcome
            }
            Backend::Writer(writer) => {
                let (reply, answer) = oneshot::channel();
                writer.submit(writer::Job { write, reply })?;
                answer.await.map_err(|_| WriteError::Stopped)?
            }
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("revision", &self.revision()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
