//! Structural schemas: what an object of a kind may contain, and what happens to the rest.
//!
//! A schema is parsed once, from the `openAPIV3Schema` of a CustomResourceDefinition or from the table of built-in kinds, into a
//! flat arena of small nodes. A write passes three steps: [`strict::decode`] reads the body and finds duplicate keys,
//! [`Structural::normalise`] drops unknown fields (reporting them) and fills in defaults, [`Structural::validate`] checks the
//! final object. All steps are pure.

pub mod builtin;
mod cause;
mod cel;
pub mod crd;
mod default;
mod format;
mod listtype;
pub mod names;
mod parse;
pub mod protobuf;
mod prune;
pub(crate) mod quantity;
pub mod strict;
mod structural;
mod validate;

use std::sync::{Arc, OnceLock};

use regex::Regex;
use serde_json::Value;

pub use cause::{Cause, CauseReason, invalid_message};
pub use parse::SchemaError;
pub use strict::{DecodeError, FieldValidation, StrictReport};
pub use structural::check_structural;

/// Index of a node in its schema's arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct NodeId(pub(crate) u32);

/// A parsed structural schema of one kind. Cloning shares the nodes.
#[derive(Debug, Clone)]
pub struct Structural {
    nodes: Arc<[Node]>,
    root: NodeId,
    /// Objects of this schema are built-in kinds: null is absent everywhere and a wrong type is a decoding error.
    typed: bool,
    /// `x-kubernetes-validations`.
    cel: Option<Arc<cel::CelRules>>,
}

/// JSON type a node asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Type {
    /// No type given: anything.
    #[default]
    Any,
    /// `object`
    Object,
    /// `array`
    Array,
    /// `string`
    String,
    /// `integer`
    Integer,
    /// `number`
    Number,
    /// `boolean`
    Boolean,
    /// `x-kubernetes-int-or-string`
    IntOrString,
}

impl Type {
    /// The name in messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Type::Any => "",
            Type::Object => "object",
            Type::Array => "array",
            Type::String => "string",
            Type::Integer => "integer",
            Type::Number => "number",
            Type::Boolean => "boolean",
            Type::IntOrString => "integer,string",
        }
    }
}

/// What an object may hold beside its named properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Additional {
    /// Nothing: such fields are unknown.
    #[default]
    None,
    /// Anything.
    Any,
    /// Values of this schema.
    Schema(NodeId),
}

/// Semantics of an array.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum ListType {
    /// One value.
    #[default]
    Atomic,
    /// Items are unique.
    Set,
    /// Items are objects, unique by these fields.
    Map(Box<[Box<str>]>),
}

/// How a strategic merge patch treats a list, or an object, of a built-in kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PatchMerge {
    /// Items are plain values; those of the patch are added.
    Set,
    /// Items are objects, the same when this field is the same.
    Key(Box<str>),
    /// An object is replaced as a whole.
    Replace,
}

/// One place of a schema.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) ty: Type,
    pub(crate) nullable: bool,
    pub(crate) preserve: bool,
    pub(crate) embedded: bool,
    /// Sorted by name.
    pub(crate) properties: Box<[(Box<str>, NodeId)]>,
    pub(crate) additional: Additional,
    pub(crate) items: Option<NodeId>,
    pub(crate) default: Option<Box<Value>>,
    pub(crate) required: Box<[Box<str>]>,
    pub(crate) list: ListType,
    /// Whether an object is one value to those who apply it (`x-kubernetes-map-type`).
    pub(crate) atomic: bool,
    /// `None` for lists that a strategic merge patch replaces, and objects that it merges.
    pub(crate) patch: Option<Box<PatchMerge>>,
    pub(crate) rules: Option<Box<Rules>>,
}

impl Node {
    /// The schema of a field, whether named or additional.
    pub(crate) fn field(&self, name: &str) -> Option<NodeId> {
        match self.properties.binary_search_by(|(n, _)| (**n).cmp(name)) {
            Ok(at) => Some(self.properties[at].1),
            Err(_) => match self.additional {
                Additional::Schema(id) => Some(id),
                Additional::None | Additional::Any => None,
            },
        }
    }
}

/// Value validations beyond the type; most nodes have none.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub(crate) enumeration: Box<[Value]>,
    pub(crate) minimum: Option<f64>,
    pub(crate) exclusive_minimum: bool,
    pub(crate) maximum: Option<f64>,
    pub(crate) exclusive_maximum: bool,
    pub(crate) multiple_of: Option<f64>,
    pub(crate) min_length: Option<u64>,
    pub(crate) max_length: Option<u64>,
    pub(crate) min_items: Option<u64>,
    pub(crate) max_items: Option<u64>,
    pub(crate) unique_items: bool,
    pub(crate) min_properties: Option<u64>,
    pub(crate) max_properties: Option<u64>,
    pub(crate) pattern: Option<Arc<Pattern>>,
    pub(crate) format: Option<Box<str>>,
    pub(crate) all_of: Box<[NodeId]>,
    pub(crate) any_of: Box<[NodeId]>,
    pub(crate) one_of: Box<[NodeId]>,
    pub(crate) not: Option<NodeId>,
}

/// A regular expression, shared by all nodes that use it and compiled when first needed.
#[derive(Debug)]
pub(crate) struct Pattern {
    source: Box<str>,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    pub(crate) fn new(source: &str) -> Self {
        Pattern { source: source.into(), compiled: OnceLock::new() }
    }

    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// Whether the text matches somewhere. A pattern that does not compile (refused when a definition is created) matches nothing.
    pub(crate) fn matches(&self, text: &str) -> bool {
        self.compiled.get_or_init(|| compile(&self.source).ok()).as_ref().is_some_and(|regex| regex.is_match(text))
    }
}

