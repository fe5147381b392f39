//! `get` in all its forms, `describe`, `wait`.

use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::harness::{Served, widget};

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn get_prints_columns_and_every_output_format() {
    let served = Served::with_widgets().await;
    served.run_with(&["create", "-f", "-"], &widget("one", "{size: 7}")).await.out();
    let patch = r#"{"status":{"phase":"Done","conditions":[{"type":"Ready","status":"True"}]}}"#;
    served.patch_status("widgets", "one", patch).await;

    let table = served.run(&["get", "widgets"]).await.out();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(words(lines[0]), ["NAME", "PHASE", "READY", "AGE"]);
    assert_eq!(words(lines[1])[..3], ["one", "Done", "True"]);
    assert!(words(lines[1])[3].ends_with('s'), "{table}");
    let wide = served.run(&["get", "wd", "one", "-o", "wide"]).await.out();
    assert_eq!(words(wide.lines().next().unwrap()), ["NAME", "PHASE", "READY", "AGE", "SIZE"]);
    assert_eq!(words(wide.lines().nth(1).unwrap())[4], "7");

    let yaml = served.run(&["get", "widget/one", "-o", "yaml"]).await.out();
    assert!(yaml.contains("kind: Widget") && yaml.contains("color: red"), "{yaml}");
    let json: serde_json::Value =
        serde_json::from_str(&served.run(&["get", "widgets", "-o", "json"]).await.out()).unwrap();
    assert_eq!((&json["kind"], &json["items"][0]["spec"]["size"]), (&"List".into(), &7.into()));
    let path = served.run(&["get", "widgets", "-o", "jsonpath={.items[*].metadata.name}"]).await.out();
    assert_eq!(path, "one");
    let custom = served.run(&["get", "wd", "-o", "custom-columns=N:.metadata.name,C:.spec.color"]).await.out();
    assert_eq!(custom.lines().map(words).collect::<Vec<_>>(), [["N", "C"], ["one", "red"]]);
    assert_eq!(served.run(&["get", "wd", "-o", "name"]).await.out(), "widget.example.com/one\n");
    let all = served.run(&["get", "all"]).await.out();
    assert!(all.contains("widget.example.com/one"), "{all}");
    let missing = served.run(&["get", "widget", "none"]).await.refused();
    assert_eq!(missing, "Error from server (NotFound): widgets.example.com \"none\" not found\n");
    let labels = served.run(&["get", "ns", "default", "--show-labels"]).await.out();
    assert!(labels.contains("kubernetes.io/metadata.name=default"), "{labels}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn selectors_and_chunks_select() {
    let served = Served::start().await;
    for i in 0..7 {
        let label = if i % 2 == 0 { "even" } else { "odd" };
        served.run(&["create", "configmap", &format!("c{i}"), "--from-literal=a=b"]).await.out();
        served.run(&["label", "configmap", &format!("c{i}"), &format!("parity={label}")]).await.out();
    }
    let odd = served.run(&["get", "cm", "-l", "parity in (odd),other!=x", "-o", "name"]).await.out();
    assert_eq!(odd, "configmap/c1\nconfigmap/c3\nconfigmap/c5\n");
    let one = served.run(&["get", "cm", "--field-selector", "metadata.name=c2", "-o", "name"]).await.out();
    assert_eq!(one, "configmap/c2\n");
    let chunked = served.run(&["get", "cm", "--chunk-size=2"]).await.out();
    assert_eq!(chunked.lines().count(), 8, "{chunked}");
    assert_eq!(words(chunked.lines().nth(1).unwrap())[..2], ["c0", "1"]);
    let unknown = served.run(&["get", "cm", "--field-selector", "data.a=b"]).await.refused();
    assert!(unknown.contains("\"data.a\" is not a known field selector"), "{unknown}");
    let none = served.run(&["get", "cm", "-l", "parity=none"]).await;
    assert!(none.ok && none.err.contains("No resources found in default namespace."), "{none:?}");
    let sorted = served.run(&["get", "cm", "--sort-by=.metadata.name", "-o", "name"]).await.out();
    assert!(sorted.starts_with("configmap/c0\n"), "{sorted}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watch_prints_every_change() {
    let served = Served::with_widgets().await;
    served.run_with(&["create", "-f", "-"], &widget("w", "{size: 1}")).await.out();
    let mut child = served.spawn(&["get", "widgets", "--watch", "-o", "wide", "--output-watch-events"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let header = lines.next_line().await.unwrap().unwrap();
    assert_eq!(words(&header)[..2], ["EVENT", "NAME"]);
    let added = lines.next_line().await.unwrap().unwrap();
    assert_eq!(words(&added)[..2], ["ADDED", "w"]);
    served.run(&["patch", "widget", "w", "--type=merge", "-p", r#"{"spec":{"size":9}}"#]).await.out();
    let changed = lines.next_line().await.unwrap().unwrap();
    assert_eq!((words(&changed)[0], *words(&changed).last().unwrap()), ("MODIFIED", "9"));
    served.run(&["delete", "widget", "w"]).await.out();
    let gone = lines.next_line().await.unwrap().unwrap();
    assert_eq!(words(&gone)[0], "DELETED");
    child.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wait_returns_when_the_condition_holds() {
    let served = Served::with_widgets().await;
    served.run_with(&["create", "-f", "-"], &widget("w", "{size: 1}")).await.out();
    let waiting = served.run(&["wait", "--for=condition=Ready", "widget/w", "--timeout=30s"]);
    let telling = async {
        let patch = r#"{"status":{"conditions":[{"type":"Ready","status":"True"}]}}"#;
        served.patch_status("widgets", "w", patch).await;
    };
    let (said, ()) = tokio::join!(waiting, telling);
    assert_eq!(said.out(), "widget.example.com/w condition met\n");
    if served.since(23) {
        let path = served.run(&["wait", "--for=jsonpath={.spec.size}=1", "widget/w", "--timeout=5s"]).await.out();
        assert_eq!(path, "widget.example.com/w condition met\n");
    }
    let waiting = served.run(&["wait", "--for=delete", "widget/w", "--timeout=30s"]);
    let deleting = async { served.run(&["delete", "widget", "w", "--wait=false"]).await.out() };
    let (said, _) = tokio::join!(waiting, deleting);
    said.out();
    let late = served.run(&["wait", "--for=condition=Ready", "ns/default", "--timeout=1s"]).await.refused();
    assert!(late.contains("timed out waiting for the condition"), "{late}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn describe_shows_objects_with_their_events() {
    let served = Served::with_widgets().await;
    served.run_with(&["create", "-f", "-"], &widget("w", "{size: 3}")).await.out();
    let uid = served.run(&["get", "widget", "w", "-o", "jsonpath={.metadata.uid}"]).await.out();
    let event = format!(
        "apiVersion: v1\nkind: Event\nmetadata: {{name: w.1}}\n\
         involvedObject: {{apiVersion: example.com/v1, kind: Widget, namespace: default, name: w, uid: {uid}}}\n\
         type: Warning\nreason: Bent\nmessage: It is bent.\ncount: 3\nsource: {{component: tester}}\n\
         firstTimestamp: 2020-01-01T00:00:00Z\nlastTimestamp: 2020-01-01T00:00:00Z\n"
    );
    served.run_with(&["create", "-f", "-"], &event).await.out();
    let said = served.run(&["describe", "widget", "w"]).await.out();
    for text in ["Name:         w", "API Version:  example.com/v1", "Size:   3", "Bent", "It is bent.", "tester"] {
        assert!(said.contains(text), "{text} is not in\n{said}");
    }
    let events = served.run(&["get", "events"]).await.out();
    assert_eq!(words(events.lines().next().unwrap()), ["LAST", "SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]);
    assert!(events.contains("widget/w") && events.contains("It is bent."), "{events}");
    if served.since(26) {
        let events = served.run(&["events", "--for", "widget/w"]).await.out();
        assert!(events.contains("Bent"), "{events}");
    }
    let ns = served.run(&["describe", "ns", "default"]).await.out();
    assert!(ns.contains("Status:       Active"), "{ns}");
    let crd = served.run(&["describe", "crd", "widgets.example.com"]).await.out();
    assert!(crd.contains("Established"), "{crd}");
}
