//! The SQLite file.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, params};

use super::Object;
use super::encode::labels_of;
use super::error::{Full, OpenError, WriteError};
use super::history::Change;
use super::state::{Staged, State};

/// The file in the store's directory.
pub(super) const FILE: &str = "objects.db";
/// The first format of the tables; `user_version` says which one a file has.
const FIRST_FORMAT: i64 = 1;
/// SQL from each format to the next. A file is copied beside itself before it is changed, so that an earlier release can go on from there.
const MIGRATIONS: &[&str] = &[];
/// Page cache in KiB (SQLite wants them negative): readers never come here, a batch of ordinary writes fits.
const CACHE: i64 = -1024;
/// How long a copy waits for the process that has the database open.
const PATIENCE: Duration = Duration::from_secs(30);
/// What SQLite itself may need of the disk for a small write.
const SLACK: u64 = 1 << 20;
/// `SQLITE_IOERR_SHMSIZE`: the index of the write-ahead log cannot grow, which only a full disk explains.
const SHARED_MEMORY_CANNOT_GROW: i32 = rusqlite::ffi::SQLITE_IOERR_SHMSIZE;
/// Marks the file as ours (`fvst`).
const APPLICATION_ID: i64 = 0x6676_7374;

/// Tables of the newest format.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS objects(
        resource TEXT NOT NULL, key TEXT NOT NULL, revision INTEGER NOT NULL, body BLOB NOT NULL,
        PRIMARY KEY (resource, key)
    ) STRICT;
    CREATE TABLE IF NOT EXISTS counters(name TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL) STRICT;
    INSERT OR IGNORE INTO counters(name, value) VALUES ('revision', 1);
";

#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
    path: PathBuf,
}

impl Database {
    /// Opens or makes the database of a store.
    pub(super) fn open(dir: &Path) -> Result<Self, OpenError> {
        Self::open_file(dir.join(FILE))
    }

    /// As [`open`](Self::open), for any file.
    pub(super) fn open_file(path: PathBuf) -> Result<Self, OpenError> {
        Self::migrated(path, MIGRATIONS)
    }

