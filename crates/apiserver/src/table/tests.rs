use serde_json::json;

use super::*;
use crate::registry::{PrinterColumn, Registry};

fn now() -> Timestamp {
    "2026-01-10T00:00:00Z".parse().unwrap()
}

#[test]
fn durations_get_coarser_as_they_grow() {
    for (seconds, text) in [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (599, "9m59s"),
        (600, "10m"),
        (10_799, "179m"),
        (10_800, "3h"),
        (10_860, "3h1m"),
        (28_799, "7h59m"),
        (28_800, "8h"),
        (172_799, "47h"),
        (172_800, "2d"),
        (176_400, "2d1h"),
        (691_199, "7d23h"),
        (691_200, "8d"),
        (63_071_999, "729d"),
        (63_072_000, "2y"),
        (63_158_400, "2y1d"),
        (252_287_999, "7y364d"),
        (252_288_000, "8y"),
        (400_000_000, "12y"),
    ] {
        assert_eq!(human_duration(seconds), text, "{seconds}");
    }
}

#[test]
fn json_paths_select() {
    let object = json!({
        "a": {"b.c": 1, "list": [{"t": "x", "v": "X", "n": 1}, {"t": "Ready", "v": "True", "n": 2}], "on": true}
    });
    for (path, expected) in [
        (r".a.b\.c", json!(1)),
        (".a['b.c']", json!(1)),
        (".a.list[0].v", json!("X")),
        (".a.list[-1].v", json!("True")),
        (".a.list[?(@.t=='Ready')].v", json!("True")),
        (r#".a.list[?(@.t == "x")].v"#, json!("X")),
        (".a.list[?(@.n>1)].t", json!("Ready")),
        (".a.list[*].t", json!("x")),
        ("{.a.on}", json!(true)),
        (".a.list[?(@.t!='x')].n", json!(2)),
        (".a.list[0:1].n", json!(1)),
        ("$.a.on", json!(true)),
        ("a.on", json!(true)),
    ] {
        assert_eq!(JsonPath::parse(path).unwrap().first(&object), Some(&expected), "{path}");
    }
    for path in [".a.none", ".a.list[9]", ".a.on.x", ".a.list[?(@.t=='none')].v"] {
        assert_eq!(JsonPath::parse(path).unwrap().first(&object), None, "{path}");
    }
    for bad in ["", ".a[", ".a[x]", "..a", ".a[?(@.x==)]", ".a['x", ".a.", ".a[0]b", ".a[?(x)]"] {
        assert!(JsonPath::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn filters_within_filters_end() {
    let nested = |n: usize| format!(".a{}{}", "[?(@.b".repeat(n), ")]".repeat(n));
    assert!(JsonPath::parse(&nested(3)).is_ok());
    let error = JsonPath::parse(&nested(200_000)).unwrap_err();
    assert!(error.to_string().contains("filters are nested too deeply"), "{error}");
}

fn rendered(group: &str, plural: &str, object: &Value) -> (Vec<String>, Vec<Value>) {
    let tables = Registry::new(Vec::new()).tables();
    let resource = tables.resource(group, plural).unwrap();
    let columns = Columns::of(resource, &resource.versions[0]);
    let table = columns.table([object], &json!({"resourceVersion": "7"}), IncludeObject::Metadata, true, now());
    assert_eq!(table["metadata"]["resourceVersion"], "7");
    let headers = table["columnDefinitions"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap().to_owned());
    let cells = table["rows"][0]["cells"].as_array().unwrap().clone();
    (headers.collect(), cells)
}

#[test]
fn pods_are_summed_up_in_one_word() {
    let running = |ready: bool| json!({"name": "c", "ready": ready, "restartCount": 0, "state": {"running": {}}});
    let status = |containers: Value| json!({"phase": "Running", "containerStatuses": containers});
    let pod = |status: Value| {
        json!({"metadata": {"name": "p", "creationTimestamp": "2026-01-09T23:00:00Z"},
               "spec": {"containers": [{"name": "c"}, {"name": "d"}], "nodeName": "n"}, "status": status})
    };
    for (status, ready, word) in [
        (json!({"phase": "Pending"}), "0/2", "Pending"),
        (status(json!([running(true), running(true)])), "2/2", "Running"),
        (
            status(json!([running(true), {"state": {"waiting": {"reason": "CrashLoopBackOff"}}}])),
            "1/2",
            "CrashLoopBackOff",
        ),
        (status(json!([{"state": {"terminated": {"exitCode": 137, "signal": 9}}}])), "0/2", "Signal:9"),
        (
            status(json!([running(true), {"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}])),
            "1/2",
            "Running",
        ),
        (json!({"phase": "Failed", "reason": "Evicted"}), "0/2", "Evicted"),
        (
            json!({"phase": "Pending", "initContainerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull"}}}]}),
            "0/2",
            "Init:ErrImagePull",
        ),
    ] {
        let mut object = pod(status.clone());
        if word == "Running" && ready == "1/2" {
            object["status"]["conditions"] = json!([{"type": "Ready", "status": "True"}]);
            object["status"]["containerStatuses"][0]["ready"] = json!(true);
        }
        let (headers, cells) = rendered("", "pods", &object);
        assert_eq!(headers[..5], ["Name", "Ready", "Status", "Restarts", "Age"]);
        assert_eq!((cells[1].as_str(), cells[2].as_str()), (Some(ready), Some(word)), "{status}");
        assert_eq!((cells[4].as_str(), cells[6].as_str()), (Some("60m"), Some("n")));
    }
    let mut leaving = pod(json!({"phase": "Running"}));
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-10T00:00:00Z");
    assert_eq!(rendered("", "pods", &leaving).1[2], "Terminating");
}

#[test]
fn builtin_kinds_have_the_usual_cells() {
    let at = "2026-01-09T23:59:00Z";
    let meta = json!({"name": "x", "creationTimestamp": at, "labels": {"node-role.kubernetes.io/control-plane": ""}});
    for (group, plural, rest, expected) in [
        ("", "namespaces", json!({"status": {"phase": "Active"}}), json!(["x", "Active", "60s"])),
        ("", "secrets", json!({"type": "Opaque", "data": {"a": "", "b": ""}}), json!(["x", "Opaque", 2, "60s"])),
        ("", "configmaps", json!({"data": {"a": ""}, "binaryData": {"b": ""}}), json!(["x", 2, "60s"])),
        ("", "serviceaccounts", json!({}), json!(["x", "60s"])),
        ("coordination.k8s.io", "leases", json!({"spec": {"holderIdentity": "me"}}), json!(["x", "me", "60s"])),
        ("apiextensions.k8s.io", "customresourcedefinitions", json!({}), json!(["x", at])),
        (
            "",
            "nodes",
            json!({"spec": {"unschedulable": true}, "status": {"conditions": [{"type": "Ready", "status": "True"}],
                   "nodeInfo": {"kubeletVersion": "v1"}, "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}}),
            json!([
                "x",
                "Ready,SchedulingDisabled",
                "control-plane",
                "60s",
                "v1",
                "10.0.0.1",
                "<none>",
                "<unknown>",
                "<unknown>",
                "<unknown>"
            ]),
        ),
        (
            "",
            "events",
            json!({"type": "Normal", "reason": "R", "message": " m ", "involvedObject": {"kind": "Pod", "name": "p"},
                   "source": {"component": "c", "host": "h"}, "firstTimestamp": at, "lastTimestamp": at, "count": 2}),
            json!(["60s", "Normal", "R", "pod/p", "", "c, h", "m", "60s", 2, "x"]),
        ),
    ] {
        let mut object = rest.clone();
        object["metadata"] = meta.clone();
        let (headers, cells) = rendered(group, plural, &object);
        assert_eq!(json!(cells), expected, "{plural}");
        assert_eq!(headers.len(), cells.len());
    }
}

#[test]
fn custom_columns_follow_their_types() {
    let tables = Registry::new(Vec::new()).tables();
    let mut resource = tables.resource("", "pods").unwrap().as_ref().clone();
    resource.origin = crate::registry::Origin::Crd("widgets.example.com".into());
    let column = |name: &str, ty: &str, path: &str| PrinterColumn {
        name: name.into(),
        column_type: ty.into(),
        format: String::new(),
        description: String::new(),
        priority: 0,
        json_path: path.into(),
    };
    resource.versions[0].columns = vec![
        column("S", "string", ".s"),
        column("O", "string", ".o"),
        column("I", "integer", ".i"),
        column("B", "boolean", ".b"),
        column("D", "date", ".d"),
        column("Bad", "date", ".s"),
        column("None", "string", ".none"),
        column("Wrong", "integer", ".s"),
    ];
    let object = json!({"metadata": {"name": "w"}, "s": "text", "o": {"k": [1]}, "i": 3.7, "b": true, "d": "2026-01-08T00:00:00Z"});
    let columns = Columns::of(&resource, &resource.versions[0]);
    let table = columns.table([&object], &json!({}), IncludeObject::None, false, now());
    assert_eq!(table["rows"][0]["cells"], json!(["w", "text", r#"{"k":[1]}"#, 3, true, "2d", "<invalid>", null, null]));
    assert_eq!((&table["rows"][0]["object"], &table["columnDefinitions"]), (&Value::Null, &json!([])));
}

#[test]
fn representations_are_negotiated() {
    use Representation::{Full, Metadata, Table};
    for (accept, expected) in [
        (None, Some(Full)),
        (Some("*/*"), Some(Full)),
        (Some("application/json"), Some(Full)),
        (
            Some(
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
            ),
            Some(Table),
        ),
        (Some("application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"), Some(Full)),
        (
            Some(
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json",
            ),
            Some(Metadata),
        ),
        (Some("application/vnd.kubernetes.protobuf"), None),
    ] {
        assert_eq!(negotiate(accept), expected, "{accept:?}");
    }
}
