//! CustomResourceDefinitions: defaults, checks, warnings.

mod versions;

use serde_json::{Map, Value, json};

use super::{Cause, Structural, cel, check_structural, names};

/// Fills in what a definition leaves out.
pub(crate) fn complete(object: &mut Value) {
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
    if spec.get("conversion").is_none_or(Value::is_null) {
        spec.insert("conversion".into(), json!({"strategy": "None"}));
    }
    if let Some(names) = spec.get_mut("names").and_then(Value::as_object_mut) {
        let kind = names.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut put = |key: &str, value: String| {
            if names.get(key).and_then(Value::as_str).is_none_or(str::is_empty) && !kind.is_empty() {
                names.insert(key.into(), Value::from(value));
            }
        };
        put("singular", kind.to_lowercase());
        put("listKind", format!("{kind}List"));
    }
}

/// Everything wrong with a definition; `old` is the stored one on updates.
pub fn check(object: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let empty = Value::Null;
    let spec = object.get("spec").unwrap_or(&empty);
    let text = |key: &str| spec.get(key).and_then(Value::as_str).unwrap_or_default();
    let group = text("group");
    if group.is_empty() {
        causes.push(Cause::required("spec.group", ""));
    } else if let errors = names::dns_1123_subdomain(group)
        && !errors.is_empty()
    {
        causes.push(Cause::invalid("spec.group", &json!(group), &errors.join(",")));
    } else if !group.contains('.') {
        causes.push(Cause::invalid("spec.group", &json!(group), "should be a domain with at least one dot"));
    }
    match text("scope") {
        "Cluster" | "Namespaced" => {}
        "" => causes.push(Cause::required("spec.scope", "")),
        other => {
            let supported = ["Cluster", "Namespaced"].map(str::to_owned);
            causes.push(Cause::not_supported("spec.scope", &json!(other), &supported));
        }
    }
    check_names(spec, &mut causes);
    check_versions(spec, old.and_then(|old| old.get("spec")), &mut causes);
    versions::stored(object, old, &mut causes);
    if spec.get("preserveUnknownFields") == Some(&Value::Bool(true)) {
        let detail =
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        causes.push(Cause::invalid("spec.preserveUnknownFields", &json!(true), detail));
    }
    if let Some(strategy) = spec.get("conversion").and_then(|c| c.get("strategy")).and_then(Value::as_str)
        && strategy != "None"
    {
        // Honest refusal: nothing here calls a conversion webhook.
        causes.push(Cause::not_supported("spec.conversion.strategy", &json!(strategy), &["None".to_owned()]));
    }
    let plural = spec.get("names").and_then(|n| n.get("plural")).and_then(Value::as_str).unwrap_or_default();
    let name = object.get("metadata").and_then(|m| m.get("name")).and_then(Value::as_str).unwrap_or_default();
    if !plural.is_empty() && !group.is_empty() && name != format!("{plural}.{group}") {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        causes.push(Cause::invalid("metadata.name", &json!(name), detail));
    }
    if let Some(old) = old {
        immutable(spec, old.get("spec").unwrap_or(&empty), &mut causes);
    }
    causes
}

fn immutable(spec: &Value, old: &Value, causes: &mut Vec<Cause>) {
    for path in [&["group"][..], &["scope"], &["names", "kind"], &["names", "plural"]] {
        let at = |v: &Value| path.iter().try_fold(v.clone(), |v, key| v.get(key).cloned()).unwrap_or_default();
        let (new, before) = (at(spec), at(old));
        if new != before {
            causes.push(Cause::invalid(format!("spec.{}", path.join(".")), &new, "field is immutable"));
        }
    }
}

fn check_names(spec: &Value, causes: &mut Vec<Cause>) {
    let empty = Map::new();
    let given = spec.get("names").and_then(Value::as_object).unwrap_or(&empty);
    let text = |key: &str| given.get(key).and_then(Value::as_str).unwrap_or_default();
    for key in ["plural", "singular", "kind", "listKind"] {
        let value = text(key);
        let path = format!("spec.names.{key}");
        if value.is_empty() {
            causes.push(Cause::required(path, ""));
            continue;
        }
        let cased = key == "kind" || key == "listKind";
        let errors = names::dns_1035_label(&if cased { value.to_lowercase() } else { value.to_owned() });
        if !errors.is_empty() {
            let lead = if cased { "may have mixed case, but should otherwise match: " } else { "" };
            causes.push(Cause::invalid(path, &json!(value), &format!("{lead}{}", errors.join(","))));
        }
    }
    if !text("kind").is_empty() && text("kind") == text("listKind") {
        let detail = "kind and listKind may not be the same";
        causes.push(Cause::invalid("spec.names.listKind", &json!(text("listKind")), detail));
    }
    for key in ["shortNames", "categories"] {
        for (i, value) in given.get(key).and_then(Value::as_array).into_iter().flatten().enumerate() {
            let errors = names::dns_1035_label(value.as_str().unwrap_or_default());
            if !errors.is_empty() {
                causes.push(Cause::invalid(format!("spec.names.{key}[{i}]"), value, &errors.join(",")));
            }
        }
    }
}

