//! Manifests that `kubectl apply` must refuse, saying what is wrong and where.

use serde_json::{Value, json};

use crate::harness::{Instance, manifest};

type Change = fn(&mut Value);

#[test]
fn contradictory_manifests_are_refused_with_their_causes() {
    let ns = Instance::shared().namespace();
    let cases: [(&str, Change, &[&str]); 7] = [
        (
            "two disks of one name",
            |spec| spec["domain"]["devices"]["disks"][1]["name"] = json!("system"),
            &["spec.template.spec.domain.devices.disks[1].name"],
        ),
        (
            "two disks of one boot order",
            |spec| {
                spec["domain"]["devices"]["disks"][0]["bootOrder"] = json!(1);
                spec["domain"]["devices"]["disks"][1]["bootOrder"] = json!(1);
            },
            &["spec.template.spec.domain.devices.disks[1].bootOrder", "already set for a different device"],
        ),
        (
            "a disk without a volume",
            |spec| spec["domain"]["devices"]["disks"][1]["name"] = json!("nowhere"),
            &["spec.template.spec.domain.devices.disks[1].name", "nowhere"],
        ),
        (
            "two sources of one volume",
            |spec| spec["volumes"][0]["emptyDisk"] = json!({"capacity": "1Gi"}),
            &["spec.template.spec.volumes[0]", "exactly one source"],
        ),
        (
            "an interface without a network",
            |spec| spec["domain"]["devices"]["interfaces"][0]["name"] = json!("other"),
            &["spec.template.spec.domain.devices.interfaces[0].name"],
        ),
        (
            "a field that is not implemented",
            |spec| spec["domain"]["devices"]["watchdog"] = json!({"name": "dog", "diag288": {"action": "reset"}}),
            &["spec.template.spec.domain.devices.watchdog.diag288", "not supported yet by Ferrovirt"],
        ),
        ("a memory of no size", |spec| spec["domain"]["memory"]["guest"] = json!("0"), &["spec.template.spec.domain"]),
    ];
    for (what, change, wanted) in cases {
        let error = ns.apply(&manifest("refused", "Halted", change)).failure();
        for text in wanted {
            assert!(error.contains(text), "{what}: {text:?} is not in {error:?}");
        }
        assert!(ns.find("vm", "refused").is_none(), "{what}");
    }
}

#[test]
fn malformed_manifests_are_refused() {
    let ns = Instance::shared().namespace();
    let mut strategies = manifest("refused", "Halted", |_| {});
    strategies["spec"]["running"] = json!(false);
    let error = ns.apply(&strategies).failure();
    assert!(error.contains("mutually exclusive"), "{error}");

    let unknown = manifest("refused", "Halted", |spec| spec["domain"]["colour"] = json!("red"));
    let error = ns.apply(&unknown).failure();
    assert!(error.contains("unknown field") && error.contains("colour"), "{error}");

    let wrong = manifest("refused", "Halted", |spec| spec["domain"]["devices"]["disks"] = json!("none"));
    let error = ns.apply(&wrong).failure();
    assert!(error.contains("disks"), "{error}");

    let error = ns
        .kubectl_with(&["apply", "-f", "-"], "apiVersion: kubevirt.io/v1\nkind: VirtualMachine\n  metadata: [")
        .failure();
    assert!(error.contains("yaml") || error.contains("YAML"), "{error}");
}
