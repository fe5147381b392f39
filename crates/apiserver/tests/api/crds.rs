//! CustomResourceDefinitions.

use fv_apiserver::{ApiServerBuilder, Store};
use serde_json::{Value, json};

use crate::support::*;
use crate::watches::Lines;

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array().unwrap();
    &conditions.iter().find(|c| c["type"] == kind).unwrap()["status"]
}

#[tokio::test]
async fn definition_is_served_at_once_and_its_removal_takes_the_objects() {
    let server = ApiServerBuilder::new(Store::memory()).build().await.unwrap();
    get(&server, WIDGETS).await.finds_no_path();
    let made = post(&server, CRDS, &widgets()).await.ok();
    assert_eq!(condition(&made, "Established"), "True");
    assert_eq!(condition(&made, "NamesAccepted"), "True");
    assert_eq!(made["status"]["storedVersions"], json!(["v1"]));
    post(&server, WIDGETS, &widget("a", 1)).await.ok();
    let mut held = widget("held", 1);
    held["metadata"]["finalizers"] = json!(["x.io/f"]);
    post(&server, WIDGETS, &held).await.ok();

    let path = format!("{CRDS}/widgets.test.dev");
    let marked = delete(&server, &path, &Value::Null).await.ok();
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    get(&server, &format!("{WIDGETS}/a")).await.fails(404, "NotFound");
    post(&server, WIDGETS, &widget("b", 1)).await.fails(405, "MethodNotAllowed");
    get(&server, &path).await.ok();
    merge(&server, &format!("{WIDGETS}/held"), &json!({"metadata": {"finalizers": null}})).await.ok();
    get(&server, &path).await.fails(404, "NotFound");
    get(&server, WIDGETS).await.finds_no_path();
}

