//! Disks on claims.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::{Instance, Namespace, command, manifest, namespace::uid, needs, run, storage_class, until};

/// The machine's third disk, in the guest.
const DISK: &str = "/dev/vdc";

fn claim(name: &str, size: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}})
}

/// A claim for a volume that somebody makes by hand.
fn unprovisioned(name: &str, mode: &str) -> Value {
    let mut claim = claim(name, "16Mi");
    claim["spec"]["storageClassName"] = json!("");
    claim["spec"]["accessModes"] = json!([mode]);
    claim
}

/// A machine with a claim's disk.
fn machine(name: &str, claim: &str) -> Value {
    manifest(name, "Always", |spec| {
        let add = |list: &mut Value, item: Value| list.as_array_mut().unwrap().push(item);
        add(&mut spec["domain"]["devices"]["disks"], json!({"name": "data", "disk": {"bus": "virtio"}}));
        add(&mut spec["volumes"], json!({"name": "data", "persistentVolumeClaim": {"claimName": claim}}));
    })
}

/// A volume that was made by hand; it goes when this is dropped, its data do not.
struct Volume<'a> {
    ns: &'a Namespace,
    name: String,
}

impl<'a> Volume<'a> {
    fn create(ns: &'a Namespace, name: &str, mode: &str, source: &Value) -> Self {
        let name = format!("{}-{name}", ns.name);
        let mut volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
            "spec": {"capacity": {"storage": "16Mi"}, "accessModes": [mode], "persistentVolumeReclaimPolicy": "Retain"},
        });
        for (key, value) in source.as_object().unwrap() {
            volume["spec"][key] = value.clone();
        }
        ns.apply(&volume).success();
        Self { ns, name }
    }
}

impl Drop for Volume<'_> {
    fn drop(&mut self) {
        let done = self.ns.kubectl(&["delete", "pv", &self.name, "--wait=false"]);
        if !std::thread::panicking() {
            done.success();
        }
    }
}

/// Where the data of a volume made on demand are.
fn directory(ns: &Namespace, volume: &str) -> PathBuf {
    let volume = ns.get("pv", volume);
    let source =
        if volume["spec"]["local"].is_object() { &volume["spec"]["local"] } else { &volume["spec"]["hostPath"] };
    PathBuf::from(source["path"].as_str().unwrap_or_else(|| panic!("{volume}")))
}

