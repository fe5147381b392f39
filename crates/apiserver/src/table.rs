//! Tables, as `kubectl get` prints them: `application/json;as=Table;g=meta.k8s.io;v=v1`.
//!
//! [`Columns`] knows the columns of one version of a resource; [`Columns::table`] renders a list, one object or a watch event. Ages
//! are relative to a `now` the caller passes.

mod accept;
mod builtin;
mod duration;
mod jsonpath;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::registry::{Resource, Version};

pub use accept::{OFFERED, Representation, negotiate};
pub use duration::{age, human_duration};
pub use jsonpath::{JsonPath, JsonPathError};

/// How much of each object a row carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// Its metadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

impl IncludeObject {
    /// Reads the query parameter `includeObject`.
    pub fn from_query(value: Option<&str>) -> Result<IncludeObject, String> {
        match value {
            None | Some("" | "Metadata") => Ok(IncludeObject::Metadata),
            Some("None") => Ok(IncludeObject::None),
            Some("Object") => Ok(IncludeObject::Object),
            Some(other) => {
                Err(format!("unrecognized includeObject value: {other:?}: use one of None, Metadata, Object"))
            }
        }
    }
}

/// One column definition.
#[derive(Debug, Clone)]
struct Column {
    name: String,
    column_type: String,
    format: String,
    description: String,
    priority: i64,
}

impl Column {
    fn new(name: &str, column_type: &str, format: &str, description: &str, priority: i64) -> Column {
        Column {
            name: name.into(),
            column_type: column_type.into(),
            format: format.into(),
            description: description.into(),
            priority,
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "type": self.column_type,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        })
    }
}

/// The columns of one version of a resource, ready for rendering.
#[derive(Debug, Clone)]
pub struct Columns {
    columns: Vec<Column>,
    cells: Cells,
}

#[derive(Debug, Clone)]
enum Cells {
    Builtin(builtin::Render),
    /// After the name: a path and the column's type; `None` for a path that cannot be read.
    Paths(Vec<(Option<JsonPath>, String)>),
}

impl Columns {
    /// The columns of a version: Kubernetes' own for built-in kinds, `additionalPrinterColumns` for custom ones, with only an age
    /// where there are none.
    pub fn of(resource: &Resource, version: &Version) -> Columns {
        if resource.builtin() {
            return builtin::columns(&resource.group, &resource.kind);
        }
        let mut columns = vec![name_column()];
        let mut paths = Vec::new();
        for column in &version.columns {
            let description = if column.description.is_empty() {
                format!("Custom resource definition column (in JSONPath format): {}", column.json_path)
            } else {
                column.description.clone()
            };
            columns.push(Column::new(&column.name, &column.column_type, &column.format, &description, column.priority));
            paths.push((JsonPath::parse(&column.json_path).ok(), column.column_type.clone()));
        }
        if version.columns.is_empty() {
            columns.push(Column::new("Age", "date", "", AGE, 0));
            paths.push((JsonPath::parse(".metadata.creationTimestamp").ok(), "date".into()));
        }
        Columns { columns, cells: Cells::Paths(paths) }
    }

    /// A table of these objects. `list_metadata` is the list's (or the single object's) metadata, of which the table takes
    /// resourceVersion, continue and remainingItemCount. A watch sends headers with its first event only.
    pub fn table<'v>(
        &self,
        objects: impl IntoIterator<Item = &'v Value>,
        list_metadata: &Value,
        include: IncludeObject,
        headers: bool,
        now: Timestamp,
    ) -> Value {
        let mut metadata = Map::new();
        for key in ["resourceVersion", "continue", "remainingItemCount"] {
            if let Some(value) = list_metadata.get(key).filter(|v| !v.is_null()) {
                metadata.insert(key.into(), value.clone());
            }
        }
        let definitions: Vec<Value> =
            if headers { self.columns.iter().map(Column::to_json).collect() } else { Vec::new() };
        let rows: Vec<Value> = objects.into_iter().map(|object| self.row(object, include, now)).collect();
        json!({
            "kind": "Table",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata,
            "columnDefinitions": definitions,
            "rows": rows,
        })
    }

    fn row(&self, object: &Value, include: IncludeObject, now: Timestamp) -> Value {
        let (cells, conditions) = match &self.cells {
            Cells::Builtin(render) => render(object, now),
            Cells::Paths(paths) => (custom_cells(paths, object, now), Vec::new()),
        };
        let mut row = Map::new();
        row.insert("cells".into(), Value::Array(cells));
        if !conditions.is_empty() {
            row.insert("conditions".into(), Value::Array(conditions));
        }
        row.insert(
            "object".into(),
            match include {
                IncludeObject::None => Value::Null,
                IncludeObject::Object => object.clone(),
                IncludeObject::Metadata => partial_metadata(object),
            },
        );
        Value::Object(row)
    }
}

const AGE: &str = "Time since the object was created.";

fn name_column() -> Column {
    Column::new("Name", "string", "name", "Name of the object, unique among objects of its kind in its namespace.", 0)
}

fn age_column() -> Column {
    Column::new("Age", "string", "", AGE, 0)
}

/// The object as `meta.k8s.io/v1 PartialObjectMetadata`.
pub fn partial_metadata(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object.get("metadata").cloned().unwrap_or_default(),
    })
}

fn custom_cells(paths: &[(Option<JsonPath>, String)], object: &Value, now: Timestamp) -> Vec<Value> {
    let name = object.get("metadata").and_then(|m| m.get("name")).cloned().unwrap_or_default();
    let mut cells = vec![name];
    for (path, column_type) in paths {
        let found = path.as_ref().and_then(|p| p.first(object));
        cells.push(found.map_or(Value::Null, |value| cell(value, column_type, now)));
    }
    cells
}

fn cell(value: &Value, column_type: &str, now: Timestamp) -> Value {
    match (column_type, value) {
        (_, Value::Null) => Value::Null,
        ("string", Value::String(text)) => Value::from(text.as_str()),
        ("string", other) => Value::from(other.to_string()),
        ("integer", Value::Number(number)) => {
            number.as_i64().or_else(|| number.as_f64().map(|f| f as i64)).map_or(Value::Null, Value::from)
        }
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
        ("date", Value::String(text)) => match text.parse::<Timestamp>() {
            Ok(time) => Value::from(age(time, now)),
            Err(_) => Value::from("<invalid>"),
        },
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests;
