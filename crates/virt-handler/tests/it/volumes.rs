//! Disks in and of the volumes of launcher pods: real files, real mounts. Needs root.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;

use fv_disk::{ImageStore, StoreConfig};
use fv_domain::{DiskFormat, DiskSource, SourceKind};
use fv_host::mount;
use fv_virt_handler::disks::{LocalDisks, PrepareError};
use fv_virt_handler::ports::{DiskRequest, LauncherPod, NodeDisks, PodVolume, PodVolumes};
use fv_virt_handler::volumes::DirectoryVolumes;
use serde_json::{Value, json};
use uuid::Uuid;

const QEMU_UID: u32 = 1_000_000_011;

/// A node with one launcher pod, whose volumes are directories.
struct World {
    dir: tempfile::TempDir,
    disks: LocalDisks,
    pod: String,
    vmi: String,
}

impl Drop for World {
    fn drop(&mut self) {
        mount::unmount_lazily(&self.places()).unwrap();
    }
}

impl World {
    fn new() -> Self {
        let dir = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().unwrap();
        let (pod, vmi) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
        fs::create_dir_all(dir.path().join("pods").join(&pod).join("volumes")).unwrap();
        fs::create_dir(dir.path().join("places")).unwrap();
        mount::share(&dir.path().join("places")).unwrap();
        let store = StoreConfig { reserve_bytes: 0, ..StoreConfig::new(dir.path().join("images")) };
        let pods = Arc::new(DirectoryVolumes::new(dir.path().join("pods")));
        let images = Arc::new(ImageStore::open(store).unwrap());
        let disks = LocalDisks::new(images, dir.path().join("disks"), pods, dir.path().join("places"));
        Self { dir, disks, pod, vmi }
    }

    fn places(&self) -> PathBuf {
        self.dir.path().join("places")
    }

    /// The directory of a volume.
    fn volume(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join("pods").join(&self.pod).join("volumes").join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// What becomes of a VMI with one volume of this source.
    async fn prepare(&self, source: Value) -> Result<DiskSource, PrepareError> {
        self.prepare_with(source, json!({})).await
    }

    async fn prepare_with(&self, source: Value, claim: Value) -> Result<DiskSource, PrepareError> {
        let mut volume = json!({"name": "data"});
        volume.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
        let vmi = json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
            "metadata": {"name": "demo", "namespace": "default", "uid": self.vmi},
            "spec": {"domain": {"devices": {"disks": [{"name": "data", "disk": {"bus": "virtio"}}]}}, "volumes": [volume]},
            "status": {"volumeStatus": [{"name": "data", "target": "", "persistentVolumeClaimInfo": claim}]},
        });
        let request = DiskRequest {
            vmi: Arc::new(serde_json::from_value(vmi).unwrap()),
            uid: self.vmi.clone(),
            pod_uid: Some(self.pod.clone()),
            qemu_uid: QEMU_UID,
            secrets: Default::default(),
            pull_secrets: Default::default(),
            efi: None,
        };
        Ok(self.disks.prepare(&request).await?.sources.remove("data").unwrap())
    }

    /// Why a hostDisk of this type is not taken.
    async fn refusal(&self, type_: &str) -> String {
        let source = json!({"hostDisk": {"path": "/srv/a.img", "type": type_, "capacity": "8Mi"}});
        let error = self.prepare(source).await.unwrap_err();
        assert_eq!(error.reason(), "FailedVolume");
        let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
        assert!(text.contains("volume \"data\""), "{text}");
        text
    }
}

