//! Events of both groups. Those with a time of their own (`eventTime`) are the new form, of which more is asked.

use serde_json::{Value, json};

use super::{immutable, text};
use crate::schema::{Cause, names};

const SHORT: usize = 128;
const NOTE: usize = 1024;

/// What a field is called: by the older group, and by the newer one.
struct Names {
    involved: &'static str,
    message: &'static str,
    controller: &'static str,
    source: &'static str,
    first: &'static str,
    last: &'static str,
    count: &'static str,
}

const OLD: Names = Names {
    involved: "involvedObject",
    message: "message",
    controller: "reportingComponent",
    source: "source",
    first: "firstTimestamp",
    last: "lastTimestamp",
    count: "count",
};
const NEW: Names = Names {
    involved: "regarding",
    message: "note",
    controller: "reportingController",
    source: "deprecatedSource",
    first: "deprecatedFirstTimestamp",
    last: "deprecatedLastTimestamp",
    count: "deprecatedCount",
};

/// An event as the core group has it.
pub(super) fn core(object: &Value, causes: &mut Vec<Cause>) {
    common(object, &OLD, causes);
}

/// An event as `events.k8s.io` has it, which asks for the new form.
pub(super) fn events(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    common(object, &NEW, causes);
    // In messages fields are called as in the older group.
    let renamed = [(NEW.involved, OLD.involved), (NEW.message, OLD.message), (NEW.source, OLD.source)]
        .into_iter()
        .chain([(NEW.first, OLD.first), (NEW.last, OLD.last), (NEW.count, OLD.count)]);
    if let Some(old) = old {
        if object.get("series") != old.get("series") {
            series(object, causes);
        }
        let kept = ["reason", "type", "eventTime", "action", "related", "reportingController", "reportingInstance"];
        for (field, shown) in renamed.chain(kept.map(|field| (field, field))) {
            immutable(shown, &object[field], &old[field], causes);
        }
        return;
    }
    series(object, causes);
    if object["eventTime"].is_null() {
        causes.push(Cause::required("eventTime", ""));
    }
    let kind = text(object, "type");
    if !matches!(kind, "Normal" | "Warning") {
        causes.push(Cause::invalid("type", &json!(""), &format!("has invalid value: {kind}")));
    }
    let unset = |value: &Value| match value {
        Value::Object(map) => map.values().all(|value| value == ""),
        value => value.is_null() || value == 0,
    };
    for (field, shown) in renamed.filter(|(field, _)| field.starts_with("deprecated")) {
        if !unset(&object[field]) {
            causes.push(Cause::invalid(shown, &json!(""), "needs to be unset"));
        }
    }
}

fn common(object: &Value, names: &Names, causes: &mut Vec<Cause>) {
    let namespace = object.get("metadata").map(|metadata| text(metadata, "namespace")).unwrap_or_default();
    let involved = text(&object[names.involved], "namespace");
    let timed = !object["eventTime"].is_null();
    let fits = match (involved, timed) {
        ("", true) => matches!(namespace, "default" | "kube-system"),
        ("", false) => matches!(namespace, "" | "default"),
        (_, true) => true,
        (involved, false) => involved == namespace,
    };
    if !fits {
        let detail = "does not match event.namespace";
        causes.push(Cause::invalid("involvedObject.namespace", &json!(involved), detail));
    }
    if !timed {
        return;
    }
    let controller = text(object, names.controller);
    if controller.is_empty() {
        causes.push(Cause::required(names.controller, ""));
    }
    for error in names::qualified_name(controller) {
        causes.push(Cause::invalid(names.controller, &json!(controller), &error));
    }
    for field in ["reportingInstance", "action", "reason"] {
        if text(object, field).is_empty() {
            causes.push(Cause::required(field, ""));
        }
        limit(text(object, field), field, SHORT, causes);
    }
    limit(text(object, names.message), "message", NOTE, causes);
}

fn limit(text: &str, shown: &str, most: usize, causes: &mut Vec<Cause>) {
    if text.len() > most {
        causes.push(Cause::invalid(shown, &json!(""), &format!("can have at most {most} characters")));
    }
}

/// One occurrence is no series.
fn series(object: &Value, causes: &mut Vec<Cause>) {
    let Some(series) = object.get("series").filter(|series| series.is_object()) else { return };
    if series["count"].as_i64().unwrap_or_default() < 2 {
        causes.push(Cause::invalid("series.count", &json!(""), "should be at least 2"));
    }
    if series["lastObservedTime"].is_null() {
        causes.push(Cause::required("series.lastObservedTime", ""));
    }
}
