//! Disks in and of Kubernetes volumes.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Instance, manifest, needs};

fn more(spec: &mut Value, name: &str, source: Value) {
    let mut volume = source;
    volume["name"] = name.into();
    spec["volumes"].as_array_mut().unwrap().push(volume);
    let disk = json!({"name": name, "disk": {"bus": "virtio"}});
    spec["domain"]["devices"]["disks"].as_array_mut().unwrap().push(disk);
}

/// A claim of 16 MiB.
fn claim(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}}})
}

#[test]
fn claim_keeps_what_the_guest_wrote_and_settings_arrive_as_a_disk() {
    let ns = Instance::shared().namespace();
    let map =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "app"}, "data": {"greeting": "hello"}});
    ns.apply(&map).success();
    let vm = manifest("stateful", "Always", |spec| {
        more(spec, "data", json!({"persistentVolumeClaim": {"claimName": "disk"}}));
        more(spec, "settings", json!({"configMap": {"name": "app"}}));
    });
    ns.apply(&vm).success();
    ns.until_status("stateful", "ErrorPvcNotFound");
    ns.apply(&claim("disk")).success();

    let vmi = ns.running("stateful", None);
    ns.booted(&vmi);
    let info = &vmi["status"]["volumeStatus"].as_array().unwrap().iter().find(|v| v["name"] == "data").unwrap()["persistentVolumeClaimInfo"];
    assert_eq!((&info["claimName"], &info["capacity"]["storage"]), (&json!("disk"), &json!("16Mi")));
    assert_eq!(ns.sh(&vmi, "cat /sys/block/vdc/size\n"), (16 * 2048).to_string());
    ns.sh(&vmi, "echo kept | dd of=/dev/vdc bs=512 conv=sync 2>/dev/null; sync\n");
    assert_eq!(ns.sh(&vmi, "mkdir -p /m; mount -t iso9660 /dev/vdd /m && cat /m/greeting\n"), "hello");

    ns.virtctl(&["restart", "stateful"]).success();
    let vmi = ns.running("stateful", Some(&vmi));
    ns.booted(&vmi);
    assert_eq!(ns.sh(&vmi, "dd if=/dev/vdc bs=4 count=1 2>/dev/null\n"), "kept");
}

#[test]
fn secrets_and_facts_about_the_pod_arrive_as_disks() {
    let ns = Instance::shared().namespace();
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"token": "s3cret"}});
    ns.apply(&secret).success();
    let vmi = ns.run_vm(&manifest("informed", "Always", |spec| {
        more(spec, "keys", json!({"secret": {"secretName": "keys", "volumeLabel": "KEYS"}}));
        let fields = json!([{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]);
        more(spec, "about", json!({"downwardAPI": {"fields": fields}}));
    }));
    ns.booted(&vmi);
    assert_eq!(ns.sh(&vmi, "mkdir -p /m; mount -t iso9660 /dev/vdc /m && cat /m/token\n"), "s3cret");
    let labels = ns.sh(&vmi, "umount /m; mount -t iso9660 /dev/vdd /m && cat /m/labels\n");
    assert!(labels.contains("vm.kubevirt.io/name=\"informed\""), "{labels}");
}

#[test]
fn ephemeral_disk_forgets_what_the_guest_wrote_and_its_claim_keeps_what_it_had() {
    let ns = Instance::shared().namespace();
    ns.apply(&claim("golden")).success();
    let vmi = ns.run_vm(&manifest("author", "Always", |spec| {
        more(spec, "data", json!({"persistentVolumeClaim": {"claimName": "golden"}}));
    }));
    ns.booted(&vmi);
    ns.sh(&vmi, "echo gold | dd of=/dev/vdc bs=512 conv=sync 2>/dev/null; sync\n");
    ns.delete("vm", "author");
    ns.until_gone("vmi", "author");

    let read = "dd if=/dev/vdc bs=4 count=1 2>/dev/null\n";
    let vmi = ns.run_vm(&manifest("reader", "Always", |spec| {
        more(spec, "data", json!({"ephemeral": {"persistentVolumeClaim": {"claimName": "golden"}}}));
    }));
    ns.booted(&vmi);
    assert_eq!(ns.sh(&vmi, read), "gold");
    ns.sh(&vmi, "echo lead | dd of=/dev/vdc bs=512 conv=sync 2>/dev/null; sync\n");
    assert_eq!(ns.sh(&vmi, read), "lead");
    ns.virtctl(&["restart", "reader"]).success();
    let vmi = ns.running("reader", Some(&vmi));
    ns.booted(&vmi);
    assert_eq!(ns.sh(&vmi, read), "gold");
}

