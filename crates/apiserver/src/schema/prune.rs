//! Removal of fields the schema does not know.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Additional, NodeId, Structural};

/// Fields every embedded object has.
const META_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Prunes an object and returns the paths of what was dropped.
pub(crate) fn prune_root(schema: &Structural, object: &mut Value) -> Vec<String> {
    let mut pruner = Pruner { schema, path: String::new(), dropped: Vec::new() };
    // A custom object's root always has apiVersion, kind and metadata; the table of built-in kinds names them.
    pruner.prune(schema.root, object, !schema.typed);
    pruner.dropped
}

struct Pruner<'s> {
    schema: &'s Structural,
    path: String,
    dropped: Vec<String>,
}

impl Pruner<'_> {
    fn prune(&mut self, id: NodeId, value: &mut Value, root: bool) {
        let schema = self.schema;
        let node = schema.node(id);
        let meta = root || node.embedded;
        match value {
            Value::Object(map) => {
                let mut unknown: Vec<String> = Vec::new();
                for (name, value) in map.iter_mut() {
                    if meta && META_FIELDS.contains(&name.as_str()) {
                        continue;
                    }
                    let length = self.path.len();
                    match node.field(name) {
                        Some(sub) => {
                            self.push(name);
                            self.prune(sub, value, false);
                            self.path.truncate(length);
                        }
                        None if node.preserve || node.additional == Additional::Any => {}
                        None => unknown.push(name.clone()),
                    }
                }
                for name in unknown {
                    let length = self.path.len();
                    self.push(&name);
                    self.dropped.push(self.path.clone());
                    self.path.truncate(length);
                    map.shift_remove(&name);
                }
            }
            Value::Array(list) => {
                if let Some(items) = node.items {
                    for (i, value) in list.iter_mut().enumerate() {
                        let length = self.path.len();
                        let _ = write!(self.path, "[{i}]");
                        self.prune(items, value, false);
                        self.path.truncate(length);
                    }
                }
            }
            _ => {}
        }
    }

    fn push(&mut self, name: &str) {
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(name);
    }
}
