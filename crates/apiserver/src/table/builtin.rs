//! The columns of built-in kinds.

mod event;
mod node;
mod pod;
mod policy;
mod storage;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Cells, Column, Columns, age, age_column, name_column};

/// Cells and row conditions of an object.
pub(super) type Render = fn(&Value, Timestamp) -> (Vec<Value>, Vec<Value>);

pub(super) fn columns(group: &str, kind: &str) -> Columns {
    let data = |what: &str| Column::new("Data", "string", "", what, 0);
    let (columns, render): (Vec<Column>, Render) = match (group, kind) {
        ("", "Pod") => (pod::columns(), pod::cells),
        ("", "Node") => (node::columns(), node::cells),
        ("" | "events.k8s.io", "Event") => (event::columns(), event::cells),
        ("", "PersistentVolumeClaim") => (storage::claim_columns(), storage::claim_cells),
        ("", "PersistentVolume") => (storage::volume_columns(), storage::volume_cells),
        ("storage.k8s.io", "StorageClass") => (storage::class_columns(), storage::class_cells),
        ("", "Namespace") => (
            vec![name_column(), Column::new("Status", "string", "", "The status of the namespace", 0), age_column()],
            |o, now| (vec![name(o), text(o, "/status/phase"), created(o, now)], vec![]),
        ),
        ("", "Secret") => (
            vec![
                name_column(),
                Column::new("Type", "string", "", "Tells programs how to read the data.", 0),
                data("Number of entries."),
                age_column(),
            ],
            |o, now| (vec![name(o), text(o, "/type"), count(o, &["/data"]), created(o, now)], vec![]),
        ),
        ("", "ConfigMap") => (vec![name_column(), data("Number of entries."), age_column()], |o, now| {
            (vec![name(o), count(o, &["/data", "/binaryData"]), created(o, now)], vec![])
        }),
        ("coordination.k8s.io", "Lease") => (
            vec![name_column(), Column::new("Holder", "string", "", "Who holds the lease.", 0), age_column()],
            |o, now| (vec![name(o), text(o, "/spec/holderIdentity"), created(o, now)], vec![]),
        ),
        ("", "ResourceQuota") => (policy::quota_columns(), policy::quota_cells),
        ("apps", "ControllerRevision") => (policy::revision_columns(), policy::revision_cells),
        ("policy", "PodDisruptionBudget") => (policy::budget_columns(), policy::budget_cells),
        ("scheduling.k8s.io", "PriorityClass") => (policy::priority_columns(), policy::priority_cells),
        ("", "LimitRange") | ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            (vec![name_column(), Column::new("Created At", "date", "", "When the object was created.", 0)], |o, _| {
                (vec![name(o), text(o, "/metadata/creationTimestamp")], vec![])
            })
        }
        _ => (vec![name_column(), age_column()], |o, now| (vec![name(o), created(o, now)], vec![])),
    };
    Columns { columns, cells: Cells::Builtin(render) }
}

fn str_at<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list_at<'v>(object: &'v Value, pointer: &str) -> &'v [Value] {
    object.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text(object: &Value, pointer: &str) -> Value {
    json!(str_at(object, pointer))
}

fn text_or(object: &Value, pointer: &str, otherwise: &str) -> Value {
    match str_at(object, pointer) {
        "" => json!(otherwise),
        found => json!(found),
    }
}

fn name(object: &Value) -> Value {
    text(object, "/metadata/name")
}

fn created(object: &Value, now: Timestamp) -> Value {
    json!(since(object, "/metadata/creationTimestamp", now))
}

/// The age of a timestamp, `<unknown>` where there is none.
fn since(object: &Value, pointer: &str, now: Timestamp) -> String {
    match str_at(object, pointer).parse::<Timestamp>() {
        Ok(time) => age(time, now),
        Err(_) => "<unknown>".into(),
    }
}

fn count(object: &Value, pointers: &[&str]) -> Value {
    let entries = |p: &&str| object.pointer(p).and_then(Value::as_object).map_or(0, serde_json::Map::len);
    json!(pointers.iter().map(entries).sum::<usize>())
}

/// The status (`True`, `False`, …) of a condition.
fn condition<'v>(object: &'v Value, kind: &str) -> Option<&'v str> {
    list_at(object, "/status/conditions").iter().find(|c| str_at(c, "/type") == kind).map(|c| str_at(c, "/status"))
}
