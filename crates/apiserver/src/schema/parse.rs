//! Reads a JSON schema into the arena.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Additional, ListType, Node, NodeId, PatchMerge, Pattern, Rules, Structural, Type};

/// Deepest nesting of a schema.
const MAX_DEPTH: usize = 200;
/// Most nodes of a schema; a large definition has some ten thousand.
const MAX_NODES: usize = 500_000;

/// Why a schema cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// A keyword has a value of the wrong JSON type.
    #[error("{path}: must be {expected}")]
    Keyword {
        /// Where in the schema.
        path: String,
        /// What was expected.
        expected: &'static str,
    },
    /// An unknown `type`.
    #[error("{path}.type: unknown type {value:?}, use one of object, array, string, integer, number, boolean")]
    UnknownType {
        /// Where in the schema.
        path: String,
        /// The type.
        value: String,
    },
    /// A reference to another schema.
    #[error("{path}: $ref {target:?} cannot be resolved")]
    Reference {
        /// Where in the schema.
        path: String,
        /// Target.
        target: String,
    },
    /// Too deep or too large.
    #[error("{path}: the schema is too large or nested too deeply")]
    TooLarge {
        /// Where in the schema.
        path: String,
    },
}

pub(crate) fn parse(schema: &Value) -> Result<Structural, SchemaError> {
    let mut parser = Parser::new(None);
    let root = parser.node(schema, "openAPIV3Schema", 0)?;
    Ok(parser.finish(root, false))
}

/// Parses several named schemas that refer to each other into one arena.
pub(crate) fn parse_definitions(
    definitions: &Map<String, Value>,
    roots: &[&str],
) -> Result<HashMap<String, Structural>, SchemaError> {
    let mut parser = Parser::new(Some(definitions));
    let mut ids = Vec::new();
    for root in roots {
        ids.push(((*root).to_owned(), parser.reference(root, root, 0)?));
    }
    let whole = parser.finish(NodeId(0), true);
    Ok(ids.into_iter().map(|(name, root)| (name, Structural { root, ..whole.clone() })).collect())
}

/// How the fields of an object are owned.
const MAP_TYPE: &str = "x-kubernetes-map-type";
/// How a strategic merge patch treats a list or object.
const STRATEGY: &str = "x-kubernetes-patch-strategy";

struct Parser<'a> {
    nodes: Vec<Node>,
    patterns: HashMap<String, Arc<Pattern>>,
    definitions: Option<&'a Map<String, Value>>,
    by_name: HashMap<String, NodeId>,
}

impl<'a> Parser<'a> {
    fn new(definitions: Option<&'a Map<String, Value>>) -> Self {
        Parser { nodes: Vec::new(), patterns: HashMap::new(), definitions, by_name: HashMap::new() }
    }

    fn finish(self, root: NodeId, typed: bool) -> Structural {
        Structural { nodes: self.nodes.into(), root, typed, cel: None }
    }

    fn reserve(&mut self, path: &str) -> Result<NodeId, SchemaError> {
        if self.nodes.len() >= MAX_NODES {
            return Err(SchemaError::TooLarge { path: path.to_owned() });
        }
        self.nodes.push(Node::default());
        Ok(NodeId((self.nodes.len() - 1) as u32))
    }

    fn reference(&mut self, name: &str, path: &str, depth: usize) -> Result<NodeId, SchemaError> {
        if let Some(id) = self.by_name.get(name) {
            return Ok(*id);
        }
        let Some(schema) = self.definitions.and_then(|d| d.get(name)) else {
            return Err(SchemaError::Reference { path: path.to_owned(), target: name.to_owned() });
        };
        let id = self.reserve(path)?;
        // Known before it is filled: definitions may refer to themselves.
        self.by_name.insert(name.to_owned(), id);
        let node = self.read(schema, name, depth)?;
        self.nodes[id.0 as usize] = node;
        Ok(id)
    }

