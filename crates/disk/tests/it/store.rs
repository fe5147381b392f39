//! The store and its local images.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fv_disk::{
    GcPolicy, ImageFormat, ImageRequest, ImageStore, Progress, PullPolicy, StoreConfig, StoreError, no_progress,
};
use fv_testkit::SmallDisk;

use crate::{chain, noise, open_store, qemu_img, run, store_config, text};
use fv_testkit::registry::Entry::File;
use fv_testkit::registry::{Options, Packing, Registry, layer, sha256};

fn write(dir: &Path, name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn local(image: &str, policy: PullPolicy) -> ImageRequest {
    ImageRequest { image: image.into(), policy, path: None, pull_secrets: Vec::new() }
}

#[tokio::test]
async fn imported_image_serves_every_policy_and_spelling() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path());
    let file = dir.path().join("demo.qcow2");
    qemu_img(&["create", "-q", "-f", "qcow2", text(&file), "64M"]);
    let done = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&done);
    let progress: fv_disk::ProgressFn = Arc::new(move |p: Progress| _ = seen.fetch_max(p.done, Ordering::Relaxed));
    let imported = store.import("demo", &file, &progress).unwrap();
    assert_eq!((imported.format, imported.virtual_size), (ImageFormat::Qcow2, 64 << 20));
    assert_eq!(done.load(Ordering::Relaxed), file.metadata().unwrap().len());
    assert_eq!(imported.digest.as_str(), sha256(&std::fs::read(&file).unwrap()));
    for (image, policy) in
        [("demo", PullPolicy::Always), ("demo:latest", PullPolicy::Never), ("demo", PullPolicy::IfNotPresent)]
    {
        assert_eq!(store.ensure(&local(image, policy), "vmi", no_progress()).await.unwrap(), imported);
    }
    assert_eq!(store.get(&imported.digest).unwrap(), Some(imported.clone()));
    let mode = run("stat", &["-c", "%a %u %g", text(&imported.path)]);
    assert_eq!(mode.trim(), "440 0 107");
    let list = store.list().unwrap();
    assert_eq!((list[0].names.as_slice(), list[0].imported), (["demo:latest".to_owned()].as_slice(), true));
}

#[test]
fn bad_files_and_names_are_refused_with_reason_and_nothing_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(StoreConfig { max_image_bytes: 1 << 30, ..store_config(dir.path()) }).unwrap();
    let path = |name: &str| dir.path().join(name);
    let make = |args: &[&str], name: &str, size: &str| {
        let path = path(name);
        let mut all = vec!["create", "-q"];
        all.extend(args);
        all.extend([text(&path), size]);
        qemu_img(&all);
        path
    };
    let base = make(&["-f", "qcow2"], "base.qcow2", "1M");
    let external = path("data.raw");
    let external_option = format!("data_file={}", text(&external));
    run("mkfifo", &[text(&path("fifo"))]);
    let sparse = std::fs::File::create(path("sparse.img")).unwrap();
    sparse.set_len(2 << 30).unwrap();
    // Written into the header: qemu-img measures the CPU before it encrypts, which fails on a busy machine.
    let encrypted = make(&["-f", "qcow2"], "encrypted.qcow2", "1M");
    std::fs::File::options().write(true).open(&encrypted).unwrap().write_all_at(&1u32.to_be_bytes(), 32).unwrap();
    let cases = [
        (make(&["-f", "qcow2", "-b", text(&base), "-F", "qcow2"], "overlay.qcow2", "1M"), "it has the backing file"),
        (make(&["-f", "qcow2", "-o", &external_option], "external.qcow2", "1M"), "external file"),
        (encrypted, "encrypted"),
        (make(&["-f", "qcow2"], "bomb.qcow2", "2G"), "its virtual size is 2147483648 bytes"),
        (make(&["-f", "vmdk"], "disk.vmdk", "1M"), "a VMDK image; raw and qcow2 are supported"),
        (make(&["-f", "vdi"], "disk.vdi", "1M"), "a VDI image"),
        (write(dir.path(), "cut.qcow2", b"QFI\xfb\0\0\0\x03"), "cut off"),
        (write(dir.path(), "empty.img", b""), "it is empty"),
        (path("sparse.img"), "at most 1073741824 are allowed"),
        (path("fifo"), "is not a regular file"),
        (path("missing"), "No such file"),
        (dir.path().to_owned(), "is not a regular file"),
    ];
    for (file, expected) in cases {
        let error = chain(&store.import("bad", &file, &no_progress()).unwrap_err());
        assert!(error.contains(expected), "{}: {error:?} lacks {expected:?}", file.display());
    }
    let good = write(dir.path(), "good.img", &noise(1, 512));
    for name in ["Not A Name", "", "x@sha256:00", "a//b"] {
        let error = store.import(name, &good, &no_progress()).unwrap_err();
        assert!(matches!(error, StoreError::Name { .. }), "{name}: {error}");
    }
    assert_eq!(store.list().unwrap(), []);
    assert_eq!(std::fs::read_dir(dir.path().join("images/tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn image_in_use_is_not_removed_even_by_another_process() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path());
    let file = write(dir.path(), "disk.img", &noise(1, 1 << 20));
    let handle = store.import("demo", &file, &no_progress()).unwrap();
    store.ensure(&local("demo", PullPolicy::Never), "vmi-a", no_progress()).await.unwrap();
    drop(store);

    let store = open_store(dir.path());
    let error = store.remove("demo").unwrap_err();
    assert_eq!(error.to_string(), "image \"demo\" is in use by vmi-a; stop those first");
    assert_eq!(store.holders().unwrap(), ["vmi-a"]);
    store.release("vmi-a").unwrap();
    store.release("vmi-a").unwrap();
    store.remove("demo").unwrap();
    assert!(!handle.path.exists());
    assert!(matches!(store.remove("demo"), Err(StoreError::NotFound { .. })));
    assert!(store.release("../x").is_err());
}

#[test]
fn one_file_with_two_names_goes_with_the_last_and_reimport_replaces() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path());
    let one = write(dir.path(), "one.img", &noise(1, 4096));
    let two = write(dir.path(), "two.img", &noise(2, 4096));
    let handle = store.import("a:1", &one, &no_progress()).unwrap();
    store.import("b:1", &one, &no_progress()).unwrap();
    assert_eq!(store.list().unwrap()[0].names, ["a:1", "b:1"]);
    store.remove("a:1").unwrap();
    assert!(handle.path.exists());
    let newer = store.import("b:1", &two, &no_progress()).unwrap();
    assert!(!handle.path.exists(), "nobody refers to it any more");
    store.remove(newer.digest.as_str()).unwrap();
    assert_eq!(store.list().unwrap(), []);
}