    /// Opens a database as it is, also while another process has it open.
    pub(super) fn at_present(path: PathBuf) -> Result<Self, OpenError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags).map_err(|e| classify("open the file", &path, e))?;
        connection.busy_timeout(PATIENCE).map_err(|e| classify("set the patience", &path, e))?;
        Ok(Database { connection, path })
    }

    fn migrated(path: PathBuf, migrations: &[&str]) -> Result<Self, OpenError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags).map_err(|e| classify("open the file", &path, e))?;
        let mut database = Database { connection, path };
        database.prepare(migrations)?;
        Ok(database)
    }

    fn prepare(&mut self, migrations: &[&str]) -> Result<(), OpenError> {
        let newest = FIRST_FORMAT + migrations.len() as i64;
        let found = self.number("user_version")?;
        if found > newest {
            return Err(OpenError::TooNew { path: self.path.clone(), found, known: newest });
        }
        let owner = self.number("application_id")?;
        if owner != APPLICATION_ID && (owner != 0 || found != 0) {
            return Err(OpenError::Foreign { path: self.path.clone(), found: owner });
        }
        let path = self.path.clone();
        let failed = |step| move |e| classify(step, &path, e);
        let verdict: String = self
            .connection
            .pragma_query_value(None, "quick_check", |row| row.get(0))
            .map_err(failed.clone()("check the database"))?;
        if verdict != "ok" {
            return Err(OpenError::Corrupt { path: self.path.clone(), what: verdict });
        }
        let mode: String = self
            .connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
            .map_err(failed.clone()("switch to write-ahead logging"))?;
        tracing::debug!(path = %self.path.display(), mode, "opened store");
        for (name, value) in [("synchronous", 2), ("cache_size", CACHE), ("application_id", APPLICATION_ID)] {
            self.connection.pragma_update(None, name, value).map_err(failed.clone()("set pragmas"))?;
        }
        if found == 0 {
            let script = format!("BEGIN; {SCHEMA} PRAGMA user_version = {newest}; COMMIT;");
            return self.connection.execute_batch(&script).map_err(failed("create the tables"));
        }
        self.migrate(found, migrations)
    }

    /// All steps from format `found` on in one transaction, after a copy was made.
    fn migrate(&mut self, found: i64, migrations: &[&str]) -> Result<(), OpenError> {
        let steps =
            usize::try_from(found - FIRST_FORMAT).ok().and_then(|done| migrations.get(done..)).unwrap_or_default();
        if steps.is_empty() {
            return Ok(());
        }
        let mut copy = self.path.clone().into_os_string();
        copy.push(format!(".format-{found}"));
        let copy = PathBuf::from(copy);
        // Of an attempt that was interrupted.
        match std::fs::remove_file(&copy) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(OpenError::File { step: "remove the unfinished copy", path: copy, source }),
        }
        self.copy_to(&copy)?;
        let newest = found + steps.len() as i64;
        tracing::info!(found, newest, copy = %copy.display(), "store is brought to a newer format; a copy is kept for earlier releases");
        let script = format!("BEGIN; {} PRAGMA user_version = {newest}; COMMIT;", steps.concat());
        self.connection
            .execute_batch(&script)
            .map_err(|e| classify("bring the tables to the newest format", &self.path, e))
    }

    fn number(&self, pragma: &'static str) -> Result<i64, OpenError> {
        let value = self.connection.pragma_query_value(None, pragma, |row| row.get(0));
        value.map_err(|e| classify("read the format", &self.path, e))
    }

    /// A consistent copy in a new file, on disk when this returns; writers are not held up.
    pub(super) fn copy_to(&self, target: &Path) -> Result<(), OpenError> {
        let failed = |step, source| OpenError::File { step, path: target.into(), source };
        let name = target
            .to_str()
            .ok_or_else(|| failed("copy into a file whose name is not UTF-8:", ErrorKind::InvalidInput.into()))?;
        self.connection.execute("VACUUM INTO ?1", [name]).map_err(|e| classify("copy the database", &self.path, e))?;
        let synced = File::open(target).and_then(|file| file.sync_all());
        synced.map_err(|source| failed("sync the copy", source))
    }

    /// Bounds the file. One that is larger already does not grow any more.
    pub(super) fn limit(&self, max_bytes: u64) -> Result<(), OpenError> {
        let pages = (max_bytes / self.number("page_size")?.max(1).unsigned_abs()).max(1);
        self.connection
            .pragma_update_and_check(None, "max_page_count", pages as i64, |row| row.get::<_, i64>(0))
            .map_err(|e| classify("bound the database", &self.path, e))?;
        Ok(())
    }

    /// What a failed commit means to whoever wanted to write.
    pub(super) fn failure(&self, error: &rusqlite::Error, staged: &Staged) -> WriteError {
        let full = matches!(error.sqlite_error_code(), Some(ErrorCode::DiskFull))
            || matches!(error, rusqlite::Error::SqliteFailure(e, _) if e.extended_code == SHARED_MEMORY_CANNOT_GROW);
        if !full {
            return WriteError::Disk(error.to_string());
        }
        let bytes: usize = staged.events.iter().map(|(_, event)| event.object.body.len()).sum();
        let free = rustix::fs::statvfs(&self.path).map(|fs| fs.f_bavail.saturating_mul(fs.f_frsize));
        match (free, self.number("max_page_count"), self.number("page_size")) {
            // There is room for the batch twice, in the log and in the file: so it is not the disk.
            (Ok(free), Ok(pages), Ok(size)) if free > 2 * bytes as u64 + SLACK => {
                WriteError::Full(Full::Limit { bytes: pages.unsigned_abs() * size.unsigned_abs() })
            }
            _ => WriteError::Full(Full::Disk),
        }
    }

    /// Where the revisions go on.
    pub(super) fn set_revision(&self, revision: u64) -> Result<(), OpenError> {
        self.connection
            .execute("UPDATE counters SET value = ?1 WHERE name = 'revision'", [revision as i64])
            .map_err(|e| classify("set the revision", &self.path, e))?;
        Ok(())
    }

    /// Closes the database with everything in its one file.
    pub(super) fn close(self) -> Result<(), OpenError> {
        let Database { connection, path } = self;
        connection
            .pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get::<_, String>(0))
            .map_err(|e| classify("write the log back", &path, e))?;
        connection.close().map_err(|(_, e)| classify("close the file", &path, e))
    }

    /// Reads everything.
    pub(super) fn load(&self) -> Result<State, OpenError> {
        let failed = |e| classify("read the objects", &self.path, e);
        let revision: i64 = self
            .connection
            .query_row("SELECT value FROM counters WHERE name = 'revision'", [], |row| row.get(0))
            .map_err(failed)?;
        let mut statement =
            self.connection.prepare("SELECT resource, key, revision, body FROM objects").map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        let mut loaded: Vec<(Arc<str>, Object)> = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            let table: String = row.get(0).map_err(failed)?;
            let key: String = row.get(1).map_err(failed)?;
            let revision: i64 = row.get(2).map_err(failed)?;
            let body: Vec<u8> = row.get(3).map_err(failed)?;
            let labels = labels_of(&body).map_err(|e| OpenError::Corrupt {
                path: self.path.clone(),
                what: format!("object {key} of {table} is not valid JSON: {e}"),
            })?;
            let table = match loaded.last() {
                Some((last, _)) if **last == *table => last.clone(),
                _ => table.into(),
            };
            loaded.push((table, Object { key: key.into(), revision: revision as u64, body: body.into(), labels }));
        }
        drop(rows);
        drop(statement);
        // Every page went through the cache; from now on only writes need some.
        self.connection.execute_batch("PRAGMA shrink_memory").map_err(failed)?;
        Ok(State::loaded(revision as u64, loaded))
    }

    /// Writes a batch in one transaction; after an error nothing of it is stored.
    pub(super) fn commit(&mut self, staged: &Staged) -> Result<(), rusqlite::Error> {
        let transaction = self.connection.transaction()?;
        {
            let mut put = transaction.prepare_cached(
                "INSERT INTO objects(resource, key, revision, body) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT(resource, key) DO UPDATE SET revision = excluded.revision, body = excluded.body",
            )?;
            let mut delete = transaction.prepare_cached("DELETE FROM objects WHERE resource = ?1 AND key = ?2")?;
            for (table, event) in &staged.events {
                let object = &event.object;
                match event.change {
                    Change::Deleted => delete.execute(params![&**table, &*object.key])?,
                    Change::Added | Change::Modified => {
                        put.execute(params![&**table, &*object.key, object.revision as i64, &object.body[..]])?
                    }
                };
            }
            transaction
                .prepare_cached("UPDATE counters SET value = ?1 WHERE name = 'revision'")?
                .execute([staged.revision as i64])?;
        }
        transaction.commit()
    }
}

