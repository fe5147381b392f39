//! Where two JSON values differ.

use serde_json::Value;

/// One place with two values; `None` = not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// JSON pointer.
    pub at: String,
    /// Our value.
    pub ours: Option<Value>,
    /// The real server's.
    pub real: Option<Value>,
}

/// Every smallest place in which the values differ.
pub fn diff(ours: &Value, real: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    walk(String::new(), Some(ours), Some(real), &mut found);
    found
}

fn walk(at: String, ours: Option<&Value>, real: Option<&Value>, found: &mut Vec<Difference>) {
    match (ours, real) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let keys = a.keys().chain(b.keys().filter(|k| !a.contains_key(*k)));
            for key in keys {
                let escaped = key.replace('~', "~0").replace('/', "~1");
                walk(format!("{at}/{escaped}"), a.get(key), b.get(key), found);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            for index in 0..a.len().max(b.len()) {
                walk(format!("{at}/{index}"), a.get(index), b.get(index), found);
            }
        }
        (Some(a), Some(b)) if a == b => {}
        (a, b) => found.push(Difference { at, ours: a.cloned(), real: b.cloned() }),
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |v: &Option<Value>| v.as_ref().map_or_else(|| "(nothing)".to_owned(), Value::to_string);
        write!(f, "{}\n  ours {}\n  real {}", self.at, text(&self.ours), text(&self.real))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_smallest_differing_places_are_named() {
        let ours = json!({"a": {"b/c": 1, "same": 0}, "list": [1, 2]});
        let real = json!({"a": {"b/c": 2, "same": 0}, "list": [1, 2, 3]});
        let places: Vec<String> = diff(&ours, &real).into_iter().map(|d| d.at).collect();
        assert_eq!(places, ["/a/b~1c", "/list/2"]);
        assert!(diff(&ours, &ours).is_empty());
    }
}