/// A disk of 16 MiB in that file of the node.
fn host_disk(path: &Path) -> Value {
    json!({"hostDisk": {"path": path, "type": "DiskOrCreate", "capacity": "16Mi"}})
}

#[test]
fn host_disk_is_made_on_the_node_and_keeps_what_the_guest_wrote() {
    let instance = Instance::with_host_disks();
    let ns = instance.namespace();
    let file = instance.scratch("host-disk").join("disk.img");
    std::fs::create_dir(file.parent().unwrap()).unwrap();
    let vmi = ns.run_vm(&manifest("local", "Always", |spec| more(spec, "data", host_disk(&file))));
    ns.booted(&vmi);
    assert_eq!(ns.sh(&vmi, "cat /sys/block/vdc/size\n"), (16 * 2048).to_string());
    ns.sh(&vmi, "echo kept | dd of=/dev/vdc bs=512 conv=sync 2>/dev/null; sync\n");
    ns.virtctl(&["restart", "local"]).success();
    let vmi = ns.running("local", Some(&vmi));
    ns.booted(&vmi);
    assert_eq!(ns.sh(&vmi, "dd if=/dev/vdc bs=4 count=1 2>/dev/null\n"), "kept");
    ns.delete("vm", "local");
    ns.until_gone("vmi", "local");
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!((bytes.len(), &bytes[..4]), (16 << 20, &b"kept"[..]), "the file is the node's");
}

#[test]
fn host_disk_is_not_for_namespaces_whose_pods_may_not_use_the_node() {
    needs!(PodSecurity);
    let instance = Instance::with_host_disks();
    let ns = instance.namespace();
    ns.kubectl(&["label", "namespace", &ns.name, "pod-security.kubernetes.io/enforce=baseline"]).success();
    let file = instance.scratch("forbidden.img");
    ns.apply(&manifest("confined", "Always", |spec| more(spec, "data", host_disk(&file)))).success();
    ns.until("vm", "confined", "told that pod security forbids it", |vm| {
        let conditions = vm["status"]["conditions"].as_array();
        let told = |c: &Value| c["message"].as_str().is_some_and(|m| m.contains("violates PodSecurity \"baseline"));
        conditions.is_some_and(|conditions| conditions.iter().any(told))
    });
    assert!(!file.exists());
    ns.delete("vm", "confined");
}

/// A block device as a disk, on either engine, is a case of storage.rs.
#[test]
fn block_volume_that_is_a_plain_file_is_refused() {
    needs!(PodRunner);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("backing");
    std::fs::File::create(&file).unwrap().set_len(8 << 20).unwrap();
    let ns = Instance::shared().namespace();
    // Volumes have no namespace.
    let name = format!("{}-raw", ns.name);
    let node = ns.kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]).success();
    let here = json!([{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]);
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": {
        "capacity": {"storage": "8Mi"}, "accessModes": ["ReadWriteOnce"], "volumeMode": "Block", "storageClassName": "",
        "persistentVolumeReclaimPolicy": "Retain", "local": {"path": file},
        "nodeAffinity": {"required": {"nodeSelectorTerms": here}}}});
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "raw"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "volumeMode": "Block", "storageClassName": "", "volumeName": name,
        "resources": {"requests": {"storage": "8Mi"}}}});
    ns.apply(&volume).success();
    ns.apply(&claim).success();
    let vm = manifest("blocky", "Always", |spec| {
        more(spec, "raw", json!({"persistentVolumeClaim": {"claimName": "raw"}}));
    });
    ns.apply(&vm).success();
    let told = ns.until_event("blocky", "FailedMapVolume");
    assert!(told["message"].as_str().is_some_and(|m| m.contains("is not a block device")), "{told}");
    ns.delete("vm", "blocky");
    ns.until_gone("vmi", "blocky");
    ns.delete("pvc", "raw");
    ns.delete("pv", &name);
}
