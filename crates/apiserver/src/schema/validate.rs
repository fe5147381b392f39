//! Validation of values, with the messages a kube-apiserver gives.

use serde_json::Value;

use super::cause::quote;
use super::{Cause, NodeId, Rules, Structural, Type, builtin, format, listtype, quantity};

/// Most causes of one answer: a client that sent a thousand wrong values learns nothing from the last nine hundred.
const MAX_CAUSES: usize = 100;

pub(crate) fn validate(schema: &Structural, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let validator = Validator { schema };
    validator.check(schema.root, "", object, &mut causes);
    // Kubernetes' own kinds have checks of their own instead.
    if !schema.typed {
        validator.lists(schema.root, "", object, &mut causes);
        validator.embedded_metadata(schema.root, "", object, true, &mut causes);
    }
    let mut unique: Vec<Cause> = Vec::with_capacity(causes.len());
    for cause in causes {
        if !unique.contains(&cause) {
            unique.push(cause);
        }
    }
    unique.truncate(MAX_CAUSES);
    unique
}

/// The first value of a built-in kind that its Go type could not hold.
pub(crate) fn first_type_error(schema: &Structural, object: &Value) -> Option<String> {
    let mut causes = Vec::new();
    Validator { schema }.types_only(schema.root, "", object, &mut causes);
    causes.into_iter().next()
}

struct Validator<'s> {
    schema: &'s Structural,
}

