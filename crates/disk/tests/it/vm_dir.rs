//! Disks of one VM.

use std::os::unix::fs::MetadataExt;

use fv_disk::{DiskError, ImageFormat, IsoFile, Owner, VmDir, no_progress};

use crate::{noise, open_store, qemu_img, run, text};

const OWNER: Owner = Owner { uid: 1_000_000_007, gid: 107 };

#[test]
fn overlay_belongs_to_the_vm_and_shows_its_base() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path());
    let file = dir.path().join("disk.img");
    std::fs::write(&file, noise(1, 3 << 20)).unwrap();
    let base = store.import("demo", &file, &no_progress()).unwrap();
    let vm = VmDir::open(&dir.path().join("vms"), "uid-1", OWNER).unwrap();
    let disk = vm.ensure_overlay("root", &base).unwrap();
    assert_eq!((disk.format, disk.virtual_size), (ImageFormat::Qcow2, 3 << 20));
    let info = qemu_img(&["info", "--output=json", text(&disk.path)]);
    assert!(info.contains(text(&base.path)) && info.contains("\"backing-filename-format\": \"raw\""), "{info}");
    qemu_img(&["compare", text(&disk.path), text(&file)]);
    let meta = disk.path.metadata().unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o777), (OWNER.uid, OWNER.gid, 0o600));
    let parent = vm.path().metadata().unwrap();
    assert_eq!((parent.uid(), parent.gid(), parent.mode() & 0o777), (0, OWNER.gid, 0o710));

    // A guest's writes survive the next call.
    run("qemu-io", &["-c", "write -P 7 0 64k", text(&disk.path)]);
    let before = std::fs::read(&disk.path).unwrap();
    assert_eq!(vm.ensure_overlay("root", &base).unwrap(), disk);
    assert_eq!(std::fs::read(&disk.path).unwrap(), before);

    VmDir::remove(&dir.path().join("vms"), "uid-1").unwrap();
    VmDir::remove(&dir.path().join("vms"), "uid-1").unwrap();
    assert!(!disk.path.exists() && base.path.exists());
}

#[test]
fn empty_disk_is_rounded_to_a_mebibyte() {
    let dir = tempfile::tempdir().unwrap();
    let vm = VmDir::open(dir.path(), "uid-1", OWNER).unwrap();
    let disk = vm.ensure_empty_disk("scratch", 1_000_000_001).unwrap();
    assert_eq!(disk.virtual_size, 954 << 20);
    assert!(qemu_img(&["info", text(&disk.path)]).contains("1000341504 bytes"));
    for capacity in [0, u64::MAX] {
        assert!(matches!(vm.ensure_empty_disk("other", capacity), Err(DiskError::Capacity { .. })));
    }
}

#[test]
fn iso_has_label_joliet_and_rock_ridge_and_is_rewritten_only_when_changed() {
    let dir = tempfile::tempdir().unwrap();
    let vm = VmDir::open(dir.path(), "uid-1", OWNER).unwrap();
    let big = noise(3, 100_000);
    let files = [
        IsoFile { path: "openstack/latest/meta_data.json", bytes: b"{\"uuid\": \"x\"}" },
        IsoFile { path: "openstack/latest/user_data", bytes: &big },
        IsoFile { path: "user-data", bytes: b"" },
        IsoFile { path: "A Mixed_case.Name-with.dots", bytes: b"kept" },
    ];
    let disk = vm.ensure_iso("cloudinit", "config-2", &files).unwrap();
    let meta = disk.path.metadata().unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o777), (OWNER.uid, OWNER.gid, 0o600));
    assert_eq!(meta.len(), disk.virtual_size);
    let iso = text(&disk.path);
    let descriptor = run("isoinfo", &["-d", "-i", iso]);
    assert!(descriptor.contains("Volume id: config-2"), "{descriptor}");
    assert!(descriptor.contains("Joliet") && descriptor.contains("Rock Ridge"), "{descriptor}");
    let blkid = run("blkid", &["-p", "-o", "export", iso]);
    assert!(blkid.contains("LABEL=config-2") && blkid.contains("TYPE=iso9660"), "{blkid}");
    for names in ["-R", "-J"] {
        for file in &files {
            let output = std::process::Command::new("isoinfo")
                .args([names, "-i", iso, "-x", &format!("/{}", file.path)])
                .output()
                .unwrap();
            assert!(output.status.success() && output.stdout == file.bytes, "{names} {}", file.path);
        }
    }

    let inode = meta.ino();
    vm.ensure_iso("cloudinit", "config-2", &files).unwrap();
    assert_eq!(disk.path.metadata().unwrap().ino(), inode);
    vm.ensure_iso("cloudinit", "config-2", &files[..2]).unwrap();
    assert_ne!(disk.path.metadata().unwrap().ino(), inode);
}

#[test]
fn iso_refuses_bad_paths_and_labels() {
    let dir = tempfile::tempdir().unwrap();
    let vm = VmDir::open(dir.path(), "uid-1", OWNER).unwrap();
    for path in ["", "/abs", "a/../b", "a//b", "a\0b", &"x".repeat(65)] {
        let result = vm.ensure_iso("x", "cidata", &[IsoFile { path, bytes: b"" }]);
        assert!(matches!(result, Err(DiskError::Iso { .. })), "{path:?}");
    }
    let twice = [IsoFile { path: "a", bytes: b"" }, IsoFile { path: "a", bytes: b"" }];
    assert!(vm.ensure_iso("x", "cidata", &twice).is_err());
    let below = [IsoFile { path: "a", bytes: b"" }, IsoFile { path: "a/b", bytes: b"" }];
    assert!(vm.ensure_iso("x", "cidata", &below).is_err());
    for label in ["", "seventeen-letters", "a b", "ä"] {
        assert!(vm.ensure_iso("x", label, &[]).is_err(), "{label:?}");
    }
    assert!(std::fs::read_dir(vm.path()).unwrap().next().is_none(), "nothing stays");
}

#[test]
fn symlinks_hard_links_and_odd_names_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let vm = VmDir::open(dir.path(), "uid-1", OWNER).unwrap();
    let victim = dir.path().join("victim");
    std::fs::write(&victim, b"secret").unwrap();
    std::os::unix::fs::symlink(&victim, vm.path().join("a.qcow2")).unwrap();
    std::fs::hard_link(&victim, vm.path().join("b.qcow2")).unwrap();
    std::fs::create_dir(vm.path().join("c.qcow2")).unwrap();
    for name in ["a", "b", "c"] {
        let error = vm.ensure_empty_disk(name, 1 << 20).unwrap_err();
        assert!(matches!(error, DiskError::NotRegular { .. }), "{name}: {error}");
    }
    assert_eq!(victim.metadata().unwrap().uid(), 0);
    for name in ["", "..", "a/b", ".hidden"] {
        assert!(matches!(vm.ensure_empty_disk(name, 1 << 20), Err(DiskError::Name(_))), "{name:?}");
    }
    assert!(VmDir::open(dir.path(), "../x", OWNER).is_err());
    assert!(VmDir::remove(dir.path(), "..").is_err());
}
