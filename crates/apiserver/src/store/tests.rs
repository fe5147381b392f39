use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn object(name: &str, data: &str) -> Encoded {
    Encoded::new(&json!({"metadata": {"name": name, "labels": {"name": name}}, "data": data}))
}

fn table() -> Arc<str> {
    "core/things".into()
}

fn put(key: &str, expect: Expect, data: &str) -> Write {
    Write { table: table(), key: key.into(), expect, action: Action::Put(object(key, data)) }
}

fn remove(key: &str, revision: u64) -> Write {
    let expect = Expect::Revision(revision);
    Write { table: table(), key: key.into(), expect, action: Action::Delete(object(key, "last")) }
}

fn data(object: &Object) -> String {
    let value: Value = serde_json::from_slice(&object.body).unwrap();
    assert_eq!(value["metadata"]["resourceVersion"], object.revision.to_string());
    value["data"].as_str().unwrap().to_owned()
}

fn contents(store: &Store) -> BTreeMap<String, (u64, String)> {
    let objects = store.list(&table(), "", None).unwrap().objects;
    objects.iter().map(|o| (o.key.to_string(), (o.revision, data(o)))).collect()
}

#[tokio::test]
async fn preconditions_decide() {
    let store = Store::memory();
    let made = store.write(put("a", Expect::Absent, "1")).await.unwrap();
    assert_eq!(store.write(put("a", Expect::Absent, "2")).await.unwrap_err(), WriteError::Exists);
    assert_eq!(store.write(put("b", Expect::Revision(1), "2")).await.unwrap_err(), WriteError::Missing);
    let stale = Expect::Revision(made.revision - 1);
    let conflict = WriteError::Conflict { current: made.revision };
    assert_eq!(store.write(put("a", stale, "2")).await.unwrap_err(), conflict);
    let second = store.write(put("a", Expect::Revision(made.revision), "2")).await.unwrap();
    assert!(second.revision > made.revision);
    assert_eq!(data(&store.get(&table(), "a").unwrap()), "2");
    assert_eq!(&*second.labels, &[("name".into(), "a".into())]);
    store.write(remove("a", second.revision)).await.unwrap();
    assert!(store.get(&table(), "a").is_none());
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (before, revision) = {
        let store = Store::open(dir.path()).unwrap();
        for n in 0..20 {
            store.write(put(&format!("n/{n}"), Expect::Absent, "x")).await.unwrap();
        }
        let gone = store.get(&table(), "n/7").unwrap().revision;
        store.write(remove("n/7", gone)).await.unwrap();
        (contents(&store), store.revision())
    };
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(contents(&store), before);
    // The revision of the deletion is not given out again, and history starts here.
    assert_eq!(store.revision(), revision);
    assert_eq!(&*store.get(&table(), "n/1").unwrap().labels, &[("name".into(), "n/1".into())]);
    assert!(store.watch(&table(), revision - 1).is_err());
    assert!(store.watch(&table(), revision).is_ok());
}

#[test]
fn second_process_is_refused_with_the_holder() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    let holder = std::process::id().to_string();
    assert!(matches!(&error, OpenError::InUse { holder: found, .. } if *found == holder), "{error}");
    drop(store);
    Store::open(dir.path()).unwrap();
}

#[test]
fn damaged_database_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("objects.db");
    std::fs::write(&path, vec![7u8; 8192]).unwrap();
    let error = Store::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("objects.db") && error.contains("restore") && error.contains("backup"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), vec![7u8; 8192]);
}

#[tokio::test]
async fn database_with_a_broken_page_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for n in 0..200 {
        store.write(put(&format!("n/{n}"), Expect::Absent, &"x".repeat(500))).await.unwrap();
    }
    drop(store);
    let path = dir.path().join("objects.db");
    let mut bytes = std::fs::read(&path).unwrap();
    for byte in &mut bytes[8192..40960] {
        *byte = 0xa5;
    }
    std::fs::write(&path, &bytes).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path()).unwrap());
    let connection = rusqlite::Connection::open(dir.path().join("objects.db")).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    assert!(matches!(Store::open(dir.path()).unwrap_err(), OpenError::TooNew { found: 99, .. }));
}

#[tokio::test]
async fn write_that_does_not_fit_is_refused_and_the_store_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    const LIMIT: u64 = 1 << 20;
    let store = Store::open_limited(dir.path(), LIMIT).unwrap();
    store.write(put("small", Expect::Absent, "1")).await.unwrap();
    let full = Full::Limit { bytes: LIMIT };
    let large = put("large", Expect::Absent, &"x".repeat(2 << 20));
    assert_eq!(store.write(large).await.unwrap_err(), WriteError::Full(full));
    assert_eq!(store.full(), Some(full));
    assert!(store.get(&table(), "large").is_none());
    // What fits is written, and the store is no longer read-only then.
    store.write(put("other", Expect::Absent, "1")).await.unwrap();
    assert_eq!(store.full(), None);
    let before = contents(&store);
    drop(store);
    assert_eq!(contents(&Store::open(dir.path()).unwrap()), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_at_its_limit_takes_deletions_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_limited(dir.path(), 1 << 20).unwrap();
    let mut written = Vec::new();
    let refused = loop {
        match store.write(put(&format!("{}", written.len()), Expect::Absent, &"x".repeat(50_000))).await {
            Ok(object) => written.push(object),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, WriteError::Full(Full::Limit { .. })), "{refused}");
    assert!(written.len() > 5, "{}", written.len());
    // In one batch with what does not fit.
    let (grow, shrink) = tokio::join!(
        store.write(put("more", Expect::Absent, &"x".repeat(400_000))),
        store.write(remove("0", written[0].revision)),
    );
    grow.unwrap_err();
    shrink.unwrap();
    store.write(put("again", Expect::Absent, &"x".repeat(40_000))).await.unwrap();
    assert_eq!(store.full(), None);
}

