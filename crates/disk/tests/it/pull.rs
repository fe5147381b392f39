//! Pulling container disks.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fv_disk::{
    ImageFormat, ImageRequest, ImageStore, Progress, PullError, PullPolicy, Stage, StoreConfig, no_progress,
};
use fv_testkit::SmallDisk;
use serde_json::json;

use crate::{noise, open_store, qemu_img, store_config, text};
use fv_testkit::registry::Entry::{Directory, Fifo, File, Hardlink, Symlink};
use fv_testkit::registry::{Options, Packing, Registry, layer, sha256};

fn request(image: String) -> ImageRequest {
    ImageRequest { image, policy: PullPolicy::IfNotPresent, path: None, pull_secrets: Vec::new() }
}

/// A store that may speak plain http to `registry`.
fn store_for(registry: &Registry, dir: &Path) -> ImageStore {
    let mut config = store_config(dir);
    plain(&mut config, registry);
    ImageStore::open(config).unwrap()
}

fn plain(config: &mut StoreConfig, registry: &Registry) {
    config.registry.plain_http = vec![registry.address.clone()];
}

async fn pull(store: &ImageStore, request: &ImageRequest) -> Result<fv_disk::ImageHandle, PullError> {
    store.ensure(request, "vmi-1", no_progress()).await
}