#[tokio::test]
async fn rules_hold_for_every_way_of_writing_and_follow_the_definition() {
    let server = server().await;
    let path = format!("{CRDS}/widgets.test.dev");
    let with_rules = |definition: &mut Value, rules: Value| {
        for version in definition["spec"]["versions"].as_array_mut().unwrap() {
            version["schema"]["openAPIV3Schema"]["x-kubernetes-validations"] = rules.clone();
        }
    };
    post(&server, WIDGETS, &widget("old", 1)).await.ok();
    let mut definition = get(&server, &path).await.ok();
    with_rules(
        &mut definition,
        json!([{"rule": "!has(self.status) || !has(self.status.phase) || self.status.phase != 'Bad'", "message": "no bad phase"},
               {"rule": "self.spec.size > 1 || self.metadata.name == 'one'", "message": "too small"}]),
    );
    put(&server, &path, &definition).await.ok();

    let refused = post(&server, WIDGETS, &widget("b", 1)).await.fails(422, "Invalid");
    assert!(refused.ends_with("Invalid value: too small"), "{refused}");
    post(&server, WIDGETS, &widget("one", 1)).await.ok();
    post(&server, WIDGETS, &widget("b", 2)).await.ok();
    merge(&server, &format!("{WIDGETS}/b"), &json!({"spec": {"size": 1}})).await.fails(422, "Invalid");
    merge(&server, &format!("{WIDGETS}/b/status"), &json!({"status": {"phase": "Bad"}})).await.fails(422, "Invalid");
    merge(&server, &format!("{WIDGETS}/b/status"), &json!({"status": {"phase": "Good"}})).await.ok();
    // The rule is about the whole object, so the older one may not be touched before it is mended.
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    merge(&server, &format!("{WIDGETS}/old"), &labels).await.fails(422, "Invalid");

    with_rules(&mut definition, Value::Null);
    definition["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    definition["metadata"]["resourceVersion"] = get(&server, &path).await.ok()["metadata"]["resourceVersion"].clone();
    put(&server, &path, &definition).await.ok();
    merge(&server, &format!("{WIDGETS}/old"), &labels).await.ok();
}

#[tokio::test]
async fn versions_share_one_storage() {
    let server = server().await;
    post(&server, WIDGETS, &widget("a", 3)).await.ok();
    let old = "/apis/test.dev/v1alpha1/namespaces/default/widgets";
    let answer = get(&server, &format!("{old}/a")).await;
    assert_eq!(answer.warnings, ["299 - \"test.dev/v1alpha1 Widget is deprecated; use test.dev/v1 Widget\""]);
    let object = answer.ok();
    assert_eq!((&object["apiVersion"], &object["spec"]["size"]), (&json!("test.dev/v1alpha1"), &json!(3)));
    merge(&server, &format!("{old}/a"), &json!({"spec": {"size": 4}})).await.ok();
    let object = get(&server, &format!("{WIDGETS}/a")).await.ok();
    assert_eq!((&object["apiVersion"], &object["spec"]["size"]), (&json!("test.dev/v1"), &json!(4)));
    let list = get(&server, old).await.ok();
    assert_eq!((&list["kind"], &list["items"][0]["apiVersion"]), (&json!("WidgetList"), &json!("test.dev/v1alpha1")));
}

/// Changes the definition of widgets.
async fn redefine(server: &fv_apiserver::ApiServer, change: impl FnOnce(&mut Value)) -> Value {
    let path = format!("{CRDS}/widgets.test.dev");
    let mut definition = get(server, &path).await.ok();
    change(&mut definition);
    put(server, &path, &definition).await.ok()
}

#[tokio::test]
async fn objects_of_an_older_schema_are_read_as_the_new_one_says() {
    let server = server().await;
    let mut old = widget("old", 1);
    old["spec"]["colour"] = json!("red");
    post(&server, WIDGETS, &old).await.ok();
    let mut watch = Lines::open(&server, &format!("{WIDGETS}?watch=1")).await;
    watch.expect("ADDED", "old").await;
    redefine(&server, |definition| {
        for version in definition["spec"]["versions"].as_array_mut().unwrap() {
            let spec = &mut version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
            spec.as_object_mut().unwrap().remove("colour");
            spec["shape"] = json!({"type": "string", "default": "round"});
        }
    })
    .await;
    let expected = json!({"size": 1, "shape": "round"});
    assert_eq!(get(&server, &format!("{WIDGETS}/old")).await.ok()["spec"], expected);
    let list = get(&server, WIDGETS).await.ok();
    assert_eq!(list["items"][0]["spec"], expected);
    let mut watch = Lines::open(&server, &format!("{WIDGETS}?watch=1")).await;
    assert_eq!(watch.expect("ADDED", "old").await["spec"], expected);
    // A write that changes nothing stores it so, once.
    let revision = |object: &Value| object["metadata"]["resourceVersion"].clone();
    let labelled = merge(&server, &format!("{WIDGETS}/old"), &json!({})).await.ok();
    assert_ne!(revision(&labelled), revision(&list["items"][0]));
    let again = merge(&server, &format!("{WIDGETS}/old"), &json!({})).await.ok();
    assert_eq!(revision(&again), revision(&labelled));
    assert_eq!(again["metadata"]["generation"], 1);
}

#[tokio::test]
async fn objects_stored_in_another_version_are_read_and_rewritten_in_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    {
        let server = ApiServerBuilder::new(Store::open(dir.path()).unwrap()).crd(widgets()).build().await.unwrap();
        post(&server, WIDGETS, &widget("a", 3)).await.ok();
        let changed = redefine(&server, |definition| {
            definition["spec"]["versions"][0]["storage"] = json!(false);
            definition["spec"]["versions"][1]["storage"] = json!(true);
        })
        .await;
        assert_eq!(changed["status"]["storedVersions"], json!(["v1", "v1alpha1"]));
    }
    let server = ApiServerBuilder::new(Store::open(dir.path()).unwrap()).build().await.unwrap();
    for version in ["v1", "v1alpha1"] {
        let all = format!("/apis/test.dev/{version}/namespaces/default/widgets");
        let expected = json!(format!("test.dev/{version}"));
        let object = get(&server, &format!("{all}/a")).await.ok();
        assert_eq!((&object["apiVersion"], &object["spec"]["size"]), (&expected, &json!(3)));
        assert_eq!(get(&server, &all).await.ok()["items"][0]["apiVersion"], expected);
    }
    let stored = || {
        let object = server.store().get("test.dev/widgets", "default/a").unwrap();
        serde_json::from_slice::<Value>(&object.body).unwrap()["apiVersion"].clone()
    };
    assert_eq!(stored(), "test.dev/v1");
    merge(&server, &format!("{WIDGETS}/a"), &json!({})).await.ok();
    assert_eq!(stored(), "test.dev/v1alpha1");
}

