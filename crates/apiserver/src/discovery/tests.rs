use http::HeaderMap;
use serde_json::json;

use super::*;
use crate::registry::{AggregatedGroup, Registry};

fn tables() -> std::sync::Arc<Tables> {
    let start = |name: &str| AggregatedResource {
        name: name.into(),
        singular: String::new(),
        kind: "VirtualMachine".into(),
        namespaced: true,
        verbs: vec!["update".into()],
    };
    let resources = vec![start("virtualmachines/start"), start("virtualmachines/stop"), start("version")];
    let group = AggregatedGroup { group: "subresources.kubevirt.io".into(), versions: vec![("v1".into(), resources)] };
    Registry::new(vec![group]).tables()
}

#[test]
fn core_resources_match_kubernetes() {
    let list = api_resource_list(&tables(), "", "v1").unwrap();
    let find = |name: &str| list["resources"].as_array().unwrap().iter().find(|r| r["name"] == name).cloned().unwrap();
    assert_eq!(
        find("pods"),
        json!({"name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod",
               "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
               "shortNames": ["po"], "categories": ["all"], "storageVersionHash": "xPOwRZ+Yhw8="})
    );
    assert_eq!(
        find("pods/log"),
        json!({"name": "pods/log", "singularName": "", "namespaced": true, "kind": "Pod", "verbs": ["get"]})
    );
    assert!(api_resource_list(&tables(), "", "v2").is_none());
}

#[test]
fn groups_of_other_components_are_listed() {
    let group = api_group(&tables(), "subresources.kubevirt.io").unwrap();
    assert_eq!(group["preferredVersion"]["groupVersion"], "subresources.kubevirt.io/v1");
    let list = group_discovery_list(&tables(), false, AggregatedVersion::V2);
    let items = list["items"].as_array().unwrap();
    let group = items.iter().find(|g| g["metadata"]["name"] == "subresources.kubevirt.io").unwrap();
    let machines = &group["versions"][0]["resources"][0];
    assert_eq!(
        (&machines["resource"], &machines["subresources"][1]["subresource"]),
        (&json!("virtualmachines"), &json!("stop"))
    );
    assert_eq!(group["versions"][0]["resources"][1]["resource"], "version");
}

#[test]
fn clients_choose_the_form_and_cache_it() {
    let get = |accept: &str, etag: Option<&str>| {
        let mut headers = HeaderMap::new();
        headers.insert("accept", accept.parse().unwrap());
        if let Some(etag) = etag {
            headers.insert("if-none-match", etag.parse().unwrap());
        }
        respond(&tables(), "/apis", &headers).unwrap()
    };
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let response = get(accept, None);
    assert_eq!(
        response.headers()["content-type"],
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    );
    let etag = response.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(get(accept, Some(&etag)).status(), 304);
    assert_eq!(get("application/json", None).headers()["content-type"], "application/json");
    assert!(respond(&tables(), "/apis/none.example.com", &HeaderMap::new()).is_none());
    assert!(respond(&tables(), "/api/v1/pods", &HeaderMap::new()).is_none());
}
