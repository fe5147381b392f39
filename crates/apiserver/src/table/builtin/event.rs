//! `kubectl get events`, for both groups that serve events.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Column, name, since, str_at, text};

pub(super) fn columns() -> Vec<Column> {
    let column = |name: &str, description: &str, priority| Column::new(name, "string", "", description, priority);
    vec![
        column("Last Seen", "When this was last observed.", 0),
        column("Type", "Normal or Warning.", 0),
        column("Reason", "A short word for what happened.", 0),
        column("Object", "The object the event is about.", 0),
        column("Subobject", "The part of the object the event is about.", 1),
        column("Source", "The component that reports the event.", 1),
        column("Message", "What happened, for people.", 0),
        column("First Seen", "When this was first observed.", 1),
        column("Count", "How often this was observed.", 1),
        Column::new("Name", "string", "name", "Name of the event.", 1),
    ]
}

/// The value under the first of these pointers that has one.
fn either<'v>(event: &'v Value, pointers: &[&str]) -> &'v str {
    pointers.iter().map(|p| str_at(event, p)).find(|v| !v.is_empty()).unwrap_or_default()
}

pub(super) fn cells(event: &Value, now: Timestamp) -> (Vec<Value>, Vec<Value>) {
    let seen = |pointers: &[&str]| {
        pointers.iter().map(|p| since(event, p, now)).find(|s| s != "<unknown>").unwrap_or_else(|| "<unknown>".into())
    };
    let first = seen(&["/firstTimestamp", "/deprecatedFirstTimestamp", "/eventTime"]);
    let mut last = seen(&["/lastTimestamp", "/deprecatedLastTimestamp"]);
    if last == "<unknown>" {
        last = first.clone();
    }
    let number = |p: &str| event.pointer(p).and_then(Value::as_i64).filter(|n| *n != 0);
    let mut count = number("/count").or_else(|| number("/deprecatedCount")).unwrap_or(1);
    if event.get("series").is_some_and(Value::is_object) {
        last = since(event, "/series/lastObservedTime", now);
        count = number("/series/count").unwrap_or(0);
    }
    let kind = either(event, &["/involvedObject/kind", "/regarding/kind"]).to_lowercase();
    let target = match either(event, &["/involvedObject/name", "/regarding/name"]) {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let component = ["/source/component", "/deprecatedSource/component", "/reportingComponent", "/reportingController"];
    let host = either(event, &["/source/host", "/deprecatedSource/host", "/reportingInstance"]);
    let mut source = either(event, &component).to_owned();
    if !host.is_empty() {
        source = format!("{source}, {host}");
    }
    let cells = vec![
        json!(last),
        text(event, "/type"),
        text(event, "/reason"),
        json!(target),
        json!(either(event, &["/involvedObject/fieldPath", "/regarding/fieldPath"])),
        json!(source),
        json!(either(event, &["/message", "/note"]).trim()),
        json!(first),
        json!(count),
        name(event),
    ];
    (cells, vec![])
}