fn check_versions(spec: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let list = spec.get("versions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if list.is_empty() {
        causes.push(Cause::required("spec.versions", "must have at least one version"));
        return;
    }
    let storage = list.iter().filter(|v| v.get("storage") == Some(&Value::Bool(true))).count();
    if storage != 1 {
        let names: Vec<&Value> = list.iter().filter_map(|v| v.get("name")).collect();
        let detail = "must have exactly one version marked as storage version";
        causes.push(Cause::invalid("spec.versions", &json!(names), detail));
    }
    let mut seen: Vec<&str> = Vec::new();
    for (i, version) in list.iter().enumerate() {
        let path = format!("spec.versions[{i}]");
        let name = version.get("name").and_then(Value::as_str).unwrap_or_default();
        let errors = names::dns_1035_label(name);
        if !errors.is_empty() {
            causes.push(Cause::invalid(format!("{path}.name"), &json!(name), &errors.join(",")));
        }
        if seen.contains(&name) {
            causes.push(Cause::invalid("spec.versions", &json!(name), "must contain unique version names"));
        }
        seen.push(name);
        let at = format!("{path}.schema.openAPIV3Schema");
        let before = old.and_then(|spec| spec.get("versions")?.as_array()?.iter().find(|v| v["name"] == name));
        match version.get("schema").and_then(|s| s.get("openAPIV3Schema")) {
            None | Some(Value::Null) => causes.push(Cause::required(at, "")),
            Some(schema) => {
                let stored = before.and_then(|version| version.pointer("/schema/openAPIV3Schema")) == Some(schema);
                check_schema(schema, &at, stored, causes);
            }
        }
        versions::selectable(version, before, &path, causes);
        check_columns(version, &path, causes);
        check_scale(version, &path, causes);
        let deprecated = version.get("deprecated") == Some(&Value::Bool(true));
        if let Some(warning) = version.get("deprecationWarning").filter(|w| !w.is_null()) {
            let text = warning.as_str().unwrap_or_default();
            let detail = if !deprecated {
                "can only be set for deprecated versions"
            } else if text.is_empty() {
                "must not be an empty string"
            } else if text.len() > 256 {
                "must be <= 256 characters long"
            } else if text.chars().any(char::is_control) {
                "must only contain printable UTF-8 characters"
            } else {
                continue;
            };
            causes.push(Cause::invalid(format!("{path}.deprecationWarning"), warning, detail));
        }
    }
}

fn check_schema(schema: &Value, path: &str, stored: bool, causes: &mut Vec<Cause>) {
    let found = check_structural(schema, path);
    let sound = found.is_empty();
    causes.extend(found);
    if !sound {
        return;
    }
    match Structural::parse(schema) {
        Err(error) => causes.push(Cause::invalid(path, &json!(""), &error.to_string())),
        // A default must itself be valid.
        Ok(parsed) => {
            for (at, value, problems) in parsed.bad_defaults() {
                for problem in problems {
                    let field = format!("{path}{at}.default");
                    causes.push(Cause::invalid(field, &value, &problem.message));
                }
            }
            causes.extend(cel::check(schema, path, stored));
        }
    }
}

fn check_columns(version: &Value, path: &str, causes: &mut Vec<Cause>) {
    let list = version.get("additionalPrinterColumns").and_then(Value::as_array);
    for (i, column) in list.into_iter().flatten().enumerate() {
        let path = format!("{path}.additionalPrinterColumns[{i}]");
        let text = |key: &str| column.get(key).and_then(Value::as_str).unwrap_or_default();
        if text("name").is_empty() {
            causes.push(Cause::required(format!("{path}.name"), ""));
        }
        let types = ["boolean", "date", "integer", "number", "string"];
        if text("type").is_empty() {
            causes.push(Cause::required(format!("{path}.type"), &format!("must be one of {}", types.join(","))));
        } else if !types.contains(&text("type")) {
            let detail = format!("must be one of {}", types.join(","));
            causes.push(Cause::invalid(format!("{path}.type"), &json!(text("type")), &detail));
        }
        if text("jsonPath").is_empty() {
            causes.push(Cause::required(format!("{path}.jsonPath"), ""));
        } else if let Err(error) = crate::table::JsonPath::parse(text("jsonPath")) {
            causes.push(Cause::invalid(format!("{path}.jsonPath"), &json!(text("jsonPath")), &error.to_string()));
        }
    }
}

fn check_scale(version: &Value, path: &str, causes: &mut Vec<Cause>) {
    let Some(scale) = version.get("subresources").and_then(|s| s.get("scale")).filter(|s| !s.is_null()) else { return };
    for (key, root) in [("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")] {
        let value = scale.get(key).and_then(Value::as_str).unwrap_or_default();
        let at = format!("{path}.subresources.scale.{key}");
        if value.is_empty() {
            causes.push(Cause::required(at, ""));
        } else if !value.starts_with(root) {
            let root = root.trim_end_matches('.');
            causes.push(Cause::invalid(at, &json!(value), &format!("should be a json path under {root}")));
        }
    }
}