#[tokio::test]
async fn a_version_knows_only_the_fields_of_its_schema() {
    let server = server().await;
    redefine(&server, |definition| {
        let old =
            &mut definition["spec"]["versions"][1]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
        old.as_object_mut().unwrap().remove("colour");
        old["shade"] = json!({"type": "string", "default": "dark"});
    })
    .await;
    let mut both = widget("a", 3);
    both["spec"]["colour"] = json!("red");
    post(&server, WIDGETS, &both).await.ok();
    let old = "/apis/test.dev/v1alpha1/namespaces/default/widgets/a";
    assert_eq!(get(&server, old).await.ok()["spec"], json!({"size": 3, "shade": "dark"}));
    assert_eq!(get(&server, &format!("{WIDGETS}/a")).await.ok()["spec"], json!({"size": 3, "colour": "red"}));
    merge(&server, old, &json!({"spec": {"size": 4}})).await.ok();
    assert_eq!(get(&server, &format!("{WIDGETS}/a")).await.ok()["spec"], json!({"size": 4}));
}

#[tokio::test]
async fn a_version_that_objects_may_be_stored_in_is_kept() {
    let server = server().await;
    redefine(&server, |definition| {
        definition["spec"]["versions"][0]["storage"] = json!(false);
        definition["spec"]["versions"][1]["storage"] = json!(true);
    })
    .await;
    let path = format!("{CRDS}/widgets.test.dev");
    let mut definition = get(&server, &path).await.ok();
    definition["spec"]["versions"].as_array_mut().unwrap().remove(0);
    let refused = put(&server, &path, &definition).await.fails(422, "Invalid");
    assert!(refused.contains("v1 was previously a storage version"), "{refused}");
    let status = format!("{path}/status");
    for (versions, why) in [
        (json!([]), "must have at least one stored version"),
        (json!(["v1"]), "must have the storage version v1alpha1"),
        (json!(["v1", "v1alpha1", "v9"]), "missing from spec.versions"),
    ] {
        let refused =
            merge(&server, &status, &json!({"status": {"storedVersions": versions}})).await.fails(422, "Invalid");
        assert!(refused.contains(why), "{refused}");
    }
    merge(&server, &status, &json!({"status": {"storedVersions": ["v1alpha1"]}})).await.ok();
    redefine(&server, |definition| drop(definition["spec"]["versions"].as_array_mut().unwrap().remove(0))).await;
}

