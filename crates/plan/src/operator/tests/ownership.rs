//! Whose an object is.

use serde_json::{Value, json};

use super::installed;
use super::world::World;

/// An object with all the labels that ours have.
fn labelled(api_version: &str, kind: &str, namespace: Option<&str>, name: &str) -> Value {
    let labels = json!({"ferrovirt.io/installed-by": "kubevirt", "app.kubernetes.io/managed-by": "virt-operator"});
    let mut value = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "labels": labels}});
    if let Some(namespace) = namespace {
        value["metadata"]["namespace"] = json!(namespace);
    }
    value
}

fn names(world: &World) -> Vec<String> {
    world.live.keys().map(ToString::to_string).collect()
}

#[test]
fn labels_of_ours_on_objects_of_tenants_and_on_copies_make_them_not_ours() {
    let monitors = "monitoring.coreos.com/v1";
    let rbac = "rbac.authorization.k8s.io/v1";
    for theirs in [
        labelled("v1", "ConfigMap", Some("shop"), "kubevirt-ca"),
        labelled("apps/v1", "Deployment", Some("shop"), "virt-api"),
        labelled(rbac, "RoleBinding", Some("shop"), "kubevirt-apiserver-auth-reader"),
        labelled(monitors, "ServiceMonitor", Some("shop"), "prometheus-kubevirt-rules"),
        labelled(monitors, "ServiceMonitor", Some("monitoring"), "shop"),
        labelled(rbac, "ClusterRole", None, "copy-of-kubevirt.io:admin"),
        labelled("v1", "Service", Some("kubevirt"), "copy-of-virt-api"),
    ] {
        let mut world = installed(json!({}));
        world.add_foreign(theirs);
        let before = names(&world).len();
        world.run();
        assert_eq!((world.log.len(), names(&world).len()), (0, before), "{:?}", world.log);
        world.delete_kubevirt();
        world.run();
        assert!(world.kubevirt.is_none());
        assert_eq!(world.live.len(), 1, "{:?}", names(&world));
    }
}

#[test]
fn a_tenant_who_claims_to_be_another_operator_does_not_stop_ours() {
    let mut theirs = labelled("v1", "ConfigMap", Some("shop"), "kubevirt-ca");
    theirs["metadata"]["labels"]["ferrovirt.io/installed-by"] = json!("elsewhere");
    let mut world = World::new(json!({}));
    world.add_foreign(theirs);
    world.run();
    assert_eq!(world.phase(), "Deployed");
}

#[test]
fn what_another_version_installed_where_only_administrators_write_is_ours() {
    for earlier in [
        labelled("rbac.authorization.k8s.io/v1", "ClusterRole", None, "kubevirt-exporter"),
        labelled("apps/v1", "Deployment", Some("kubevirt"), "virt-exporter"),
    ] {
        let mut world = installed(json!({}));
        world.add_foreign(earlier);
        world.run();
        assert_eq!(world.log.len(), 1, "{:?}", world.log);
        assert!(world.log[0].contains("exporter"), "{:?}", world.log);
    }
}

#[test]
fn a_service_monitor_goes_with_the_prometheus_it_was_for() {
    let mut world = World::new(json!({"monitorNamespace": "before"}));
    world.is_monitored = true;
    world.run();
    world.log.clear();
    world.edit(|spec| spec.monitor_namespace = Some("after".into()));
    world.run();
    let monitor = |namespace: &str| format!("ServiceMonitor {namespace}/prometheus-kubevirt-rules");
    assert!(names(&world).contains(&monitor("after")));
    assert!(!names(&world).contains(&monitor("before")), "{:?}", world.log);
}

#[test]
fn a_removal_finds_everything_of_ours_also_when_the_resource_is_invalid() {
    let mut world = World::new(json!({"monitorNamespace": "watchers"}));
    world.is_monitored = true;
    world.run();
    let mut observed = world.observe().unwrap();
    observed.target = Err("spec.imageTag: no tag".into());
    assert_eq!(observed.owned().count(), world.live.len());
}
