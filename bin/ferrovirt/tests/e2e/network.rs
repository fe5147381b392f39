//! How guests are reached, alone and beside others.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::harness::namespace::{uid, web};
use crate::harness::{Console, Instance, manifest, page, run};

#[test]
fn machines_of_one_name_uuid_and_mac_run_in_two_namespaces() {
    let instance = Instance::shared();
    let twin = manifest("twin", "Always", |spec| {
        spec["domain"]["firmware"] = json!({"uuid": "6a1a24a1-4061-4607-8bf4-a3963d0c5895"});
        spec["domain"]["devices"]["interfaces"][0]["macAddress"] = json!("02:11:22:33:44:55");
    });
    let (one, two) = (instance.namespace(), instance.namespace());
    one.apply(&twin).success();
    let second = two.run_vm(&twin);
    let first = one.running("twin", None);
    let pages = [one.booted(&first), two.booted(&second)];
    assert_ne!(pages[0].boot_id, pages[1].boot_id);
    assert_ne!(web(&first), web(&second));
    for (ns, vmi) in [(&one, &first), (&two, &second)] {
        assert_eq!(ns.sh(vmi, "cat /sys/class/net/eth0/address\n"), "02:11:22:33:44:55");
        assert_eq!(
            ns.sh(vmi, "cat /sys/class/dmi/id/product_uuid\n").to_lowercase(),
            "6a1a24a1-4061-4607-8bf4-a3963d0c5895"
        );
    }
    // The end of one is not the end of the other.
    one.delete("vm", "twin");
    assert_eq!(two.booted(&second), pages[1]);
}

#[test]
fn deleting_a_namespace_ends_its_running_machine() {
    let instance = Instance::shared();
    let ns = instance.namespace();
    let vmi = ns.run_vm(&manifest("doomed", "Always", |spec| spec["terminationGracePeriodSeconds"] = json!(5)));
    let marks = [uid(&vmi).to_owned()].into();
    run(&mut instance.kubectl_command(&["delete", "namespace", &ns.name, "--timeout=280s"]), "").success();
    let left = crate::harness::traces(&marks);
    assert!(left.is_empty(), "{left:?}");
    run(&mut instance.kubectl_command(&["create", "namespace", &ns.name]), "").success();
    assert!(ns.find("vm", "doomed").is_none());
}

#[test]
fn only_listed_ports_are_reachable() {
    let ns = Instance::shared().namespace();
    let vmi = ns.run_vm(&manifest("ports", "Always", |spec| {
        spec["domain"]["devices"]["interfaces"][0]["ports"] = json!([{"name": "web", "port": 80}]);
    }));
    ns.booted(&vmi);
    ns.sh(&vmi, "httpd -p 8080 -h /var/www\n");
    let hidden = SocketAddr::new(web(&vmi).ip(), 8080);
    assert!(TcpStream::connect_timeout(&hidden, Duration::from_secs(3)).is_err(), "port 8080 is not listed");
    ns.booted(&vmi);
    // Without a list everything is.
    let open = ns.run_vm(&manifest("open", "Always", |_| {}));
    ns.booted(&open);
    ns.sh(&open, "httpd -p 8080 -h /var/www\n");
    page(SocketAddr::new(web(&open).ip(), 8080)).unwrap();
}

#[test]
fn bridged_guest_has_the_address_and_the_mac_of_its_pod() {
    let ns = Instance::shared().namespace();
    let vmi = ns.run_vm(&manifest("bridged", "Always", |spec| {
        spec["domain"]["devices"]["interfaces"] = json!([{"name": "default", "bridge": {}, "model": "e1000e"}]);
    }));
    ns.booted(&vmi);
    let pod = ns.launcher_pod(&vmi);
    let ip = pod["status"]["podIP"].as_str().unwrap();
    assert_eq!(vmi["status"]["interfaces"][0]["ipAddress"], ip);
    let addresses = ns.sh(&vmi, "ip -4 -o addr show eth0\n");
    assert!(addresses.contains(&format!("inet {ip}/")), "{addresses}");
    let mac = vmi["status"]["interfaces"][0]["mac"].as_str().unwrap();
    assert_eq!(ns.sh(&vmi, "cat /sys/class/net/eth0/address\n"), mac);
    assert!(ns.sh(&vmi, "ls /sys/class/net/eth0/device/driver/module/drivers\n").contains("e1000e"));
}

