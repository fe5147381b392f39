//! The schemas of a kind as `fv-smd` asks for them, in all its versions.

use std::borrow::Cow;
use std::sync::OnceLock;

use fv_smd::{Atom, Field, List, Map, Relation, Scalar, Schema, Set, Type as Shape, TypeRef, Versions};
use serde_json::Value;

use crate::codec;
use crate::handlers::Target;
use crate::registry::{Resource, group_version};
use crate::schema::{Additional, ListType, Node, NodeId, Structural, Type, builtin};

/// Below this the number of the node.
const NODE: u64 = 0xffff_ffff;
/// The node belongs to the schema of `metadata`.
const META: u64 = 1 << 32;
/// A node above keeps unknown fields.
const PRESERVE: u64 = 1 << 33;
/// A string of a custom object that its schema need not name.
const TEXT: u64 = 1 << 34;

/// The zero value of a string.
static EMPTY: Value = Value::String(String::new());

/// A schema, for custom objects with that of their metadata beside it.
struct Typing<'s> {
    schema: &'s Structural,
    meta: Option<&'static Structural>,
}

impl<'s> Typing<'s> {
    fn new(schema: &'s Structural) -> Typing<'s> {
        let meta = if schema.typed() { None } else { builtin::object_meta() };
        Typing { schema, meta }
    }

    fn node(&self, at: u64) -> (&Structural, NodeId, &Node) {
        let schema = match self.meta {
            Some(meta) if at & META != 0 => meta,
            _ => self.schema,
        };
        let id = NodeId((at & NODE) as u32);
        (schema, id, schema.node(id))
    }

    /// Whether apiVersion, kind and metadata are fields although the schema need not say so.
    fn is_object(&self, at: u64) -> bool {
        let (schema, id, node) = self.node(at);
        !schema.typed() && (id == schema.root() || node.embedded)
    }

    fn map(&self, at: u64, node: &Node) -> Map {
        let whole = self.is_object(at);
        let values = match node.additional {
            Additional::Schema(sub) => Some(TypeRef::Node(below(at, node, sub))),
            Additional::Any => Some(TypeRef::Deduced),
            Additional::None if node.preserve || at & PRESERVE != 0 => Some(TypeRef::Deduced),
            Additional::None => (node.properties.is_empty() && !whole).then_some(TypeRef::Deduced),
        };
        Map { atomic: node.atomic, fields: (whole || !node.properties.is_empty()).then_some(at), values }
    }
}

/// A node below another one.
fn below(at: u64, node: &Node, sub: NodeId) -> u64 {
    let preserve = if node.preserve { PRESERVE } else { at & PRESERVE };
    u64::from(sub.0) | (at & META) | preserve
}

impl Schema for Typing<'_> {
    fn atom(&self, at: u64) -> Atom<'_> {
        if at & TEXT != 0 {
            return Atom { scalar: Some(Scalar::String), ..Atom::default() };
        }
        let (schema, _, node) = self.node(at);
        let scalar = |scalar| Atom { scalar: Some(scalar), ..Atom::default() };
        let list = || {
            let relation = match &node.list {
                ListType::Atomic => Relation::Atomic,
                ListType::Set => Relation::Set,
                ListType::Map(keys) => Relation::Keys(keys),
            };
            let items = node.items.map_or(TypeRef::Untyped, |items| TypeRef::Node(below(at, node, items)));
            List { relation, items }
        };
        match node.ty {
            Type::Object => Atom { map: Some(self.map(at, node)), ..Atom::default() },
            Type::Array => Atom { list: Some(list()), ..Atom::default() },
            Type::Integer | Type::Number => scalar(Scalar::Numeric),
            Type::Boolean => scalar(Scalar::Boolean),
            Type::String => match node.rules.as_ref().and_then(|rules| rules.format.as_deref()) {
                None | Some("byte") => scalar(Scalar::String),
                Some(_) => scalar(Scalar::Untyped),
            },
            Type::IntOrString if schema.typed() => scalar(Scalar::Untyped),
            Type::IntOrString | Type::Any => {
                Atom { scalar: Some(Scalar::Untyped), list: Some(list()), map: Some(self.map(at, node)) }
            }
        }
    }

    fn field(&self, at: u64, name: &str) -> Option<Field<'_>> {
        let (schema, _, node) = self.node(at);
        if self.is_object(at) {
            let ty = match (name, self.meta) {
                ("apiVersion" | "kind", _) => Some(TEXT),
                ("metadata", Some(meta)) => Some(u64::from(meta.root().0) | META),
                _ => None,
            };
            if let Some(ty) = ty {
                return Some(Field { ty: TypeRef::Node(ty), default: None });
            }
        }
        let found = node.properties.binary_search_by(|(other, _)| (**other).cmp(name)).ok()?;
        let sub = node.properties[found].1;
        let default = schema.node(sub).default.as_deref().or_else(|| {
            // Kubernetes publishes the zero value as the default of what a built-in kind always has; our table leaves it out.
            let always = schema.typed() && node.required.iter().any(|field| **field == *name);
            (always && schema.node(sub).ty == Type::String).then_some(&EMPTY)
        });
        Some(Field { ty: TypeRef::Node(below(at, node, sub)), default })
    }
}

