//! The entries of `metadata.managedFields`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::fieldsv1::FieldsError;
use crate::set::Set;

/// How a manager came to own fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// By applying a configuration.
    Apply,
    /// By anything else.
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        }
    }
}

/// Who owns fields. Two entries with the same manager are one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Manager {
    /// Name of the program or person.
    pub name: String,
    /// How it writes.
    pub operation: Operation,
    /// The version it writes in; empty for appliers, who are the same in every version.
    pub api_version: String,
    /// The subresource it writes through; empty for the object itself.
    pub subresource: String,
}

impl Manager {
    /// A manager as a request names it.
    pub fn new(name: &str, operation: Operation, api_version: &str, subresource: &str) -> Manager {
        Manager {
            name: if name.is_empty() { "unknown".to_owned() } else { name.to_owned() },
            operation,
            api_version: match operation {
                Operation::Apply => String::new(),
                Operation::Update => api_version.to_owned(),
            },
            subresource: subresource.to_owned(),
        }
    }

    /// The text by which Kubernetes sorts managers.
    pub(crate) fn identifier(&self) -> String {
        let mut text = format!("{{\"manager\":{:?},\"operation\":\"{}\"", self.name, self.operation.name());
        for (key, value) in [("apiVersion", &self.api_version), ("subresource", &self.subresource)] {
            if !value.is_empty() {
                text.push_str(&format!(",\"{key}\":{value:?}"));
            }
        }
        text.push('}');
        text
    }
}

/// What a manager owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// The fields.
    pub set: Set,
    /// The version whose schema the paths follow.
    pub api_version: String,
    /// When it last changed something.
    pub time: Option<Timestamp>,
}

/// All managers of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Managed {
    pub(crate) entries: BTreeMap<Manager, Owned>,
}

/// An entry that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// A field is missing or of the wrong kind.
    #[error("metadata.managedFields[{index}].{field}: {why}")]
    Field {
        /// Which entry.
        index: usize,
        /// Which field.
        field: &'static str,
        /// What is wrong.
        why: &'static str,
    },
    /// The fields cannot be read.
    #[error("metadata.managedFields[{index}]: {source}")]
    Fields {
        /// Which entry.
        index: usize,
        /// What is wrong.
        source: FieldsError,
    },
}

impl Managed {
    /// Whether nobody owns anything.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The managers and what they own.
    pub fn entries(&self) -> impl Iterator<Item = (&Manager, &Owned)> {
        self.entries.iter()
    }

    /// What a manager owns.
    pub fn get(&self, manager: &Manager) -> Option<&Owned> {
        self.entries.get(manager)
    }

    /// Reads the entries; an absent list has none.
    pub fn decode(entries: Option<&Value>) -> Result<Managed, EntryError> {
        let mut managed = Managed::default();
        for (index, entry) in entries.and_then(Value::as_array).into_iter().flatten().enumerate() {
            let (manager, owned) = decode(index, entry)?;
            managed.entries.insert(manager, owned);
        }
        Ok(managed)
    }

    /// The entries as they are stored: appliers first, then by time.
    pub fn encode(&self) -> Value {
        let mut entries: Vec<(&Manager, &Owned)> = self.entries.iter().collect();
        entries.sort_by_key(|(manager, owned)| {
            let seconds = owned.time.map_or(0, Timestamp::as_second);
            (manager.operation, seconds, &manager.name, &owned.api_version, &manager.subresource)
        });
        Value::Array(entries.into_iter().map(|(manager, owned)| encode(manager, owned)).collect())
    }
}

fn encode(manager: &Manager, owned: &Owned) -> Value {
    let mut entry = Map::new();
    let mut put = |key: &str, text: &str| {
        if !text.is_empty() {
            entry.insert(key.to_owned(), json!(text));
        }
    };
    put("manager", &manager.name);
    put("operation", manager.operation.name());
    put("apiVersion", &owned.api_version);
    if let Some(time) = owned.time {
        put("time", &time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    }
    put("fieldsType", "FieldsV1");
    entry.insert("fieldsV1".into(), owned.set.to_fields());
    if !manager.subresource.is_empty() {
        entry.insert("subresource".into(), json!(manager.subresource));
    }
    Value::Object(entry)
}

fn decode(index: usize, entry: &Value) -> Result<(Manager, Owned), EntryError> {
    let wrong = |field, why| EntryError::Field { index, field, why };
    let text = |field: &'static str| match entry.get(field) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(_) => Err(wrong(field, "must be a string")),
    };
    let operation = match text("operation")? {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return Err(wrong("operation", "must be `Apply` or `Update`")),
    };
    let api_version = text("apiVersion")?;
    if api_version.is_empty() {
        return Err(wrong("apiVersion", "must not be empty"));
    }
    if text("fieldsType")? != "FieldsV1" {
        return Err(wrong("fieldsType", "must be `FieldsV1`"));
    }
    let time = match text("time")? {
        "" => None,
        text => Some(text.parse().map_err(|_| wrong("time", "must be a time in RFC 3339"))?),
    };
    let set = match entry.get("fieldsV1") {
        None | Some(Value::Null) => Set::default(),
        Some(fields) => Set::from_fields(fields).map_err(|source| EntryError::Fields { index, source })?,
    };
    let manager = Manager {
        name: text("manager")?.to_owned(),
        operation,
        api_version: if operation == Operation::Apply { String::new() } else { api_version.to_owned() },
        subresource: text("subresource")?.to_owned(),
    };
    Ok((manager, Owned { set, api_version: api_version.to_owned(), time }))
}
