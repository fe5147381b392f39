//! Disks on claims.

use serde_json::{Value, json};

use crate::harness::{Instance, manifest, namespace::uid, needs, until};

/// The machine's third disk, in the guest.
const DISK: &str = "/dev/vdc";

fn claim(name: &str, size: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}})
}

#[test]
fn a_claims_disk_outlives_stop_and_start_grows_and_goes_with_its_claim() {
    needs!(Provisioner);
    let ns = Instance::shared().namespace();
    ns.apply(&claim("data", "64Mi")).success();
    let pending = ns.until("pvc", "data", "Pending", |pvc| pvc["status"]["phase"] == "Pending");
    assert_eq!(pending["spec"]["storageClassName"], "local-path");
    ns.until_event("data", "WaitForFirstConsumer");

    let first = ns.run_vm(&manifest("keeper", "Always", |spec| {
        let add = |list: &mut Value, item: Value| list.as_array_mut().unwrap().push(item);
        add(&mut spec["domain"]["devices"]["disks"], json!({"name": "data", "disk": {"bus": "virtio"}}));
        add(&mut spec["volumes"], json!({"name": "data", "persistentVolumeClaim": {"claimName": "data"}}));
    }));
    ns.booted(&first);
    assert_eq!(ns.sh(&first, &format!("printf kept > {DISK}; sync; head -c 4 {DISK}\n")), "kept");
    let bound = ns.until("pvc", "data", "Bound", |pvc| pvc["status"]["phase"] == "Bound");
    let volume = bound["spec"]["volumeName"].as_str().unwrap().to_owned();
    let directory = ns.instance.data_dir().join("volumes").join(&volume);
    assert!(directory.join("disk.img").is_file());

    ns.virtctl(&["stop", "keeper"]).success();
    ns.until_gone("vmi", "keeper");
    assert!(directory.join("disk.img").is_file(), "the disk outlives its guest");
    let larger = json!({"spec": {"resources": {"requests": {"storage": "128Mi"}}}}).to_string();
    ns.kubectl(&["patch", "pvc", "data", "--type=merge", "-p", &larger]).success();
    ns.until("pvc", "data", "larger", |pvc| pvc["status"]["capacity"]["storage"] == "128Mi");

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
