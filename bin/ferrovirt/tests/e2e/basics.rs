//! From a manifest to a guest that can be used, and back to nothing.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;

use serde_json::json;

use crate::harness::namespace::uid;
use crate::harness::{Console, Instance, Running, boot_commands, command, manifest, needs, page, run, until};

#[test]
fn guest_boots_to_login_and_cloud_init_took_effect() {
    let ns = Instance::shared().namespace();
    let vm = manifest("web", "Always", |spec| {
        let more = "runcmd:\n- echo \"set by runcmd\" > /run/proof\n";
        spec["volumes"][1]["cloudInitNoCloud"]["userData"] = boot_commands("from-cloud-init", more).into();
    });
    let vmi = ns.run_vm(&vm);

    let mut console = Console::open(&ns, "web");
    console.login("demo", "secret-from-cloud-init");
    assert_eq!(console.run("echo $((6 * 7))"), "42");
    assert_eq!(console.run("hostname"), "from-cloud-init");
    assert_eq!(console.run("cloud-init status --wait"), "status: done");
    assert_eq!(console.run("cat /run/proof"), "set by runcmd");

    let page = ns.booted(&vmi);
    assert_eq!(page.hostname, "from-cloud-init");
    assert_eq!(console.run("cat /proc/sys/kernel/random/boot_id"), page.boot_id);
}

#[test]
fn processor_of_the_host_falls_back_without_kvm_and_an_event_says_so() {
    needs!(Daemon);
    let instance = Instance::shared();
    let has_kvm =
        instance.ferrovirt(&["doctor"]).out.lines().any(|line| line.starts_with("ok") && line.contains("KVM"));
    let ns = instance.namespace();
    for model in ["host-model", "host-passthrough"] {
        ns.run_vm(&manifest(model, "Always", |spec| spec["domain"]["cpu"] = json!({"model": model})));
        if !has_kvm {
            let event = ns.until_event(model, "CPUModelFallback");
            assert!(event["message"].as_str().unwrap().contains(model) && event["type"] == "Warning", "{event}");
        }
    }
}

#[test]
fn web_page_is_reached_through_port_forward() {
    let ns = Instance::shared().namespace();
    let vmi = ns.run_vm(&manifest("forward", "Always", |_| {}));
    let direct = ns.booted(&vmi);

    for target in ["vm/forward", "vmi/forward"] {
        let mut command = ns.virtctl_command(&["port-forward", target, "0:80"]);
        let mut forward = Running(command.stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap());
        let mut line = String::new();
        let mut said = BufReader::new(forward.0.stderr.take().unwrap());
        said.read_line(&mut line).unwrap();
        // "forwarding tcp 127.0.0.1:40001 to 80"
        let address: SocketAddr = line.split(' ').nth(2).unwrap().parse().unwrap_or_else(|_| panic!("{line:?}"));
        for _ in 0..3 {
            assert_eq!(page(address).unwrap(), direct);
        }
    }
}

