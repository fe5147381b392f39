//! A schema of the tests, read from the same words a definition uses.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::schema::{Atom, Field, List, Map, Relation, Scalar, Schema, TypeRef};
use crate::set::Set;
use crate::track::Versions;
use crate::typed::Type;

#[derive(Default)]
struct Node {
    ty: String,
    fields: BTreeMap<String, (TypeRef, Option<Value>)>,
    values: Option<TypeRef>,
    items: Option<TypeRef>,
    atomic_map: bool,
    set: bool,
    keys: Box<[Box<str>]>,
}

#[derive(Default)]
pub(super) struct Arena(Vec<Node>);

impl Arena {
    pub(super) fn parse(schema: &Value) -> Arena {
        let mut arena = Arena::default();
        arena.read(schema);
        arena
    }

    pub(super) fn ty(&self) -> Type<'_> {
        Type::new(self, TypeRef::Node(0))
    }

    fn read(&mut self, schema: &Value) -> TypeRef {
        if schema["x-kubernetes-preserve-unknown-fields"] == true && schema.get("properties").is_none() {
            return TypeRef::Deduced;
        }
        let at = self.0.len();
        self.0.push(Node::default());
        let mut node = Node { ty: schema["type"].as_str().unwrap().to_owned(), ..Node::default() };
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let ty = self.read(field);
            node.fields.insert(name.clone(), (ty, field.get("default").cloned()));
        }
        node.values = schema.get("additionalProperties").map(|values| self.read(values));
        node.items = schema.get("items").map(|items| self.read(items));
        node.atomic_map = schema["x-kubernetes-map-type"] == "atomic";
        node.set = schema["x-kubernetes-list-type"] == "set";
        let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
        node.keys = keys.map(|key| key.as_str().unwrap().into()).collect();
        self.0[at] = node;
        TypeRef::Node(at as u64)
    }
}

impl Schema for Arena {
    fn atom(&self, at: u64) -> Atom<'_> {
        let node = &self.0[at as usize];
        let mut atom = Atom::default();
        match node.ty.as_str() {
            "object" => {
                let fields = (!node.fields.is_empty()).then_some(at);
                atom.map = Some(Map { atomic: node.atomic_map, fields, values: node.values });
            }
            "array" => {
                let relation = match (node.set, node.keys.is_empty()) {
                    (true, _) => Relation::Set,
                    (_, false) => Relation::Keys(&node.keys),
                    _ => Relation::Atomic,
                };
                atom.list = Some(List { relation, items: node.items.unwrap() });
            }
            "string" => atom.scalar = Some(Scalar::String),
            "boolean" => atom.scalar = Some(Scalar::Boolean),
            _ => atom.scalar = Some(Scalar::Numeric),
        }
        atom
    }

    fn field(&self, at: u64, name: &str) -> Option<Field<'_>> {
        let (ty, default) = self.0[at as usize].fields.get(name)?;
        Some(Field { ty: *ty, default: default.as_ref() })
    }
}

/// A kind whose versions differ in nothing but their name.
pub(super) struct Kind {
    pub(super) arena: Arena,
    pub(super) versions: Vec<&'static str>,
    pub(super) ignored: Option<Set>,
}

impl Versions for Kind {
    fn typed(&self, api_version: &str) -> Option<Type<'_>> {
        self.versions.contains(&api_version).then(|| self.arena.ty())
    }

    fn convert<'v>(&self, object: &'v Value, api_version: &str) -> Cow<'v, Value> {
        if object["apiVersion"] == api_version {
            return Cow::Borrowed(object);
        }
        let mut object = object.clone();
        object["apiVersion"] = json!(api_version);
        Cow::Owned(object)
    }

    fn ignored(&self, _: &str) -> Option<&Set> {
        self.ignored.as_ref()
    }
}

/// One of everything.
pub(super) fn everything() -> Value {
    let text = json!({"type": "string"});
    let number = json!({"type": "integer"});
    json!({"type": "object", "properties": {
        "apiVersion": text, "kind": text,
        "metadata": {"type": "object", "properties": {
            "name": text,
            "annotations": {"type": "object", "additionalProperties": text},
            "labels": {"type": "object", "additionalProperties": text},
            "finalizers": {"type": "array", "x-kubernetes-list-type": "set", "items": text},
            "managedFields": {"type": "array", "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
        }},
        "spec": {"type": "object", "properties": {
            "size": number,
            "name": text,
            "on": {"type": "boolean"},
            "selector": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": text},
            "args": {"type": "array", "items": text},
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": text},
            "numbers": {"type": "array", "x-kubernetes-list-type": "set", "items": number},
            "ports": {
                "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"],
                "items": {"type": "object", "properties": {
                    "port": number, "protocol": {"type": "string", "default": "TCP"}, "name": text,
                }},
            },
            "parts": {
                "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "properties": {
                    "name": text, "image": text, "env": {"type": "object", "additionalProperties": text},
                }},
            },
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        }},
        "status": {"type": "object", "properties": {"phase": text}},
    }})
}
