//! What users may do who are not administrators.

use serde_json::json;

use crate::harness::{Instance, manifest, needs};

#[test]
fn whoever_may_view_sees_the_machine_and_does_not_start_it() {
    needs!(Roles);
    let ns = Instance::shared().namespace();
    ns.apply(&manifest("seen", "Halted", |_| {})).success();
    ns.kubectl(&["create", "serviceaccount", "viewer"]).success();
    let account = format!("{}:viewer", ns.name);
    let bind = ["create", "rolebinding", "viewer", "--clusterrole=kubevirt.io:view"];
    ns.kubectl(&[&bind[..], &[&format!("--serviceaccount={account}")]].concat()).success();
    let viewer = format!("--as=system:serviceaccount:{account}");

    let seen = ns.kubectl(&["get", "vm", "seen", "-o", "name", &viewer]).success();
    assert_eq!(seen.trim(), "virtualmachine.kubevirt.io/seen");
    let path = format!("/apis/subresources.kubevirt.io/v1/namespaces/{}/virtualmachines/seen/start", ns.name);
    let refused = ns.kubectl_with(&["create", "--raw", &path, "-f", "-", &viewer], &json!({}).to_string()).failure();
    assert!(refused.contains("is forbidden"), "{refused}");
    assert_eq!(ns.get("vm", "seen")["spec"]["runStrategy"], "Halted");
    let stranger = ns.kubectl(&["get", "vm", "seen", "--as=stranger"]).failure();
    assert!(stranger.contains("is forbidden") && stranger.contains("stranger"), "{stranger}");
}
