//! Images that a container runtime has unpacked: their root directory is at hand, what is in it is not to be trusted.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use fv_disk::{ImageFormat, PullError, UnpackedImage, no_progress};
use fv_testkit::SmallDisk;

use crate::{chain, noise, open_store, qemu_img, text};

fn image(digest: &str, scope: &str, path: Option<&str>) -> UnpackedImage {
    UnpackedImage { image: "demo:1".into(), digest: digest.into(), scope: scope.into(), path: path.map(Into::into) }
}

fn root(dir: &Path) -> OwnedFd {
    File::open(dir).unwrap().into()
}

/// A root directory with `/disk/disk.img` of these bytes.
fn unpacked(bytes: &[u8]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("disk")).unwrap();
    std::fs::write(dir.path().join("disk/disk.img"), bytes).unwrap();
    dir
}

#[tokio::test]
async fn disk_is_copied_once_per_digest_and_scope_and_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path());
    let content = noise(1, 1 << 20);
    let tree = unpacked(&content);
    let take = async |digest: &str, scope: &str, root: OwnedFd| {
        store.ensure_unpacked(&image(digest, scope, None), root, "vmi-1", no_progress()).await
    };
    let first = take("demo@sha256:1", "blue", root(tree.path())).await.unwrap();
    assert_eq!((first.format, first.virtual_size), (ImageFormat::Raw, 1 << 20));
    assert_eq!(std::fs::read(&first.path).unwrap(), content);

    // What happens to the container's files afterwards changes nothing for its own scope …
    std::fs::write(tree.path().join("disk/disk.img"), noise(2, 1 << 20)).unwrap();
    assert_eq!(take("demo@sha256:1", "blue", root(tree.path())).await.unwrap(), first);
    // … and another scope sees what its own container has, under the same digest.
    let other = take("demo@sha256:1", "red", root(tree.path())).await.unwrap();
    assert_ne!(other.digest, first.digest);
    let again = take("demo@sha256:1", "blue", root(tree.path())).await.unwrap();
    assert_eq!(again, first);
    let same = unpacked(&content);
    assert_eq!(take("demo@sha256:9", "green", root(same.path())).await.unwrap(), first);
    assert_eq!(store.list().unwrap().len(), 2);
    assert_eq!(store.holders().unwrap(), ["vmi-1"]);
}

#[tokio::test]
async fn file_named_by_the_volume_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path());
    let tree = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(tree.path().join("images/a")).unwrap();
    let file = tree.path().join("images/a/root.bin");
    qemu_img(&["create", "-q", "-f", "qcow2", text(&file), "8M"]);
    let wanted = image("d", "ns", Some("/images//a/root.bin"));
    let taken = store.ensure_unpacked(&wanted, root(tree.path()), "vmi", no_progress()).await.unwrap();
    assert_eq!((taken.format, taken.virtual_size), (ImageFormat::Qcow2, 8 << 20));
}

#[tokio::test]
async fn nothing_outside_of_the_image_is_taken_and_the_reason_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path());
    let outside = dir.path().join("secret.img");
    std::fs::write(&outside, noise(3, 4096)).unwrap();
    let tree = tempfile::tempdir().unwrap();
    let at = |name: &str| tree.path().join(name);
    std::fs::create_dir(at("disk")).unwrap();
    std::fs::create_dir(at("mounted")).unwrap();
    symlink(&outside, at("disk/link.img")).unwrap();
    symlink(dir.path(), at("parent")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at("pipe.img"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    let over = SmallDisk::new(1);
    std::fs::write(over.path().join("x.img"), noise(4, 4096)).unwrap();
    let refusal = async |path: Option<&str>, root: OwnedFd| {
        chain(&store.ensure_unpacked(&image("d", "ns", path), root, "vmi", no_progress()).await.unwrap_err())
    };
    for (path, expected) in [
        (None, "symbolic link"),
        (Some("/disk/link.img"), "symbolic link"),
        (Some("/parent/secret.img"), "symbolic link"),
        (Some("../secret.img"), "plain absolute path"),
        (Some("/pipe.img"), "named pipe"),
        (Some("/disk"), "directory"),
        (Some("/absent"), "no file \"/absent\""),
        (Some("/"), "plain absolute path"),
    ] {
        let told = refusal(path, root(tree.path())).await;
        assert!(told.contains(expected), "{path:?}: {told}");
    }
    // The root of a process shows the mounts over it as well.
    let name = over.path().file_name().unwrap().to_str().unwrap();
    let told = refusal(Some(&format!("/{name}/x.img")), root(over.path().parent().unwrap())).await;
    assert!(told.contains("mounted"), "{told}");
    assert!(store.list().unwrap().is_empty() && store.holders().unwrap().is_empty());
}

#[tokio::test]
async fn images_that_are_no_single_plain_disk_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path());
    let tree = unpacked(&noise(5, 4096));
    std::fs::write(tree.path().join("disk/b.QCOW2"), "x").unwrap();
    std::fs::write(tree.path().join("disk/.hidden.img"), "x").unwrap();
    let ensure = async |path: Option<&str>, tree: &Path| {
        store.ensure_unpacked(&image("d", "ns", path), root(tree), "vmi", no_progress()).await.unwrap_err()
    };
    let PullError::SeveralDisks { paths, .. } = ensure(None, tree.path()).await else { panic!("one was chosen") };
    assert_eq!(paths, ["/disk/b.QCOW2", "/disk/disk.img"]);
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(ensure(None, empty.path()).await, PullError::NoDisk { .. }));
    let base = tree.path().join("base.qcow2");
    let top = tree.path().join("top.qcow2");
    qemu_img(&["create", "-q", "-f", "qcow2", text(&base), "1M"]);
    qemu_img(&["create", "-q", "-f", "qcow2", "-b", text(&base), "-F", "qcow2", text(&top)]);
    let told = chain(&ensure(Some("/top.qcow2"), tree.path()).await);
    assert!(told.contains("backing file"), "{told}");
}
