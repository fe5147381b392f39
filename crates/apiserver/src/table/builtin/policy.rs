//! `kubectl get pdb`, `pc`, `controllerrevisions` and `quota`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Column, age_column, created, list_at, name, name_column, str_at, text};

fn column(name: &str, column_type: &str, description: &str) -> Column {
    Column::new(name, column_type, "", description, 0)
}

pub(super) fn budget_columns() -> Vec<Column> {
    vec![
        name_column(),
        column("Min Available", "string", "The minimum number of pods that must be available."),
        column("Max Unavailable", "string", "The maximum number of pods that may be unavailable."),
        column("Allowed Disruptions", "integer", "How many pods may be disrupted now."),
        age_column(),
    ]
}

pub(super) fn budget_cells(budget: &Value, now: Timestamp) -> (Vec<Value>, Vec<Value>) {
    let bound = |pointer: &str| match budget.pointer(pointer) {
        Some(Value::String(percent)) => json!(percent),
        Some(Value::Number(number)) => json!(number.to_string()),
        _ => json!("N/A"),
    };
    let allowed = budget.pointer("/status/disruptionsAllowed").and_then(Value::as_i64).unwrap_or_default();
    let cells = vec![
        name(budget),
        bound("/spec/minAvailable"),
        bound("/spec/maxUnavailable"),
        json!(allowed),
        created(budget, now),
    ];
    (cells, vec![])
}

pub(super) fn priority_columns() -> Vec<Column> {
    vec![
        name_column(),
        column("Value", "integer", "The priority of pods of this class."),
        column("Global-Default", "boolean", "Whether pods that name no class have this one."),
        age_column(),
        column("PreemptionPolicy", "string", "Whether pods of lower priority make room."),
    ]
}

pub(super) fn priority_cells(class: &Value, now: Timestamp) -> (Vec<Value>, Vec<Value>) {
    let cells = vec![
        name(class),
        json!(class["value"].as_i64().unwrap_or_default()),
        json!(class["globalDefault"] == true),
        created(class, now),
        text(class, "/preemptionPolicy"),
    ];
    (cells, vec![])
}

pub(super) fn revision_columns() -> Vec<Column> {
    vec![
        name_column(),
        column("Controller", "string", "The controller of the object."),
        column("Revision", "string", "The number of the revision."),
        age_column(),
    ]
}

pub(super) fn revision_cells(revision: &Value, now: Timestamp) -> (Vec<Value>, Vec<Value>) {
    let owners = list_at(revision, "/metadata/ownerReferences");
    let controller = owners.iter().find(|owner| owner["controller"] == true).map_or("<none>".to_owned(), |owner| {
        let group =
            str_at(owner, "/apiVersion").rsplit_once('/').map_or(String::new(), |(group, _)| format!(".{group}"));
        format!("{}{group}/{}", str_at(owner, "/kind").to_lowercase(), str_at(owner, "/name"))
    });
    let number = revision["revision"].as_i64().unwrap_or_default();
    (vec![name(revision), json!(controller), json!(number), created(revision, now)], vec![])
}

pub(super) fn quota_columns() -> Vec<Column> {
    vec![
        name_column(),
        column("Request", "string", "What is used and allowed, except of limits."),
        column("Limit", "string", "What is used and allowed of limits."),
        age_column(),
    ]
}

pub(super) fn quota_cells(quota: &Value, now: Timestamp) -> (Vec<Value>, Vec<Value>) {
    let mut hard: Vec<(&String, &Value)> =
        quota.pointer("/status/hard").and_then(Value::as_object).into_iter().flatten().collect();
    hard.sort_by_key(|(name, _)| *name);
    let words = |limits: bool| {
        let chosen = hard.iter().filter(|(name, _)| name.starts_with("limits.") == limits);
        let word = |(name, amount): &(&String, &Value)| {
            let used = quota["status"]["used"][name.as_str()].as_str().unwrap_or("0");
            format!("{name}: {used}/{}", amount.as_str().unwrap_or_default())
        };
        chosen.map(word).collect::<Vec<_>>().join(", ")
    };
    (vec![name(quota), json!(words(false)), json!(words(true)), created(quota, now)], vec![])
}