    fn node(&mut self, schema: &Value, path: &str, depth: usize) -> Result<NodeId, SchemaError> {
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            let name = target.rsplit('/').next().unwrap_or(target);
            let own: Vec<&str> = [MAP_TYPE, STRATEGY].into_iter().filter(|key| schema.get(*key).is_some()).collect();
            return match self.definitions.and_then(|d| d.get(name)).filter(|_| !own.is_empty()) {
                // Here it is treated in another way than elsewhere.
                Some(definition) => {
                    let mut definition = definition.clone();
                    own.into_iter().for_each(|key| definition[key] = schema[key].clone());
                    self.node(&definition, path, depth)
                }
                None => self.reference(name, path, depth),
            };
        }
        let id = self.reserve(path)?;
        let node = self.read(schema, path, depth)?;
        self.nodes[id.0 as usize] = node;
        Ok(id)
    }

    fn read(&mut self, schema: &Value, path: &str, depth: usize) -> Result<Node, SchemaError> {
        if depth > MAX_DEPTH {
            return Err(SchemaError::TooLarge { path: path.to_owned() });
        }
        let Some(schema) = schema.as_object() else {
            return Err(SchemaError::Keyword { path: path.to_owned(), expected: "an object" });
        };
        let at = |key: &str| format!("{path}.{key}");
        let int_or_string = flag(schema, "x-kubernetes-int-or-string", path)?;
        let ty = match text(schema, "type", path)? {
            _ if int_or_string => Type::IntOrString,
            None | Some("") => Type::Any,
            Some("object") => Type::Object,
            Some("array") => Type::Array,
            Some("string") => Type::String,
            Some("integer") => Type::Integer,
            Some("number") => Type::Number,
            Some("boolean") => Type::Boolean,
            Some(other) => {
                return Err(SchemaError::UnknownType { path: path.to_owned(), value: other.to_owned() });
            }
        };
        let mut properties = Vec::new();
        match schema.get("properties") {
            None | Some(Value::Null) => {}
            Some(Value::Object(map)) => {
                for (name, sub) in map {
                    let id = self.node(sub, &format!("{path}.properties[{name}]"), depth + 1)?;
                    properties.push((Box::<str>::from(name.as_str()), id));
                }
            }
            Some(_) => return Err(SchemaError::Keyword { path: at("properties"), expected: "an object" }),
        }
        properties.sort_by(|a, b| a.0.cmp(&b.0));
        let additional = match schema.get("additionalProperties") {
            None | Some(Value::Null | Value::Bool(false)) => Additional::None,
            Some(Value::Bool(true)) => Additional::Any,
            Some(sub) => Additional::Schema(self.node(sub, &at("additionalProperties"), depth + 1)?),
        };
        let items = match schema.get("items") {
            None | Some(Value::Null) => None,
            Some(sub) => Some(self.node(sub, &at("items"), depth + 1)?),
        };
        let list = match text(schema, "x-kubernetes-list-type", path)? {
            Some("set") => ListType::Set,
            Some("map") => ListType::Map(strings(schema, "x-kubernetes-list-map-keys", path)?),
            _ => ListType::Atomic,
        };
        let patch = match text(schema, STRATEGY, path)? {
            Some(strategy) if ty == Type::Array && strategy.split(',').any(|word| word == "merge") => {
                let key = text(schema, "x-kubernetes-patch-merge-key", path)?;
                Some(Box::new(key.map_or(PatchMerge::Set, |key| PatchMerge::Key(key.into()))))
            }
            Some("replace") if ty == Type::Object => Some(Box::new(PatchMerge::Replace)),
            _ => None,
        };
        Ok(Node {
            ty,
            nullable: flag(schema, "nullable", path)?,
            preserve: flag(schema, "x-kubernetes-preserve-unknown-fields", path)?,
            embedded: flag(schema, "x-kubernetes-embedded-resource", path)?,
            properties: properties.into(),
            additional,
            items,
            // A default of null is no default.
            default: schema.get("default").filter(|v| !v.is_null()).map(|v| Box::new(v.clone())),
            required: strings(schema, "required", path)?,
            list,
            atomic: text(schema, MAP_TYPE, path)? == Some("atomic"),
            patch,
            rules: self.rules(schema, path, depth)?.map(Box::new),
        })
    }

    fn rules(&mut self, schema: &Map<String, Value>, path: &str, depth: usize) -> Result<Option<Rules>, SchemaError> {
        let enumeration = match schema.get("enum") {
            None | Some(Value::Null) => Box::default(),
            Some(Value::Array(values)) => values.clone().into_boxed_slice(),
            Some(_) => {
                return Err(SchemaError::Keyword { path: format!("{path}.enum"), expected: "an array" });
            }
        };
        let pattern = text(schema, "pattern", path)?.filter(|p| !p.is_empty()).map(|source| {
            self.patterns.entry(source.to_owned()).or_insert_with(|| Arc::new(Pattern::new(source))).clone()
        });
        let not = match schema.get("not") {
            None | Some(Value::Null) => None,
            Some(sub) => Some(self.node(sub, &format!("{path}.not"), depth + 1)?),
        };
        let rules = Rules {
            enumeration,
            minimum: number(schema, "minimum", path)?,
            exclusive_minimum: flag(schema, "exclusiveMinimum", path)?,
            maximum: number(schema, "maximum", path)?,
            exclusive_maximum: flag(schema, "exclusiveMaximum", path)?,
            multiple_of: number(schema, "multipleOf", path)?.filter(|v| *v > 0.0),
            min_length: count(schema, "minLength", path)?,
            max_length: count(schema, "maxLength", path)?,
            min_items: count(schema, "minItems", path)?,
            max_items: count(schema, "maxItems", path)?,
            unique_items: flag(schema, "uniqueItems", path)?,
            min_properties: count(schema, "minProperties", path)?,
            max_properties: count(schema, "maxProperties", path)?,
            pattern,
            format: text(schema, "format", path)?.filter(|f| super::format::known(f)).map(Into::into),
            all_of: self.nested(schema, "allOf", path, depth)?,
            any_of: self.nested(schema, "anyOf", path, depth)?,
            one_of: self.nested(schema, "oneOf", path, depth)?,
            not,
        };
        Ok((!rules.is_empty()).then_some(rules))
    }

    fn nested(
        &mut self,
        schema: &Map<String, Value>,
        key: &str,
        path: &str,
        depth: usize,
    ) -> Result<Box<[NodeId]>, SchemaError> {
        match schema.get(key) {
            None | Some(Value::Null) => Ok(Box::default()),
            Some(Value::Array(list)) => list
                .iter()
                .enumerate()
                .map(|(i, sub)| self.node(sub, &format!("{path}.{key}[{i}]"), depth + 1))
                .collect(),
            Some(_) => Err(SchemaError::Keyword { path: format!("{path}.{key}"), expected: "an array" }),
        }
    }
}