impl Validator<'_> {
    fn check(&self, id: NodeId, path: &str, value: &Value, causes: &mut Vec<Cause>) {
        if causes.len() > MAX_CAUSES {
            return;
        }
        let node = self.schema.node(id);
        if value.is_null() {
            if node.ty != Type::Any && !node.nullable {
                causes.push(Cause::type_invalid(path, node.ty.name(), "null"));
            }
            return;
        }
        let found = type_of(value);
        if !type_matches(node.ty, value) {
            causes.push(Cause::type_invalid(path, node.ty.name(), found));
            return;
        }
        if let Some(rules) = &node.rules {
            self.rules(rules, path, value, causes);
        }
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    if let Some(sub) = node.field(name) {
                        self.check(sub, &child(path, name), value, causes);
                    }
                }
                for name in &node.required {
                    // Metadata of built-in kinds is checked as a whole elsewhere.
                    let elsewhere = self.schema.typed && path.starts_with("metadata");
                    if !map.contains_key(&**name) && !elsewhere {
                        causes.push(Cause::required(child(path, name), ""));
                    }
                }
            }
            Value::Array(list) => {
                if let Some(items) = node.items {
                    for (i, value) in list.iter().enumerate() {
                        self.check(items, &format!("{path}[{i}]"), value, causes);
                    }
                }
            }
            _ => {}
        }
    }

    /// Uniqueness in sets and maps; Kubernetes reports it after everything else.
    fn lists(&self, id: NodeId, path: &str, value: &Value, causes: &mut Vec<Cause>) {
        let node = self.schema.node(id);
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    if let Some(sub) = node.field(name) {
                        self.lists(sub, &child(path, name), value, causes);
                    }
                }
            }
            Value::Array(list) => {
                listtype::check(node, path, list, causes);
                if let Some(items) = node.items {
                    for (i, value) in list.iter().enumerate() {
                        self.lists(items, &format!("{path}[{i}]"), value, causes);
                    }
                }
            }
            _ => {}
        }
    }

    fn rules(&self, rules: &Rules, path: &str, value: &Value, causes: &mut Vec<Cause>) {
        let invalid = |detail: String| Cause::invalid(path, value, &detail);
        self.combinations(rules, path, value, causes);
        match value {
            Value::String(text) => {
                let length = text.chars().count() as u64;
                // As in Kubernetes, one of these is enough.
                if let Some(max) = rules.max_length.filter(|max| length > *max) {
                    causes.push(Cause::too_long(path, max));
                } else if let Some(min) = rules.min_length.filter(|min| length < *min) {
                    causes.push(invalid(format!("{path} in body should be at least {min} chars long")));
                } else if let Some(pattern) = rules.pattern.as_ref().filter(|p| !p.matches(text)) {
                    causes.push(invalid(format!("{path} in body should match '{}'", pattern.source())));
                }
                if let Some(name) = rules.format.as_ref().filter(|f| !format::holds(f, text)) {
                    causes.push(Cause::bad_format(
                        path,
                        value,
                        &format!("{path} in body must be of type {name}: {}", quote(text)),
                    ));
                }
            }
            Value::Number(number) => {
                if let Some(name) = rules.format.as_ref().filter(|f| !format::number_holds(f, number)) {
                    let detail = format!("{path} in body must be of type {name}: {number}");
                    causes.push(Cause::bad_format(path, value, &detail));
                }
                let value = number.as_f64().unwrap_or(f64::NAN);
                match rules.minimum {
                    Some(min) if rules.exclusive_minimum && value <= min => {
                        causes.push(invalid(format!("{path} in body should be greater than {min}")));
                    }
                    Some(min) if !rules.exclusive_minimum && value < min => {
                        causes.push(invalid(format!("{path} in body should be greater than or equal to {min}")));
                    }
                    _ => {}
                }
                match rules.maximum {
                    Some(max) if rules.exclusive_maximum && value >= max => {
                        causes.push(invalid(format!("{path} in body should be less than {max}")));
                    }
                    Some(max) if !rules.exclusive_maximum && value > max => {
                        causes.push(invalid(format!("{path} in body should be less than or equal to {max}")));
                    }
                    _ => {}
                }
                if let Some(factor) = rules.multiple_of
                    && (value / factor).fract() != 0.0
                {
                    causes.push(invalid(format!("{path} in body should be a multiple of {factor}")));
                }
            }
            Value::Array(list) => {
                let size = list.len() as u64;
                if let Some(min) = rules.min_items.filter(|min| size < *min) {
                    causes.push(Cause::invalid(
                        path,
                        &Value::from(size),
                        &format!("{path} in body should have at least {min} items"),
                    ));
                }
                if let Some(max) = rules.max_items.filter(|max| size > *max) {
                    causes.push(Cause::too_many(path, size, max));
                }
                if rules.unique_items && !listtype::repeated(list).is_empty() {
                    let detail = format!("{path} in body shouldn't contain duplicates");
                    causes.push(Cause::invalid(path, &Value::from(""), &detail));
                }
            }
            Value::Object(map) => {
                let size = map.len() as u64;
                if let Some(min) = rules.min_properties.filter(|min| size < *min) {
                    causes.push(Cause::invalid(
                        path,
                        &Value::from(size),
                        &format!("{path} in body should have at least {min} properties"),
                    ));
                }
                if let Some(max) = rules.max_properties.filter(|max| size > *max) {
                    causes.push(Cause::too_many(path, size, max));
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
        if !rules.enumeration.is_empty() && !rules.enumeration.iter().any(|allowed| same(allowed, value)) {
            let supported: Vec<String> =
                rules.enumeration.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect();
            causes.push(Cause::not_supported(path, value, &supported));
        }
    }

    fn combinations(&self, rules: &Rules, path: &str, value: &Value, causes: &mut Vec<Cause>) {
        let attempt = |id: &NodeId| {
            let mut inner = Vec::new();
            self.check(*id, path, value, &mut inner);
            inner
        };
        // Kubernetes gives these no path, only a text that quotes it.
        let whole = |detail: String| Cause::invalid("<nil>", &Value::from(""), &detail);
        if !rules.any_of.is_empty() {
            let failures: Vec<Vec<Cause>> = rules.any_of.iter().map(attempt).collect();
            if !failures.iter().any(Vec::is_empty) {
                causes.push(whole(format!("{} must validate at least one schema (anyOf)", quote(path))));
                causes.extend(fewest(failures));
            }
        }
        if !rules.one_of.is_empty() {
            let failures: Vec<Vec<Cause>> = rules.one_of.iter().map(attempt).collect();
            let valid = failures.iter().filter(|f| f.is_empty()).count();
            if valid != 1 {
                let found =
                    if valid == 0 { "Found none valid".into() } else { format!("Found {valid} valid alternatives") };
                causes.push(whole(format!("{} must validate one and only one schema (oneOf). {found}", quote(path))));
                if valid == 0 {
                    causes.extend(fewest(failures));
                }
            }
        }
        if !rules.all_of.is_empty() {
            let failures: Vec<Vec<Cause>> = rules.all_of.iter().map(attempt).collect();
            let valid = failures.iter().filter(|f| f.is_empty()).count();
            causes.extend(failures.into_iter().flatten());
            if valid != rules.all_of.len() {
                let none = if valid == 0 { ". None validated" } else { "" };
                causes.push(whole(format!("{} must validate all the schemas (allOf){none}", quote(path))));
            }
        }
        if let Some(not) = rules.not
            && attempt(&not).is_empty()
        {
            causes.push(whole(format!("{} must not validate the schema (not)", quote(path))));
        }
    }

    /// Embedded objects must say what they are and carry well-typed metadata.
    fn embedded_metadata(&self, id: NodeId, path: &str, value: &Value, root: bool, causes: &mut Vec<Cause>) {
        let node = self.schema.node(id);
        match value {
            Value::Object(map) => {
                if node.embedded && !root {
                    for name in ["apiVersion", "kind"] {
                        match map.get(name) {
                            Some(Value::String(text)) if !text.is_empty() => {}
                            None => causes.push(Cause::required(child(path, name), "must not be empty")),
                            Some(Value::String(_)) => {
                                causes.push(Cause::required(child(path, name), "must not be empty"));
                            }
                            Some(other) => {
                                causes.push(Cause::type_invalid(child(path, name), "string", type_of(other)));
                            }
                        }
                    }
                }
                if (node.embedded || root)
                    && let Some(metadata) = map.get("metadata")
                {
                    builtin::validate_metadata(metadata, &child(path, "metadata"), causes);
                }
                for (name, value) in map {
                    if let Some(sub) = node.field(name) {
                        self.embedded_metadata(sub, &child(path, name), value, false, causes);
                    }
                }
            }
            Value::Array(list) => {
                if let Some(items) = node.items {
                    for (i, value) in list.iter().enumerate() {
                        self.embedded_metadata(items, &format!("{path}[{i}]"), value, false, causes);
                    }
                }
            }
            _ => {}
        }
    }

    fn types_only(&self, id: NodeId, path: &str, value: &Value, errors: &mut Vec<String>) {
        let node = self.schema.node(id);
        if value.is_null() || !errors.is_empty() {
            return;
        }
        let named = node.rules.as_ref().and_then(|rules| rules.format.as_deref());
        if named == Some(quantity::FORMAT) && (value.is_string() || value.is_number()) {
            errors.extend(quantity::go_error(value));
            return;
        }
        if !type_matches(node.ty, value) {
            let expected = if node.ty == Type::IntOrString { "integer or string" } else { node.ty.name() };
            errors.push(format!("cannot decode {} into field {path}, which is of type {expected}", type_of(value)));
            return;
        }
        if let (Value::Number(number), Some(rules)) = (value, &node.rules)
            && let Some(name) = rules.format.as_ref().filter(|f| !format::number_holds(f, number))
        {
            errors.push(format!("cannot decode number {number} into field {path}, which is of type {name}"));
            return;
        }
        if let (Value::String(text), Some(rules)) = (value, &node.rules)
            && let Some(error) = rules.format.as_ref().and_then(|f| format::go_error(f, text))
        {
            errors.push(error);
            return;
        }
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    if let Some(sub) = node.field(name) {
                        self.types_only(sub, &child(path, name), value, errors);
                    }
                }
            }
            Value::Array(list) => {
                if let Some(items) = node.items {
                    for (i, value) in list.iter().enumerate() {
                        self.types_only(items, &format!("{path}[{i}]"), value, errors);
                    }
                }
            }
            _ => {}
        }
    }
}

/// The alternative that came closest.
fn fewest(failures: Vec<Vec<Cause>>) -> Vec<Cause> {
    failures.into_iter().min_by_key(Vec::len).unwrap_or_default()
}

fn child(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The JSON type of a value, in the schema's words.
pub(crate) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn type_matches(ty: Type, value: &Value) -> bool {
    let integral = || match value {
        Value::Number(number) => !number.is_f64() || number.as_f64().is_some_and(|f| f.fract() == 0.0),
        _ => false,
    };
    match ty {
        Type::Any => true,
        Type::Object => value.is_object(),
        Type::Array => value.is_array(),
        Type::String => value.is_string(),
        Type::Boolean => value.is_boolean(),
        Type::Number => value.is_number(),
        Type::Integer => integral(),
        Type::IntOrString => value.is_string() || integral(),
    }
}

/// Equality where 1 and 1.0 are the same.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}