/// Compiles a user's pattern with bounded memory.
pub(crate) fn compile(source: &str) -> Result<Regex, regex::Error> {
    regex::RegexBuilder::new(source).size_limit(1 << 20).dfa_size_limit(1 << 17).build()
}

impl Structural {
    /// Parses an `openAPIV3Schema`. Only what cannot be read at all is an error; [`check_structural`] judges the rest.
    pub fn parse(schema: &Value) -> Result<Structural, SchemaError> {
        let parsed = parse::parse(schema)?;
        Ok(Structural { cel: cel::CelRules::of(schema).map(Arc::new), ..parsed })
    }

    /// A schema that accepts and keeps everything: a version whose definition sets `preserveUnknownFields`.
    pub fn anything() -> Structural {
        let node = Node { ty: Type::Object, preserve: true, ..Node::default() };
        Structural { nodes: Arc::new([node]), root: NodeId(0), typed: false, cel: None }
    }

    /// The place of the whole object.
    pub(crate) fn root(&self) -> NodeId {
        self.root
    }

    /// Whether this is the schema of a built-in kind.
    pub(crate) fn typed(&self) -> bool {
        self.typed
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// Drops fields the schema does not know, removes nulls that mean "not set", fills in defaults, and applies the same to the
    /// object's metadata. Returns the paths of the dropped fields (`spec.foo`, `spec.list[0].bar`), sorted.
    pub fn normalise(&self, object: &mut Value) -> Vec<String> {
        let mut unknown = prune::prune_root(self, object);
        default::drop_nulls(self, self.root, object);
        default::fill(self, self.root, object);
        if self.typed {
            quantity::rewrite(self, self.root, object);
        } else if let Some(metadata) = object.get_mut("metadata") {
            unknown.extend(builtin::normalise_metadata(metadata).into_iter().map(|p| format!("metadata.{p}")));
        }
        unknown.sort();
        unknown
    }

    /// What is wrong with a custom object that was applied with a null where none may be. Elsewhere such a null means "not set"; the
    /// applier of a configuration is told instead.
    pub fn refused_nulls(&self, object: &Value, old: Option<&Value>) -> Vec<Cause> {
        if self.typed {
            return Vec::new();
        }
        let mut object = object.clone();
        prune::prune_root(self, &mut object);
        default::fill(self, self.root, &mut object);
        let mut without = object.clone();
        default::drop_nulls(self, self.root, &mut without);
        match old {
            _ if without == object => Vec::new(),
            Some(old) => self.validate_update(&object, old),
            None => self.validate(&object),
        }
    }

    /// Whether the other is the same schema, parsed once.
    pub(crate) fn is(&self, other: &Structural) -> bool {
        Arc::ptr_eq(&self.nodes, &other.nodes) && self.root == other.root
    }

    /// Everything wrong with the object.
    pub fn validate(&self, object: &Value) -> Vec<Cause> {
        self.with_rules(validate::validate(self, object), object, None)
    }

    /// Everything wrong with the new object which was not already wrong, unchanged, in the old one: a value that an update does
    /// not touch never makes the update fail.
    pub fn validate_update(&self, object: &Value, old: &Value) -> Vec<Cause> {
        let mut causes = validate::validate(self, object);
        if !causes.is_empty() {
            let before = validate::validate(self, old);
            causes.retain(|cause| !before.contains(cause));
        }
        self.with_rules(causes, object, Some(old))
    }

    /// Adds what the rules in CEL find; they only see objects whose values have their types and bounds.
    fn with_rules(&self, mut causes: Vec<Cause>, object: &Value, old: Option<&Value>) -> Vec<Cause> {
        use CauseReason::{NotSupported, Required, TooLong, TooMany, TypeInvalid};
        let Some(rules) = &self.cel else { return causes };
        if causes.iter().any(|c| matches!(c.reason, NotSupported | Required | TooLong | TooMany | TypeInvalid)) {
            let detail = "some validation rules were not checked because the object was invalid; correct the existing errors \
                          to complete validation";
            causes.push(Cause::invalid("<nil>", &Value::Null, detail));
        } else {
            causes.extend(rules.validate(object, old));
        }
        causes
    }

    /// The first value whose JSON type cannot be decoded (400, before any validation): anywhere in a built-in kind, in the
    /// metadata of a custom one.
    pub fn decode_error(&self, object: &Value) -> Option<String> {
        if self.typed {
            return validate::first_type_error(self, object);
        }
        builtin::metadata_decode_error(object.get("metadata")?)
    }

    /// Defaults that their own schema refuses: path below the root, the default, and what is wrong with it.
    pub(crate) fn bad_defaults(&self) -> Vec<(String, Value, Vec<Cause>)> {
        let mut out = Vec::new();
        self.visit_defaults(self.root, "", &mut out);
        out
    }

    fn visit_defaults(&self, id: NodeId, path: &str, out: &mut Vec<(String, Value, Vec<Cause>)>) {
        let node = self.node(id);
        if let Some(default) = &node.default {
            let own = Structural { root: id, ..self.clone() };
            let mut value = (**default).clone();
            default::fill(&own, id, &mut value);
            let problems = validate::validate(&own, &value);
            if !problems.is_empty() {
                out.push((path.to_owned(), value, problems));
            }
        }
        for (name, sub) in &node.properties {
            self.visit_defaults(*sub, &format!("{path}.properties[{name}]"), out);
        }
        if let Some(items) = node.items {
            self.visit_defaults(items, &format!("{path}.items"), out);
        }
        if let Additional::Schema(sub) = node.additional {
            self.visit_defaults(sub, &format!("{path}.additionalProperties"), out);
        }
    }

    /// Number of nodes, a measure of memory.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are no nodes; never true for a parsed schema.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

#[cfg(test)]
mod tests;