#[test]
fn store_recovers_from_crash_leftovers_and_a_lost_index_but_not_silently_from_a_damaged_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path());
    let handle = store.import("demo", &write(dir.path(), "d.img", &noise(1, 4096)), &no_progress()).unwrap();
    let root = dir.path().join("images");
    std::fs::write(root.join("tmp/0123"), b"half").unwrap();
    std::fs::write(root.join(".new-0123"), b"half").unwrap();
    drop(store);

    std::fs::write(root.join("index.json"), b"{\"version\": 1, ").unwrap();
    let error = ImageStore::open(store_config(dir.path())).map(drop).unwrap_err().to_string();
    assert!(error.contains("index.json is damaged") && error.contains("move it away"), "{error}");
    assert!(handle.path.exists());

    std::fs::remove_file(root.join("index.json")).unwrap();
    let store = open_store(dir.path());
    assert!(!root.join("tmp/0123").exists());
    assert_eq!(store.get(&handle.digest).unwrap().as_ref(), Some(&handle));
    assert_eq!(store.list().unwrap()[0].names, [""; 0]);
    // A file removed by hand is absent, not an error.
    std::fs::remove_file(&handle.path).unwrap();
    assert_eq!(store.get(&handle.digest).unwrap(), None);
    drop(store);
    assert_eq!(open_store(dir.path()).list().unwrap(), []);
}

#[test]
fn import_onto_a_full_disk_fails_cleanly() {
    let disk = SmallDisk::new(4);
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(disk.path());
    let file = write(dir.path(), "big.img", &noise(1, 6 << 20));
    let error = store.import("big", &file, &no_progress()).unwrap_err();
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
    assert_eq!(std::fs::read_dir(disk.path().join("images/tmp")).unwrap().count(), 0);
    // Sparse files need what they hold, not their length.
    let sparse = std::fs::File::create(dir.path().join("sparse.img")).unwrap();
    sparse.set_len(1 << 30).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, &noise(2, 4096), 512 << 20).unwrap();
    let handle = store.import("sparse", &dir.path().join("sparse.img"), &no_progress()).unwrap();
    assert_eq!(handle.virtual_size, 1 << 30);
    let copied = std::fs::File::open(&handle.path).unwrap();
    let mut bytes = vec![0; 4096];
    std::os::unix::fs::FileExt::read_exact_at(&copied, &mut bytes, 512 << 20).unwrap();
    assert_eq!(bytes, noise(2, 4096));
}

