//! Guests go on whatever happens to what manages them.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::harness::namespace::{launcher, qemu};
use crate::harness::{Console, Instance, Namespace, kill, manifest, needs, page, until, web};

/// A guest of an instance that the test may hurt.
struct Scene {
    ns: Namespace,
    vmi: Value,
    qemu: u32,
    boot_id: String,
}

impl Scene {
    fn on(instance: &Arc<Instance>, name: &str) -> Self {
        let ns = instance.namespace();
        let vmi = ns.run_vm(&manifest(name, "Always", |_| {}));
        let boot_id = ns.booted(&vmi).boot_id;
        let qemu = qemu(&vmi);
        Self { ns, vmi, qemu, boot_id }
    }

    fn name(&self) -> &str {
        self.vmi["metadata"]["name"].as_str().unwrap()
    }

    /// The same QEMU with the same boot of the guest, reached over the network.
    fn assert_undisturbed(&self) {
        assert_eq!(qemu(&self.vmi), self.qemu);
        let page = self.ns.until_page(&self.vmi, "the guest answers", |_| true);
        assert_eq!(page.boot_id, self.boot_id);
    }

    /// Everything that needs the control plane works: console, pause, and in the end a graceful stop.
    fn assert_manageable(&self) {
        let name = self.name();
        self.ns.until("vmi", name, "ready", ready);
        let mut console = Console::open(&self.ns, name);
        console.login("demo", &format!("secret-{name}"));
        assert_eq!(console.run("cat /proc/sys/kernel/random/boot_id"), self.boot_id);
        self.ns.virtctl(&["pause", "vm", name]).success();
        self.ns.until_status(name, "Paused");
        self.ns.virtctl(&["unpause", "vm", name]).success();
        self.assert_undisturbed();
        self.ns.virtctl(&["stop", name]).success();
        self.ns.until_gone("vmi", name);
        self.ns.until_status(name, "Stopped");
        assert!(!Path::new("/proc").join(self.qemu.to_string()).exists(), "QEMU goes on after the stop");
    }
}

