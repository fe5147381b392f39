use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::store::{Action, Encoded, Expect, Store, Write};

fn put(key: &str) -> Write {
    let body = json!({"metadata": {"name": key}, "data": "x".repeat(300)});
    Write {
        table: "core/things".into(),
        key: key.into(),
        expect: Expect::Absent,
        action: Action::Put(Encoded::new(&body)),
    }
}

fn keys(store: &Store) -> Vec<String> {
    store.list("core/things", "", None).unwrap().objects.iter().map(|o| o.key.to_string()).collect()
}

async fn until(written: &AtomicUsize, count: usize) {
    let reached = async {
        while written.load(Ordering::Relaxed) < count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reached).await.expect("the writer goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_of_a_store_in_use_is_what_it_was_at_one_moment() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let writer = tokio::spawn({
        let (store, stop, written) = (store.clone(), stop.clone(), written.clone());
        async move {
            for n in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                store.write(put(&format!("{n:08}"))).await.unwrap();
                written.store(n + 1, Ordering::Relaxed);
            }
        }
    });
    until(&written, 50).await;
    let (from, copy) = (dir.path().join("store"), dir.path().join("copy.db"));
    let target = copy.clone();
    let at_least = written.load(Ordering::Relaxed);
    let copied = tokio::task::spawn_blocking(move || backup(&from, &target)).await.unwrap().unwrap();
    let seen = written.load(Ordering::Relaxed);
    until(&written, seen + 10).await;
    stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    assert!(copied.objects >= at_least, "{copied:?}, {at_least} before");
    assert!(!dir.path().join("copy.db-wal").exists());

    let restored = dir.path().join("restored");
    restore(&copy, &restored).unwrap();
    let restored = Store::open(&restored).unwrap();
    let expected: Vec<String> = (0..copied.objects).map(|n| format!("{n:08}")).collect();
    assert_eq!(keys(&restored), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restored_store_goes_on_after_every_revision_given_out_and_keeps_what_it_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (home, copy) = (dir.path().join("store"), dir.path().join("copy.db"));
    let store = Store::open(&home).unwrap();
    store.write(put("a")).await.unwrap();
    backup(&home, &copy).unwrap();
    store.write(put("b")).await.unwrap();
    let last = store.revision();
    assert!(matches!(restore(&copy, &home), Err(OpenError::InUse { .. })), "it is in use");
    drop(store);

    let (copied, replaced) = restore(&copy, &home).unwrap();
    assert_eq!(copied.objects, 1);
    let store = Store::open(&home).unwrap();
    assert_eq!(keys(&store), ["a"]);
    assert!(store.revision() > last, "{} after {last}", store.revision());
    store.write(put("c")).await.unwrap();
    drop(store);

    // What was replaced is whole: it can be put back.
    restore(&replaced.unwrap(), &home).unwrap();
    assert_eq!(keys(&Store::open(&home).unwrap()), ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_store_is_replaced_and_kept_with_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let (home, copy) = (dir.path().join("store"), dir.path().join("copy.db"));
    let store = Store::open(&home).unwrap();
    store.write(put("a")).await.unwrap();
    backup(&home, &copy).unwrap();
    drop(store);
    std::fs::write(home.join(FILE), [7u8; 8192]).unwrap();
    std::fs::write(home.join("objects.db-wal"), b"the log of the damaged one").unwrap();

    let (_, replaced) = restore(&copy, &home).unwrap();
    let replaced = replaced.unwrap();
    assert_eq!(std::fs::read(&replaced).unwrap(), [7u8; 8192]);
    assert_eq!(std::fs::read(with_suffix(&replaced, "-wal")).unwrap(), b"the log of the damaged one");
    assert_eq!(keys(&Store::open(&home).unwrap()), ["a"]);
}

#[test]
fn what_is_no_sound_store_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("store");
    drop(Store::open(&home).unwrap());
    let before = std::fs::read(home.join(FILE)).unwrap();

    let missing = dir.path().join("missing.db");
    let garbage = dir.path().join("garbage.db");
    std::fs::write(&garbage, [1u8; 5000]).unwrap();
    let foreign = dir.path().join("foreign.db");
    let connection = Connection::open(&foreign).unwrap();
    connection.execute_batch("CREATE TABLE t(x); PRAGMA application_id = 42;").unwrap();
    drop(connection);

    assert!(restore(&missing, &home).is_err());
    assert!(matches!(restore(&garbage, &home), Err(OpenError::Corrupt { .. })));
    assert!(matches!(restore(&foreign, &home), Err(OpenError::Foreign { found: 42, .. })));
    assert_eq!(std::fs::read(home.join(FILE)).unwrap(), before);
    drop(Store::open(&home).unwrap());
    assert!(matches!(backup(&dir.path().join("nowhere"), &missing), Err(OpenError::NoDatabase { .. })));
}
