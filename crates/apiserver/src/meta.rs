//! `metadata`: what the server sets, what it keeps, what it refuses.

mod validate;

use serde_json::{Map, Value, json};

pub(crate) use validate::{allows_unconditional_update, validate_create, validate_update};

/// Reads of `metadata` without the noise.
pub(crate) trait MetaExt {
    /// A string field of the metadata, empty when absent.
    fn meta_str(&self, field: &str) -> &str;
    /// A field of the metadata.
    fn meta(&self, field: &str) -> Option<&Value>;
    /// The metadata, made when absent.
    fn meta_mut(&mut self) -> &mut Map<String, Value>;
    /// The finalizers.
    fn finalizers(&self) -> Vec<String>;
    /// Whether the object is being deleted.
    fn deleting(&self) -> bool {
        self.meta("deletionTimestamp").is_some_and(|v| !v.is_null())
    }
}

impl MetaExt for Value {
    fn meta_str(&self, field: &str) -> &str {
        self.meta(field).and_then(Value::as_str).unwrap_or_default()
    }

    fn meta(&self, field: &str) -> Option<&Value> {
        self.get("metadata")?.get(field)
    }

    fn meta_mut(&mut self) -> &mut Map<String, Value> {
        object_mut(object_mut(self).entry("metadata").or_insert(Value::Null))
    }

    fn finalizers(&self) -> Vec<String> {
        let list = self.meta("finalizers").and_then(Value::as_array);
        list.into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
    }
}

/// The map of a value, which becomes an empty object when it is anything else.
pub(crate) fn object_mut(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made an object above"),
    }
}

/// Time as Kubernetes writes it: whole seconds, UTC.
pub(crate) fn timestamp(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Removes empty strings, lists, maps and nulls that Kubernetes does not write, and fields no client may set.
pub(crate) fn tidy(meta: &mut Map<String, Value>) {
    meta.retain(|key, value| {
        key != "selfLink"
            && match value {
                Value::Null => false,
                Value::String(s) => !s.is_empty(),
                Value::Array(a) => !a.is_empty(),
                Value::Object(o) => !o.is_empty(),
                Value::Bool(_) | Value::Number(_) => true,
            }
    });
}

/// Removes what only the server sets from a new object.
pub(crate) fn wipe(object: &mut Value) {
    let meta = object.meta_mut();
    for field in
        ["resourceVersion", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"]
    {
        meta.shift_remove(field);
    }
    tidy(meta);
}

/// Sets what the server decides about a new object. The name is already final.
pub(crate) fn prepare_create(object: &mut Value, namespace: &str, generation: bool) {
    wipe(object);
    let meta = object.meta_mut();
    if namespace.is_empty() {
        meta.shift_remove("namespace");
    } else {
        meta.insert("namespace".into(), json!(namespace));
    }
    meta.insert("uid".into(), json!(uuid::Uuid::new_v4().to_string()));
    meta.insert("creationTimestamp".into(), json!(timestamp(jiff::Timestamp::now())));
    if generation {
        meta.insert("generation".into(), json!(1));
    }
}

/// Fields of the metadata no update can change.
const KEPT: &[&str] = &[
    "name",
    "generateName",
    "namespace",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "resourceVersion",
];

/// Takes over from the stored object what an update cannot change.
pub(crate) fn prepare_update(object: &mut Value, old: &Value) {
    let meta = object.meta_mut();
    tidy(meta);
    for field in KEPT {
        match old.meta(field) {
            Some(value) => {
                meta.insert((*field).into(), value.clone());
            }
            None => {
                meta.remove(*field);
            }
        }
    }
}

/// Adds one to the generation, when the object counts them.
pub(crate) fn bump_generation(object: &mut Value) {
    if let Some(generation) = object.meta("generation").and_then(Value::as_i64) {
        object.meta_mut().insert("generation".into(), json!(generation + 1));
    }
}

/// A name made from a `generateName` prefix.
pub(crate) fn generated_name(prefix: &str) -> String {
    use rand::RngExt as _;
    // No vowels and no look-alikes, so that no words appear and names can be read aloud.
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut rng = rand::rng();
    let suffix: String = (0..5).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])).collect();
    let mut keep = prefix.len().min(58);
    while !prefix.is_char_boundary(keep) {
        keep -= 1;
    }
    format!("{}{suffix}", &prefix[..keep])
}