fn ready(vmi: &Value) -> bool {
    let conditions = vmi["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

#[test]
fn launcher_crash_keeps_guest_running() {
    let scene = Scene::on(&Instance::shared(), "launcher-crash");
    let pod = scene.ns.launcher_pod(&scene.vmi);
    let before = scene.ns.uptime(&scene.vmi);
    let first = launcher(&scene.vmi).expect("the launcher runs");
    kill(first);
    until("a new launcher process", || launcher(&scene.vmi).filter(|pid| *pid != first).ok_or_else(|| "none".into()));
    scene.assert_undisturbed();
    assert!(scene.ns.uptime(&scene.vmi) > before);
    let name = pod["metadata"]["name"].as_str().unwrap();
    let after = scene.ns.until("pod", name, "restarted in place", |pod| {
        let statuses = pod["status"]["containerStatuses"].as_array();
        statuses.is_some_and(|all| {
            all.iter().any(|s| s["name"] == "compute" && s["restartCount"] == 1 && s["ready"] == true)
        })
    });
    assert_eq!(after["metadata"]["uid"], pod["metadata"]["uid"]);
    assert_eq!(after["status"]["podIP"], pod["status"]["podIP"]);
    scene.assert_manageable();
}

#[test]
fn deleted_launcher_pod_is_replaced_and_guest_runs_on() {
    let scene = Scene::on(&Instance::shared(), "pod-deleted");
    let pod = scene.ns.launcher_pod(&scene.vmi);
    let name = pod["metadata"]["name"].as_str().unwrap();
    scene.ns.kubectl(&["delete", "pod", name, "--wait=false"]).success();
    let replaced = until("a new launcher pod", || {
        let now = scene.ns.launcher_pod(&scene.vmi);
        let other = now["metadata"]["uid"].is_string() && now["metadata"]["uid"] != pod["metadata"]["uid"];
        if other && now["status"]["phase"] == "Running" { Ok(now) } else { Err(now["status"].to_string()) }
    });
    let ip = replaced["status"]["podIP"].clone();
    let vmi = scene.ns.until("vmi", scene.name(), "has the new pod's address", |vmi| {
        vmi["status"]["interfaces"][0]["ipAddress"] == ip && ready(vmi)
    });
    let scene = Scene { vmi, ..scene };
    scene.assert_undisturbed();
    scene.ns.until_gone("pod", name);
    scene.assert_undisturbed();
    scene.assert_manageable();
}

#[test]
fn control_plane_crash_keeps_guest_running() {
    needs!(Daemon);
    let instance = Arc::new(Instance::started());
    let scene = Scene::on(&instance, "plane-crash");
    let before = scene.ns.uptime(&scene.vmi);
    kill(instance.pid());
    until("the control plane is dead", || match scene.ns.kubectl(&["get", "--raw", "/version"]) {
        done if done.ok => Err("it answers".into()),
        _ => Ok(()),
    });
    scene.assert_undisturbed();
    // 1: it should run and does not.
    until("status says so", || match instance.ferrovirt(&["status"]) {
        done if done.status.code() == Some(1) => Ok(()),
        done => Err(format!("{done:?}")),
    });

    instance.up().success();
    scene.assert_undisturbed();
    assert!(scene.ns.uptime(&scene.vmi) > before);
    let vmi = scene
        .ns
        .until("vmi", scene.name(), "Running and ready", |vmi| vmi["status"]["phase"] == "Running" && ready(vmi));
    assert_eq!(vmi["metadata"]["uid"], scene.vmi["metadata"]["uid"]);
    scene.assert_manageable();
}

#[test]
fn orderly_down_and_up_keeps_guest_running() {
    needs!(Daemon);
    let instance = Arc::new(Instance::started());
    let scene = Scene::on(&instance, "down-up");
    let said = instance.ferrovirt(&["down"]).success();
    assert!(said.contains("1 guest goes on running") && said.contains(&format!("{}/down-up", scene.ns.name)), "{said}");
    scene.assert_undisturbed();
    instance.up().success();
    scene.assert_undisturbed();
    scene.assert_manageable();
}

#[test]
fn guests_stopped_with_the_control_plane_start_again_by_their_run_strategies() {
    needs!(Daemon);
    let instance = Arc::new(Instance::started());
    let scene = Scene::on(&instance, "stop-all");
    let manual = scene.ns.run_vm(&manifest("stop-all-manual", "Manual", |_| {}));
    let said = instance.ferrovirt(&["down", "--stop-vms"]).success();
    assert!(said.contains("2 guests were stopped"), "{said}");
    assert!(!Path::new("/proc").join(scene.qemu.to_string()).exists(), "QEMU goes on");
    instance.up().success();
    let again = until("another boot of the guest that always runs", || {
        let vmi = scene.ns.find("vmi", scene.name()).unwrap_or_default();
        match vmi["status"]["interfaces"][0]["ipAddress"].is_string().then(|| page(web(&vmi))) {
            Some(Ok(page)) if page.boot_id != scene.boot_id => Ok(vmi),
            other => Err(format!("{other:?}, {}", vmi["status"])),
        }
    });
    let scene = Scene { qemu: qemu(&again), boot_id: scene.ns.booted(&again).boot_id, vmi: again, ..scene };
    scene.assert_manageable();
    // Nobody asked for the other one to be started.
    let ended = scene.ns.until("vmi", "stop-all-manual", "ended", |vmi| {
        vmi.is_null() || matches!(vmi["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
    });
    assert!(ended.is_null() || ended["metadata"]["uid"] == manual["metadata"]["uid"], "{ended}");
}

#[test]
fn libvirtd_crash_keeps_guest_running() {
    needs!(Daemon);
    let instance = Arc::new(Instance::started());
    let scene = Scene::on(&instance, "libvirt-crash");
    let daemon = || -> (u32, u32) {
        let record: Value = std::fs::read(instance.run_dir().join("libvirt/daemon.json"))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let pid = |who: &str| u32::try_from(record[who]["pid"].as_u64().unwrap_or_default()).unwrap();
        (pid("supervisor"), pid("libvirtd"))
    };
    let until_another = |old: u32| {
        until("another libvirtd", || match daemon() {
            (_, pid) if pid != old && pid != 0 && Path::new("/proc").join(pid.to_string()).exists() => Ok(()),
            seen => Err(format!("{seen:?}, before {old}")),
        });
    };

    let (_, libvirtd) = daemon();
    kill(libvirtd);
    until_another(libvirtd);
    scene.assert_undisturbed();

    let (supervisor, libvirtd) = daemon();
    kill(supervisor);
    kill(libvirtd);
    until_another(libvirtd);
    scene.assert_undisturbed();
    scene.assert_manageable();
}

#[test]
fn guest_reboots_and_gets_its_address_while_we_are_away() {
    needs!(Daemon);
    let instance = Arc::new(Instance::started());
    let scene = Scene::on(&instance, "away");
    scene.ns.sh(&scene.vmi, "(sleep 3; reboot) >/dev/null 2>&1 </dev/null &\n");
    kill(instance.pid());
    let address = web(&scene.vmi);
    let page = until("the rebooted guest's page, without a control plane", || match page(address) {
        Ok(page) if page.boot_id != scene.boot_id => Ok(page),
        other => Err(format!("{other:?}")),
    });
    assert!(scene.ns.kubectl(&["get", "--raw", "/version"]).failure().contains("refused"));
    assert_eq!(qemu(&scene.vmi), scene.qemu);

    instance.up().success();
    let scene = Scene { boot_id: page.boot_id, ..scene };
    let vmi = scene
        .ns
        .until("vmi", scene.name(), "Running and ready", |vmi| vmi["status"]["phase"] == "Running" && ready(vmi));
    assert_eq!(vmi["metadata"]["uid"], scene.vmi["metadata"]["uid"]);
    scene.assert_manageable();
}

#[test]
fn guest_that_shut_down_while_we_were_away_is_started_again_by_its_run_strategy() {
    needs!(Daemon);
    let instance = Arc::new(Instance::started());
    let scene = Scene::on(&instance, "off-away");
    scene.ns.sh(&scene.vmi, "(sleep 2; poweroff) >/dev/null 2>&1 </dev/null &\n");
    kill(instance.pid());
    until("QEMU is gone", || match Path::new("/proc").join(scene.qemu.to_string()).exists() {
        true => Err("it runs".into()),
        false => Ok(()),
    });
    instance.up().success();
    let again = scene.ns.running(scene.name(), Some(&scene.vmi));
    let page = scene.ns.booted(&again);
    assert_ne!(page.boot_id, scene.boot_id);
}