/// A kind as one request sees it.
pub(super) struct Kind<'t> {
    target: &'t Target,
    /// By `apiVersion`.
    versions: Vec<(String, Typing<'t>)>,
}

impl<'t> Kind<'t> {
    pub(super) fn of(target: &'t Target) -> Kind<'t> {
        let resource = &target.resource;
        let mut versions = Vec::with_capacity(resource.versions.len());
        let mut add = |group: &str, version: &str, schema: Option<&'t Structural>| {
            versions.extend(schema.map(|schema| (group_version(group, version), Typing::new(schema))));
        };
        for version in &resource.versions {
            let schema = if resource.builtin() {
                builtin::schema(&resource.group, &version.name, &resource.kind)
            } else {
                version.structural.as_ref()
            };
            add(&resource.group, &version.name, schema);
        }
        // Events are one kind in two groups.
        match (resource.builtin(), resource.group.as_str(), resource.kind.as_str()) {
            (true, "", "Event") => add("events.k8s.io", "v1", builtin::schema("events.k8s.io", "v1", "Event")),
            (true, "events.k8s.io", "Event") => add("", "v1", builtin::schema("", "v1", "Event")),
            _ => {}
        }
        Kind { target, versions }
    }
}

impl Versions for Kind<'_> {
    fn typed(&self, api_version: &str) -> Option<Shape<'_>> {
        let (_, typing) = self.versions.iter().find(|(version, _)| version == api_version)?;
        Some(Shape::new(typing, TypeRef::Node(u64::from(typing.schema.root().0))))
    }

    fn convert<'v>(&self, object: &'v Value, api_version: &str) -> Cow<'v, Value> {
        let same = object.get("apiVersion").and_then(Value::as_str).is_none_or(|version| version == api_version);
        if same { Cow::Borrowed(object) } else { Cow::Owned(codec::in_version(object, api_version)) }
    }

    fn ignored(&self, api_version: &str) -> Option<&Set> {
        let resource = &self.target.resource;
        let subresource = self.target.subresource.as_str();
        let own = api_version == resource.api_version(&self.target.version);
        let has_status = self.target.version_info().is_some_and(|version| version.has_status());
        // A write of a custom object's status keeps everything else in every version.
        (has_status && (own || (!resource.builtin() && subresource == "status")))
            .then(|| reset(resource, subresource))
            .flatten()
    }
}

/// What a write to a resource with a status cannot change.
fn reset(resource: &Resource, subresource: &str) -> Option<&'static Set> {
    static STATUS: OnceLock<Set> = OnceLock::new();
    static SPEC: OnceLock<Set> = OnceLock::new();
    static POD_STATUS: OnceLock<Set> = OnceLock::new();
    static ALL_BUT_STATUS: OnceLock<Set> = OnceLock::new();
    let set = |cell: &'static OnceLock<Set>, fields: &[&str]| cell.get_or_init(|| Set::of_fields(fields));
    match (subresource, resource.group.as_str(), resource.plural.as_str()) {
        ("" | "finalize", ..) => Some(set(&STATUS, &["status"])),
        ("status", "", "pods") => {
            Some(set(&POD_STATUS, &["spec", "metadata.deletionTimestamp", "metadata.ownerReferences"]))
        }
        ("status", "apiextensions.k8s.io", "customresourcedefinitions") => {
            Some(set(&ALL_BUT_STATUS, &["metadata", "spec"]))
        }
        ("status", ..) => Some(set(&SPEC, &["spec"])),
        _ => None,
    }
}
