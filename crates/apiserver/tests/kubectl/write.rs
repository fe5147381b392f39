//! `create`, `apply`, `edit`, `patch`, `label`, `delete`, and what is refused.

use std::time::Duration;

use crate::harness::{Served, WIDGETS, widget};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apply_creates_changes_and_leaves_alone() {
    let served = Served::with_widgets().await;
    let apply = ["apply", "-f", "-"];
    let one = widget("a", "{size: 1, tags: [x]}");
    assert_eq!(served.run_with(&apply, &one).await.out(), "widget.example.com/a created\n");
    assert_eq!(served.run_with(&apply, &one).await.out(), "widget.example.com/a unchanged\n");
    let two = widget("a", "{size: 2}");
    assert_eq!(served.run_with(&apply, &two).await.out(), "widget.example.com/a configured\n");
    let spec = served.run(&["get", "widget", "a", "-o", "jsonpath={.spec}"]).await.out();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&spec).unwrap(),
        serde_json::json!({"size": 2, "color": "red"})
    );
    let diff = served.run_with(&["diff", "-f", "-"], &widget("a", "{size: 3}")).await;
    assert!(!diff.ok && diff.out.contains("+  size: 3"), "{diff:?}");
    assert_eq!(
        served.run_with(&["replace", "-f", "-"], &widget("a", "{size: 4}")).await.out(),
        "widget.example.com/a replaced\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apply_works_on_builtin_kinds() {
    let served = Served::start().await;
    let apply = ["apply", "-f", "-"];
    let cm = |data: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c}}\ndata: {data}\n");
    served.run_with(&apply, &cm("{a: '1', b: '2'}")).await.out();
    assert_eq!(served.run_with(&apply, &cm("{a: '1', b: '2'}")).await.out(), "configmap/c unchanged\n");
    assert_eq!(served.run_with(&apply, &cm("{a: '3'}")).await.out(), "configmap/c configured\n");
    assert_eq!(served.run(&["get", "cm", "c", "-o", "jsonpath={.data}"]).await.out(), r#"{"a":"3"}"#);
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {k: value}\n";
    served.run_with(&apply, secret).await.out();
    assert_eq!(
        served.run(&["get", "secret", "s", "-o", "jsonpath={.type} {.data.k} {.stringData}"]).await.out(),
        "Opaque dmFsdWU= "
    );
    assert_eq!(
        served.run_with(&apply, WIDGETS).await.out(),
        "customresourcedefinition.apiextensions.k8s.io/widgets.example.com created\n"
    );
    assert_eq!(
        served.run_with(&apply, WIDGETS).await.out(),
        "customresourcedefinition.apiextensions.k8s.io/widgets.example.com unchanged\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_fields_are_errors_warnings_or_nothing() {
    let served = Served::with_widgets().await;
    let bad = widget("u", "{size: 1, siez: 2, parts: [{name: p, prot: 1}]}");
    if !served.since(25) {
        // These read the OpenAPI document and check for themselves.
        let strict = served.run_with(&["create", "-f", "-"], &bad).await.refused();
        assert!(strict.contains("ValidationError(Widget.spec): unknown field \"siez\""), "{strict}");
        let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, comand: [x]}]}\n";
        let strict = served.run_with(&["create", "-f", "-"], pod).await.refused();
        assert!(strict.contains("unknown field \"comand\" in io.k8s.api.core.v1.Container"), "{strict}");
        served.run_with(&["create", "-f", "-", "--validate=false"], &bad).await.out();
        let spec = served.run(&["get", "widget", "u", "-o", "jsonpath={.spec}"]).await.out();
        assert!(!spec.contains("siez"), "{spec}");
        return;
    }
    let strict = served.run_with(&["create", "-f", "-"], &bad).await.refused();
    assert!(
        strict.contains("strict decoding error: unknown field \"spec.parts[0].prot\", unknown field \"spec.siez\""),
        "{strict}"
    );
    let warned = served.run_with(&["create", "-f", "-", "--validate=warn"], &bad).await;
    assert!(warned.ok && warned.err.contains("Warning: unknown field \"spec.siez\""), "{warned:?}");
    let spec = served.run(&["get", "widget", "u", "-o", "jsonpath={.spec}"]).await.out();
    assert!(!spec.contains("siez"), "{spec}");
    served.run(&["delete", "widget", "u"]).await.out();
    let silent = served.run_with(&["create", "-f", "-", "--validate=ignore"], &bad).await;
    assert!(silent.ok && silent.err.is_empty(), "{silent:?}");
    let pod =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: i, comand: [x]}]}\n";
    let strict = served.run_with(&["create", "-f", "-"], pod).await.refused();
    assert!(strict.contains("unknown field \"spec.containers[0].comand\""), "{strict}");
    let twice = "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"d\"},\"data\":{\"a\":\"1\",\"a\":\"2\"}}";
    let said = served
        .run_with(
            &["create", "--raw", "/api/v1/namespaces/default/configmaps?fieldValidation=Strict", "-f", "-"],
            twice,
        )
        .await;
    let error = said.refused();
    assert!(error.contains("duplicate field \"data.a\""), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_objects_are_refused_with_every_cause() {
    let served = Served::with_widgets().await;
    // Old kubectls check types themselves unless told not to.
    let create = ["create", "-f", "-", "--validate=false"];
    for (spec, expected) in [
        ("{size: big}", "spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\""),
        ("{}", "spec.size: Required value"),
        ("{size: 0}", "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"),
        ("{size: 1, color: blue}", "spec.color: Unsupported value: \"blue\": supported values: \"red\", \"green\""),
        ("{size: 1, tags: [a, a]}", "spec.tags[1]: Duplicate value: \"a\""),
        ("{size: 1, parts: [{}]}", "spec.parts[0].name: Required value"),
    ] {
        let error = served.run_with(&create, &widget("bad", spec)).await.refused();
        // kubectl prints several causes as a list and one in a sentence.
        assert!(error.contains("The Widget \"bad\" is invalid") && error.contains(expected), "{spec}: {error}");
    }
    let name = served.run_with(&create, &widget("Bad_Name", "{size: 1}")).await.refused();
    assert!(name.contains("metadata.name: Invalid value: \"Bad_Name\": a lowercase RFC 1123 subdomain"), "{name}");
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: []}\n";
    let error = served.run_with(&create, pod).await.refused();
    assert!(error.contains("spec.containers: Required value"), "{error}");
    let typed = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: x}\n";
    let error = served.run_with(&create, typed).await.refused();
    assert!(error.contains("cannot be handled as a Pod"), "{error}");
    let typed = "{\"apiVersion\":\"example.com/v1\",\"kind\":\"Widget\",\"metadata\":{\"name\":\"x\",\"labels\":{\"a\":1}},\"spec\":{\"size\":1}}";
    let raw = ["create", "--raw", "/apis/example.com/v1/namespaces/default/widgets", "-f", "-"];
    let error = served.run_with(&raw, typed).await.refused();
    assert!(error.contains("metadata.labels.a"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patches_of_every_type_apply() {
    let served = Served::with_widgets().await;
    served.run_with(&["create", "-f", "-"], &widget("p", "{size: 1}")).await.out();
    let patch = async |kind: &str, body: &str| served.run(&["patch", "widget", "p", "--type", kind, "-p", body]).await;
    patch("merge", r#"{"spec":{"size":2,"color":null}}"#).await.out();
    let spec = served.run(&["get", "widget", "p", "-o", "jsonpath={.spec.size} {.spec.color}"]).await.out();
    assert_eq!(spec, "2 red");
    patch("json", r#"[{"op":"test","path":"/spec/size","value":2},{"op":"add","path":"/spec/tags","value":["x"]}]"#)
        .await
        .out();
    let failed = patch("json", r#"[{"op":"test","path":"/spec/size","value":99}]"#).await.refused();
    // Old kubectls do not show the message of a refusal without causes.
    assert!(failed.contains(if served.since(24) { "/spec/size" } else { "The request is invalid" }), "{failed}");
    let invalid = patch("merge", r#"{"spec":{"size":1000}}"#).await.refused();
    assert!(invalid.contains("should be less than or equal to 100"), "{invalid}");
    let unsupported = patch("strategic", r#"{"spec":{"size":3}}"#).await.refused();
    assert!(
        unsupported.contains("UnsupportedMediaType")
            || unsupported.contains("the body of the request was in an unknown format"),
        "{unsupported}"
    );
    assert!(patch("merge", r#"{"spec":{"size":2}}"#).await.out().contains("(no change)"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edit_label_annotate_change_objects() {
    let served = Served::with_widgets().await;
    served.run_with(&["create", "-f", "-"], &widget("e", "{size: 1}")).await.out();
    let edited = served.run_env(&["edit", "widget", "e"], "KUBE_EDITOR", "sed -i 's/size: 1/size: 5/'").await.out();
    assert_eq!(edited, "widget.example.com/e edited\n");
    assert_eq!(served.run(&["get", "widget", "e", "-o", "jsonpath={.spec.size}"]).await.out(), "5");
    served.run(&["label", "widget", "e", "k=v"]).await.out();
    let again = served.run(&["label", "widget", "e", "k=other"]).await.refused();
    assert!(again.contains("already has a value"), "{again}");
    served.run(&["label", "widget", "e", "k=other", "--overwrite"]).await.out();
    served.run(&["label", "widget", "e", "k-"]).await.out();
    served.run(&["annotate", "widget", "e", "note=long text"]).await.out();
    let meta = served
        .run(&["get", "widget", "e", "-o", "jsonpath={.metadata.labels}{.metadata.annotations.note}"])
        .await
        .out();
    assert_eq!(meta, "long text");
    let bad = served.run(&["label", "widget", "e", "k=not a value"]).await.refused();
    assert!(bad.contains("a valid label must be"), "{bad}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_side_dry_run_stores_nothing() {
    let served = Served::with_widgets().await;
    let said =
        served.run_with(&["create", "--dry-run=server", "-o", "yaml", "-f", "-"], &widget("d", "{size: 1}")).await;
    let out = said.out();
    assert!(out.contains("color: red") && out.contains("uid:"), "{out}");
    served.run(&["get", "widget", "d"]).await.refused();
    let invalid = served.run_with(&["apply", "--dry-run=server", "-f", "-"], &widget("d", "{size: 0}")).await;
    assert!(invalid.refused().contains("greater than or equal to 1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delete_waits_for_finalizers_and_namespaces() {
    let served = Served::with_widgets().await;
    served.run_with(&["create", "-f", "-"], &widget("f", "{size: 1}")).await.out();
    let add = r#"{"metadata":{"finalizers":["example.com/hold"]}}"#;
    served.run(&["patch", "widget", "f", "--type=merge", "-p", add]).await.out();
    let deleting = served.run(&["delete", "widget", "f", "--wait=true", "--timeout=30s"]);
    let releasing = async {
        // Not by `--watch`: of a single object kubectl does not show the first change, which may be the one.
        let shown = "jsonpath={.metadata.deletionTimestamp}";
        let marked = async { while served.run(&["get", "widget", "f", "-o", shown]).await.out().is_empty() {} };
        tokio::time::timeout(Duration::from_secs(60), marked).await.expect("the deletion is seen");
        let remove = r#"{"metadata":{"finalizers":null}}"#;
        served.run(&["patch", "widget", "f", "--type=merge", "-p", remove]).await.out();
    };
    let (said, ()) = tokio::join!(deleting, releasing);
    assert!(said.out().contains("deleted"));
    for i in 0..3 {
        served.run_with(&["create", "-f", "-"], &widget(&format!("x{i}"), "{size: 1}")).await.out();
    }
    served.run(&["delete", "widgets", "--all"]).await.out();
    assert_eq!(served.run(&["get", "widgets", "-o", "name"]).await.out(), "");
    let missing = served.run(&["delete", "widget", "none"]).await.refused();
    assert!(missing.contains("NotFound"), "{missing}");
    served.run(&["delete", "widget", "none", "--ignore-not-found"]).await.out();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_definitions_are_refused() {
    let served = Served::start().await;
    let create = async |from: &str, to: &str| {
        assert!(WIDGETS.contains(from), "{from}");
        served.run_with(&["create", "-f", "-"], &WIDGETS.replacen(from, to, 1)).await.refused()
    };
    let error = create("size: {type: integer,", "size: {").await;
    assert!(
        error.contains("properties[size].type: Required value: must not be empty for specified object fields"),
        "{error}"
    );
    let error = create("name: widgets.example.com", "name: gadgets.example.com").await;
    assert!(error.contains("must be spec.names.plural+\".\"+spec.group"), "{error}");
    let error = create("storage: true", "storage: false").await;
    assert!(error.contains("must have exactly one version marked as storage version"), "{error}");
    let error = create("default: red", "default: blue").await;
    assert!(error.contains("default: Invalid value: \"blue\""), "{error}");
    let error = create("scope: Namespaced", "scope: Galaxy").await;
    assert!(error.contains("spec.scope: Unsupported value: \"Galaxy\""), "{error}");
    let error = create("enum: [red, green]", "pattern: '['").await;
    assert!(error.contains("must be a valid regular expression"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_of_a_definition_judge_its_objects() {
    let served = Served::start().await;
    let size = "              size:";
    let broken = WIDGETS.replacen(
        size,
        &format!("              any: {{type: string, x-kubernetes-validations: [{{rule: 'self.'}}]}}\n{size}"),
        1,
    );
    let error = served.run_with(&["create", "-f", "-"], &broken).await.refused();
    assert!(
        error.contains("x-kubernetes-validations[0].rule: Invalid value") && error.contains("compilation failed"),
        "{error}"
    );
    let rule = "x-kubernetes-validations: [{rule: 'self == oldSelf', message: any is immutable}]";
    let rules = WIDGETS.replacen(size, &format!("              any: {{type: string, {rule}}}\n{size}"), 1);
    served.run_with(&["create", "-f", "-"], &rules).await.out();
    served.run_with(&["create", "-f", "-"], &widget("ruled", "{any: a, size: 1}")).await.out();
    let error =
        served.run(&["patch", "widget", "ruled", "--type=merge", "-p", r#"{"spec":{"any":"b"}}"#]).await.refused();
    assert!(error.contains("is invalid: spec.any: Invalid value: \"b\": any is immutable"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typed_create_commands_send_protobuf_and_work() {
    let served = Served::start().await;
    served.run(&["create", "namespace", "team"]).await.out();
    served.run(&["create", "serviceaccount", "robot", "-n", "team"]).await.out();
    let secret = ["create", "secret", "generic", "s", "--from-literal=a=b", "--from-literal=empty="];
    served.run(&secret).await.out();
    let data = served.run(&["get", "secret", "s", "-o", "jsonpath={.data} {.type}"]).await.out();
    assert_eq!(data, r#"{"a":"Yg==","empty":""} Opaque"#);
    let meta = served.run(&["get", "secret", "s", "-o", "json"]).await.out();
    assert!(!meta.contains("generateName") && !meta.contains("selfLink"), "{meta}");
    let again = served.run(&secret).await.refused();
    assert!(again.contains("secrets \"s\" already exists"), "{again}");
    assert_eq!(served.run(&["get", "sa", "-n", "team", "-o", "name"]).await.out(), "serviceaccount/robot\n");
}