#[test]
fn bridged_guest_takes_the_address_of_its_new_pod() {
    let ns = Instance::shared().namespace();
    let vmi = ns.run_vm(&manifest("moved", "Always", |spec| {
        spec["domain"]["devices"]["interfaces"] = json!([{"name": "default", "bridge": {}}]);
    }));
    let boot = ns.booted(&vmi).boot_id;
    let pod = ns.launcher_pod(&vmi);
    let (name, old) = (pod["metadata"]["name"].as_str().unwrap(), pod["status"]["podIP"].as_str().unwrap());
    ns.kubectl(&["delete", "pod", name]).success();
    let vmi = ns.until("vmi", "moved", "another address", |vmi| {
        vmi["status"]["interfaces"][0]["ipAddress"].as_str().is_some_and(|ip| ip != old)
    });
    // The guest answers there only once it has asked for its address again.
    let page = ns.until_page(&vmi, "the guest answers at its new address", |_| true);
    assert_eq!(page.boot_id, boot);
    let addresses = ns.sh(&vmi, "ip -4 -o addr show eth0\n");
    assert!(!addresses.contains(&format!("inet {old}/")), "{addresses}");
}

#[test]
fn guest_boots_by_uefi_with_config_drive() {
    let ns = Instance::shared().namespace();
    let vmi = ns.run_vm(&manifest("efi", "Always", |spec| {
        spec["domain"]["memory"]["guest"] = json!("256Mi");
        spec["domain"]["firmware"] = json!({"bootloader": {"efi": {"secureBoot": false}}});
        spec["domain"]["devices"]["disks"][1] = json!({"name": "cloudinit", "cdrom": {"bus": "sata"}});
        let data = spec["volumes"][1]["cloudInitNoCloud"].take();
        spec["volumes"][1] = json!({"name": "cloudinit", "cloudInitConfigDrive": data});
    }));
    assert_eq!(ns.booted(&vmi).hostname, "efi");
    assert_eq!(ns.sh(&vmi, "ls -d /sys/firmware/efi\n"), "/sys/firmware/efi");
}

#[test]
fn empty_disk_survives_a_reboot_of_the_guest_and_is_fresh_after_a_restart() {
    let ns = Instance::shared().namespace();
    let first = ns.run_vm(&manifest("scratch", "Always", |spec| {
        let devices = &mut spec["domain"]["devices"]["disks"];
        devices
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "scratch", "serial": "SCRATCH01", "disk": {"bus": "virtio"}}));
        spec["volumes"].as_array_mut().unwrap().push(json!({"name": "scratch", "emptyDisk": {"capacity": "64Mi"}}));
    }));
    let boot = ns.booted(&first).boot_id;
    let disk = ns.sh(&first, "grep -l SCRATCH01 /sys/block/*/serial\n").split('/').nth(3).unwrap().to_owned();
    assert_eq!(ns.sh(&first, &format!("cat /sys/block/{disk}/size\n")), "131072");
    ns.sh(&first, &format!("echo kept > /dev/{disk}; sync\n"));
    ns.virtctl(&["soft-reboot", "scratch"]).success();
    ns.until_page(&first, "another boot", |page| page.boot_id != boot);
    assert_eq!(ns.sh(&first, &format!("head -c 4 /dev/{disk}\n")), "kept");
    ns.virtctl(&["restart", "scratch"]).success();
    let second = ns.running("scratch", Some(&first));
    ns.booted(&second);
    assert_eq!(ns.sh(&second, &format!("head -c 4 /dev/{disk} | tr -d '\\000'\n")), "");
}

#[test]
fn plainest_manifest_works_unchanged() {
    let ns = Instance::shared().namespace();
    // The example itself, only with the image these tests imported.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/vm-plainest.yaml");
    let text = std::fs::read_to_string(path).unwrap().replace("ferrovirt/demo-guest:latest", &crate::harness::image());
    ns.kubectl_with(&["apply", "-f", "-"], &text).success();
    ns.until_status("plainest", "Stopped");
    ns.virtctl(&["start", "plainest"]).success();
    let vmi = ns.running("plainest", None);
    // 64 MB are too little for this guest's kernel, so no more can be asked of it than to run, bridged as no interface was named.
    assert_eq!(vmi["spec"]["domain"]["devices"]["interfaces"], json!([{"name": "default", "bridge": {}}]));
    assert_eq!(vmi["status"]["interfaces"][0]["ipAddress"], ns.launcher_pod(&vmi)["status"]["podIP"]);
    drop(Console::open(&ns, "plainest"));
}
