//! `apply --server-side`, conflicts, migration from client-side apply, `diff --server-side`.

use serde_json::{Value, json};

use crate::harness::{Served, widget};

const APPLY: [&str; 4] = ["apply", "--server-side", "-f", "-"];

fn with(args: &[&'static str]) -> Vec<&'static str> {
    APPLY.iter().chain(args).copied().collect()
}

/// Managers and what they own below spec.
async fn owners(served: &Served, what: &str) -> Vec<(String, Value)> {
    let mut args = vec!["get", what, "-o", "json"];
    if served.since(21) {
        args.push("--show-managed-fields");
    }
    let object: Value = serde_json::from_str(&served.run(&args).await.out()).unwrap();
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let name =
        |entry: &Value| format!("{} {}", entry["manager"].as_str().unwrap(), entry["operation"].as_str().unwrap());
    let mut owners: Vec<(String, Value)> =
        entries.iter().map(|entry| (name(entry), entry["fieldsV1"]["f:spec"].clone())).collect();
    owners.sort_by(|a, b| a.0.cmp(&b.0));
    owners
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_side_apply_creates_changes_and_prunes() {
    let served = Served::with_widgets().await;
    let said = served.run_with(&APPLY, &widget("a", "{size: 1, tags: [p, q]}")).await.out();
    assert_eq!(said, "widget.example.com/a serverside-applied\n");
    served.run_with(&APPLY, &widget("a", "{size: 2, tags: [q]}")).await.out();
    let spec = served.run(&["get", "widget", "a", "-o", "jsonpath={.spec.size} {.spec.tags}"]).await.out();
    assert_eq!(spec, r#"2 ["q"]"#);
    let expected = json!({"f:size": {}, "f:tags": {"v:\"q\"": {}}});
    assert_eq!(owners(&served, "widget/a").await, [("kubectl Apply".to_owned(), expected)]);
    let before = served.run(&["get", "widget", "a", "-o", "jsonpath={.metadata.resourceVersion}"]).await.out();
    served.run_with(&APPLY, &widget("a", "{size: 2, tags: [q]}")).await.out();
    let after = served.run(&["get", "widget", "a", "-o", "jsonpath={.metadata.resourceVersion}"]).await.out();
    assert_eq!(before, after);
    let dry = served.run_with(&with(&["--dry-run=server"]), &widget("a", "{size: 3}")).await.out();
    assert_eq!(dry, "widget.example.com/a serverside-applied (server dry run)\n");
    assert_eq!(served.run(&["get", "widget", "a", "-o", "jsonpath={.spec.size}"]).await.out(), "2");
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: i}]}\n";
    assert_eq!(served.run_with(&APPLY, pod).await.out(), "pod/p serverside-applied\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflicts_are_shown_and_can_be_forced() {
    let served = Served::with_widgets().await;
    served.run_with(&APPLY, &widget("a", "{size: 1}")).await.out();
    let other = with(&["--field-manager=other"]);
    let error = served.run_with(&other, &widget("a", "{size: 2}")).await.refused();
    assert!(error.contains("Apply failed with 1 conflict: conflict with \"kubectl\": .spec.size"), "{error}");
    assert!(error.contains("--force-conflicts"), "kubectl recognises the conflict and says the way out: {error}");
    served.run_with(&with(&["--field-manager=other", "--force-conflicts"]), &widget("a", "{size: 2}")).await.out();
    assert_eq!(owners(&served, "widget/a").await, [("other Apply".to_owned(), json!({"f:size": {}}))]);
    served.run(&["patch", "widget", "a", "--type=merge", "-p", r#"{"spec":{"size":5}}"#]).await.out();
    let error = served.run_with(&other, &widget("a", "{size: 2}")).await.refused();
    assert!(error.contains("conflict with \"kubectl-patch\" using example.com/v1"), "{error}");
    let typo = served.run_with(&with(&["--validate=false"]), &widget("a", "{siez: 2}")).await.refused();
    assert!(typo.contains(".spec.siez: field not declared in schema"), "{typo}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_applied_by_the_client_moves_over_without_conflict() {
    let served = Served::with_widgets().await;
    served.run_with(&["apply", "-f", "-"], &widget("a", "{size: 1, tags: [x]}")).await.out();
    let before = owners(&served, "widget/a").await;
    assert_eq!(before[0].0, "kubectl-client-side-apply Update");
    served.run_with(&APPLY, &widget("a", "{size: 2}")).await.out();
    let spec = served.run(&["get", "widget", "a", "-o", "jsonpath={.spec.size}"]).await.out();
    assert_eq!(spec, "2");
    let after = owners(&served, "widget/a").await;
    assert!(after.iter().any(|(name, fields)| name == "kubectl Apply" && fields.get("f:size").is_some()), "{after:?}");
    let jsonpath = "jsonpath={.metadata.annotations.kubectl\\.kubernetes\\.io/last-applied-configuration}";
    let last = served.run(&["get", "widget", "a", "-o", jsonpath]).await.out();
    let last: Value = serde_json::from_str(&last).unwrap();
    assert_eq!(last["spec"], json!({"size": 2}), "the annotation keeps step, so that going back is safe");
    // And back to client-side apply.
    served.run_with(&["apply", "-f", "-"], &widget("a", "{size: 3}")).await.out();
    assert_eq!(served.run(&["get", "widget", "a", "-o", "jsonpath={.spec.size}"]).await.out(), "3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn diff_shows_what_an_apply_would_do() {
    let served = Served::with_widgets().await;
    served.run_with(&APPLY, &widget("a", "{size: 1, tags: [x]}")).await.out();
    let diff = ["diff", "--server-side", "-f", "-"];
    let same = served.run_with(&diff, &widget("a", "{size: 1, tags: [x]}")).await;
    assert!(same.ok && same.out.is_empty(), "{same:?}");
    let differs = served.run_with(&diff, &widget("a", "{size: 4}")).await;
    assert!(!differs.ok, "{differs:?}");
    for line in ["-  size: 1", "+  size: 4", "-  - x"] {
        assert!(differs.out.contains(line), "{line}: {differs:?}");
    }
    let conflict =
        served.run_with(&["diff", "--server-side", "--field-manager=o", "-f", "-"], &widget("a", "{size: 4}")).await;
    assert!(!conflict.ok && (conflict.err + &conflict.out).contains(".spec.size"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owners_stay_out_of_sight_unless_asked_for() {
    let served = Served::with_widgets().await;
    served.run_with(&APPLY, &widget("a", "{size: 1}")).await.out();
    let yaml = served.run(&["get", "widget", "a", "-o", "yaml"]).await.out();
    assert_eq!(yaml.contains("managedFields"), !served.since(21), "{yaml}");
    let described = served.run(&["describe", "widget", "a"]).await.out();
    assert!(described.contains("Size:"), "{described}");
    served.run(&["label", "widget", "a", "x=y"]).await.out();
    served.run(&["annotate", "widget", "a", "x=y"]).await.out();
    let names: Vec<String> = owners(&served, "widget/a").await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["kubectl Apply", "kubectl-annotate Update", "kubectl-label Update"]);
}