/// Nothing half-done may stay in the store.
fn assert_no_leftovers(dir: &Path) {
    let names: Vec<_> = std::fs::read_dir(dir.join("images/tmp")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(names.is_empty(), "{names:?}");
}

#[tokio::test]
async fn disk_is_found_in_every_packing_and_kept_sparse() {
    let registry = Registry::start(Options::default());
    let dir = tempfile::tempdir().unwrap();
    let store = store_for(&registry, dir.path());
    let mut disk = noise(7, 300_000);
    disk.resize(8 << 20, 0);
    for (name, packing) in [("tar:1", Packing::None), ("gz:1", Packing::Gzip), ("zstd:1", Packing::Zstd)] {
        let layers = [layer(packing, &[Directory("disk/"), File("disk/disk.img", &disk)])];
        registry.push(name, &layers).await;
        let handle = pull(&store, &request(registry.name(name))).await.unwrap();
        assert_eq!(handle.digest.as_str(), sha256(&disk));
        assert_eq!((handle.format, handle.virtual_size), (ImageFormat::Raw, 8 << 20));
        assert_eq!(std::fs::read(&handle.path).unwrap(), disk);
    }
    let list = store.list().unwrap();
    assert_eq!(list.len(), 1, "one file for equal disks");
    assert_eq!(list[0].names.len(), 3);
    assert!(list[0].disk_usage < 1 << 20, "{}", list[0].disk_usage);
    assert_eq!(list[0].in_use_by, ["vmi-1"]);
    assert_no_leftovers(dir.path());
}

#[tokio::test]
async fn later_layers_win_and_whiteouts_hide() {
    let registry = Registry::start(Options::default());
    let dir = tempfile::tempdir().unwrap();
    let store = store_for(&registry, dir.path());
    let (old, new) = (noise(1, 4096), noise(2, 4096));
    let base = || layer(Packing::Gzip, &[File("etc/passwd", b"x"), File("./disk/old.img", &old)]);
    let cases = [
        ("replaced:1", layer(Packing::None, &[File("disk/old.img", &new)]), &new),
        ("whiteout:1", layer(Packing::None, &[File("disk/.wh.old.img", b""), File("disk/new.qcow2", &new)]), &new),
        // The opaque marker may come after the new file and hides only what is below.
        ("opaque:1", layer(Packing::None, &[File("/disk/new.raw", &new), File("disk/.wh..wh..opq", b"")]), &new),
        (
            "untouched:1",
            layer(Packing::Zstd, &[File("disk/readme.txt", b"hello"), File("disk/.hidden.img", b"x")]),
            &old,
        ),
    ];
    for (name, top, expected) in cases {
        registry.push(name, &[base(), top]).await;
        let handle = pull(&store, &request(registry.name(name))).await.unwrap();
        assert_eq!(handle.digest.as_str(), sha256(expected), "{name}");
    }
    let gone = layer(Packing::None, &[File(".wh.disk", b"")]);
    registry.push("gone:1", &[base(), gone]).await;
    let error = pull(&store, &request(registry.name("gone:1"))).await.unwrap_err();
    assert!(matches!(error, PullError::NoDisk { .. }), "{error}");
}

#[tokio::test]
async fn path_picks_the_disk() {
    let registry = Registry::start(Options::default());
    let dir = tempfile::tempdir().unwrap();
    let store = store_for(&registry, dir.path());
    let (one, two) = (noise(1, 512), noise(2, 512));
    registry
        .push(
            "two:1",
            &[layer(Packing::None, &[File("disk/a.img", &one), File("opt/b.bin", &two), File("disk/c.img", &two)])],
        )
        .await;
    let mut request = request(registry.name("two:1"));
    let error = pull(&store, &request).await.unwrap_err().to_string();
    assert!(
        error.contains("several disks")
            && error.contains("/disk/a.img, /disk/c.img")
            && error.contains("containerDisk.path"),
        "{error}"
    );
    for (path, expected) in [("/disk/a.img", &one), ("/opt/b.bin", &two)] {
        request.path = Some(path.into());
        assert_eq!(pull(&store, &request).await.unwrap().digest.as_str(), sha256(expected));
    }
    request.path = Some("/disk/none.img".into());
    let error = pull(&store, &request).await.unwrap_err().to_string();
    assert!(error.contains("there is no file \"/disk/none.img\""), "{error}");
    request.path = Some("/disk/../../etc/shadow".into());
    assert!(matches!(pull(&store, &request).await, Err(PullError::NoDisk { .. })));
}

#[tokio::test]
async fn dangerous_layers_are_refused_and_nothing_is_written_outside() {
    let registry = Registry::start(Options::default());
    let dir = tempfile::tempdir().unwrap();
    let store = store_for(&registry, dir.path());
    let backing = dir.path().join("backing.qcow2");
    qemu_img(&["create", "-q", "-f", "qcow2", "-u", "-b", "/etc/shadow", "-F", "raw", text(&backing), "1G"]);
    let backing = std::fs::read(backing).unwrap();
    let bomb_path = dir.path().join("bomb.qcow2");
    qemu_img(&["create", "-q", "-f", "qcow2", text(&bomb_path), "4T"]);
    let bomb = std::fs::read(bomb_path).unwrap();
    let disk = noise(3, 1024);
    let cases = [
        ("symlink", vec![Symlink("disk/disk.img", "/etc/shadow")], "is a symbolic link"),
        ("symlink-dir", vec![Symlink("disk", "/etc")], "is a symbolic link"),
        ("hardlink", vec![File("x.img", &disk), Hardlink("disk/disk.img", "x.img")], "is a hard link"),
        ("fifo", vec![Fifo("disk/disk.img")], "is a named pipe"),
        ("traversal", vec![File("disk/../../../tmp/evil.img", &disk)], "unsafe path"),
        ("nothing", vec![File("etc/passwd", b"x")], "no *.img, *.qcow2 or *.raw under /disk"),
        ("backing", vec![File("disk/disk.qcow2", &backing)], "it has the backing file \"/etc/shadow\""),
        ("bomb", vec![File("disk/disk.qcow2", &bomb)], "its virtual size is 4398046511104 bytes"),
        ("empty", vec![File("disk/disk.img", b"")], "it is empty"),
        ("gzip-inside", vec![File("disk/disk.img", b"\x1f\x8b\x08rest")], "compressed with gzip"),
    ];
    for (name, entries, expected) in cases {
        registry.push(name, &[layer(Packing::Gzip, &entries)]).await;
        let image = registry.name(name);
        let error = pull(&store, &request(image.clone())).await.unwrap_err();
        let message = error.message(&image);
        assert!(message.contains(expected), "{name}: {message:?} lacks {expected:?}");
        assert_eq!(error.reason(), "ErrImagePull");
    }
    assert_eq!(store.list().unwrap(), []);
    assert_eq!(store.holders().unwrap(), [""; 0]);
    assert_no_leftovers(dir.path());
}

#[tokio::test]
async fn unknown_image_dead_registry_and_bad_names_have_kubelets_reasons() {
    let mut registry = Registry::start(Options::default());
    let dir = tempfile::tempdir().unwrap();
    let store = store_for(&registry, dir.path());
    registry.push("demo:1", &[layer(Packing::None, &[File("disk/d.img", &noise(1, 512))])]).await;

    let image = registry.name("nobody:1");
    let error = pull(&store, &request(image.clone())).await.unwrap_err();
    assert_eq!(error.reason(), "ErrImagePull");
    assert_eq!(
        error.message(&image),
        format!("Failed to pull image {image:?}: failed to resolve reference {image:?}: not found")
    );
    let unknown_tag = pull(&store, &request(registry.name("demo:2"))).await.unwrap_err();
    assert!(matches!(unknown_tag, PullError::NotFound { .. }), "{unknown_tag}");

    for name in ["Demo Image:1", "", "a//b", "demo@sha256:12", "demo@md5:00"] {
        let error = pull(&store, &request(name.into())).await.unwrap_err();
        assert_eq!((error.reason(), error.is_transient()), ("InvalidImageName", false), "{name}");
    }
    let never = ImageRequest { policy: PullPolicy::Never, ..request(registry.name("demo:1")) };
    let error = pull(&store, &never).await.unwrap_err();
    assert_eq!(error.reason(), "ErrImageNeverPull");

    // TLS is spoken to registries that are not configured for plain http, and this one does not answer it.
    let tls_only = open_store(&dir.path().join("other"));
    let error = pull(&tls_only, &request(registry.name("demo:1"))).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryUnavailable", "{error}");

    pull(&store, &request(registry.name("demo:1"))).await.unwrap();
    registry.stop();
    let error = pull(&store, &request(registry.name("demo:3"))).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryUnavailable", "{error}");
    assert!(error.to_string().contains(&registry.address) && error.is_transient(), "{error}");
    // What is here needs no registry, unless the policy insists.
    pull(&store, &request(registry.name("demo:1"))).await.unwrap();
    pull(&store, &never).await.unwrap();
    let always = ImageRequest { policy: PullPolicy::Always, ..never };
    assert_eq!(pull(&store, &always).await.unwrap_err().reason(), "RegistryUnavailable");
}

#[tokio::test]
async fn changed_blobs_and_manifests_are_noticed() {
    let registry = Registry::start(Options::default());
    let dir = tempfile::tempdir().unwrap();
    let store = store_for(&registry, dir.path());
    let make = |seed| layer(Packing::None, &[File("disk/d.img", &noise(seed, 100_000))]);

    let changed = make(1);
    registry.push("layer:1", std::slice::from_ref(&changed)).await;
    let file = registry.blob_file(&sha256(&changed.packed));
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[5000] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let error = pull(&store, &request(registry.name("layer:1"))).await.unwrap_err();
    assert!(matches!(error, PullError::WrongDigest { what: "layer", .. }), "{error:?}");

    let one = make(2);
    registry.push("short:1", std::slice::from_ref(&one)).await;
    std::fs::write(registry.blob_file(&sha256(&one.packed)), &one.packed[..50_000]).unwrap();
    let error = pull(&store, &request(registry.name("short:1"))).await.unwrap_err();
    assert!(matches!(error, PullError::WrongDigest { .. } | PullError::Interrupted { .. }), "{error:?}");

    // A config that names another diff id.
    let mut other = make(3);
    other.diff_id = sha256(b"something else");
    registry.push("diffid:1", &[other]).await;
    let error = pull(&store, &request(registry.name("diffid:1"))).await.unwrap_err();
    assert!(matches!(error, PullError::WrongDigest { what: "unpacked layer", .. }), "{error:?}");

    // A config that is not the one the manifest names.
    let layers = [make(6)];
    let digest = registry.push("config:1", &layers).await;
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(registry.blob_file(&digest)).unwrap()).unwrap();
    let file = registry.blob_file(manifest["config"]["digest"].as_str().unwrap());
    std::fs::write(&file, json!({"rootfs": {"diff_ids": []}}).to_string()).unwrap();
    let error = pull(&store, &request(registry.name("config:1"))).await.unwrap_err();
    assert!(matches!(error, PullError::WrongDigest { what: "config", .. }), "{error:?}");

    // By digest: another manifest than the one asked for.
    let digest = registry.push("digest:1", &[make(4)]).await;
    let good = request(registry.name(&format!("digest@{digest}")));
    pull(&store, &good).await.unwrap();
    let wrong = request(registry.name(&format!("digest@{}", sha256(b"nothing"))));
    assert!(matches!(pull(&store, &wrong).await, Err(PullError::NotFound { .. })));
    let digest = registry.push("tampered:1", &[make(5)]).await;
    let file = registry.blob_file(&digest);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\"schemaVersion\":2", "\"schemaVersion\": 2")).unwrap();
    let error = pull(&store, &request(registry.name(&format!("tampered@{digest}")))).await.unwrap_err();
    assert!(matches!(error, PullError::WrongDigest { .. } | PullError::Registry { .. }), "{error:?}");
    assert_no_leftovers(dir.path());
}