impl Rules {
    fn is_empty(&self) -> bool {
        self.enumeration.is_empty()
            && self.minimum.is_none()
            && self.maximum.is_none()
            && self.multiple_of.is_none()
            && self.min_length.is_none()
            && self.max_length.is_none()
            && self.min_items.is_none()
            && self.max_items.is_none()
            && !self.unique_items
            && self.min_properties.is_none()
            && self.max_properties.is_none()
            && self.pattern.is_none()
            && self.format.is_none()
            && self.all_of.is_empty()
            && self.any_of.is_empty()
            && self.one_of.is_empty()
            && self.not.is_none()
    }
}

fn flag(schema: &Map<String, Value>, key: &str, path: &str) -> Result<bool, SchemaError> {
    match schema.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(_) => Err(SchemaError::Keyword { path: format!("{path}.{key}"), expected: "true or false" }),
    }
}

fn text<'v>(schema: &'v Map<String, Value>, key: &str, path: &str) -> Result<Option<&'v str>, SchemaError> {
    match schema.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(value)) => Ok(Some(value)),
        Some(_) => Err(SchemaError::Keyword { path: format!("{path}.{key}"), expected: "a string" }),
    }
}

fn number(schema: &Map<String, Value>, key: &str, path: &str) -> Result<Option<f64>, SchemaError> {
    match schema.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(value)) => Ok(value.as_f64()),
        Some(_) => Err(SchemaError::Keyword { path: format!("{path}.{key}"), expected: "a number" }),
    }
}

fn count(schema: &Map<String, Value>, key: &str, path: &str) -> Result<Option<u64>, SchemaError> {
    match schema.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64() {
            Some(count) => Ok(Some(count)),
            None => Err(SchemaError::Keyword { path: format!("{path}.{key}"), expected: "a whole number, 0 or more" }),
        },
    }
}

fn strings(schema: &Map<String, Value>, key: &str, path: &str) -> Result<Box<[Box<str>]>, SchemaError> {
    let expected = "an array of strings";
    match schema.get(key) {
        None | Some(Value::Null) => Ok(Box::default()),
        Some(Value::Array(list)) => list
            .iter()
            .map(|v| v.as_str().map(Box::from).ok_or(SchemaError::Keyword { path: format!("{path}.{key}"), expected }))
            .collect(),
        Some(_) => Err(SchemaError::Keyword { path: format!("{path}.{key}"), expected }),
    }
}