#[tokio::test]
async fn selectable_fields_choose_objects() {
    let server = server().await;
    redefine(&server, |definition| {
        definition["spec"]["versions"][0]["selectableFields"] =
            json!([{"jsonPath": ".spec.size"}, {"jsonPath": ".spec.colour"}]);
    })
    .await;
    for (name, size, colour) in [("a", 1, "red"), ("b", 2, "red"), ("c", 2, "blue")] {
        let mut object = widget(name, size);
        object["spec"]["colour"] = json!(colour);
        post(&server, WIDGETS, &object).await.ok();
    }
    let names = async |selector: &str| {
        let list = get(&server, &format!("{WIDGETS}?fieldSelector={selector}")).await.ok();
        let items = list["items"].as_array().unwrap();
        items.iter().map(|o| o["metadata"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("spec.size%3D2").await, ["b", "c"]);
    assert_eq!(names("spec.size%3D2,spec.colour%21%3Dred").await, ["c"]);
    get(&server, &format!("{WIDGETS}?fieldSelector=spec.replicas%3D1")).await.fails(400, "BadRequest");
    let old = "/apis/test.dev/v1alpha1/namespaces/default/widgets";
    get(&server, &format!("{old}?fieldSelector=spec.size%3D1")).await.fails(400, "BadRequest");
    let mut watch = Lines::open(&server, &format!("{WIDGETS}?watch=1&fieldSelector=spec.colour%3Dblue")).await;
    watch.expect("ADDED", "c").await;
    merge(&server, &format!("{WIDGETS}/c"), &json!({"spec": {"colour": "red"}})).await.ok();
    watch.expect("DELETED", "c").await;
    delete(&server, &format!("{WIDGETS}?fieldSelector=spec.size%3D2"), &Value::Null).await.ok();
    assert_eq!(names("metadata.namespace%3Ddefault").await, ["a"]);
}

#[tokio::test]
async fn updated_definition_is_served_anew() {
    let server = server().await;
    let path = format!("{CRDS}/widgets.test.dev");
    let mut definition = get(&server, &path).await.ok();
    definition["spec"]["versions"][1]["served"] = json!(false);
    put(&server, &path, &definition).await.ok();
    get(&server, "/apis/test.dev/v1alpha1/namespaces/default/widgets").await.finds_no_path();
    get(&server, WIDGETS).await.ok();
}

#[tokio::test]
async fn broken_or_clashing_definitions_are_not_served() {
    let server = server().await;
    let mut wrong = gadgets();
    wrong["metadata"]["name"] = json!("other.test.dev");
    post(&server, CRDS, &wrong).await.fails(422, "Invalid");
    let mut clash = gadgets();
    clash["metadata"]["name"] = json!("others.test.dev");
    clash["spec"]["names"]["plural"] = json!("others");
    clash["spec"]["names"]["singular"] = json!("other");
    let made = post(&server, CRDS, &clash).await.ok();
    assert_eq!(condition(&made, "NamesAccepted"), "False");
    get(&server, "/apis/test.dev/v1/others").await.finds_no_path();
}

/// A definition with the kind of another.
fn clashing(plural: &str) -> Value {
    let mut definition = gadgets();
    definition["metadata"]["name"] = json!(format!("{plural}.test.dev"));
    definition["spec"]["names"]["plural"] = json!(plural);
    definition["spec"]["names"]["singular"] = json!(plural.trim_end_matches('s'));
    definition
}

#[tokio::test]
async fn names_that_become_free_go_to_the_definition_that_waits_for_them() {
    let server = server().await;
    for definition in [clashing("seconds"), clashing("thirds")] {
        post(&server, CRDS, &definition).await.ok();
    }
    let named = |plural: &str| format!("{CRDS}/{plural}.test.dev");
    let accepted = async |plural: &str| {
        let definition = get(&server, &named(plural)).await.ok();
        ["NamesAccepted", "Established"].map(|kind| condition(&definition, kind) == "True")
    };
    assert_eq!(accepted("seconds").await, [false, false]);
    delete(&server, &named("gadgets"), &Value::Null).await.ok();
    assert_eq!((accepted("seconds").await, accepted("thirds").await), ([true, true], [false, false]));
    get(&server, "/apis/test.dev/v1/seconds").await.ok();
    get(&server, "/apis/test.dev/v1/thirds").await.finds_no_path();
    delete(&server, &named("seconds"), &Value::Null).await.ok();
    assert_eq!(accepted("thirds").await, [true, true]);
    get(&server, "/apis/test.dev/v1/thirds").await.ok();
}

#[tokio::test]
async fn of_definitions_made_at_the_same_time_one_gets_the_names() {
    let server = ApiServerBuilder::new(Store::memory()).build().await.unwrap();
    let definitions = ["ones", "twos", "threes", "fours"].map(clashing);
    let made = definitions.iter().map(|definition| post(&server, CRDS, definition));
    for answer in futures::future::join_all(made).await {
        answer.ok();
    }
    let list = get(&server, CRDS).await.ok();
    let all = list["items"].as_array().unwrap();
    let served = all.iter().filter(|definition| condition(definition, "Established") == "True").count();
    assert_eq!((all.len(), served), (4, 1), "{list:#}");
}

#[tokio::test]
async fn watches_end_with_the_definition_or_the_version() {
    let server = server().await;
    post(&server, WIDGETS, &widget("a", 1)).await.ok();
    let old = "/apis/test.dev/v1alpha1/namespaces/default/widgets";
    let mut of_the_old = Lines::open(&server, &format!("{old}?watch=1")).await;
    let mut of_the_new = Lines::open(&server, &format!("{WIDGETS}?watch=1")).await;
    of_the_old.expect("ADDED", "a").await;
    of_the_new.expect("ADDED", "a").await;
    let path = format!("{CRDS}/widgets.test.dev");
    let mut definition = get(&server, &path).await.ok();
    definition["spec"]["versions"][1]["served"] = json!(false);
    put(&server, &path, &definition).await.ok();
    assert_eq!(of_the_old.next().await, None);
    merge(&server, &format!("{WIDGETS}/a"), &json!({"spec": {"size": 2}})).await.ok();
    of_the_new.expect("MODIFIED", "a").await;
    delete(&server, &path, &Value::Null).await.ok();
    of_the_new.expect("DELETED", "a").await;
    assert_eq!(of_the_new.next().await, None);
}

#[tokio::test]
async fn definitions_and_objects_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let revision = {
        let store = Store::open(dir.path()).unwrap();
        let server = ApiServerBuilder::new(store).crd(widgets()).build().await.unwrap();
        post(&server, WIDGETS, &widget("a", 3)).await.ok();
        server.store().revision()
    };
    // Without handing the definition in again.
    let server = ApiServerBuilder::new(Store::open(dir.path()).unwrap()).build().await.unwrap();
    assert_eq!(server.store().revision(), revision);
    assert_eq!(get(&server, &format!("{WIDGETS}/a")).await.ok()["spec"]["size"], 3);
    drop(server);
    // With the same one: nothing is written.
    let server = ApiServerBuilder::new(Store::open(dir.path()).unwrap()).crd(widgets()).build().await.unwrap();
    assert_eq!(server.store().revision(), revision);
}

#[tokio::test]
async fn definition_is_served_even_if_its_creator_hangs_up() {
    let server = ApiServerBuilder::new(Store::memory()).build().await.unwrap();
    let definition = widgets();
    let mut request = Box::pin(post(&server, CRDS, &definition));
    assert!(futures::poll!(&mut request).is_pending());
    drop(request);
    let served = async {
        while !get(&server, WIDGETS).await.code.is_success() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), served).await.unwrap();
}