#[tokio::test]
async fn index_gives_the_image_of_this_platform() {
    let registry = Registry::start(Options::default());
    let dir = tempfile::tempdir().unwrap();
    let store = store_for(&registry, dir.path());
    let mut entries = Vec::new();
    for (architecture, seed) in [("s390x", 1), ("amd64", 2), ("arm64", 3)] {
        let name = format!("multi:{architecture}");
        let digest = registry.push(&name, &[layer(Packing::None, &[File("disk/d.img", &noise(seed, 512))])]).await;
        entries.push(json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1,
            "platform": {"os": "linux", "architecture": architecture},
        }));
    }
    let index = |entries: &[serde_json::Value]| json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries});
    registry.push_manifest(&registry.name("multi:1").parse().unwrap(), index(&entries)).await;
    registry.push_manifest(&registry.name("multi:foreign").parse().unwrap(), index(&entries[..1])).await;
    let mut config = store_config(dir.path());
    plain(&mut config, &registry);
    config.registry.architecture = "amd64".into();
    drop(store);
    let store = ImageStore::open(config).unwrap();
    let handle = pull(&store, &request(registry.name("multi:1"))).await.unwrap();
    assert_eq!(handle.digest.as_str(), sha256(&noise(2, 512)));
    let error = pull(&store, &request(registry.name("multi:foreign"))).await.unwrap_err().to_string();
    assert!(error.contains("no image for platform linux/amd64") && error.contains("linux/s390x"), "{error}");
}

