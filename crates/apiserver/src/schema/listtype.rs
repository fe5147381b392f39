//! Uniqueness in arrays with `x-kubernetes-list-type` set or map.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::{Cause, ListType, Node};

/// What is not unique in the array.
pub(crate) fn check(node: &Node, path: &str, list: &[Value], causes: &mut Vec<Cause>) {
    match &node.list {
        ListType::Atomic => {}
        ListType::Set => {
            for i in repeated(list) {
                causes.push(Cause::duplicate(format!("{path}[{i}]"), &list[i]));
            }
        }
        ListType::Map(keys) => {
            let mut wrong = false;
            for (i, item) in list.iter().enumerate() {
                if !item.is_object() && !item.is_null() {
                    let detail = "must be an object for an array of list-type map";
                    causes.push(Cause::invalid(format!("{path}[{i}]"), item, detail));
                    wrong = true;
                }
            }
            if wrong {
                return;
            }
            let ids: Vec<Value> = list
                .iter()
                .map(|item| {
                    let mut id = Map::new();
                    for key in keys {
                        if let Some(value) = item.get(&**key) {
                            id.insert(key.to_string(), value.clone());
                        }
                    }
                    Value::Object(id)
                })
                .collect();
            for i in repeated(&ids) {
                causes.push(Cause::duplicate(format!("{path}[{i}]"), &ids[i]));
            }
        }
    }
}

/// Indices of the second occurrence of each repeated value.
pub(crate) fn repeated(list: &[Value]) -> Vec<usize> {
    if list.len() < 2 {
        return Vec::new();
    }
    let mut seen: HashMap<String, usize> = HashMap::with_capacity(list.len());
    let mut out = Vec::new();
    for (i, value) in list.iter().enumerate() {
        let times = seen.entry(canonical(value)).or_insert(0);
        *times += 1;
        if *times == 2 {
            out.push(i);
        }
    }
    out
}

/// JSON text that is equal for equal values, whatever the order of their fields.
fn canonical(value: &Value) -> String {
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Object(map) => {
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_by(|a, b| a.0.cmp(b.0));
                Value::Object(entries.into_iter().map(|(k, v)| (k.clone(), sorted(v))).collect())
            }
            Value::Array(list) => Value::Array(list.iter().map(sorted).collect()),
            Value::Number(number) => match number.as_f64() {
                // 1 and 1.0 are the same number.
                Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 9e15 => json!(float as i64),
                _ => value.clone(),
            },
            other => other.clone(),
        }
    }
    sorted(value).to_string()
}
