use std::process::Command;

use fv_host::cgroup::{Cgroup, Hierarchy, Limits};

#[test]
fn group_is_made_limited_filled_and_removed() {
    let hierarchy = Hierarchy::detect().unwrap();
    if hierarchy == Hierarchy::None {
        panic!("no cgroup hierarchy is mounted here");
    }
    let group = Cgroup::new(hierarchy, format!("fv-test-{}/inner", std::process::id())).unwrap();
    let outer = Cgroup::new(Hierarchy::detect().unwrap(), format!("fv-test-{}", std::process::id())).unwrap();
    group.ensure().unwrap();
    group.ensure().unwrap();
    let limits = Limits { cpu_request_milli: Some(100), cpu_limit_milli: Some(500), memory_bytes: Some(64 << 20) };
    group.limit(&limits).unwrap();
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    group.add(child.id()).unwrap();
    assert_eq!(group.pids().unwrap(), [child.id()]);
    assert!(group.remove().is_err(), "not while someone is in it");
    child.kill().unwrap();
    child.wait().unwrap();
    group.remove().unwrap();
    outer.remove().unwrap();
    outer.remove().unwrap();
    assert!(group.pids().unwrap().is_empty());
}