#[tokio::test]
async fn small_data_becomes_a_labelled_image_of_its_files() {
    let world = World::new();
    fs::write(world.volume("data").join("greeting"), "hello").unwrap();
    for (source, label) in [
        (json!({"configMap": {"name": "app", "volumeLabel": "settings"}}), &b"settings"[..]),
        (json!({"secret": {"secretName": "keys"}}), b"cfgdata"),
        (json!({"serviceAccount": {"serviceAccountName": "robot"}}), b"cfgdata"),
        (json!({"downwardAPI": {}}), b"cfgdata"),
    ] {
        let disk = world.prepare(source).await.unwrap();
        assert!(disk.read_only && disk.format == DiskFormat::Raw && disk.path.ends_with("/data.iso"));
        let image = fs::read(&disk.path).unwrap();
        let has = |text: &[u8]| image.windows(text.len()).any(|window| window == text);
        assert!(has(label) && has(b"greeting") && has(b"hello"));
        assert_eq!(fs::metadata(&disk.path).unwrap().uid(), QEMU_UID);
    }
}

#[tokio::test]
async fn missing_host_disk_is_made_sparse_and_an_existing_one_is_kept() {
    let world = World::new();
    let image = world.volume("data").join("a.img");
    let source = json!({"hostDisk": {"path": "/srv/a.img", "type": "DiskOrCreate", "capacity": "8Mi"}});
    let disk = world.prepare(source.clone()).await.unwrap();
    assert_eq!(
        (disk.kind, disk.format, disk.read_only, disk.preallocated),
        (SourceKind::File, DiskFormat::Raw, false, false)
    );
    let meta = fs::metadata(&image).unwrap();
    assert_eq!(
        (meta.len(), meta.blocks(), meta.uid(), meta.gid(), meta.mode() & 0o777),
        (8 << 20, 0, QEMU_UID, 107, 0o660)
    );

    // As upstream leaves them.
    std::os::unix::fs::chown(&image, Some(107), Some(107)).unwrap();
    fs::write(&disk.path, vec![7; 4 << 20]).unwrap();
    let again = world.prepare(source).await.unwrap();
    assert_eq!(again.path, disk.path);
    assert!(again.preallocated, "written from end to end");
    assert_eq!(fs::read(&image).unwrap(), vec![7; 4 << 20]);
    assert_eq!(fs::metadata(&image).unwrap().uid(), QEMU_UID);
}

#[tokio::test]
async fn qemu_reaches_the_image_by_a_directory_of_its_own_which_goes_with_the_machine() {
    let world = World::new();
    let image = world.volume("data").join("a.img");
    fs::write(&image, vec![1; 1 << 20]).unwrap();
    std::os::unix::fs::chown(&image, Some(107), Some(107)).unwrap();
    let disk = world.prepare(json!({"hostDisk": {"path": "/srv/a.img", "type": "Disk"}})).await.unwrap();
    let place = world.places().join(&world.vmi);
    assert_eq!(PathBuf::from(&disk.path), place.join("data"));
    let meta = fs::metadata(&place).unwrap();
    assert_eq!((meta.uid(), meta.mode() & 0o777), (QEMU_UID, 0o500));
    assert!(fs::write(place.join("more"), "").is_err(), "nobody puts anything there");

    // What the tenant does to the name afterwards changes nothing.
    fs::rename(&image, image.with_extension("old")).unwrap();
    symlink("/etc/shadow", &image).unwrap();
    assert_eq!(fs::read(&disk.path).unwrap(), vec![1; 1 << 20]);
    // Nor does the end of the pod.
    fs::remove_dir_all(world.dir.path().join("pods")).unwrap();
    assert_eq!(fs::read(&disk.path).unwrap().len(), 1 << 20);

    assert!(world.disks.holders().await.unwrap().contains(&world.vmi));
    for _ in 0..2 {
        world.disks.release(&world.vmi).await.unwrap();
    }
    assert!(!place.exists() && world.disks.holders().await.unwrap().is_empty());
}

