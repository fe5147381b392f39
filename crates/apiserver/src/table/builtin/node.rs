//! `kubectl get nodes`.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Column, age_column, condition, created, list_at, name, name_column, str_at, text, text_or};

pub(super) fn columns() -> Vec<Column> {
    let column = |name: &str, description: &str, priority| Column::new(name, "string", "", description, priority);
    vec![
        name_column(),
        column("Status", "The status of the node", 0),
        column("Roles", "The roles of the node", 0),
        age_column(),
        column("Version", "Version of the node agent.", 0),
        column("Internal-IP", "Address inside the cluster.", 1),
        column("External-IP", "Address outside the cluster.", 1),
        column("OS-Image", "Operating system.", 1),
        column("Kernel-Version", "Kernel.", 1),
        column("Container-Runtime", "What runs containers.", 1),
    ]
}

pub(super) fn cells(node: &Value, now: Timestamp) -> (Vec<Value>, Vec<Value>) {
    let mut status = match condition(node, "Ready") {
        Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if node.pointer("/spec/unschedulable") == Some(&Value::Bool(true)) {
        status.push_str(",SchedulingDisabled");
    }
    let cells = vec![
        name(node),
        json!(status),
        json!(roles(node)),
        created(node, now),
        text(node, "/status/nodeInfo/kubeletVersion"),
        address(node, "InternalIP"),
        address(node, "ExternalIP"),
        text_or(node, "/status/nodeInfo/osImage", "<unknown>"),
        text_or(node, "/status/nodeInfo/kernelVersion", "<unknown>"),
        text_or(node, "/status/nodeInfo/containerRuntimeVersion", "<unknown>"),
    ];
    (cells, vec![])
}

fn roles(node: &Value) -> String {
    let mut roles = BTreeSet::new();
    for (key, value) in node.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten() {
        match key.strip_prefix("node-role.kubernetes.io/") {
            Some("") => {}
            Some(role) => {
                roles.insert(role);
            }
            None if key == "kubernetes.io/role" => roles.extend(value.as_str().filter(|v| !v.is_empty())),
            None => {}
        }
    }
    if roles.is_empty() { "<none>".into() } else { roles.into_iter().collect::<Vec<_>>().join(",") }
}

fn address(node: &Value, kind: &str) -> Value {
    let found = list_at(node, "/status/addresses").iter().find(|a| str_at(a, "/type") == kind);
    found.map_or_else(|| json!("<none>"), |a| text(a, "/address"))
}
