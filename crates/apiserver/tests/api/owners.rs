//! Who owns what after creates, updates and patches.

use http::{Method, Request};
use serde_json::{Value, json};

use crate::support::*;

fn update(manager: &str) -> String {
    format!("{manager} Update")
}

#[tokio::test]
async fn a_creator_owns_the_object_with_its_defaults_but_not_its_identity() {
    let server = server().await;
    let mut object = config_map("a", "1");
    object["metadata"]["labels"] = json!({"x": "y"});
    let made = post(&server, &format!("{MAPS}?fieldManager=m"), &object).await.ok();
    let fields = json!({"f:data": {".": {}, "f:k": {}}, "f:metadata": {"f:labels": {".": {}, "f:x": {}}}});
    assert_eq!(owners(&made), [(update("m"), fields)]);
    let made = post(&server, &format!("{PODS}?fieldManager=m"), &pod("p")).await.ok();
    assert_eq!(
        owners(&made)[0].1,
        json!({"f:spec": {
            "f:containers": {"k:{\"name\":\"c\"}": {
                ".": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:name": {}, "f:resources": {},
                "f:terminationMessagePath": {}, "f:terminationMessagePolicy": {},
            }},
            "f:dnsPolicy": {}, "f:enableServiceLinks": {}, "f:restartPolicy": {}, "f:schedulerName": {},
            "f:securityContext": {}, "f:terminationGracePeriodSeconds": {},
        }})
    );
    let made = post(&server, &format!("{WIDGETS}?fieldManager=m"), &widget("w", 2)).await.ok();
    assert_eq!(owners(&made)[0].1, json!({"f:spec": {".": {}, "f:size": {}}}));
    let space = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}});
    let made = post(&server, "/api/v1/namespaces?fieldManager=m", &space).await.ok();
    let expected = json!({"f:metadata": {"f:labels": {".": {}, "f:kubernetes.io/metadata.name": {}}}});
    assert_eq!(owners(&made)[0].1, expected);
}

#[tokio::test]
async fn the_user_agent_names_who_does_not_say() {
    let server = server().await;
    let agents = [("kubectl/v1.35 (linux)", "kubectl"), ("", "unknown"), ("a b", "a b")];
    for (n, (agent, manager)) in agents.into_iter().enumerate() {
        let request = Request::builder().method(Method::POST).uri(MAPS).header("content-type", "application/json");
        let name = format!("c{n}");
        let body = axum::body::Body::from(config_map(&name, "1").to_string());
        let made = send(&server, request.header("user-agent", agent).body(body).unwrap()).await.ok();
        assert_eq!(owners(&made)[0].0, update(manager));
    }
    let client: kube::Api<k8s_openapi::api::core::v1::ConfigMap> = kube::Api::default_namespaced(client(&server));
    let mut map = k8s_openapi::api::core::v1::ConfigMap::default();
    map.metadata.name = Some("typed".into());
    map.data = Some([("a".to_owned(), "b".to_owned())].into());
    let made = client.create(&kube::api::PostParams::default(), &map).await.unwrap();
    let entry = &made.metadata.managed_fields.unwrap()[0];
    assert_eq!(entry.manager.as_deref(), Some("test"), "clients in process go by the name of their user");
}

