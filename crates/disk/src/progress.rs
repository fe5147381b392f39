//! How far an import or a pull has come.

use std::sync::Arc;

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Asking the registry what the name stands for.
    Resolving,
    /// Reading layers from the registry; `done` and `total` count compressed bytes.
    Downloading,
    /// Copying a local file into the store; `done` and `total` count its bytes.
    Copying,
    /// Checking the image and moving it to its place.
    Verifying,
}

/// One progress report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Bytes done so far in this stage.
    pub done: u64,
    /// Bytes of this stage, where known.
    pub total: Option<u64>,
}

/// Receives progress reports; called from worker threads, must not block.
pub type ProgressFn = Arc<dyn Fn(Progress) + Send + Sync>;

/// Nobody is looking.
pub fn no_progress() -> ProgressFn {
    Arc::new(|_| {})
}
