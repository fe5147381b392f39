//! What of a definition concerns its versions: those that objects may be stored in, and the fields they can be selected by.

use serde_json::{Value, json};

use crate::schema::Cause;

/// Most selectable fields of a version.
const MAX_FIELDS: usize = 8;

/// Checks `status.storedVersions`, where a definition has it: the storage version is among them, and all are still defined.
pub(super) fn stored(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    const PATH: &str = "/status/storedVersions";
    const FIELD: &str = "status.storedVersions";
    let Some(stored) = object.pointer(PATH).or_else(|| old?.pointer(PATH).map(|_| &Value::Null)) else { return };
    let list = stored.as_array().map(Vec::as_slice).unwrap_or_default();
    if list.is_empty() {
        causes.push(Cause::invalid(FIELD, &json!([]), "must have at least one stored version"));
        return;
    }
    let versions = object.pointer("/spec/versions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for version in versions.iter().filter(|version| version["storage"] == true) {
        if !list.contains(&version["name"]) {
            let name = version["name"].as_str().unwrap_or_default();
            causes.push(Cause::invalid(FIELD, stored, &format!("must have the storage version {name}")));
        }
    }
    for (i, name) in list.iter().enumerate() {
        if versions.iter().all(|version| version["name"] != *name) {
            let text = name.as_str().unwrap_or_default();
            let detail = format!(
                "missing from spec.versions; {text} was previously a storage version, and must remain in spec.versions until a \
                 storage migration ensures no data remains persisted in {text} and removes {text} from status.storedVersions"
            );
            causes.push(Cause::invalid(format!("{FIELD}[{i}]"), name, &detail));
        }
    }
}

/// Checks `selectableFields`; those of the `old` version may be too many, if they are the same.
pub(super) fn selectable(version: &Value, old: Option<&Value>, path: &str, causes: &mut Vec<Cause>) {
    let path = format!("{path}.selectableFields");
    let Some(fields) = version["selectableFields"].as_array().filter(|fields| !fields.is_empty()) else { return };
    let Some(schema) = version.pointer("/schema/openAPIV3Schema").filter(|schema| schema.is_object()) else {
        let detail = "may only be set when `version.schema.openAPIV3Schema` is not included";
        causes.push(Cause::invalid(path, &json!(""), detail));
        return;
    };
    let mut seen: Vec<&str> = Vec::new();
    for (i, field) in fields.iter().enumerate() {
        let at = format!("{path}[{i}].jsonPath");
        let text = field["jsonPath"].as_str().unwrap_or_default();
        if text.is_empty() {
            causes.push(Cause::required(at, ""));
            continue;
        }
        let found = match find(schema, text) {
            Ok(found) => found,
            Err(why) => {
                causes.push(Cause::invalid(at, &json!(text), &format!("is an invalid path: {why}")));
                continue;
            }
        };
        if text == ".metadata" || text.starts_with(".metadata.") {
            causes.push(Cause::invalid(at.clone(), &json!(text), "must not point to fields in metadata"));
        }
        if !matches!(found["type"].as_str(), Some("string" | "boolean" | "integer")) {
            let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are \
                          allowed.";
            causes.push(Cause::invalid(at.clone(), &json!(text), detail));
        }
        if seen.contains(&text) {
            causes.push(Cause::duplicate(at, &json!(text)));
        } else {
            seen.push(text);
        }
    }
    let unchanged = old.is_some_and(|old| old["selectableFields"] == version["selectableFields"]);
    if seen.len() > MAX_FIELDS && !unchanged {
        causes.push(Cause::too_many(path, seen.len() as u64, MAX_FIELDS as u64));
    }
}

/// The schema at a path of plain field names, `.spec.colour`.
fn find<'s>(schema: &'s Value, path: &str) -> Result<&'s Value, String> {
    if path.contains(['[', ']']) {
        return Err("array notation is not allowed".into());
    }
    let Some(names) = path.strip_prefix('.') else {
        return Err(format!("expected [ or . but got: {}", path.split('.').next().unwrap_or_default()));
    };
    names.split('.').try_fold(schema, |schema, name| {
        if name.is_empty() {
            return Err("unexpected end of JSON path".to_owned());
        }
        let named = schema.get("properties").and_then(Value::as_object);
        let found = match named {
            Some(properties) => properties.get(name),
            None => schema.get("additionalProperties").filter(|values| values.is_object()),
        };
        found.ok_or_else(|| "does not refer to a valid field".to_owned())
    })
}