#[tokio::test]
async fn schemas_of_embedded_objects_say_what_every_object_has() {
    let server = server().await;
    let mut definition = gadgets();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = json!({"type": "object", "properties": {
        "template": {"type": "object", "x-kubernetes-embedded-resource": true, "required": ["kind"],
            "properties": {"spec": {"type": "string"}}}}});
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gadgets.test.dev";
    definition["metadata"]["resourceVersion"] = get(&server, path).await.ok()["metadata"]["resourceVersion"].clone();
    put(&server, path, &definition).await.ok();
    let document = get(&server, "/openapi/v3/apis/test.dev/v1").await.ok();
    let template = &document["components"]["schemas"]["dev.test.v1.Gadget"]["properties"]["template"];
    assert_eq!(template["required"], json!(["kind", "apiVersion"]));
    let names: Vec<&String> = template["properties"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["apiVersion", "kind", "metadata", "spec"]);
    assert!(document["components"]["schemas"]["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"].is_object());
}

#[tokio::test]
async fn a_definition_that_goes_while_the_body_comes_takes_no_write() {
    let server = server().await;
    let (sender, receiver) = futures::channel::mpsc::unbounded::<Result<bytes::Bytes, std::io::Error>>();
    let request = http::Request::post(GADGETS).header("content-type", "application/json");
    let request = request.body(axum::body::Body::from_stream(receiver)).unwrap();
    let writer = server.clone();
    let write = tokio::spawn(async move { send(&writer, request).await });
    tokio::task::yield_now().await;
    let definitions = CRDS;
    delete(&server, &format!("{definitions}/gadgets.test.dev"), &Value::Null).await.ok();
    get(&server, GADGETS).await.finds_no_path();
    sender.unbounded_send(Ok(gadget("late").to_string().into())).unwrap();
    drop(sender);
    write.await.unwrap().finds_no_path();
    post(&server, definitions, &gadgets()).await.ok();
    assert_eq!(get(&server, GADGETS).await.ok()["items"], json!([]));
}
