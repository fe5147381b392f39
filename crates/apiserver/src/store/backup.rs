//! Copies of the database: made while the store is in use, and put in its place.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::Connection;

use super::database::{Database, FILE};
use super::error::OpenError;
use super::lock::DirLock;

/// A restored store goes on this far after every revision it ever gave out: no client takes what it knows for something newer.
pub(super) const REVISION_GAP: u64 = 1_000_000;

/// What a copy holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// The newest revision.
    pub revision: u64,
    /// Number of objects.
    pub objects: usize,
}

/// Whether a directory holds a store.
pub fn exists(dir: &Path) -> bool {
    dir.join(FILE).exists()
}

/// Copies the store of a directory, which may be in use, into a new file. The copy is checked and on disk when this returns.
///
/// # Errors
/// There is no store, it cannot be read, or the copy cannot be written.
pub fn backup(dir: &Path, target: &Path) -> Result<Copied, OpenError> {
    let path = dir.join(FILE);
    if !path.exists() {
        return Err(OpenError::NoDatabase { path });
    }
    Database::at_present(path)?.copy_to(target)?;
    let (database, copied) = check(target)?;
    database.close()?;
    Ok(copied)
}

/// Puts a copy in the place of a directory's store, which must not be in use. What was there is kept beside it, under the name returned.
///
/// # Errors
/// The copy is no sound store, the store is in use, or a file cannot be written; the store is as it was then.
pub fn restore(copy: &Path, dir: &Path) -> Result<(Copied, Option<PathBuf>), OpenError> {
    let _lock = DirLock::take(dir)?;
    let path = dir.join(FILE);
    let staged = dir.join(format!("{FILE}.restoring"));
    for suffix in ["", "-wal", "-shm"] {
        remove(&with_suffix(&staged, suffix))?;
    }
    std::fs::copy(copy, &staged).map_err(file("copy the backup to", &staged))?;
    let (database, copied) = check(&staged)?;
    let replaced = if path.exists() { Some(settle(&path)?) } else { None };
    let newest = copied.revision.max(replaced.as_ref().map_or(0, |old| old.revision));
    database.set_revision(newest + REVISION_GAP)?;
    database.close()?;
    sync(&staged)?;
    if let Some(old) = &replaced {
        std::fs::hard_link(&path, &old.path).map_err(file("keep the replaced store as", &old.path))?;
    }
    // From here on the directory holds the copy; before, it held what it held.
    std::fs::rename(&staged, &path).map_err(file("put the backup in place of", &path))?;
    sync(dir)?;
    Ok((copied, replaced.map(|old| old.path)))
}

/// Opens a copy, which reads all of it.
fn check(path: &Path) -> Result<(Database, Copied), OpenError> {
    if !path.exists() {
        return Err(OpenError::NoDatabase { path: path.into() });
    }
    let database = Database::open_file(path.into())?;
    let state = database.load()?;
    let copied = Copied { revision: state.revision, objects: state.objects() };
    Ok((database, copied))
}

/// A store that is to be replaced.
struct Replaced {
    /// Where it is to be kept.
    path: PathBuf,
    /// Its newest revision, as far as it can be read.
    revision: u64,
}

/// Brings everything of a store, which may be damaged or of another release, into its one file: a log that stayed behind would be
/// taken for that of its successor.
fn settle(path: &Path) -> Result<Replaced, OpenError> {
    let stamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let kept = with_suffix(path, &format!(".replaced-{stamp}"));
    let settled = if is_database(path)? { Some(write_log_back(path)) } else { None };
    if !matches!(settled, Some(Ok(_))) {
        tracing::warn!(path = %path.display(), outcome = ?settled, "the store that is replaced is damaged; it is kept as it is");
        for suffix in ["-wal", "-shm"] {
            let (from, to) = (with_suffix(path, suffix), with_suffix(&kept, suffix));
            if from.exists() {
                std::fs::rename(&from, &to).map_err(file("keep the replaced store as", &to))?;
            }
        }
    }
    Ok(Replaced { path: kept, revision: settled.and_then(Result::ok).unwrap_or(0) })
}

/// Returns the newest revision, or 0 where the tables do not tell.
fn write_log_back(path: &Path) -> Result<u64, rusqlite::Error> {
    let connection = Connection::open(path)?;
    let revision = connection.query_row("SELECT value FROM counters WHERE name = 'revision'", [], |row| row.get(0));
    connection.pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get::<_, String>(0))?;
    connection.close().map_err(|(_, error)| error)?;
    Ok(revision.unwrap_or(0i64).unsigned_abs())
}

/// Whether a file begins as SQLite's do. Asking SQLite itself would have it remove a log that does not fit.
pub fn is_database(path: &Path) -> Result<bool, OpenError> {
    const MAGIC: &[u8; 16] = b"SQLite format 3\0";
    let mut begin = Vec::with_capacity(MAGIC.len());
    let read = File::open(path).and_then(|f| f.take(MAGIC.len() as u64).read_to_end(&mut begin));
    read.map_err(file("read", path))?;
    Ok(begin == MAGIC)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn remove(path: &Path) -> Result<(), OpenError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(file("remove", path)(error)),
        _ => Ok(()),
    }
}

fn sync(path: &Path) -> Result<(), OpenError> {
    File::open(path).and_then(|f| f.sync_all()).map_err(file("sync", path))
}

fn file(step: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> OpenError {
    move |source| OpenError::File { step, path: path.into(), source }
}

#[cfg(test)]
mod tests;