#[test]
fn status_columns_show_what_upstream_shows() {
    let ns = Instance::shared().namespace();
    let vmi = ns.run_vm(&manifest("columns", "Always", |_| {}));
    let ip = vmi["status"]["interfaces"][0]["ipAddress"].as_str().unwrap();
    ns.until("vm", "columns", "ready", |vm| vm["status"]["ready"] == true);

    let rows = |args: &[&str]| -> Vec<Vec<String>> {
        let out = ns.kubectl(args).success();
        out.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    };
    let vms = rows(&["get", "vms"]);
    assert_eq!(vms[0], ["NAME", "AGE", "STATUS", "READY"]);
    assert_eq!((vms[1][0].as_str(), &vms[1][2..]), ("columns", &["Running".to_owned(), "True".to_owned()][..]));
    let vmis = rows(&["get", "vmis"]);
    assert_eq!(vmis[0], ["NAME", "AGE", "PHASE", "IP", "NODENAME", "READY"]);
    assert_eq!(vmis[1][2..4], ["Running".to_owned(), ip.to_owned()]);
    assert_eq!(vmis[1][5], "True");
    let pods = rows(&["get", "pods"]);
    assert_eq!(pods[0], ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
    assert!(pods[1][0].starts_with("virt-launcher-columns-"), "{pods:?}");
    assert_eq!(pods[1][2], "Running");
    let (ready, wanted) = pods[1][1].split_once('/').unwrap();
    assert_eq!(ready, wanted, "{pods:?}");

    until("the guest's console in the pod's log", || {
        let log = ns.kubectl(&["logs", &pods[1][0], "-c", "guest-console-log"]).success();
        // The line before the prompt: a container's log may show only whole lines.
        if log.contains("Ferrovirt demo guest") { Ok(()) } else { Err(log) }
    });
}

#[test]
fn deleted_machine_leaves_nothing() {
    let ns = Instance::shared().namespace();
    let vmi = ns.run_vm(&manifest("brief", "Always", |_| {}));
    ns.booted(&vmi);
    let pod = ns.launcher_pod(&vmi);
    let (vmi_uid, pod_uid) = (uid(&vmi).to_owned(), uid(&pod).to_owned());
    let marks = [vmi_uid, pod_uid].into();
    assert!(!crate::harness::traces(&marks).is_empty());

    ns.delete("vm", "brief");
    ns.until_gone("vmi", "brief");
    ns.until_gone("pod", pod["metadata"]["name"].as_str().unwrap());
    // Its files, libvirt's log of its domain among them, are keyed by UID.
    let data = ns.instance.data_dir();
    let files = || {
        let found = std::process::Command::new("find").arg(&data).output().unwrap();
        let found = String::from_utf8_lossy(&found.stdout).into_owned();
        assert!(!found.is_empty());
        found.lines().filter(|line| marks.iter().any(|mark| line.contains(mark.as_str()))).map(str::to_owned).collect()
    };
    until("no trace of the machine", || {
        let mut left: Vec<String> = files();
        left.extend(crate::harness::traces(&marks));
        if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
    });
}

/// What a machine could leave, named by its UID or not: links on the pods' bridge, domains, tables, namespaces, leases and files.
fn node_of(instance: &Instance) -> BTreeSet<String> {
    let (run_dir, data) = (instance.run_dir(), instance.data_dir());
    let id = run_dir.file_name().unwrap().to_str().unwrap();
    let uri = format!("qemu+unix:///system?socket={}", run_dir.join("libvirt/libvirt-sock").display());
    let list = |program: &str, args: &[&str]| run(&mut command(program, args), "").success();
    let mut found = BTreeSet::new();
    let mut add = |what: &str, lines: &mut dyn Iterator<Item = &str>| {
        found.extend(lines.filter(|line| !line.is_empty()).map(|line| format!("{what} {line}")));
    };
    // Everything of a link's line but its name changes by itself.
    let links = list("ip", &["-o", "link", "show", "master", &format!("fv-{id}")]);
    add("link", &mut links.lines().filter_map(|line| line.split(' ').nth(1)));
    add("domain", &mut list("virsh", &["-c", &uri, "list", "--all", "--name"]).lines());
    for table in list("nft", &["list", "tables"]).lines().filter(|table| table.contains(id)) {
        let words: Vec<&str> = table.split(' ').skip(1).collect();
        add("table", &mut list("nft", &["--stateless", "list", "table", words[0], words[1]]).lines());
    }
    // What goes while it is looked for is an error of find's, not of ours; the store is one database at all times, and logs grow.
    let (run_dir, data) = (run_dir.to_str().unwrap(), data.to_str().unwrap());
    let files = run(&mut command("find", [run_dir, data, "-not", "-path", "*/store/*", "-not", "-name", "*.log*"]), "");
    assert!(files.out.contains(data), "{}", files.err);
    add("file", &mut files.out.lines());
    found
}

#[test]
fn node_is_as_it_was_once_a_machine_is_gone() {
    needs!(Daemon);
    // Of its own: others' machines come and go.
    let instance = Arc::new(Instance::started());
    let ns = instance.namespace();
    let come = |name: &str| {
        let vmi = ns.run_vm(&manifest(name, "Always", |_| {}));
        ns.booted(&vmi);
    };
    let go = |name: &str| {
        ns.delete("vm", name);
        ns.until_gone("vmi", name);
    };
    // The first brings what stays: the bridge, the image in the cache.
    come("first");
    go("first");
    let is_of_guests = |line: &&String| line.starts_with("link ") || line.starts_with("domain ");
    let quiet = until("no link and no domain", || {
        let node = node_of(&instance);
        if node.iter().any(|line| is_of_guests(&line)) { Err(format!("{node:#?}")) } else { Ok(node) }
    });
    come("second");
    let busy = node_of(&instance);
    for mark in ["link veth", "domain fv-"] {
        assert!(busy.iter().any(|line| line.starts_with(mark)), "{mark}: {busy:#?}");
    }
    go("second");
    until("nothing more on the node than before", || {
        let left: Vec<String> = node_of(&instance).difference(&quiet).cloned().collect();
        if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
    });
}

#[test]
fn machine_instance_without_a_virtual_machine_runs_and_is_deleted() {
    let ns = Instance::shared().namespace();
    let vm = manifest("alone", "Always", |spec| spec["terminationGracePeriodSeconds"] = json!(0));
    let template = &vm["spec"]["template"]["spec"];
    let vmi = json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": "alone"}, "spec": template});
    ns.apply(&vmi).success();
    let vmi = ns.running("alone", None);
    ns.booted(&vmi);
    ns.delete("vmi", "alone");
    ns.until_gone("vmi", "alone");
}

#[test]
fn disks_without_a_bus_work() {
    let ns = Instance::shared().namespace();
    let vmi = ns.run_vm(&manifest("busless", "Always", |spec| {
        spec["domain"]["devices"]["disks"] = json!([{"name": "system", "disk": {}}, {"name": "cloudinit", "disk": {}}]);
    }));
    assert_eq!(ns.booted(&vmi).hostname, "busless");
    assert_eq!(ns.sh(&vmi, "ls /sys/block | grep -c ^sd\n"), "2");
}