#[test]
fn a_claims_disk_outlives_stop_and_start_and_goes_with_its_claim() {
    let ns = Instance::shared().namespace();
    ns.apply(&claim("data", "64Mi")).success();
    let pending = ns.until("pvc", "data", "Pending", |pvc| pvc["status"]["phase"] == "Pending");
    assert_eq!(pending["spec"]["storageClassName"], storage_class());
    ns.until_event("data", "WaitForFirstConsumer");

    let first = ns.run_vm(&machine("keeper", "data"));
    ns.booted(&first);
    assert_eq!(ns.sh(&first, &format!("printf kept > {DISK}; sync; head -c 4 {DISK}\n")), "kept");
    let bound = ns.until("pvc", "data", "Bound", |pvc| pvc["status"]["phase"] == "Bound");
    let volume = bound["spec"]["volumeName"].as_str().unwrap().to_owned();
    let directory = directory(&ns, &volume);
    assert!(directory.join("disk.img").is_file());

    ns.virtctl(&["stop", "keeper"]).success();
    ns.until_gone("vmi", "keeper");
    assert!(directory.join("disk.img").is_file(), "the disk outlives its guest");
    ns.virtctl(&["start", "keeper"]).success();
    let second = ns.running("keeper", Some(&first));
    assert_ne!(uid(&second), uid(&first));
    ns.booted(&second);
    assert_eq!(ns.sh(&second, &format!("head -c 4 {DISK}\n")), "kept");

    ns.kubectl(&["delete", "pvc", "data", "--wait=false"]).success();
    ns.until("pvc", "data", "Terminating", |pvc| pvc["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(ns.sh(&second, &format!("head -c 4 {DISK}\n")), "kept", "a guest in use keeps its claim");
    assert!(directory.exists());
    ns.delete("vm", "keeper");
    ns.until_gone("pvc", "data");
    ns.until_gone("pv", &volume);
    until("the directory is gone", || if directory.exists() { Err(directory.display().to_string()) } else { Ok(()) });
}

#[test]
fn a_claim_grows_and_with_it_the_disk_at_its_machines_next_start() {
    needs!(Expansion);
    let ns = Instance::shared().namespace();
    ns.apply(&claim("data", "64Mi")).success();
    let first = ns.run_vm(&machine("grower", "data"));
    ns.booted(&first);
    ns.sh(&first, &format!("printf kept > {DISK}; sync\n"));
    ns.virtctl(&["stop", "grower"]).success();
    ns.until_gone("vmi", "grower");
    let larger = json!({"spec": {"resources": {"requests": {"storage": "128Mi"}}}}).to_string();
    ns.kubectl(&["patch", "pvc", "data", "--type=merge", "-p", &larger]).success();
    ns.until("pvc", "data", "larger", |pvc| pvc["status"]["capacity"]["storage"] == "128Mi");
    ns.virtctl(&["start", "grower"]).success();
    let second = ns.running("grower", Some(&first));
    ns.booted(&second);
    assert_eq!(ns.sh(&second, &format!("head -c 4 {DISK}\n")), "kept");
    let sectors = |vmi: &Value| -> u64 {
        let name = DISK.rsplit('/').next().unwrap();
        ns.sh(vmi, &format!("cat /sys/block/{name}/size\n")).trim().parse().unwrap()
    };
    assert_eq!(sectors(&second) * 512, 128 << 20);
}

#[test]
fn a_machine_waits_for_a_volume_of_the_access_mode_that_its_claim_asks_for() {
    let ns = Instance::shared().namespace();
    let at = |name: &str| {
        let path = ns.instance.scratch(&format!("{}-{name}", ns.name));
        std::fs::create_dir(&path).unwrap();
        json!({"hostPath": {"path": path}})
    };
    let alone = Volume::create(&ns, "alone", "ReadWriteOnce", &at("alone"));
    ns.apply(&unprovisioned("data", "ReadWriteMany")).success();
    ns.apply(&machine("waiter", "data")).success();
    let vm = ns.until_status("waiter", "ErrorUnschedulable");
    let text = vm["status"]["conditions"].to_string();
    assert!(text.contains("pod has unbound immediate PersistentVolumeClaims"), "{text}");
    assert_eq!(ns.get("pvc", "data")["status"]["phase"], "Pending");
    assert_eq!(ns.get("pv", &alone.name)["status"]["phase"], "Available");

    let common = Volume::create(&ns, "common", "ReadWriteMany", &at("common"));
    let vmi = ns.running("waiter", None);
    assert_eq!(ns.get("pvc", "data")["spec"]["volumeName"], common.name);
    ns.booted(&vmi);
    assert_eq!(ns.sh(&vmi, &format!("printf kept > {DISK}; sync; head -c 4 {DISK}\n")), "kept");
    ns.delete("vm", "waiter");
    ns.delete("pvc", "data");
}

/// A file as a block device; it is one no more when this is dropped.
struct Loop(String);

impl Loop {
    fn of(file: &Path) -> Self {
        let device = run(command("losetup", ["--find", "--show"]).arg(file), "").success();
        Self(device.trim().to_owned())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let done = run(&mut command("losetup", ["--detach", &self.0]), "");
        if !std::thread::panicking() {
            done.success();
        }
    }
}

#[test]
fn a_block_claims_device_is_the_guests_disk() {
    let ns = Instance::shared().namespace();
    let file = ns.instance.scratch(&format!("{}-device", ns.name));
    File::create(&file).unwrap().set_len(16 << 20).unwrap();
    let device = Loop::of(&file);
    let nodes = ns.kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]).success();
    let here = json!([{"key": "kubernetes.io/hostname", "operator": "In", "values": [nodes]}]);
    let volume = Volume::create(
        &ns,
        "device",
        "ReadWriteOnce",
        &json!({"volumeMode": "Block", "local": {"path": device.0},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": here}]}}}),
    );
    let mut claim = unprovisioned("data", "ReadWriteOnce");
    claim["spec"]["volumeMode"] = json!("Block");
    ns.apply(&claim).success();

    let vmi = ns.run_vm(&machine("raw", "data"));
    ns.booted(&vmi);
    assert_eq!(ns.get("pvc", "data")["spec"]["volumeName"], volume.name);
    assert_eq!(ns.sh(&vmi, "cat /sys/block/vdc/size\n"), (16 * 2048).to_string());
    ns.sh(&vmi, &format!("printf kept | dd of={DISK} bs=512 conv=sync 2>/dev/null; sync\n"));
    let mut written = [0; 4];
    File::open(&file).unwrap().read_exact(&mut written).unwrap();
    assert_eq!(&written, b"kept");
    ns.delete("vm", "raw");
    ns.delete("pvc", "data");
}
