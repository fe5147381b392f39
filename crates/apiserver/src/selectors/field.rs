//! Field selectors: `metadata.name=x,status.phase!=Running`.

use serde_json::Value;

use crate::registry::Resource;

/// A parsed selector: all requirements hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct FieldSelector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    path: String,
    value: String,
    equal: bool,
}

impl FieldSelector {
    /// Parses a selector for a resource; the error is the text for the client.
    pub(crate) fn parse(text: &str, resource: &Resource, version: &str) -> Result<Self, String> {
        let mut requirements = Vec::new();
        for term in split(text)? {
            let (path, value, equal) = if let Some((path, value)) = term.split_once("!=") {
                (path, value, false)
            } else if let Some((path, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
                (path, value, true)
            } else {
                return Err(format!("invalid selector: '{text}'; can't understand '{term}'"));
            };
            let path = path.trim();
            if !supported(resource, version, path) {
                return Err(unsupported(resource, path));
            }
            requirements.push(Requirement { path: path.to_owned(), value: unescape(value)?, equal });
        }
        Ok(FieldSelector(requirements))
    }

    /// Whether everything matches.
    pub(crate) fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether only the key of an object decides.
    pub(crate) fn only_by_key(&self) -> bool {
        self.0.iter().all(|r| matches!(r.path.as_str(), "metadata.name" | "metadata.namespace"))
    }

    /// Whether an object with this key (`namespace/name` or `name`) may be selected, by name and namespace alone.
    pub(crate) fn matches_key(&self, key: &str) -> bool {
        let (namespace, name) = key.split_once('/').unwrap_or(("", key));
        self.0.iter().all(|r| match r.path.as_str() {
            "metadata.name" => (r.value == name) == r.equal,
            "metadata.namespace" => (r.value == namespace) == r.equal,
            _ => true,
        })
    }

    /// Whether an object (in the version of the request) is selected.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|r| (lookup(object, &r.path) == r.value) == r.equal)
    }
}

fn supported(resource: &Resource, version: &str, path: &str) -> bool {
    let known = |v: &crate::registry::Version| v.selectable_fields.iter().any(|f| f == path);
    path == "metadata.name"
        || (path == "metadata.namespace" && (resource.namespaced() || !resource.builtin()))
        || resource.version(version).is_some_and(known)
}

fn unsupported(resource: &Resource, path: &str) -> String {
    let own_fields = resource.versions.iter().any(|v| !v.selectable_fields.is_empty());
    if own_fields || !resource.builtin() {
        format!("field label not supported: {path}")
    } else {
        format!("{path:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
    }
}

/// The value at a dotted path as text; absent is empty, and an absent boolean is false.
fn lookup(object: &Value, path: &str) -> String {
    // Older names of the same thing.
    let path = match path {
        "source" => "source.component",
        path => path,
    };
    let found = path.split('.').try_fold(object, |value, step| value.get(step));
    match found {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(flag)) => flag.to_string(),
        Some(Value::Number(number)) => number.to_string(),
        None | Some(Value::Null) if matches!(path, "spec.unschedulable" | "spec.hostNetwork") => "false".into(),
        None | Some(Value::Null | Value::Array(_) | Value::Object(_)) => String::new(),
    }
}

/// Splits at commas which are not escaped.
fn split(text: &str) -> Result<Vec<&str>, String> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms.retain(|t| !t.trim().is_empty());
    Ok(terms)
}

fn unescape(value: &str) -> Result<String, String> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                other => return Err(format!("invalid field selector: invalid escape sequence: {other:?}")),
            },
            (',' | '=', false) => return Err(format!("invalid field selector: unescaped character in value: {c:?}")),
            (c, false) => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry::builtin::resources;

    fn pods() -> Resource {
        resources().into_iter().find(|r| r.plural == "pods").unwrap()
    }

    #[test]
    fn fields_select() {
        let pod = json!({"metadata": {"name": "a", "namespace": "n"}, "spec": {"nodeName": "x"}, "status": {}});
        let matches = |text: &str| FieldSelector::parse(text, &pods(), "v1").unwrap().matches(&pod);
        for yes in [
            "",
            "metadata.name=a",
            "metadata.name==a,spec.nodeName=x",
            "status.phase!=Running",
            "spec.hostNetwork=false",
        ] {
            assert!(matches(yes), "{yes}");
        }
        for no in ["metadata.name!=a", "spec.nodeName=", "status.phase=Running"] {
            assert!(!matches(no), "{no}");
        }
    }

    #[test]
    fn unknown_fields_are_refused() {
        let error = FieldSelector::parse("spec.foo=x", &pods(), "v1").unwrap_err();
        assert_eq!(error, "field label not supported: spec.foo");
        for bad in ["metadata.name", "metadata.name=a=b", "metadata.name=\\x"] {
            assert!(FieldSelector::parse(bad, &pods(), "v1").is_err(), "{bad}");
        }
    }
}