#[tokio::test]
async fn bad_images_are_refused_with_the_way_out() {
    let world = World::new();
    let dir = world.volume("data");
    let image = dir.join("a.img");
    assert!(world.refusal("Disk").await.contains("no image \"a.img\": put one there"));
    symlink("/etc/passwd", &image).unwrap();
    assert!(world.refusal("DiskOrCreate").await.contains("symbolic link"));
    fs::remove_file(&image).unwrap();
    fs::write(dir.join("other.img"), vec![1; 4096]).unwrap();
    fs::hard_link(dir.join("other.img"), &image).unwrap();
    assert!(world.refusal("DiskOrCreate").await.contains("put a copy"));
    fs::remove_file(&image).unwrap();
    fs::create_dir(&image).unwrap();
    assert!(world.refusal("DiskOrCreate").await.contains("no regular file"));
    fs::remove_dir(&image).unwrap();
    fs::write(&image, "").unwrap();
    assert!(world.refusal("Disk").await.contains("is empty"));
    let meta = fs::metadata(dir.join("other.img")).unwrap();
    assert_eq!((meta.uid(), meta.len()), (0, 4096), "what was refused was not touched");

    // A volume without the room.
    fs::remove_file(&image).unwrap();
    mount(&dir, "size=4m");
    assert!(world.refusal("DiskOrCreate").await.contains("demanded size 8388608 B is bigger than available space"));
    fs::write(&image, vec![1; 4096]).unwrap();
    mount(&dir, "remount,ro");
    let told = world.refusal("Disk").await;
    mount::unmount_lazily(&dir).unwrap();
    assert!(told.contains("read-only"), "{told}");
    fs::remove_dir(&dir).unwrap_err();
    fs::remove_dir_all(&dir).unwrap();
    assert!(world.refusal("Disk").await.contains("does not have it"));
}

fn mount(at: &std::path::Path, options: &str) {
    let status = std::process::Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(at).status();
    assert!(status.unwrap().success(), "{options}");
}

#[tokio::test]
async fn claims_image_is_made_and_grown_to_its_size_and_one_that_is_only_read_stays_as_it_is() {
    let world = World::new();
    let image = world.volume("data").join("disk.img");
    let claim = json!({"persistentVolumeClaim": {"claimName": "c"}});
    let size = |size: &str| json!({"capacity": {"storage": size}});
    let error = world.prepare(claim.clone()).await.unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("no image \"disk.img\""));
    let disk = world.prepare_with(claim.clone(), size("32Mi")).await.unwrap();
    assert!(!disk.read_only && disk.kind == SourceKind::File);
    assert_eq!(fs::metadata(&image).unwrap().len(), 32 << 20);

    // Imported and larger: the image's size counts.
    fs::write(&image, vec![3; 33 << 20]).unwrap();
    world.prepare_with(claim.clone(), size("32Mi")).await.unwrap();
    assert_eq!(fs::metadata(&image).unwrap().len(), 33 << 20);

    // The claim has grown since: so does the image, sparse or allocated as it was.
    for sparse in [true, false] {
        let old = vec![if sparse { 0 } else { 3 }; 1 << 20];
        fs::write(&image, if sparse { &[][..] } else { &old[..] }).unwrap();
        fs::File::options().write(true).open(&image).unwrap().set_len(1 << 20).unwrap();
        world.prepare_with(claim.clone(), size("2Mi")).await.unwrap();
        let meta = fs::metadata(&image).unwrap();
        assert_eq!(meta.len(), 2 << 20);
        assert_eq!(meta.blocks() * 512 >= meta.len(), !sparse);
        assert!(fs::read(&image).unwrap().starts_with(&old), "what was there is there");
    }
    let text = world.prepare_with(claim, size("1Mi")).await.map(|_| ()).err().map(|e| e.to_string());
    assert_eq!((text, fs::metadata(&image).unwrap().len()), (None, 2 << 20), "nothing is cut off");

    let fixed = json!({"persistentVolumeClaim": {"claimName": "c", "readOnly": true}});
    std::os::unix::fs::chown(&image, Some(0), Some(0)).unwrap();
    fs::set_permissions(&image, fs::Permissions::from_mode(0o600)).unwrap();
    let error = world.prepare_with(fixed.clone(), size("32Mi")).await.unwrap_err();
    let told = std::error::Error::source(&error).unwrap().to_string();
    assert!(told.contains("belongs to 0:0 with mode 600") && told.contains("chgrp 107"), "{told}");
    std::os::unix::fs::chown(&image, Some(107), Some(107)).unwrap();
    fs::set_permissions(&image, fs::Permissions::from_mode(0o640)).unwrap();
    let disk = world.prepare_with(fixed, size("32Mi")).await.unwrap();
    assert!(disk.read_only);
    let error = fs::write(&disk.path, "x").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    assert_eq!(fs::metadata(&image).unwrap().uid(), 107, "others may use it as well");
}