#[test]
fn garbage_collection_spares_imported_images_and_does_nothing_below_the_threshold() {
    let disk = SmallDisk::new(8);
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(disk.path());
    let imported = store.import("keep", &write(dir.path(), "a.img", &noise(1, 2 << 20)), &no_progress()).unwrap();
    let orphan = store.import("lose", &write(dir.path(), "b.img", &noise(2, 2 << 20)), &no_progress()).unwrap();
    drop(store);
    // Without names (a lost index) an image is like a pulled one that nobody refers to; then one gets its name back.
    std::fs::remove_file(disk.path().join("images/index.json")).unwrap();
    let store = open_store(disk.path());
    store.import("keep", &dir.path().join("a.img"), &no_progress()).unwrap();
    let relaxed = GcPolicy { high_percent: 95, low_percent: 10, min_age_seconds: 0 };
    assert_eq!(store.collect_garbage(relaxed).unwrap().removed, []);
    let young = GcPolicy { high_percent: 20, low_percent: 10, min_age_seconds: 3600 };
    let report = store.collect_garbage(young).unwrap();
    assert!(report.removed.is_empty() && report.missing_bytes > 0);
    let report = store.collect_garbage(GcPolicy { min_age_seconds: 0, ..young }).unwrap();
    assert_eq!(report.removed, [orphan.digest]);
    assert!(report.freed_bytes >= 2 << 20 && imported.path.exists());
}

#[tokio::test]
async fn garbage_collection_on_a_full_disk_spares_a_pulled_image_until_its_last_user_released_it() {
    let registry = Registry::start(Options::default());
    let disk = SmallDisk::new(16);
    let mut config = store_config(disk.path());
    config.registry.plain_http = vec![registry.address.clone()];
    let open = || ImageStore::open(config.clone()).unwrap();
    let store = open();
    let contents = [noise(1, 2 << 20), noise(2, 2 << 20)];
    let mut handles = Vec::new();
    for (name, content) in ["used:1", "unused:1"].into_iter().zip(&contents) {
        registry.push(name, &[layer(Packing::None, &[File("disk/disk.img", content)])]).await;
        let request = local(&registry.name(name), PullPolicy::IfNotPresent);
        handles.push(store.ensure(&request, &format!("vmi-{name}"), no_progress()).await.unwrap());
    }
    let [used, unused] = <[_; 2]>::try_from(handles).unwrap();
    let again = local(&registry.name("used:1"), PullPolicy::IfNotPresent);
    store.ensure(&again, "vmi-second", no_progress()).await.unwrap();
    store.release("vmi-unused:1").unwrap();
    // Who uses what has to outlive the process that wrote it down.
    drop(store);
    let store = open();

    // So much is wanted that only both images together would do.
    let policy = GcPolicy { high_percent: 8, low_percent: 2, min_age_seconds: 0 };
    let report = store.collect_garbage(policy).unwrap();
    assert_eq!(report.removed, [unused.digest]);
    assert!(report.missing_bytes > 0 && !unused.path.exists(), "{report:?}");
    store.release("vmi-used:1").unwrap();
    let report = store.collect_garbage(policy).unwrap();
    assert!(report.removed.is_empty() && report.missing_bytes > 0, "one of two users is left: {report:?}");
    assert_eq!(store.get(&used.digest).unwrap().as_ref(), Some(&used));
    assert!(std::fs::read(&used.path).unwrap() == contents[0], "the image in use changed");

    store.release("vmi-second").unwrap();
    let report = store.collect_garbage(policy).unwrap();
    assert_eq!(report.removed, [used.digest]);
    assert_eq!((report.missing_bytes, used.path.exists()), (0, false));
    assert_eq!(store.list().unwrap(), []);
}

#[test]
fn many_writers_at_once_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for writer in 0..6_u64 {
            let dir = dir.path();
            scope.spawn(move || {
                // Each with a store of its own, as processes have.
                let store = open_store(dir);
                for round in 0..4 {
                    let file = write(dir, &format!("{writer}-{round}.img"), &noise(writer * 10 + round, 70_000));
                    store.import(&format!("image-{writer}:{round}"), &file, &no_progress()).unwrap();
                }
            });
        }
    });
    let store = open_store(dir.path());
    assert_eq!(store.list().unwrap().len(), 24);
}
