use std::sync::Arc;

use serde_json::{Value, json};

use super::*;

/// A claim of 5Gi of class `late` with the changes given.
fn claim(extra: Value) -> Value {
    let mut full = json!({"metadata": {"name": "c", "namespace": "n", "uid": "u"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "late", "volumeMode": "Filesystem",
            "resources": {"requests": {"storage": "5Gi"}}},
        "status": {"phase": "Pending"}});
    json_patch::merge(&mut full, &extra);
    full
}

/// A claim that is bound to volume `v`, and says so.
fn bound(extra: Value) -> Value {
    let mut full = claim(json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
        "spec": {"volumeName": "v"},
        "status": {"phase": "Bound", "capacity": {"storage": "5Gi"}, "accessModes": ["ReadWriteOnce"]}}));
    json_patch::merge(&mut full, &extra);
    full
}

fn volume(extra: Value) -> Value {
    let mut full = json!({"metadata": {"name": "v"}, "status": {"phase": "Available"},
        "spec": {"capacity": {"storage": "5Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "late"}});
    json_patch::merge(&mut full, &extra);
    full
}

fn of(uid: Option<&str>) -> Value {
    json!({"spec": {"claimRef": {"namespace": "n", "name": "c", "uid": uid}}})
}

fn world(volumes: Value, extra_classes: Value, pods: Value) -> World {
    let mut classes = json!([
        {"metadata": {"name": "late"}, "provisioner": PROVISIONER, "volumeBindingMode": "WaitForFirstConsumer",
            "allowVolumeExpansion": true},
        {"metadata": {"name": "now"}, "provisioner": PROVISIONER, "volumeBindingMode": "Immediate"},
        {"metadata": {"name": "manual"}, "provisioner": NO_PROVISIONER, "volumeBindingMode": "Immediate"},
        {"metadata": {"name": "foreign"}, "provisioner": "csi.example", "volumeBindingMode": "Immediate"}]);
    classes.as_array_mut().unwrap().extend(extra_classes.as_array().unwrap().iter().cloned());
    fn arcs<T: serde::de::DeserializeOwned>(list: Value) -> Vec<Arc<T>> {
        serde_json::from_value::<Vec<T>>(list).unwrap().into_iter().map(Arc::new).collect()
    }
    World::new(Vec::new(), arcs(volumes), arcs(classes), arcs(pods))
}

fn step(claim: Value, volumes: Value) -> Step {
    decide(&serde_json::from_value(claim).unwrap(), &world(volumes, json!([]), json!([])))
}

fn told(step: Step) -> (&'static str, String) {
    match step {
        Step::Tell(notice) | Step::Lose(notice) => (notice.reason, notice.message),
        other => panic!("{other:?} tells nothing"),
    }
}

#[test]
fn binding_goes_step_by_step_and_ends() {
    let selected = json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n1"}}});
    let now = |extra: Value| {
        let mut full = json!({"spec": {"storageClassName": "now"}});
        json_patch::merge(&mut full, &extra);
        claim(full)
    };
    let fitting = volume(json!({"spec": {"storageClassName": "now"}}));
    let cases = [
        (now(json!({})), json!([fitting]), Step::Reserve("v".into())),
        (now(json!({})), json!([volume(of(Some("u")))]), Step::Attach("v".into())),
        (now(json!({"spec": {"volumeName": "v"}})), json!([volume(of(Some("u")))]), Step::Attach("v".into())),
        (
            bound(json!({"status": {"phase": "Pending", "capacity": null}})),
            json!([volume(of(Some("u")))]),
            Step::Settle("v".into()),
        ),
        (bound(json!({})), json!([volume(of(Some("u")))]), Step::Keep),
        (bound(json!({})), json!([volume(json!({}))]), Step::Reserve("v".into())),
        (claim(json!({})), json!([volume(of(None))]), Step::Reserve("v".into())),
        (claim(selected), json!([volume(json!({}))]), Step::Provision(Box::default())),
        (now(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})), json!([]), Step::Keep),
        (claim(json!({"spec": {"volumeName": "none"}})), json!([]), Step::Keep),
        (claim(json!({"spec": {"volumeName": "v"}})), json!([volume(json!({}))]), Step::Reserve("v".into())),
    ];
    for (claim, volumes, expected) in cases {
        let step = step(claim.clone(), volumes.clone());
        let same = match (&step, &expected) {
            (Step::Provision(class), Step::Provision(_)) => class.metadata.name.as_deref() == Some("late"),
            (step, expected) => step == expected,
        };
        assert!(same, "{step:?} is not {expected:?}: {claim} {volumes}");
    }
}

#[test]
fn what_a_claim_waits_for_is_said_in_kubernetes_words() {
    let other = volume(json!({"spec": {"claimRef": {"namespace": "n", "name": "other", "uid": "o"}}}));
    let cases = [
        (
            claim(json!({})),
            json!([]),
            "WaitForFirstConsumer",
            "waiting for first consumer to be created before binding",
        ),
        (
            claim(json!({"spec": {"storageClassName": ""}})),
            json!([]),
            "FailedBinding",
            "no persistent volumes available for this claim and no storage class is set",
        ),
        (
            claim(json!({"spec": {"storageClassName": "none"}})),
            json!([]),
            "ProvisioningFailed",
            "storageclass.storage.k8s.io \"none\" not found",
        ),
        (
            claim(json!({"spec": {"storageClassName": "manual"}})),
            json!([]),
            "ProvisioningFailed",
            "no volume plugin matched name: kubernetes.io/no-provisioner",
        ),
        (
            claim(json!({"spec": {"volumeName": "v"}})),
            json!([volume(json!({"spec": {"capacity": {"storage": "1Gi"}}}))]),
            "VolumeMismatch",
            "Cannot bind to requested volume \"v\": requested PV is too small",
        ),
        (
            claim(json!({"spec": {"volumeName": "v"}})),
            json!([other]),
            "FailedBinding",
            "volume \"v\" already bound to a different claim.",
        ),
        (
            bound(json!({})),
            json!([]),
            "ClaimLost",
            "Bound claim has lost its PersistentVolume. Data on the volume is lost!",
        ),
        (
            bound(json!({"spec": {"volumeName": null}})),
            json!([]),
            "ClaimLost",
            "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!",
        ),
        (
            bound(json!({})),
            json!([other]),
            "ClaimMisbound",
            "Two claims are bound to the same volume, this one is bound incorrectly",
        ),
    ];
    for (claim, volumes, reason, message) in cases {
        assert_eq!(told(step(claim.clone(), volumes.clone())), (reason, message.to_string()), "{claim} {volumes}");
    }
    assert_eq!(step(bound(json!({"status": {"phase": "Lost"}})), json!([])), Step::Keep, "said once");
}

#[test]
fn pods_that_wait_for_a_node_are_named() {
    let pod = |name: &str, node: &str| {
        json!({"metadata": {"name": name, "namespace": "n"}, "spec": {"nodeName": node, "containers": [],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}})
    };
    let claim = serde_json::from_value(claim(json!({}))).unwrap();
    let said = |pods: Value| told(decide(&claim, &world(json!([]), json!([]), pods)));
    assert_eq!(
        said(json!([pod("a", ""), pod("x", "n1")])),
        ("WaitForPodScheduled", "waiting for pod a to be scheduled".into())
    );
    assert_eq!(said(json!([pod("b", ""), pod("a", "")])).1, "waiting for pods a,b to be scheduled");
}

#[test]
fn a_claim_without_a_class_gets_the_newest_default() {
    let default = |name: &str, made: &str| {
        json!({"metadata": {"name": name, "creationTimestamp": made,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}, "provisioner": PROVISIONER})
    };
    let classes = json!([default("old", "2026-01-01T00:00:00Z"), default("new", "2026-02-01T00:00:00Z")]);
    let free = claim(json!({"spec": {"storageClassName": null}}));
    let decided = decide(&serde_json::from_value(free.clone()).unwrap(), &world(json!([]), classes, json!([])));
    assert_eq!(decided, Step::SetClass("new".into()));
    assert_eq!(told(step(free, json!([]))).0, "FailedBinding");
}

#[test]
fn other_provisioners_are_asked_once_and_waited_for() {
    let foreign = claim(json!({"spec": {"storageClassName": "foreign"}}));
    assert_eq!(step(foreign.clone(), json!([])), Step::AskProvisioner("csi.example".into()));
    let mut asked = foreign;
    asked["metadata"]["annotations"] = json!({"volume.kubernetes.io/storage-provisioner": "csi.example",
        "volume.beta.kubernetes.io/storage-provisioner": "csi.example"});
    let (reason, message) = told(step(asked, json!([])));
    assert_eq!(reason, "ExternalProvisioning");
    assert!(message.starts_with("Waiting for a volume to be created either by the external provisioner 'csi.example'"));
}

#[test]
fn what_a_directory_cannot_be_is_refused_by_name() {
    let class = |extra: Value| {
        let mut full =
            json!({"metadata": {"name": "odd"}, "provisioner": PROVISIONER, "volumeBindingMode": "Immediate"});
        json_patch::merge(&mut full, &extra);
        json!([full])
    };
    let cases = [
        (json!({"volumeMode": "Block"}), json!({}), "volumeMode Block is not supported"),
        (json!({"selector": {"matchLabels": {"a": "b"}}}), json!({}), "claim Selector is not supported"),
        (json!({"dataSource": {"kind": "PersistentVolumeClaim", "name": "x"}}), json!({}), "makes empty volumes only"),
        (json!({}), json!({"parameters": {"nodePath": "/x"}}), "has no parameter \"nodePath\""),
        (json!({}), json!({"mountOptions": ["ro"]}), "mountOptions are not supported"),
        (json!({}), json!({"allowedTopologies": [{}]}), "allowedTopologies is not supported"),
    ];
    for (of_claim, of_class, expected) in cases {
        let mut wanted = claim(json!({"spec": {"storageClassName": "odd"}}));
        json_patch::merge(&mut wanted["spec"], &of_claim);
        let claim = serde_json::from_value(wanted).unwrap();
        let (reason, message) = told(decide(&claim, &world(json!([]), class(of_class.clone()), json!([]))));
        assert_eq!(reason, "ProvisioningFailed");
        let head = "failed to provision volume with StorageClass \"odd\": ";
        assert!(message.starts_with(head) && message.contains(expected), "{of_claim} {of_class}: {message}");
    }
}

#[test]
fn a_claim_grows_with_its_directory_and_waits_for_others_to_grow_theirs() {
    let larger = json!({"spec": {"resources": {"requests": {"storage": "8Gi"}}}});
    let mut ours = volume(of(Some("u")));
    ours["metadata"]["annotations"] = json!({"pv.kubernetes.io/provisioned-by": PROVISIONER});
    assert_eq!(step(bound(larger.clone()), json!([ours])), Step::Grow("v".into()));
    ours["spec"]["capacity"]["storage"] = "8Gi".into();
    assert_eq!(step(bound(larger.clone()), json!([ours])), Step::Settle("v".into()));
    let (reason, message) = told(step(bound(larger.clone()), json!([volume(of(Some("u")))])));
    assert_eq!(
        (reason, message.as_str()),
        ("ExternalExpanding", "waiting for an external controller to expand this PVC")
    );
    let mut fixed = bound(larger);
    fixed["spec"]["storageClassName"] = "now".into();
    ours["spec"]["capacity"]["storage"] = "5Gi".into();
    assert_eq!(told(step(fixed, json!([ours]))).0, "ExternalExpanding", "its class does not let it grow");
}

/// Whatever the world says: nothing is provisioned or attached for a claim that has its volume, and a volume of somebody else
/// is never written to.
#[test]
fn another_claims_volume_is_never_touched() {
    let other = volume(
        json!({"spec": {"claimRef": {"namespace": "n", "name": "c", "uid": "older"}, "storageClassName": "now"}}),
    );
    for name in [Value::Null, json!("v")] {
        for class in ["", "late", "now", "manual", "foreign", "none"] {
            for base in [claim(json!({})), bound(json!({}))] {
                let mut claim = base;
                claim["spec"]["volumeName"] = name.clone();
                claim["spec"]["storageClassName"] = class.into();
                let step = step(claim.clone(), json!([other]));
                let touches = matches!(step, Step::Reserve(_) | Step::Attach(_) | Step::Settle(_) | Step::Grow(_));
                assert!(!touches, "{step:?}: {claim}");
            }
        }
    }
}
