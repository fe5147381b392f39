//! What others do to our objects.

use serde_json::{Value, json};

use super::super::drift::is_as_wanted;
use super::objects::Live;
use super::*;

fn of(world: &World, kind: &str, name: &str) -> ObjectId {
    world.live.keys().find(id(kind, name)).unwrap_or_else(|| panic!("no {kind} {name}")).clone()
}

#[test]
fn what_is_added_to_rights_and_to_where_traffic_goes_is_taken_away() {
    let subject = json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "mallory"});
    let rule = json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]});
    let port = json!({"name": "theirs", "port": 8080, "protocol": "TCP", "targetPort": 8080});
    let rows: [(&str, &str, &str, Value); 14] = [
        ("ClusterRoleBinding", "kubevirt-handler", "/subjects/-", subject.clone()),
        ("RoleBinding", "kubevirt-controller", "/subjects/-", subject),
        ("ClusterRole", "kubevirt-handler", "/rules/-", rule.clone()),
        ("ClusterRole", "kubevirt-handler", "/aggregationRule", json!({"clusterRoleSelectors": [{}]})),
        (
            "ClusterRole",
            "kubevirt-handler",
            "/metadata/labels/rbac.authorization.k8s.io~1aggregate-to-view",
            json!("true"),
        ),
        ("Role", "kubevirt-controller", "/rules/-", rule),
        ("ServiceAccount", "kubevirt-handler", "/automountServiceAccountToken", json!(true)),
        ("Service", "virt-api", "/spec/selector/theirs", json!("x")),
        ("Service", "virt-api", "/spec/ports/-", port),
        ("Service", "virt-api", "/spec/ports/0/nodePort", json!(30_000)),
        ("Service", "virt-api", "/spec/externalIPs", json!(["192.0.2.1"])),
        ("Service", "virt-api", "/spec/publishNotReadyAddresses", json!(true)),
        ("Service", "virt-api", "/spec/sessionAffinity", json!("ClientIP")),
        ("APIService", "v1.subresources.kubevirt.io", "/spec/insecureSkipTLSVerify", json!(true)),
    ];
    for (kind, name, path, value) in rows {
        let mut world = installed(json!({}));
        let id = of(&world, kind, name);
        let (parent, key) = path.rsplit_once('/').unwrap();
        let stored = |world: &World| {
            let mut value = world.live[&id].value.clone();
            value["metadata"]["resourceVersion"] = Value::Null;
            value
        };
        let before = stored(&world);
        match world.live.get_mut(&id).unwrap().value.pointer_mut(parent).unwrap() {
            Value::Array(items) => items.push(value),
            fields => fields[key.replace("~1", "/").as_str()] = value,
        }
        world.run();
        assert_eq!(world.log, [format!("replace {id}")], "{path}");
        assert_eq!(stored(&world), before, "{path}");
        assert_eq!(world.decide().effects, [], "{path}");
    }
}

#[test]
fn what_the_api_server_fills_in_is_no_drift() {
    for (kind, name, filled) in [
        (
            "Service",
            "virt-api",
            json!({"spec": {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"], "ipFamilies": ["IPv4"],
                "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"},
                "status": {"loadBalancer": {}}}),
        ),
        (
            "ServiceAccount",
            "kubevirt-handler",
            json!({"secrets": [{"name": "token"}], "imagePullSecrets": [{"name": "pull"}]}),
        ),
        ("APIService", "v1.subresources.kubevirt.io", json!({"metadata": {"annotations": {"theirs": "x"}}})),
        ("ClusterRole", "kubevirt-handler", json!({"metadata": {"managedFields": [], "labels": {"theirs": "x"}}})),
    ] {
        let mut world = installed(json!({}));
        let id = of(&world, kind, name);
        merge(&mut world.live.get_mut(&id).unwrap().value, filled);
        assert_eq!(world.decide().effects, [], "{kind}");
    }
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

#[test]
fn a_binding_that_gives_another_role_is_made_anew() {
    let mut world = installed(json!({}));
    let id = of(&world, "ClusterRoleBinding", "kubevirt-handler");
    let role = world.live[&id].value["roleRef"].clone();
    world.live.get_mut(&id).unwrap().value["roleRef"]["name"] = json!("cluster-admin");
    world.run();
    assert_eq!(world.log, [format!("delete {id}"), format!("create {id}")]);
    assert_eq!(world.live[&id].value["roleRef"], role);
}

#[test]
fn additions_to_kinds_that_count_changes_are_found_by_their_generation() {
    let wanted = json!({"kind": "MutatingWebhookConfiguration", "webhooks": [{"rules": [{"resources": ["a"]}]}]});
    let mut value = wanted.clone();
    value["metadata"] = json!({"generation": 1});
    // Filled in by the API server.
    value["webhooks"][0]["reinvocationPolicy"] = json!("Never");
    let live = Live { value };
    for (written, is) in [(Some(1), true), (Some(2), false), (None, false)] {
        assert_eq!(is_as_wanted(&live, &wanted, written), is, "{written:?}");
    }
}

#[test]
fn labels_that_are_no_longer_wanted_go_and_those_of_others_stay() {
    let label = "rbac.authorization.k8s.io/aggregate-to-view";
    let mut world = installed(json!({"productName": "shop", "productVersion": "1"}));
    let id = of(&world, "ClusterRole", "kubevirt.io:view");
    world.live.get_mut(&id).unwrap().value["metadata"]["labels"]["theirs"] = json!("x");
    assert_eq!(world.live[&id].value["metadata"]["labels"][label], "true");
    world.edit(|spec| {
        (spec.product_name, spec.product_version) = (None, None);
        let configuration = json!({"roleAggregationStrategy": "Manual"});
        spec.configuration = Some(serde_json::from_value(configuration).unwrap());
    });
    world.run();
    let labels = &world.live[&id].value["metadata"]["labels"];
    assert_eq!(labels["theirs"], "x");
    for gone in [label, "app.kubernetes.io/part-of", "app.kubernetes.io/version"] {
        assert_eq!(labels.get(gone), None);
    }
    assert_eq!(world.decide().effects, []);
}
