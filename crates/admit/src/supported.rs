//! Which fields work. Every field of upstream's schema is either in [`table`], with who acts on it, or refused when it is set:
//! nothing is silently ignored. Fields outside the schema are the API server's business (`fieldValidation`), but where it keeps them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use serde_json::Value;

use crate::causes::{Causes, Field};
use crate::request::{Cause, Kind};

mod kubevirt;
mod table;
#[cfg(test)]
mod tests;

const TEMPLATE: &str = "spec.template.spec";
const INSTANCE: &str = "spec";

/// The implemented fields of a kind and who acts on each. In paths lists are not marked, and a last `**` stands for everything
/// below.
pub fn implemented_fields(kind: Kind) -> impl Iterator<Item = (String, &'static str)> {
    let (own, base): (&[table::Row], _) = match kind {
        Kind::VirtualMachine => (table::VIRTUAL_MACHINE, TEMPLATE),
        Kind::VirtualMachineInstance => (&[], INSTANCE),
    };
    let own = own.iter().map(|(path, consumer)| ((*path).to_owned(), *consumer));
    own.chain(table::INSTANCE_SPEC.iter().map(move |(path, consumer)| (format!("{base}.{path}"), *consumer)))
}

/// Fields of a request's body that had another name in old releases, each with the new one. An API server drops unknown fields
/// before admission, so it asks this about the body as it was sent.
pub fn renamed_fields(kind: Kind, body: &Value) -> Vec<Cause> {
    let mut causes = Causes::default();
    walk(catalogue(kind), body, &mut |fault| {
        if let Fault::Renamed { field, advice } = fault {
            causes.not_supported(&field, format!("{field} is not a field any more: {advice}"));
        }
    });
    causes.into_vec()
}

/// Refuses what is set and not implemented.
pub(crate) fn check(kind: Kind, object: &Value, causes: &mut Causes) {
    refuse(catalogue(kind), object, causes);
}

/// Refuses what is set in a KubeVirt resource and not implemented.
pub(crate) fn check_kubevirt(object: &Value, causes: &mut Causes) {
    refuse(&KUBEVIRT, object, causes);
}

fn refuse(catalogue: &Catalogue, object: &Value, causes: &mut Causes) {
    walk(catalogue, object, &mut |fault| match fault {
        Fault::Renamed { field, advice } => {
            causes.not_supported(&field, format!("{field} is not a field any more: {advice}"));
        }
        Fault::Unknown { field } => {
            causes.invalid(&field, format!("{field} is not a field: remove it, or correct its name"));
        }
        Fault::Unimplemented { field, value: Value::Object(_) | Value::Array(_), advice } => {
            causes.not_supported(&field, format!("{field} is not supported yet by Ferrovirt: {advice}"));
        }
        Fault::Unimplemented { field, value, advice } => {
            causes.not_supported(
                &field,
                format!("{field}: {} is not supported yet by Ferrovirt: {advice}", shown(value)),
            );
        }
    });
}

/// A value in an error: short.
fn shown(value: &Value) -> String {
    const MOST: usize = 60;
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if text.chars().count() <= MOST { text } else { text.chars().take(MOST).chain(['…']).collect() }
}

enum Fault<'a> {
    Unimplemented { field: Field, value: &'a Value, advice: &'static str },
    Renamed { field: Field, advice: &'static str },
    Unknown { field: Field },
}

/// The fields of a schema, and what is said about each.
#[derive(Debug, Default)]
struct Node {
    fields: BTreeMap<String, Node>,
    /// A map with free keys, or a value of any shape.
    is_open: bool,
    /// The API server keeps what it does not know here, so that it gets as far as to us.
    keeps_unknown: bool,
    status: Status,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Status {
    /// Nothing below is implemented.
    #[default]
    Unimplemented,
    /// Some of what is below is implemented.
    Partly,
    /// This is implemented, with all below.
    Implemented,
}

/// What is known of the fields of one kind.
#[derive(Debug)]
struct Catalogue {
    root: Node,
    /// What the paths of the two lists below are relative to; they may also be whole paths.
    base: &'static str,
    ways_out: &'static [table::Row],
    old_names: &'static [table::Row],
}

static CATALOGUES: LazyLock<[Catalogue; 2]> = LazyLock::new(|| {
    let workload = |kind, crd: Result<_, _>, base| Catalogue {
        root: tree(crd.ok(), implemented_fields(kind)),
        base,
        ways_out: table::WAYS_OUT,
        old_names: table::OLD_NAMES,
    };
    [
        workload(Kind::VirtualMachine, fv_api::crd::virtual_machine(), TEMPLATE),
        workload(Kind::VirtualMachineInstance, fv_api::crd::virtual_machine_instance(), INSTANCE),
    ]
});

static KUBEVIRT: LazyLock<Catalogue> = LazyLock::new(|| Catalogue {
    root: tree(
        fv_api::crd::kubevirt().ok(),
        kubevirt::IMPLEMENTED.iter().map(|(path, consumer)| ((*path).to_owned(), *consumer)),
    ),
    base: "spec.configuration",
    ways_out: kubevirt::WAYS_OUT,
    old_names: &[],
});

fn catalogue(kind: Kind) -> &'static Catalogue {
    match kind {
        Kind::VirtualMachine => &CATALOGUES[0],
        Kind::VirtualMachineInstance => &CATALOGUES[1],
    }
}

