use super::*;
use crate::registry::Registry;

/// Every reference in the document leads somewhere.
fn check_references(document: &Value, value: &Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(target) if key == "$ref" => {
                        let pointer = target.strip_prefix('#').unwrap();
                        assert!(document.pointer(pointer).is_some(), "{target}");
                    }
                    _ => check_references(document, value),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|v| check_references(document, v)),
        _ => {}
    }
}

#[test]
fn documents_are_closed_and_say_what_kubectl_asks() {
    let tables = Registry::new(Vec::new()).tables();
    for (group, version) in group_versions(&tables) {
        let document = document(&tables, &group, &version).unwrap();
        check_references(&document, &document);
    }
    let core = document(&tables, "", "v1").unwrap();
    let patch = &core["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
    let names: Vec<&str> =
        patch["parameters"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"fieldValidation") && names.contains(&"dryRun"), "{names:?}");
    assert_eq!(patch["x-kubernetes-group-version-kind"], json!({"group": "", "version": "v1", "kind": "Pod"}));
    let containers = &core["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    let swagger = swagger_document(&tables);
    check_references(&swagger, &swagger);
}

#[test]
fn hashes_are_stable_and_pin_documents() {
    let tables = Registry::new(Vec::new()).tables();
    let again = Registry::new(Vec::new()).tables();
    assert_eq!(hash(&tables, "", "v1"), hash(&again, "", "v1"));
    assert_ne!(hash(&tables, "", "v1"), hash(&tables, "coordination.k8s.io", "v1"));
    let query = format!("hash={}", hash(&tables, "", "v1"));
    let response = respond(&tables, "/openapi/v3/api/v1", Some(&query), &http::HeaderMap::new()).unwrap();
    assert!(response.headers()["cache-control"].to_str().unwrap().contains("immutable"));
    let mut headers = http::HeaderMap::new();
    headers.insert("accept", "text/plain".parse().unwrap());
    assert_eq!(respond(&tables, "/openapi/v2", None, &headers).unwrap().status(), 406);
    assert!(respond(&tables, "/openapi/v3/apis/none.example.com/v1", None, &http::HeaderMap::new()).is_none());
}
