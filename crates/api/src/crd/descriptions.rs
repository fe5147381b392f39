//! Which descriptions a schema keeps: those of our own types. Those of Kubernetes' types are not ours to hand on.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde_json::Value;

/// How the description of a field ends that admission refuses, or that no component sets.
pub(super) const UNSUPPORTED: &str = "Not supported yet by Ferrovirt.";
/// How the names of `k8s_openapi`'s types begin in schemas.
const KUBERNETES: &str = "io.k8s.";

/// The descriptions that `k8s_openapi`'s types bring along where `K` uses them.
pub(super) fn foreign<K: JsonSchema>() -> BTreeSet<String> {
    let schema = schemars::schema_for!(K);
    let types = schema.get("$defs").and_then(Value::as_object).into_iter().flatten();
    let mut found = BTreeSet::new();
    types.filter(|(name, _)| name.starts_with(KUBERNETES)).for_each(|(_, schema)| collect(schema, &mut found));
    found
}

fn collect(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            found.extend(fields.get("description").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| collect(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        _ => {}
    }
}

/// Takes the `foreign` descriptions out of a schema and joins the lines of the others. What is below an unsupported field is
/// unsupported too, and says so.
pub(super) fn keep_own(schema: &mut Value, foreign: &BTreeSet<String>) {
    keep(schema, foreign, false);
}

fn keep(schema: &mut Value, foreign: &BTreeSet<String>, mut is_unsupported: bool) {
    let Some(object) = schema.as_object_mut() else { return };
    if let Some(text) = object.shift_remove("description")
        && let Some(text) = text.as_str().filter(|text| !foreign.contains(*text))
    {
        is_unsupported |= text.ends_with(UNSUPPORTED);
        object.insert("description".into(), joined(text).into());
    }
    for key in ["items", "additionalProperties"] {
        if let Some(child) = object.get_mut(key) {
            keep(child, foreign, is_unsupported);
            if let (true, Some(child)) = (is_unsupported, child.as_object_mut()) {
                child.shift_remove("description");
            }
        }
    }
    let fields = object.get_mut("properties").and_then(Value::as_object_mut);
    for child in fields.into_iter().flat_map(|fields| fields.values_mut()) {
        keep(child, foreign, is_unsupported);
        if let (true, Some(child)) = (is_unsupported, child.as_object_mut()) {
            child.insert("description".into(), UNSUPPORTED.into());
        }
    }
}

/// A doc comment with one line for each of its paragraphs.
fn joined(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}
