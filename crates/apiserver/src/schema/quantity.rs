//! Quantities of built-in kinds: written as Kubernetes writes them (`1536Mi` for `1.5Gi`), so that equal ones are the same.

use fv_api::{Quantity, QuantityError};
use serde_json::Value;

use super::{NodeId, Structural};

/// The format of quantities in the table of built-in kinds.
pub(crate) const FORMAT: &str = "quantity";

/// Rewrites every quantity below a node. What is none is left alone; [`Structural::decode_error`] tells.
pub(crate) fn rewrite(schema: &Structural, id: NodeId, value: &mut Value) {
    let node = schema.node(id);
    match value {
        Value::Object(map) => {
            for (name, value) in map.iter_mut() {
                if let Some(sub) = node.field(name) {
                    rewrite(schema, sub, value);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = node.items {
                list.iter_mut().for_each(|value| rewrite(schema, items, value));
            }
        }
        Value::String(_) | Value::Number(_)
            if node.rules.as_ref().is_some_and(|rules| rules.format.as_deref() == Some(FORMAT)) =>
        {
            if let Ok(quantity) = read(value) {
                *value = Value::from(quantity.to_string());
            }
        }
        _ => {}
    }
}

/// What Go's decoder says about a value that is no quantity.
pub(crate) fn go_error(value: &Value) -> Option<String> {
    let error = read(value).err()?;
    Some(match error {
        QuantityError::Suffix { .. } => "unable to parse quantity's suffix".to_owned(),
        QuantityError::TooLarge { .. } => "unable to parse numeric part of quantity".to_owned(),
        QuantityError::Empty | QuantityError::Syntax { .. } => {
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'".to_owned()
        }
    })
}

/// Reads a text or a number.
fn read(value: &Value) -> Result<Quantity, QuantityError> {
    match value {
        Value::String(text) => Quantity::parse(text.trim()),
        other => Quantity::parse(&other.to_string()),
    }
}

/// A quantity as a number to reckon with; `None` when it is none.
pub(crate) fn of(value: &Value) -> Option<Quantity> {
    read(value).ok()
}

/// The quantity at a pointer.
pub(crate) fn at(object: &Value, pointer: &str) -> Option<Quantity> {
    of(object.pointer(pointer)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::builtin;
    use serde_json::json;

    #[test]
    fn quantities_get_one_spelling_wherever_they_stand() {
        let schema = builtin::schema("", "v1", "Pod").unwrap();
        let resources = |cpu: Value, memory: &str| json!({"requests": {"cpu": cpu, "memory": memory}});
        let pod = |resources: Value| json!({"spec": {"containers": [{"name": "c", "resources": resources}]}});
        let mut object = pod(resources(json!(0.5), "1.5Gi"));
        rewrite(schema, schema.root(), &mut object);
        assert_eq!(object, pod(resources(json!("500m"), "1536Mi")));
    }

    #[test]
    fn what_is_no_quantity_is_told_as_go_does() {
        assert_eq!(go_error(&json!("1Gi")), None);
        assert_eq!(go_error(&json!("1Kk")).unwrap(), "unable to parse quantity's suffix");
        assert!(go_error(&json!("x")).unwrap().starts_with("quantities must match"));
    }
}
