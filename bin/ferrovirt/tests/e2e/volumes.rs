//! Disks in and of Kubernetes volumes.

use serde_json::{Value, json};

use crate::harness::{Instance, manifest};

fn more(spec: &mut Value, name: &str, source: Value) {
    let mut volume = source;
    volume["name"] = name.into();
    spec["volumes"].as_array_mut().unwrap().push(volume);
    let disk = json!({"name": name, "disk": {"bus": "virtio"}});
    spec["domain"]["devices"]["disks"].as_array_mut().unwrap().push(disk);
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
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "disk"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}}});
    ns.apply(&claim).success();

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