#[tokio::test]
async fn every_kind_of_change_moves_ownership() {
    let server = server().await;
    let path = format!("{WIDGETS}/w");
    post(&server, &format!("{WIDGETS}?fieldManager=creator"), &widget("w", 1)).await.ok();
    let of = |manager: &str| format!("{path}?fieldManager={manager}");
    merge(&server, &of("merger"), &json!({"spec": {"colour": "red"}})).await.ok();
    let json_patch = json!([{"op": "replace", "path": "/spec/size", "value": 2}]).to_string();
    call(&server, Method::PATCH, &of("patcher"), "application/json-patch+json", json_patch).await.ok();
    let mut object = get(&server, &path).await.ok();
    object["metadata"]["labels"] = json!({"a": "b"});
    put(&server, &of("putter"), &object).await.ok();
    let status = json!({"status": {"phase": "Up"}});
    let after = merge(&server, &format!("{path}/status?fieldManager=merger"), &status).await.ok();
    let mut found = owners(&after);
    found.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(
        found,
        [
            // All the creator has left is the place of the spec.
            (update("creator"), json!({"f:spec": {}})),
            (update("merger"), json!({"f:spec": {"f:colour": {}}})),
            ("merger Update/status".to_owned(), json!({"f:status": {".": {}, "f:phase": {}}})),
            (update("patcher"), json!({"f:spec": {"f:size": {}}})),
            (update("putter"), json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}})),
        ]
    );
    post(&server, &format!("{PODS}?fieldManager=creator"), &pod("p")).await.ok();
    let body = json!({"spec": {"containers": [{"name": "c", "image": "new"}]}}).to_string();
    let strategic = "application/strategic-merge-patch+json";
    let after = call(&server, Method::PATCH, &format!("{PODS}/p?fieldManager=smp"), strategic, body).await.ok();
    let image = json!({"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {"f:image": {}}}}});
    assert!(owners(&after).contains(&(update("smp"), image)), "{:?}", owners(&after));
}

#[tokio::test]
async fn what_cannot_be_changed_is_not_owned() {
    let server = server().await;
    let mut object = widget("w", 1);
    object["status"] = json!({"phase": "Up"});
    let made = post(&server, &format!("{WIDGETS}?fieldManager=m"), &object).await.ok();
    assert_eq!(owners(&made)[0].1.get("f:status"), None);
    let path = format!("{WIDGETS}/w");
    let after = merge(&server, &format!("{path}?fieldManager=n"), &json!({"status": {"phase": "Up"}})).await.ok();
    assert_eq!(after, made, "a write that changes nothing changes no owner and no revision");
    let body = json!({"spec": {"size": 5}, "status": {"phase": "Up"}});
    let after = merge(&server, &format!("{path}/status?fieldManager=n"), &body).await.ok();
    assert_eq!(owners(&after)[1].1, json!({"f:status": {".": {}, "f:phase": {}}}));
    let mut node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": {"a": "b"}}});
    node["status"] = json!({"conditions": [{"type": "Ready", "status": "True"}]});
    post(&server, "/api/v1/nodes?fieldManager=m", &node).await.ok();
    let condition = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    let after = merge(&server, "/api/v1/nodes/n/status?fieldManager=kubelet", &condition).await.ok();
    let expected = json!({"f:status": {"f:conditions": {".": {}, "k:{\"type\":\"Ready\"}": {".": {}, "f:status": {}, "f:type": {}}}}});
    assert!(owners(&after).contains(&("kubelet Update/status".to_owned(), expected)), "{:?}", owners(&after));
}

#[tokio::test]
async fn entries_are_given_up_with_an_empty_list_and_kept_when_left_out() {
    let server = server().await;
    let path = format!("{MAPS}/a");
    let made = post(&server, &format!("{MAPS}?fieldManager=m"), &config_map("a", "1")).await.ok();
    let mut object = made.clone();
    object["metadata"].as_object_mut().unwrap().remove("managedFields");
    object["data"]["n"] = json!("2");
    let kept = put(&server, &format!("{path}?fieldManager=m"), &object).await.ok();
    assert_eq!(owners(&kept)[0].1, json!({"f:data": {".": {}, "f:k": {}, "f:n": {}}}));
    for reset in [json!([]), json!([{}])] {
        let body = json!([{"op": "replace", "path": "/metadata/managedFields", "value": reset}]).to_string();
        call(&server, Method::PATCH, &path, "application/json-patch+json", body).await.ok();
        let bare = get(&server, &path).await.ok();
        assert_eq!(bare["metadata"].get("managedFields"), None);
        let still = merge(&server, &path, &json!({"data": {"k": reset.to_string()}})).await.ok();
        assert_eq!(still["metadata"].get("managedFields"), None, "who is not tracked stays so");
        let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "x"}});
        let message = apply(&server, &path, "ap", "", &config).await.fails(409, "Conflict");
        assert!(message.contains("conflict with \"before-first-apply\" using v1: .data.k"), "{message}");
        let tracked = apply(&server, &path, "ap", "&force=true", &config).await.ok();
        let all = owners(&tracked);
        assert_eq!(all[0], ("ap Apply".to_owned(), json!({"f:data": {"f:k": {}}})));
        assert_eq!(all[1], (update("before-first-apply"), json!({"f:data": {".": {}, "f:n": {}}})));
    }
}

