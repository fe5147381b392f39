//! A machine that lacks something, and instances that stand in each other's way.

use std::net::TcpListener;
use std::sync::Arc;

use serde_json::json;

use crate::harness::{Instance, command, manifest, needs, run};

#[test]
fn registry_that_is_down_is_reported_and_asked_again() {
    let ns = Instance::shared().namespace();
    // Nothing listens on this port any more.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    ns.apply(&manifest("imageless", "Always", |spec| {
        spec["volumes"][0]["containerDisk"]["image"] = json!(format!("127.0.0.1:{port}/no/such:image"));
    }))
    .success();
    let vm = ns.until("vm", "imageless", "image trouble", |vm| {
        ["ErrImagePull", "ImagePullBackOff"].iter().any(|s| vm["status"]["printableStatus"] == *s)
    });
    let text = vm["status"]["conditions"].to_string();
    assert!(text.contains(&format!("127.0.0.1:{port}")), "the image is not named: {text}");
    ns.until_status("imageless", "ImagePullBackOff");
    ns.delete("vm", "imageless");
    ns.until_gone("vmi", "imageless");
}

#[test]
fn image_that_is_only_known_locally_is_reported_when_missing() {
    needs!(PodRunner);
    let ns = Instance::shared().namespace();
    ns.apply(&manifest("never", "Always", |spec| {
        spec["volumes"][0]["containerDisk"] = json!({"image": "not/imported:here", "imagePullPolicy": "Never"});
    }))
    .success();
    let vm = ns.until("vm", "never", "image trouble", |vm| {
        ["ErrImagePull", "ImagePullBackOff"].iter().any(|s| vm["status"]["printableStatus"] == *s)
    });
    assert!(vm["status"]["conditions"].to_string().contains("not/imported:here"), "{vm}");
}

#[test]
fn machine_larger_than_the_node_is_unschedulable_in_the_words_of_kubernetes() {
    let ns = Instance::shared().namespace();
    ns.apply(&manifest("huge", "Always", |spec| spec["domain"]["memory"]["guest"] = json!("4Ti"))).success();
    let vm = ns.until_status("huge", "ErrorUnschedulable");
    let text = vm["status"]["conditions"].to_string();
    assert!(text.contains("0/1 nodes are available: 1 Insufficient memory."), "{text}");
    let event = ns.until_event("virt-launcher-huge-", "FailedScheduling");
    assert!(
        event["message"].as_str().unwrap().starts_with("0/1 nodes are available: 1 Insufficient memory."),
        "{event}"
    );
    ns.delete("vm", "huge");
}

#[test]
fn foreign_pod_is_refused_with_an_event() {
    needs!(PodRunner);
    let ns = Instance::shared().namespace();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "foreign"},
        "spec": {"containers": [{"name": "c", "image": "busybox"}]},
    });
    ns.apply(&pod).success();
    let event = ns.until_event("foreign", "Failed");
    assert!(event["message"].as_str().unwrap().contains("busybox"), "{event}");
    assert_ne!(ns.get("pod", "foreign")["status"]["phase"], "Running");
    ns.kubectl(&["delete", "pod", "foreign", "--timeout=60s"]).success();
}

#[test]
fn port_in_use_is_named() {
    needs!(Daemon);
    let instance = Instance::prepared();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let error = run(&mut instance.up_command_at(&address), "").failure();
    assert!(error.contains(&address) && error.to_lowercase().contains("in use"), "{error}");
}

#[test]
fn second_up_on_one_data_directory_is_refused_with_the_way_out() {
    needs!(Daemon);
    let instance = Arc::new(Instance::started());
    let error = instance.up().failure();
    let pid = instance.pid().to_string();
    assert!(error.contains(&pid) && error.contains("ferrovirt down --data-dir"), "{error}");
    run(&mut instance.kubectl_command(&["get", "--raw", "/readyz"]), "").success();
}

#[test]
fn corrupt_database_is_refused_with_the_remedy_and_kept() {
    needs!(Daemon);
    let instance = Arc::new(Instance::started());
    instance.ferrovirt(&["down"]).success();
    let store = instance.data_dir().join("store");
    let database = std::fs::read_dir(&store)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .max_by_key(|path| path.metadata().unwrap().len());
    let database = database.expect("there is a database");
    let garbage = vec![0x5a; 8192];
    std::fs::write(&database, &garbage).unwrap();
    let error = instance.up().failure();
    assert!(error.contains(store.to_str().unwrap()), "{error}");
    assert!(error.contains("restore") || error.contains("move"), "no remedy: {error}");
    assert_eq!(std::fs::read(&database).unwrap(), garbage, "the file was changed");
}

#[test]
fn missing_network_plugins_are_named_with_the_package() {
    needs!(Daemon);
    let instance = Instance::prepared();
    // In a mount namespace of its own, where the plugins' directories are empty.
    let up = instance.up_command();
    let mut hidden = command("unshare", ["-m", "--propagation", "private", "sh", "-c"]);
    hidden
        .arg("for d in /usr/lib/cni /opt/cni/bin; do [ ! -d $d ] || mount -t tmpfs none $d; done; exec \"$@\"")
        .arg("sh");
    hidden.arg(up.get_program()).args(up.get_args());
    let error = run(&mut hidden, "").failure();
    assert!(error.contains("containernetworking-plugins") && error.contains("/opt/cni/bin"), "{error}");
}

#[test]
fn missing_launcher_is_named() {
    needs!(Daemon);
    let instance = Instance::prepared();
    let error = run(instance.up_command().args(["--launcher", "/nowhere/virt-launcher"]), "").failure();
    assert!(error.contains("/nowhere/virt-launcher"), "{error}");
}
