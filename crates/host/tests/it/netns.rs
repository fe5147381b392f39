use std::fs;
use std::io::ErrorKind;

use fv_host::link::Links;
use fv_host::netns::NetNs;
use fv_host::{nft, sysctl, tap};
use fv_netplan::TapSpec;
use serde_json::json;

struct Kept(tempfile::TempDir);

impl Drop for Kept {
    fn drop(&mut self) {
        for path in NetNs::list(self.0.path()).unwrap() {
            NetNs::remove_at(&path).unwrap();
        }
    }
}

#[tokio::test]
async fn namespace_is_made_once_found_again_and_removed() {
    let dir = Kept(tempfile::tempdir().unwrap());
    let path = dir.0.path().join("deep/ns");
    let first = NetNs::ensure_at(&path).unwrap();
    assert_eq!(NetNs::ensure_at(&path).unwrap().id().unwrap(), first.id().unwrap());
    assert_ne!(NetNs::current().unwrap().id().unwrap(), first.id().unwrap());
    let inside = first.run(|| NetNs::current()?.id()).unwrap();
    assert_eq!(inside, first.id().unwrap());
    assert_eq!(NetNs::list(&dir.0.path().join("deep")).unwrap(), std::slice::from_ref(&path));
    NetNs::remove_at(&path).unwrap();
    NetNs::remove_at(&path).unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn leftover_file_is_completed_and_other_files_are_no_namespaces() {
    let dir = Kept(tempfile::tempdir().unwrap());
    let path = dir.0.path().join("ns");
    fs::write(&path, "").unwrap();
    assert_eq!(NetNs::open(&path).unwrap_err().kind(), ErrorKind::InvalidData);
    assert!(NetNs::list(dir.0.path()).unwrap().is_empty());
    NetNs::ensure_at(&path).unwrap();
    assert_eq!(NetNs::list(dir.0.path()).unwrap().len(), 1);
}

#[tokio::test]
async fn links_sysctls_and_rules_stay_inside() {
    let dir = Kept(tempfile::tempdir().unwrap());
    let ns = NetNs::ensure_at(&dir.0.path().join("ns")).unwrap();
    let links = Links::in_netns(&ns).await.unwrap();
    links.add_bridge("only-inside", None, 1400).await.unwrap();
    assert!(Links::here().unwrap().get("only-inside").await.unwrap().is_none());
    let link = links.require("only-inside").await.unwrap();
    assert_eq!((link.kind.as_str(), link.mtu, link.up), ("bridge", 1400, false));

    let changed = ns.run_async(|| sysctl::set("net.ipv4.ip_unprivileged_port_start", "7")).await.unwrap();
    assert!(changed);
    assert!(!ns.run_async(|| sysctl::set("net.ipv4.ip_unprivileged_port_start", "7")).await.unwrap());
    assert_ne!(sysctl::get("net.ipv4.ip_unprivileged_port_start").unwrap(), "7");

    let table = json!({"table": {"family": "ip", "name": "only_inside"}});
    ns.run_async(move || nft::apply(&[json!({ "add": table })])).await.unwrap();
    let inside = ns.run_async(nft::list).await.unwrap().to_string();
    assert!(inside.contains("only_inside") && !nft::list().unwrap().to_string().contains("only_inside"));
    let bad = ns.run_async(|| nft::apply(&[json!({"add": {"nonsense": {}}})])).await.unwrap_err().to_string();
    assert!(bad.starts_with("nft: "), "{bad}");
}

#[tokio::test]
async fn tap_has_the_queues_and_owner_asked_for_and_persists() {
    let dir = Kept(tempfile::tempdir().unwrap());
    let ns = NetNs::ensure_at(&dir.0.path().join("ns")).unwrap();
    let spec = TapSpec { name: "fvt-test".into(), mtu: 1500, queues: 2, owner_uid: 1_000_000_007, owner_gid: 107 };
    let made = spec.clone();
    ns.run_async(move || tap::create(&made)).await.unwrap();
    let queues = ns.run_async(|| Ok((tap::open_queue("fvt-test", true)?, tap::open_queue("fvt-test", true)?))).await;
    assert!(queues.is_ok(), "{queues:?}");
    assert!(ns.run_async(|| tap::open_queue("fvt-test", false)).await.is_err(), "made for several queues");
    let again = spec.clone();
    assert!(ns.run_async(move || tap::create(&again)).await.is_err(), "never takes over an existing device");
    let long = TapSpec { name: "sixteen-bytes-xx".into(), ..spec };
    let error = ns.run_async(move || tap::create(&long)).await.unwrap_err().to_string();
    assert!(error.contains("sixteen-bytes-xx"), "{error}");
    assert_eq!(Links::in_netns(&ns).await.unwrap().require("fvt-test").await.unwrap().kind, "tun");
    let shown = ns
        .run_async(|| std::process::Command::new("ip").args(["-d", "link", "show", "fvt-test"]).output())
        .await
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    for word in ["multi_queue", "persist on", "user 1000000007"] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
}

#[test]
fn namespace_of_a_listener_is_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    assert!(NetNs::of_listener(&socket).is_err());
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert_eq!(NetNs::of_listener(&socket).unwrap().id().unwrap(), NetNs::current().unwrap().id().unwrap());
}