const CRASH_DIR: &str = "FV_STORE_CRASH_DIR";

/// The victim of the next test: writes and reports what was acknowledged until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crash_victim() {
    let Ok(dir) = std::env::var(CRASH_DIR) else { return };
    let store = Store::open(Path::new(&dir)).unwrap();
    for task in 0..8 {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0.. {
                let object = store.write(put(&format!("{task}-{n}"), Expect::Absent, "x")).await.unwrap();
                println!("ack {} {}", object.key, object.revision);
            }
        });
    }
    std::future::pending::<()>().await;
}

#[test]
fn acknowledged_writes_survive_kill_minus_nine() {
    use std::io::{BufRead as _, BufReader};
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["store::tests::crash_victim", "--exact", "--nocapture"])
            .env(CRASH_DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut acknowledged = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let Ok(line) = line else { break };
            // Lines of several threads may follow the test harness' own text.
            if let Some((_, ack)) = line.split_once("ack ")
                && let Some((key, revision)) = ack.split_once(' ')
                && let Ok(revision) = revision.parse::<u64>()
            {
                acknowledged.push((key.to_owned(), revision));
            }
            if acknowledged.len() == 300 {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(acknowledged.len() >= 300, "round {round}: {}", acknowledged.len());
        let store = Store::open(dir.path()).unwrap();
        let stored = contents(&store);
        for (key, revision) in acknowledged {
            assert_eq!(stored.get(&key).map(|(r, _)| *r), Some(revision), "{key}");
        }
        // The next round uses the same names.
        drop(store);
        std::fs::remove_file(dir.path().join("objects.db")).unwrap();
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(dir.path().join(format!("objects.db{suffix}")));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writers_are_grouped_and_ordered() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut watcher = store.watch(&table(), store.revision()).unwrap();
    let started = std::time::Instant::now();
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..20 {
                    store.write(put(&format!("{task}-{n}"), Expect::Absent, &"x".repeat(800))).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    println!("{:.0} creates/s", 1280.0 / started.elapsed().as_secs_f64());
    let events = watcher.take(usize::MAX).unwrap();
    assert_eq!(events.len(), 1280);
    assert!(events.windows(2).all(|w| w[0].revision + 1 == w[1].revision));
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8),
    Remove(u8),
    Take(u8),
    Compact,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6u8).prop_map(Step::Put),
        2 => (0..6u8).prop_map(Step::Remove),
        2 => (1..5u8).prop_map(Step::Take),
        1 => Just(Step::Compact),
    ]
}

proptest! {
    /// A watcher rebuilds the state, or is told that it is too late; a list at any revision still kept is what was there then.
    #[test]
    fn watch_and_old_lists_agree_with_what_happened(steps in prop::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = Store::memory();
            let mut watcher = store.watch(&table(), store.revision()).unwrap();
            let mut seen: BTreeMap<String, (u64, String)> = BTreeMap::new();
            let mut past = vec![(store.revision(), contents(&store))];
            let mut oldest = 0;
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Put(key) => {
                        let key = format!("k{key}");
                        let expect = store.get(&table(), &key).map_or(Expect::Absent, |o| Expect::Revision(o.revision));
                        store.write(put(&key, expect, &n.to_string())).await.unwrap();
                        past.push((store.revision(), contents(&store)));
                    }
                    Step::Remove(key) => {
                        let key = format!("k{key}");
                        if let Some(object) = store.get(&table(), &key) {
                            store.write(remove(&key, object.revision)).await.unwrap();
                            past.push((store.revision(), contents(&store)));
                        }
                    }
                    Step::Compact => {
                        oldest = store.revision().saturating_sub(3).max(oldest);
                        store.state.write().compact(&table(), oldest);
                    }
                    Step::Take(limit) => match watcher.take(limit.into()) {
                        Ok(events) => apply(&mut seen, &events),
                        Err(gone) => {
                            assert!(watcher.position() < gone.oldest);
                            let (listing, again) = store.list_and_watch(&table(), "").unwrap();
                            watcher = again;
                            seen = listing.objects.iter().map(|o| (o.key.to_string(), (o.revision, data(o)))).collect();
                        }
                    },
                }
            }
            if let Ok(events) = watcher.take(usize::MAX) {
                apply(&mut seen, &events);
                assert_eq!(seen, contents(&store));
                assert_eq!(watcher.position(), store.revision());
            }
            for (revision, then) in past {
                match store.list(&table(), "", Some(revision)) {
                    Ok(listing) => {
                        let listed: BTreeMap<_, _> =
                            listing.objects.iter().map(|o| (o.key.to_string(), (o.revision, data(o)))).collect();
                        assert_eq!(listed, then);
                    }
                    Err(gone) => assert!(revision < gone.oldest),
                }
            }
        });
    }
}

fn apply(seen: &mut BTreeMap<String, (u64, String)>, events: &[Arc<Event>]) {
    for event in events {
        let (key, value) = (event.object.key.to_string(), (event.revision, data(&event.object)));
        match event.change {
            Change::Added => assert!(seen.insert(key, value).is_none()),
            Change::Modified => assert!(seen.insert(key, value).is_some()),
            Change::Deleted => assert!(seen.remove(&key).is_some()),
        }
    }
}
