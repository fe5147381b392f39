//! Checks of `metadata` beyond its types.

use serde_json::Value;

use crate::schema::{Cause, names};

/// All annotations together, keys and values.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// What an object of a kind may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameRule {
    /// Labels joined by dots: almost every kind.
    Subdomain,
    /// One label: namespaces.
    Label,
    /// Anything that is one path segment.
    PathSegment,
}

/// The rule of a kind.
pub fn name_rule(group: &str, resource: &str) -> NameRule {
    match (group, resource) {
        ("", "namespaces") => NameRule::Label,
        _ => NameRule::Subdomain,
    }
}

impl NameRule {
    fn check(self, name: &str) -> Vec<String> {
        match self {
            NameRule::Subdomain => names::dns_1123_subdomain(name),
            NameRule::Label => names::dns_1123_label(name),
            NameRule::PathSegment => {
                let mut errors = Vec::new();
                if name == "." || name == ".." {
                    errors.push(format!("may not be '{name}'"));
                }
                for bad in ['/', '%'] {
                    if name.contains(bad) {
                        errors.push(format!("may not contain '{bad}'"));
                    }
                }
                errors
            }
        }
    }
}

/// Finalizers that need no domain.
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// Problems of finalizers; built-in kinds also want them to name a domain.
fn finalizers(metadata: &Value, strict: bool, causes: &mut Vec<Cause>) {
    let path = "metadata.finalizers";
    let list = metadata.get("finalizers").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for finalizer in list {
        for error in names::qualified_name(finalizer.as_str().unwrap_or_default()) {
            causes.push(Cause::invalid(path, finalizer, &error));
        }
    }
    let has = |name: &str| list.iter().any(|f| f == name);
    if has("orphan") && has("foregroundDeletion") {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        causes.push(Cause::invalid(path, &Value::from(list), detail));
    }
    for (i, finalizer) in list.iter().enumerate() {
        let text = finalizer.as_str().unwrap_or_default();
        if strict && !text.contains('/') && !STANDARD_FINALIZERS.contains(&text) {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            causes.push(Cause::invalid(format!("{path}[{i}]"), finalizer, detail));
        }
    }
}

/// Texts for `Warning:` headers about finalizers without a domain, which custom resources may have.
pub fn finalizer_warnings(object: &Value) -> Vec<String> {
    let list = object.pointer("/metadata/finalizers").and_then(Value::as_array);
    let texts = list.into_iter().flatten().filter_map(Value::as_str);
    let plain = texts.filter(|f| !f.contains('/') && !STANDARD_FINALIZERS.contains(f));
    plain
        .map(|f| {
            format!(
                "metadata.finalizers: {f:?}: prefer a domain-qualified finalizer name to avoid accidental conflicts with \
                 other finalizer writers"
            )
        })
        .collect()
}

/// Checks name, generateName, labels, annotations, owner references and finalizers of an object whose types are right.
pub fn check_object_meta(object: &Value, rule: NameRule, strict_finalizers: bool) -> Vec<Cause> {
    let mut causes = Vec::new();
    let metadata = object.get("metadata").unwrap_or(&Value::Null);
    let text = |key: &str| metadata.get(key).and_then(Value::as_str).unwrap_or_default();
    let prefix = text("generateName");
    if !prefix.is_empty() {
        // A prefix may end in the dash that separates it from the random part.
        let probe = prefix.strip_suffix('-').map_or_else(|| prefix.to_owned(), |p| format!("{p}a"));
        for error in rule.check(&probe) {
            causes.push(Cause::invalid("metadata.generateName", &Value::from(prefix), &error));
        }
    }
    let name = text("name");
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
    } else {
        for error in rule.check(name) {
            causes.push(Cause::invalid("metadata.name", &Value::from(name), &error));
        }
    }
    maps(metadata, &mut causes);
    owners(metadata, &mut causes);
    finalizers(metadata, strict_finalizers, &mut causes);
    causes
}

fn maps(metadata: &Value, causes: &mut Vec<Cause>) {
    for (key, value) in metadata.get("labels").and_then(Value::as_object).into_iter().flatten() {
        for error in names::qualified_name(key) {
            causes.push(Cause::invalid("metadata.labels", &Value::from(key.as_str()), &error));
        }
        for error in names::label_value(value.as_str().unwrap_or_default()) {
            causes.push(Cause::invalid("metadata.labels", value, &error));
        }
    }
    let mut size = 0;
    for (key, value) in metadata.get("annotations").and_then(Value::as_object).into_iter().flatten() {
        size += key.len() + value.as_str().map_or(0, str::len);
        for error in names::qualified_name(&key.to_lowercase()) {
            causes.push(Cause::invalid("metadata.annotations", &Value::from(key.as_str()), &error));
        }
    }
    if size > MAX_ANNOTATIONS {
        causes.push(Cause::too_long("metadata.annotations", MAX_ANNOTATIONS as u64));
    }
}

fn owners(metadata: &Value, causes: &mut Vec<Cause>) {
    let path = "metadata.ownerReferences";
    let mut controller: Option<String> = None;
    let list = metadata.get("ownerReferences").and_then(Value::as_array);
    for owner in list.into_iter().flatten() {
        let text = |key: &str| owner.get(key).and_then(Value::as_str).unwrap_or_default();
        if text("apiVersion").is_empty() {
            let detail = "version must not be empty";
            causes.push(Cause::invalid(format!("{path}.apiVersion"), &Value::from(""), detail));
        }
        for key in ["kind", "name", "uid"] {
            if text(key).is_empty() {
                causes.push(Cause::invalid(format!("{path}.{key}"), &Value::from(""), "must not be empty"));
            }
        }
        if text("apiVersion") == "v1" && text("kind") == "Event" {
            causes.push(Cause::invalid(path, owner, "/v1, Kind=Event is disallowed from being an owner"));
        }
        if owner.get("controller") == Some(&Value::Bool(true)) {
            let this = format!("{}/{}", text("kind"), text("name"));
            match &controller {
                None => controller = Some(this),
                Some(first) => {
                    let detail = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                    );
                    let all = metadata.get("ownerReferences").unwrap_or(&Value::Null);
                    causes.push(Cause::invalid(path, all, &detail));
                }
            }
        }
    }
}
