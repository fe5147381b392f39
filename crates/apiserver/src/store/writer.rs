//! The one writer: everything that waits goes into one transaction.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

use super::database::Database;
use super::error::{Full, OpenError, WriteError};
use super::lock::DirLock;
use super::state::{Batch, Staged, State};
use super::{Object, Write};

/// Writes per transaction at most, which bounds the delay of the first one.
const BATCH: usize = 512;

pub(super) struct Job {
    pub(super) write: Write,
    pub(super) reply: oneshot::Sender<Result<Arc<Object>, WriteError>>,
}

/// Handle of the writer thread. Dropping it writes what was submitted, closes the database, and then releases the lock.
pub(super) struct Writer {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    full: Arc<Mutex<Option<Full>>>,
}

impl Writer {
    pub(super) fn start(database: Database, state: Arc<RwLock<State>>, lock: DirLock) -> Result<Self, OpenError> {
        let (jobs, queue) = channel();
        let full = Arc::new(Mutex::new(None));
        let shared = Arc::clone(&full);
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || {
                Thread { database, state, full: shared }.run(&queue);
                drop(lock);
            })
            .map_err(OpenError::Thread)?;
        Ok(Writer { jobs: Some(jobs), thread: Some(thread), full })
    }

    pub(super) fn submit(&self, job: Job) -> Result<(), WriteError> {
        self.jobs.as_ref().ok_or(WriteError::Stopped)?.send(job).map_err(|_| WriteError::Stopped)
    }

    /// Why the last write that did not fit did not.
    pub(super) fn full(&self) -> Option<Full> {
        *self.full.lock()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Thread {
    database: Database,
    state: Arc<RwLock<State>>,
    full: Arc<Mutex<Option<Full>>>,
}

impl Thread {
    fn run(mut self, queue: &Receiver<Job>) {
        while let Ok(first) = queue.recv() {
            let jobs: Vec<Job> = std::iter::once(first).chain(queue.try_iter().take(BATCH - 1)).collect();
            self.write(jobs);
        }
    }

    fn write(&mut self, jobs: Vec<Job>) {
        let (staged, outcomes) = {
            let state = self.state.read();
            let mut batch = Batch::new(&state);
            let outcomes: Vec<_> = jobs.iter().map(|job| batch.stage(&state, &job.write)).collect();
            (batch.finish(), outcomes)
        };
        if !staged.events.is_empty() {
            if let Err(error) = self.database.commit(&staged) {
                return self.refuse(&error, &staged, jobs);
            }
            self.note(None);
            self.state.write().publish(staged);
        }
        for (job, outcome) in jobs.into_iter().zip(outcomes) {
            let _ = job.reply.send(outcome);
        }
    }

    /// A precondition may have failed because of a write that now did not happen: nobody's answer holds.
    fn refuse(&mut self, error: &rusqlite::Error, staged: &Staged, jobs: Vec<Job>) {
        let failure = self.database.failure(error, staged);
        match failure {
            // What is smaller, or frees space, may still fit.
            WriteError::Full(_) if jobs.len() > 1 => return jobs.into_iter().for_each(|job| self.write(vec![job])),
            WriteError::Full(full) => self.note(Some(full)),
            _ => tracing::error!(%error, writes = staged.events.len(), "store cannot write"),
        }
        for job in jobs {
            let _ = job.reply.send(Err(failure.clone()));
        }
    }

    /// Remembers whether the last write fitted, and says so when that changes.
    fn note(&self, now: Option<Full>) {
        let before = std::mem::replace(&mut *self.full.lock(), now);
        match (before, now) {
            (before, Some(full)) if before != now => tracing::error!(reason = %full, "store is read-only"),
            (Some(_), None) => tracing::info!("store is writable again"),
            _ => {}
        }
    }
}