#[tokio::test]
async fn tls_and_passwords_from_pull_secrets() {
    let registry = Registry::start(Options { tls: true, password: true });
    let dir = tempfile::tempdir().unwrap();
    registry.push("team/demo:1", &[layer(Packing::Gzip, &[File("disk/d.img", &noise(1, 512))])]).await;
    let mut config = store_config(dir.path());
    let mut request = request(registry.name("team/demo:1"));

    let untrusting = ImageStore::open(config.clone()).unwrap();
    let error = pull(&untrusting, &request).await.unwrap_err();
    assert_eq!(error.reason(), "RegistryUnavailable", "an unknown certificate authority: {error}");

    config.registry.extra_ca_pem = vec![registry.ca_pem.clone().unwrap()];
    let store = ImageStore::open(config).unwrap();
    let secret = |user: &str, password: &str| {
        json!({"auths": {registry.address.clone(): {"username": user, "password": password}}}).to_string().into_bytes()
    };
    for secrets in [vec![], vec![secret("user", "wrong")]] {
        request.pull_secrets = secrets;
        let error = pull(&store, &request).await.unwrap_err();
        assert!(matches!(error, PullError::Unauthorized { .. }), "{error:?}");
        assert!(error.to_string().contains("imagePullSecret") && !error.to_string().contains("wrong"));
    }
    request.pull_secrets = vec![secret("user", "wrong"), secret("user", "secret")];
    pull(&store, &request).await.unwrap();
}

