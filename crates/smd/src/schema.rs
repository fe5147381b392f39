//! What a schema says about the shape of values.

use serde_json::Value;

/// The type of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypeRef {
    /// A node of the schema, in its own numbering.
    Node(u64),
    /// What a schema leaves open: scalars, atomic lists, maps of the same.
    Deduced,
    /// Any scalar, and lists and maps as one value.
    Untyped,
}

/// The scalars a place takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scalar {
    /// Whole numbers and fractions.
    Numeric,
    /// Strings.
    String,
    /// Booleans.
    Boolean,
    /// Any of them.
    Untyped,
}

/// How the items of a list belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation<'s> {
    /// The list is one value.
    Atomic,
    /// Items are scalars, each its own identity.
    Set,
    /// Items are objects, told apart by these fields.
    Keys(&'s [Box<str>]),
}

/// A list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct List<'s> {
    /// How items belong together.
    pub relation: Relation<'s>,
    /// Type of the items.
    pub items: TypeRef,
}

/// A struct or map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Map {
    /// Whether it is one value.
    pub atomic: bool,
    /// The node to ask for named fields; `None` when there are none.
    pub fields: Option<u64>,
    /// Type of everything that is not a named field; `None` when nothing else is allowed.
    pub values: Option<TypeRef>,
}

/// The shapes a place allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Atom<'s> {
    /// As a scalar.
    pub scalar: Option<Scalar>,
    /// As a list.
    pub list: Option<List<'s>>,
    /// As a map.
    pub map: Option<Map>,
}

/// A named field of a struct.
#[derive(Debug, Clone, Copy)]
pub struct Field<'s> {
    /// Its type.
    pub ty: TypeRef,
    /// Its default, which counts where it is a key of a list.
    pub default: Option<&'s Value>,
}

/// A schema.
pub trait Schema {
    /// The shapes of a node.
    fn atom(&self, node: u64) -> Atom<'_>;

    /// A named field of a node.
    fn field(&self, node: u64, name: &str) -> Option<Field<'_>>;
}

/// The shapes behind a reference.
pub(crate) fn resolve(schema: &dyn Schema, ty: TypeRef) -> Atom<'_> {
    let open = |atomic, values| Atom {
        scalar: Some(Scalar::Untyped),
        list: Some(List { relation: Relation::Atomic, items: TypeRef::Untyped }),
        map: Some(Map { atomic, fields: None, values: Some(values) }),
    };
    match ty {
        TypeRef::Node(node) => schema.atom(node),
        TypeRef::Deduced => open(false, TypeRef::Deduced),
        TypeRef::Untyped => open(true, TypeRef::Untyped),
    }
}

/// The one shape a value has, or all of them when it fits none (null fits every one).
pub(crate) fn deduce<'s>(atom: Atom<'s>, value: &Value) -> Atom<'s> {
    let only = match value {
        Value::Null => Atom::default(),
        Value::Array(_) => Atom { list: atom.list, ..Atom::default() },
        Value::Object(_) => Atom { map: atom.map, ..Atom::default() },
        Value::Bool(_) | Value::Number(_) | Value::String(_) => Atom { scalar: atom.scalar, ..Atom::default() },
    };
    if only == Atom::default() { atom } else { only }
}

/// The shape that counts: a map before a scalar before a list.
pub(crate) enum Shape<'s> {
    Map(Map),
    Scalar(Scalar),
    List(List<'s>),
    Nothing,
}

pub(crate) fn shape(atom: Atom<'_>) -> Shape<'_> {
    match (atom.map, atom.scalar, atom.list) {
        (Some(map), ..) => Shape::Map(map),
        (None, Some(scalar), _) => Shape::Scalar(scalar),
        (None, None, Some(list)) => Shape::List(list),
        (None, None, None) => Shape::Nothing,
    }
}

impl Map {
    /// The named field, if it is one.
    pub(crate) fn named<'s>(&self, schema: &'s dyn Schema, name: &str) -> Option<Field<'s>> {
        schema.field(self.fields?, name)
    }

    /// The type of a field, named or not.
    pub(crate) fn value_type(&self, schema: &dyn Schema, name: &str) -> Option<TypeRef> {
        self.named(schema, name).map(|field| field.ty).or(self.values)
    }
}