#[tokio::test]
async fn entries_may_be_edited_and_damaged_ones_are_not_taken() {
    let server = server().await;
    let path = format!("{MAPS}/a");
    let made = post(&server, &format!("{MAPS}?fieldManager=m"), &config_map("a", "1")).await.ok();
    let edit = async |pointer: &str, value: Value| {
        let body = json!([{"op": "replace", "path": format!("/metadata/managedFields/0/{pointer}"), "value": value}]);
        call(&server, Method::PATCH, &path, "application/json-patch+json", body.to_string()).await
    };
    let renamed = edit("manager", json!("other")).await.ok();
    assert_eq!(owners(&renamed)[0].0, update("other"));
    let kept = edit("operation", json!("Delete")).await.ok();
    assert_eq!(owners(&kept), owners(&renamed));
    let kept = edit("fieldsV1", json!({"nonsense": {}})).await.ok();
    assert_eq!(owners(&kept), owners(&renamed));
    assert_eq!(made["metadata"]["managedFields"][0]["time"], kept["metadata"]["managedFields"][0]["time"]);
}

#[tokio::test]
async fn old_updaters_are_merged_and_lists_show_owners() {
    let server = server().await;
    post(&server, &format!("{MAPS}?fieldManager=m00"), &config_map("a", "1")).await.ok();
    for n in 1..13 {
        let body = json!({"data": {format!("k{n}"): "x"}});
        merge(&server, &format!("{MAPS}/a?fieldManager=m{n:02}"), &body).await.ok();
    }
    let list = get(&server, MAPS).await.ok();
    let all = owners(&list["items"][0]);
    assert_eq!(all.len(), 10);
    assert!(
        all.iter().any(|(name, fields)| *name == update("ancient-changes") && fields["f:data"].get("f:k").is_some()),
        "{all:?}"
    );
}

#[tokio::test]
async fn events_of_both_groups_are_one_object_with_one_set_of_owners() {
    let server = server().await;
    let event = json!({
        "metadata": {"name": "e"}, "note": "m", "reason": "R", "action": "A", "type": "Normal",
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"}, "reportingController": "c",
        "reportingInstance": "i", "eventTime": "2026-01-01T00:00:00.000000Z",
    });
    let modern = "/apis/events.k8s.io/v1/namespaces/default/events";
    post(&server, &format!("{modern}?fieldManager=modern"), &event).await.ok();
    let core = "/api/v1/namespaces/default/events/e";
    let after = merge(&server, &format!("{core}?fieldManager=core"), &json!({"message": "n"})).await.ok();
    let of = |name: &str| owners(&after).into_iter().find(|(owner, _)| *owner == update(name)).unwrap().1;
    assert_eq!(of("core"), json!({"f:message": {}}));
    assert_eq!((of("modern").get("f:note"), of("modern").get("f:reason")), (None, Some(&json!({}))));
}

#[tokio::test]
async fn the_servers_own_objects_belong_to_it() {
    let server = server().await;
    let space = get(&server, "/api/v1/namespaces/default").await.ok();
    assert_eq!(owners(&space)[0].0, update("kube-apiserver"));
    let definition =
        get(&server, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.test.dev").await.ok();
    let fields = &owners(&definition)[0].1["f:spec"];
    assert_eq!(
        fields["f:names"],
        json!({"f:kind": {}, "f:listKind": {}, "f:plural": {}, "f:shortNames": {}, "f:singular": {}})
    );
    assert_eq!(fields["f:versions"], json!({}));
}

#[tokio::test]
async fn binding_a_pod_gives_nobody_anything() {
    let server = server().await;
    let made = post(&server, &format!("{PODS}?fieldManager=m"), &pod("p")).await.ok();
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    post(&server, &format!("{PODS}/p/binding?fieldManager=s"), &binding).await.ok();
    assert_eq!(owners(&get(&server, &format!("{PODS}/p")).await.ok()), owners(&made));
}