#[tokio::test]
async fn concurrent_users_pull_once() {
    let registry = Registry::start(Options::default());
    let dir = tempfile::tempdir().unwrap();
    // Two stores on one directory, as two processes would have.
    let stores = [store_for(&registry, dir.path()), store_for(&registry, dir.path())];
    let disk = noise(9, 3 << 20);
    let layers = [layer(Packing::None, &[File("disk/d.img", &disk)])];
    registry.push("demo:1", &layers).await;
    registry.push("demo:other", &layers).await;
    let bytes = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for user in 0..8 {
        let store = stores[user % 2].clone();
        let request = request(registry.name(if user < 4 { "demo:1" } else { "demo:other" }));
        let (bytes, last) = (Arc::clone(&bytes), AtomicU64::new(0));
        let progress = Arc::new(move |progress: Progress| {
            if progress.stage == Stage::Downloading {
                bytes.fetch_add(progress.done - last.swap(progress.done, Ordering::Relaxed), Ordering::Relaxed);
            }
        });
        tasks.push(tokio::spawn(async move { store.ensure(&request, &format!("vmi-{user}"), progress).await }));
    }
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap().digest.as_str(), sha256(&disk));
    }
    assert_eq!(bytes.load(Ordering::Relaxed), layers[0].packed.len() as u64, "downloaded once");
    assert_eq!(stores[0].holders().unwrap().len(), 8);
    assert_eq!(stores[0].list().unwrap()[0].in_use_by.len(), 8);
    assert_no_leftovers(dir.path());
}

#[tokio::test]
async fn always_notices_a_moved_tag_and_keeps_the_old_image_for_its_users() {
    let registry = Registry::start(Options::default());
    let dir = tempfile::tempdir().unwrap();
    let store = store_for(&registry, dir.path());
    let always = ImageRequest { policy: PullPolicy::Always, ..request(registry.name("demo")) };
    let mut handles = Vec::new();
    for seed in [1, 1, 2] {
        registry.push("demo:latest", &[layer(Packing::None, &[File("disk/d.img", &noise(seed, 512))])]).await;
        handles.push(store.ensure(&always, &format!("vmi-{}", handles.len()), no_progress()).await.unwrap());
    }
    assert_eq!(handles[0], handles[1]);
    assert_ne!(handles[1].digest, handles[2].digest);
    assert!(handles[0].path.exists());
    let present = ImageRequest { policy: PullPolicy::IfNotPresent, ..always };
    assert_eq!(pull(&store, &present).await.unwrap(), handles[2]);
}

#[tokio::test]
async fn full_disk_ends_the_pull_without_leftovers() {
    let registry = Registry::start(Options::default());
    let disk = SmallDisk::new(8);
    let store = store_for(&registry, disk.path());
    let mut zeros = noise(1, 2 << 20);
    zeros.extend(noise(2, 2 << 20).repeat(10));
    // Small on the wire, too large unpacked: found out while writing.
    registry.push("big:1", &[layer(Packing::Zstd, &[File("disk/d.img", &zeros)])]).await;
    // Too large on the wire: found out before.
    registry.push("huge:1", &[layer(Packing::None, &[File("disk/d.img", &zeros)])]).await;
    for name in ["big:1", "huge:1"] {
        let image = registry.name(name);
        let error = pull(&store, &request(image.clone())).await.unwrap_err();
        let message = error.message(&image);
        assert!(message.contains("no space for the image") && message.contains("ferrovirt image rm"), "{message}");
        assert!(error.is_transient());
        assert_no_leftovers(disk.path());
    }
    registry.push("small:1", &[layer(Packing::None, &[File("disk/d.img", &zeros[..1 << 20])])]).await;
    pull(&store, &request(registry.name("small:1"))).await.unwrap();
}

#[tokio::test]
async fn dropped_pull_leaves_nothing_and_can_be_repeated() {
    let registry = Registry::start(Options::default());
    let dir = tempfile::tempdir().unwrap();
    let store = store_for(&registry, dir.path());
    let disk = noise(5, 16 << 20);
    registry.push("demo:1", &[layer(Packing::None, &[File("disk/d.img", &disk)])]).await;
    let request = request(registry.name("demo:1"));
    let (started, mut waiting) = tokio::sync::mpsc::unbounded_channel();
    let progress = Arc::new(move |progress: Progress| {
        if progress.stage == Stage::Downloading {
            let _ = started.send(());
        }
    });
    tokio::select! {
        result = store.ensure(&request, "vmi-1", progress) => panic!("finished too early: {result:?}"),
        _ = waiting.recv() => {}
    }
    // The worker notices as soon as it wants the next bytes.
    while waiting.recv().await.is_some() {}
    pull(&store, &request).await.unwrap();
    assert_no_leftovers(dir.path());
}