pub(super) fn classify(step: &'static str, path: &Path, error: rusqlite::Error) -> OpenError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            OpenError::Corrupt { path: path.into(), what: error.to_string() }
        }
        _ => OpenError::Sqlite { step, path: path.into(), source: error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::backup::{REVISION_GAP, restore};

    /// What the release after this one might do.
    const NEXT: &[&str] = &["ALTER TABLE objects ADD COLUMN written TEXT NOT NULL DEFAULT 'before'; "];

    #[test]
    fn newer_format_is_reached_with_a_copy_that_this_release_reads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let database = Database::open(dir.path()).unwrap();
        database.set_revision(77).unwrap();
        drop(database);

        let newer = Database::migrated(path.clone(), NEXT).unwrap();
        assert_eq!(newer.number("user_version").unwrap(), 2);
        newer.connection.query_row("SELECT count(written) FROM objects", [], |row| row.get::<_, i64>(0)).unwrap();
        newer.set_revision(88).unwrap();
        drop(newer);
        // It is brought there once.
        drop(Database::migrated(path.clone(), NEXT).unwrap());

        // The way back, as the refusal tells it; revisions go on after those that the newer release gave out.
        assert!(matches!(Database::open(dir.path()), Err(OpenError::TooNew { found: 2, known: 1, .. })));
        let (_, replaced) = restore(&dir.path().join("objects.db.format-1"), dir.path()).unwrap();
        let restored = Database::open(dir.path()).unwrap().load().unwrap().revision;
        assert!((89..90 + REVISION_GAP).contains(&restored), "{restored}");
        // What was written since is kept beside it, for the newer release.
        assert_eq!(Database::migrated(replaced.unwrap(), NEXT).unwrap().load().unwrap().revision, 88);
    }

    #[test]
    fn failing_step_leaves_the_file_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        drop(Database::open(dir.path()).unwrap());
        let broken: &[&str] = &["ALTER TABLE objects ADD COLUMN x TEXT; SELECT nonsense; "];
        assert!(matches!(Database::migrated(dir.path().join(FILE), broken), Err(OpenError::Sqlite { .. })));
        let database = Database::open(dir.path()).unwrap();
        assert_eq!(database.number("user_version").unwrap(), 1);
        database.connection.query_row("SELECT count(x) FROM objects", [], |row| row.get::<_, i64>(0)).unwrap_err();
        // The interrupted attempt's copy is not in the way.
        drop(database);
        Database::migrated(dir.path().join(FILE), NEXT).unwrap();
    }
}