fn tree(crd: Option<CustomResourceDefinition>, implemented: impl Iterator<Item = (String, &'static str)>) -> Node {
    let schema = crd
        .and_then(|crd| crd.spec.versions.into_iter().next())
        .and_then(|version| version.schema)
        .and_then(|schema| schema.open_api_v3_schema);
    let mut root = schema.map(node).unwrap_or_default();
    for (path, _) in implemented {
        mark(&mut root, &path);
    }
    root
}

/// Lists are transparent: their items' fields are theirs.
fn node(schema: JSONSchemaProps) -> Node {
    let is_open = schema.additional_properties.is_some();
    let keeps_unknown = schema.x_kubernetes_preserve_unknown_fields == Some(true);
    let mut node = match schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => self::node(*item),
        _ => Node::default(),
    };
    node.is_open |= is_open;
    node.keeps_unknown |= keeps_unknown;
    node.fields.extend(schema.properties.into_iter().flatten().map(|(name, child)| (name, self::node(child))));
    if keeps_unknown && node.fields.is_empty() {
        // The metadata of a template, which definitions of custom resources do not spell out.
        node.fields.extend(table::OBJECT_META.map(|name| (name.to_owned(), Node::default())));
    }
    node
}

fn mark(root: &mut Node, path: &str) {
    let mut node = root;
    for name in path.split('.').filter(|name| *name != "**") {
        if node.status == Status::Unimplemented {
            node.status = Status::Partly;
        }
        // A path the schema does not know is found by a test.
        let Some(child) = node.fields.get_mut(name) else { return };
        node = child;
    }
    node.status = Status::Implemented;
}

/// Tells of every field that is set and not implemented, and of every old name.
fn walk<'a>(catalogue: &Catalogue, object: &'a Value, tell: &mut dyn FnMut(Fault<'a>)) {
    if let (Some(spec), Some(known)) = (object.get("spec"), catalogue.root.fields.get("spec")) {
        descend(spec, known, &Place { field: Field::new("spec"), plain: "spec".into(), catalogue }, tell);
    }
}

/// Where the walk is.
struct Place<'c> {
    field: Field,
    /// The path without list positions.
    plain: String,
    catalogue: &'c Catalogue,
}

impl Place<'_> {
    fn child(&self, key: &str) -> Self {
        Self { field: self.field.child(key), plain: format!("{}.{key}", self.plain), catalogue: self.catalogue }
    }

    fn index(&self, index: usize) -> Self {
        Self { field: self.field.index(index), plain: self.plain.clone(), catalogue: self.catalogue }
    }

    /// What a list of advice says about this path.
    fn advice(&self, rows: &[table::Row]) -> Option<&'static str> {
        let below = self.plain.strip_prefix(self.catalogue.base).and_then(|path| path.strip_prefix('.'));
        rows.iter().find(|(path, _)| below == Some(path) || self.plain == *path).map(|(_, advice)| *advice)
    }
}

fn descend<'a>(value: &'a Value, known: &Node, place: &Place<'_>, tell: &mut dyn FnMut(Fault<'a>)) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let place = place.child(key);
                match known.fields.get(key) {
                    Some(child) if child.status == Status::Implemented => {}
                    Some(child) if child.status == Status::Partly => descend(value, child, &place, tell),
                    Some(_) if asks_for_nothing(value) => {}
                    Some(_) => {
                        let advice = place.advice(place.catalogue.ways_out).unwrap_or("remove it");
                        tell(Fault::Unimplemented { field: place.field, value, advice });
                    }
                    None if known.is_open => {}
                    None if known.keeps_unknown => tell(Fault::Unknown { field: place.field }),
                    None => {
                        if let Some(advice) = place.advice(place.catalogue.old_names) {
                            tell(Fault::Renamed { field: place.field, advice });
                        }
                    }
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                descend(item, known, &place.index(index), tell);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether a value is what its absence means: nothing asked for. An empty object often does ask for something (`rng: {}`).
fn asks_for_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Bool(true) | Value::Object(_) => false,
    }
}
