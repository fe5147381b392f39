//! Why the store could not be opened or written.

use std::path::PathBuf;

/// The store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made or entered.
    #[error("make store directory {path}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// The lock file cannot be opened.
    #[error("open lock file {path}")]
    LockFile {
        /// The lock file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// Another process has the store open.
    #[error(
        "store {path} is in use by process {holder}: stop it first (`ferrovirt down`), or choose another data directory"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Process id of the holder, or `unknown`.
        holder: String,
    },
    /// The database is damaged. It is left as it is.
    #[error(
        "database {path} is damaged ({what}); it was left untouched: restore {path} from a backup, or move it and its -wal \
         and -shm files away to start with an empty store"
    )]
    Corrupt {
        /// The database file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// The database is from a later release.
    #[error(
        "database {path} has format {found}, this program knows up to {known}: use the newer program, or go back to what was there \
         before it: `ferrovirt restore --replace {path}.format-{known}`, with the --data-dir of this instance"
    )]
    TooNew {
        /// The database file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// Newest known format.
        known: i64,
    },
    /// There is no database.
    #[error("there is no database {path}")]
    NoDatabase {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file is somebody else's.
    #[error("{path} is not a store of Ferrovirt (application id {found:#x})")]
    Foreign {
        /// The database file.
        path: PathBuf,
        /// Its application id.
        found: i64,
    },
    /// A file could not be copied or put in its place.
    #[error("{step} {path}")]
    File {
        /// What was tried.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// SQLite failed for another reason (permissions, full disk, …).
    #[error("{step} in database {path}")]
    Sqlite {
        /// What was tried.
        step: &'static str,
        /// The database file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: rusqlite::Error,
    },
    /// The writer thread cannot be started.
    #[error("start the store's writer thread")]
    Thread(#[source] std::io::Error),
}

/// What keeps the store from growing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The disk beneath.
    #[error("its disk is full; free some space there")]
    Disk,
    /// Its own bound.
    #[error("it has reached its limit of {} MiB; delete objects that are not needed", .bytes >> 20)]
    Limit {
        /// The bound, in bytes.
        bytes: u64,
    },
}

/// A write did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// An object with the key exists already.
    #[error("the object exists already")]
    Exists,
    /// There is no object with the key.
    #[error("the object does not exist")]
    Missing,
    /// The object was written since.
    #[error("the object was last written at revision {current}")]
    Conflict {
        /// Its revision.
        current: u64,
    },
    /// The store cannot grow; nothing was changed. Whatever fits, such as deletions, is still written.
    #[error("the store is read-only: {0}")]
    Full(Full),
    /// The disk refused; nothing was changed.
    #[error("the store could not write to disk: {0}")]
    Disk(String),
    /// The store is closed.
    #[error("the store is closed")]
    Stopped,
}
