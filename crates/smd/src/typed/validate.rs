//! Whether a value fits its type.

use serde_json::Value;

use super::{Problem, Problems, Type};
use crate::path::Element;
use crate::schema::{List, Map, Relation, Scalar, Shape, TypeRef, deduce, resolve, shape};

/// Whether two items of a list may have the same keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duplicates {
    /// In what is stored or sent with an update.
    Allowed,
    /// In what is applied.
    Refused,
}

impl Type<'_> {
    /// Refuses a value that does not fit.
    pub fn validate(self, value: &Value, duplicates: Duplicates) -> Result<(), Problems> {
        let mut problems = Vec::new();
        Walk { ty: self, duplicates }.visit(self.root, value, &mut String::new(), &mut problems);
        if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
    }
}

struct Walk<'s> {
    ty: Type<'s>,
    duplicates: Duplicates,
}

impl Walk<'_> {
    fn visit(&self, ty: TypeRef, value: &Value, path: &mut String, problems: &mut Vec<Problem>) {
        let message = match (shape(deduce(resolve(self.ty.schema, ty), value)), value) {
            (_, Value::Null) => return,
            (Shape::Map(map), Value::Object(fields)) => return self.fields(&map, fields, path, problems),
            (Shape::List(list), Value::Array(items)) => return self.items(&list, items, path, problems),
            (Shape::Map(_), other) => format!("expected map, got &{{{}}}", plain(other)),
            (Shape::List(_), other) => format!("expected list, got &{{{}}}", plain(other)),
            (Shape::Scalar(scalar), value) => match wrong_scalar(scalar, value) {
                Some(message) => message,
                None => return,
            },
            (Shape::Nothing, _) => "schema error: the type allows no value".to_owned(),
        };
        problems.push(Problem { path: path.clone(), message });
    }

    fn fields(
        &self,
        map: &Map,
        fields: &serde_json::Map<String, Value>,
        path: &mut String,
        problems: &mut Vec<Problem>,
    ) {
        for (name, value) in fields {
            let length = path.len();
            path.push('.');
            path.push_str(name);
            let ty = map.value_type(self.ty.schema, name);
            match ty {
                Some(ty) => self.visit(ty, value, path, problems),
                None => {
                    problems.push(Problem { path: path.clone(), message: "field not declared in schema".to_owned() });
                }
            }
            path.truncate(length);
            if ty.is_none() {
                return;
            }
        }
    }

    fn items(&self, list: &List<'_>, items: &[Value], path: &mut String, problems: &mut Vec<Problem>) {
        let mut seen: Vec<Element> = Vec::new();
        for (i, item) in items.iter().enumerate() {
            let element = if list.relation == Relation::Atomic {
                Element::Index(i64::try_from(i).unwrap_or(i64::MAX))
            } else {
                match self.ty.item(list, item) {
                    Ok(element) => element,
                    Err(why) => {
                        problems.push(Problem { path: path.clone(), message: format!("element {i}: {why}") });
                        return;
                    }
                }
            };
            if list.relation != Relation::Atomic && self.duplicates == Duplicates::Refused {
                match seen.binary_search(&element) {
                    Ok(_) => {
                        let message = format!("duplicate entries for key {element}");
                        problems.push(Problem { path: path.clone(), message });
                    }
                    Err(at) => seen.insert(at, element.clone()),
                }
            }
            let length = path.len();
            path.push_str(&element.to_string());
            self.visit(list.items, item, path, problems);
            path.truncate(length);
        }
    }
}

fn wrong_scalar(scalar: Scalar, value: &Value) -> Option<String> {
    let message = match (scalar, value) {
        (Scalar::Numeric, Value::Number(_))
        | (Scalar::String, Value::String(_))
        | (Scalar::Boolean, Value::Bool(_))
        | (Scalar::Untyped, Value::Number(_) | Value::String(_) | Value::Bool(_)) => return None,
        (Scalar::Numeric, _) => format!("expected numeric (int or float), got {}", go_type(value)),
        (Scalar::String, _) => format!("expected string, got &value.valueUnstructured{{Value:{value}}}"),
        (Scalar::Boolean, _) => format!("expected boolean, got &{{{}}}", plain(value)),
        (Scalar::Untyped, _) => format!("expected any scalar, got &{{{}}}", plain(value)),
    };
    Some(message)
}

/// The value as Go prints it in these messages: strings without quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