#[tokio::test]
async fn ephemeral_disk_writes_beside_the_claims_image() {
    let world = World::new();
    let image = world.volume("data").join("disk.img");
    fs::write(&image, vec![5; 3 << 20]).unwrap();
    let source = json!({"ephemeral": {"persistentVolumeClaim": {"claimName": "golden"}}});
    let disk = world.prepare(source.clone()).await.unwrap();
    assert_eq!((disk.format, disk.read_only), (DiskFormat::Qcow2, false));
    assert!(disk.path.ends_with(&format!("disks/{}/data.qcow2", world.vmi)), "{}", disk.path);
    let info = std::process::Command::new("qemu-img").args(["info", "--output=json", &disk.path]).output().unwrap();
    let info: Value = serde_json::from_slice(&info.stdout).unwrap();
    assert_eq!(info["virtual-size"], 3 << 20);
    let backing = world.places().join(&world.vmi).join("data");
    assert_eq!((&info["backing-filename"], &info["backing-filename-format"]), (&json!(backing), &json!("raw")));
    let meta = fs::metadata(&image).unwrap();
    assert_eq!((meta.uid(), meta.mode() & 0o777), (0, 0o644), "the image is read and nothing else");
    // Made again for the same VMI, what was written stays.
    let again = fs::metadata(world.prepare(source).await.unwrap().path).unwrap();
    assert_eq!(again.ino(), fs::metadata(&disk.path).unwrap().ino());
}

/// A loop device over a file, gone with the test.
struct Loop(String);

impl Loop {
    fn over(file: &std::path::Path) -> Self {
        let output = std::process::Command::new("losetup").args(["--find", "--show"]).arg(file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = std::process::Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

/// A pod that has this device for each volume.
struct Devices(u64);

#[async_trait::async_trait]
impl PodVolumes for Devices {
    async fn open(&self, _: &LauncherPod, volumes: &[String]) -> Result<BTreeMap<String, PodVolume>, PrepareError> {
        Ok(volumes.iter().map(|name| (name.clone(), PodVolume::Device(self.0))).collect())
    }
}

#[tokio::test]
async fn block_device_becomes_a_node_that_only_this_machine_opens() {
    let mut world = World::new();
    let file = world.dir.path().join("backing");
    fs::write(&file, vec![9; 1 << 20]).unwrap();
    let device = Loop::over(&file);
    let number = fs::metadata(&device.0).unwrap().rdev();
    let store = StoreConfig { reserve_bytes: 0, ..StoreConfig::new(world.dir.path().join("more-images")) };
    let images = Arc::new(ImageStore::open(store).unwrap());
    world.disks = LocalDisks::new(images, world.dir.path().join("disks"), Arc::new(Devices(number)), world.places());

    let claim = json!({"persistentVolumeClaim": {"claimName": "c"}});
    let disk = world.prepare(claim).await.unwrap();
    assert!(disk.kind == SourceKind::Block && disk.direct_io && !disk.read_only);
    let meta = fs::metadata(&disk.path).unwrap();
    assert!(meta.file_type().is_block_device());
    assert_eq!((meta.rdev(), meta.uid(), meta.mode() & 0o777), (number, QEMU_UID, 0o600));
    assert_eq!(fs::read(&disk.path).unwrap(), vec![9; 1 << 20]);

    let golden = json!({"ephemeral": {"persistentVolumeClaim": {"claimName": "c"}}});
    let disk = world.prepare(golden).await.unwrap();
    assert_eq!(disk.format, DiskFormat::Qcow2);
    let node = world.places().join(&world.vmi).join("data");
    assert_eq!(fs::metadata(node).unwrap().mode() & 0o777, 0o400);
}
