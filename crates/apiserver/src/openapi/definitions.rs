//! Schemas of kinds, in the dialect of OpenAPI v3 or v2.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::registry::{Resource, Version};
use crate::schema::builtin;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Which OpenAPI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    V2,
    V3,
}

impl Dialect {
    /// A reference to a definition.
    pub(super) fn reference(self, name: &str) -> String {
        match self {
            Dialect::V2 => format!("#/definitions/{name}"),
            Dialect::V3 => format!("#/components/schemas/{name}"),
        }
    }
}

/// The name of a kind's definition: `io.kubevirt.v1.VirtualMachine`.
pub(super) fn name(resource: &Resource, version: &str) -> String {
    match builtin::definition_name(&resource.group, version, &resource.kind).filter(|_| resource.builtin()) {
        Some(name) => name.to_owned(),
        None => custom_name(&resource.group, version, &resource.kind),
    }
}

/// The name of the list's definition.
pub(super) fn list_name(resource: &Resource, version: &str) -> String {
    if resource.builtin() {
        format!("{}List", name(resource, version))
    } else {
        custom_name(&resource.group, version, &resource.list_kind)
    }
}

fn custom_name(group: &str, version: &str, kind: &str) -> String {
    let mut parts: Vec<&str> = group.split('.').collect();
    parts.reverse();
    format!("{}.{version}.{kind}", parts.join("."))
}

/// Collects definitions with everything they refer to.
pub(super) struct Definitions {
    dialect: Dialect,
    table: Map<String, Value>,
    wanted: BTreeSet<String>,
    out: Map<String, Value>,
}

impl Definitions {
    pub(super) fn new(dialect: Dialect) -> Self {
        let wanted = ["DeleteOptions", "Patch", "Status"].map(|name| format!("{META}.{name}")).into();
        Definitions { dialect, table: builtin::definitions(), wanted, out: Map::new() }
    }

    pub(super) fn add_resource(&mut self, resource: &Resource, version: &Version) {
        let own = name(resource, &version.name);
        if resource.builtin() {
            self.wanted.insert(format!("{own}List"));
            self.wanted.insert(own);
            for sub in &version.subresources {
                let foreign = sub.group_version.as_ref().map(|(group, version)| (group.as_str(), version.as_str()));
                let (group, version) = foreign.unwrap_or((&resource.group, &version.name));
                self.wanted.extend(builtin::definition_name(group, version, &sub.kind).map(str::to_owned));
            }
            return;
        }
        self.wanted.insert(format!("{META}.ObjectMeta"));
        self.wanted.insert(format!("{META}.ListMeta"));
        let gvk = json!([{"group": resource.group, "version": version.name, "kind": resource.kind}]);
        let mut schema = version
            .schema
            .as_deref()
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_else(|| json!({"type": "object"}));
        self.embedded(&mut schema);
        if let Value::Object(map) = &mut schema {
            self.identified(map);
            map.insert("x-kubernetes-group-version-kind".into(), gvk);
        }
        if self.dialect == Dialect::V2 {
            downgrade(&mut schema);
        }
        let reference = self.dialect.reference(&own);
        self.out.insert(own, schema);
        let list_gvk = json!([{"group": resource.group, "version": version.name, "kind": resource.list_kind}]);
        let list = json!({
            "type": "object",
            "description": format!("A list of {}.", resource.kind),
            "required": ["items"],
            "properties": {
                "apiVersion": {"type": "string", "description": API_VERSION},
                "items": {"type": "array", "description": "The objects.", "items": {"$ref": reference}},
                "kind": {"type": "string", "description": KIND},
                "metadata": self.described_reference(&format!("{META}.ListMeta"), "Metadata of the list."),
            },
            "x-kubernetes-group-version-kind": list_gvk,
        });
        self.out.insert(list_name(resource, &version.name), list);
    }

    /// Gives a schema what every object has.
    fn identified(&self, schema: &mut Map<String, Value>) {
        let Value::Object(properties) = schema.entry("properties").or_insert_with(|| json!({})) else { return };
        let own = std::mem::take(properties);
        properties.insert("apiVersion".into(), json!({"type": "string", "description": API_VERSION}));
        properties.insert("kind".into(), json!({"type": "string", "description": KIND}));
        properties.insert("metadata".into(), self.described_reference(&format!("{META}.ObjectMeta"), METADATA));
        for (key, value) in own {
            properties.entry(key).or_insert(value);
        }
    }

    /// Gives it to the schemas of embedded objects too, which have to say what they are.
    fn embedded(&self, schema: &mut Value) {
        let Value::Object(map) = schema else { return };
        if let Some(Value::Object(properties)) = map.get_mut("properties") {
            properties.values_mut().for_each(|below| self.embedded(below));
        }
        for key in ["items", "additionalProperties"] {
            map.get_mut(key).into_iter().for_each(|below| self.embedded(below));
        }
        if map.get("x-kubernetes-embedded-resource") != Some(&Value::Bool(true)) {
            return;
        }
        self.identified(map);
        if let Value::Array(required) = map.entry("required").or_insert_with(|| json!([])) {
            required.extend(
                ["apiVersion", "kind"]
                    .map(Value::from)
                    .into_iter()
                    .filter(|f| !required.contains(f))
                    .collect::<Vec<_>>(),
            );
        }
    }

    /// All definitions, by name.
    pub(super) fn finish(mut self) -> Value {
        while let Some(name) = self.wanted.pop_first() {
            if self.out.contains_key(&name) {
                continue;
            }
            let Some(schema) = self.table.get(&name) else { continue };
            collect(schema, &mut self.wanted);
            let rendered = self.render(schema);
            self.out.insert(name, rendered);
        }
        let mut entries: Vec<(String, Value)> = self.out.into_iter().collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        Value::Object(entries.into_iter().collect())
    }

    fn described_reference(&self, name: &str, description: &str) -> Value {
        let reference = self.dialect.reference(name);
        match self.dialect {
            Dialect::V2 => json!({"$ref": reference, "description": description}),
            Dialect::V3 => json!({"allOf": [{"$ref": reference}], "description": description}),
        }
    }

    /// A schema of the built-in table in the dialect's words.
    fn render(&self, schema: &Value) -> Value {
        let Value::Object(map) = schema else { return schema.clone() };
        let mut out = Map::new();
        for (key, value) in map {
            match (key.as_str(), value) {
                ("properties", Value::Object(fields)) => {
                    let fields = fields.iter().map(|(k, v)| (k.clone(), self.render(v))).collect();
                    out.insert(key.clone(), Value::Object(fields));
                }
                ("items" | "additionalProperties", value) => {
                    out.insert(key.clone(), self.render(value));
                }
                ("$ref", Value::String(name)) => {
                    let reference = self.dialect.reference(name);
                    if self.dialect == Dialect::V3 && map.len() > 1 {
                        out.insert("allOf".into(), json!([{"$ref": reference}]));
                    } else {
                        out.insert(key.clone(), json!(reference));
                    }
                }
                ("x-kubernetes-int-or-string", _) => {
                    if map.get("format").and_then(Value::as_str) == Some("quantity") || self.dialect == Dialect::V2 {
                        out.insert("type".into(), json!("string"));
                    } else {
                        out.insert("oneOf".into(), json!([{"type": "integer"}, {"type": "string"}]));
                    }
                    if map.get("format").is_none() {
                        out.insert("format".into(), json!("int-or-string"));
                    }
                }
                ("format", Value::String(format)) if format == "quantity" => {}
                ("x-kubernetes-preserve-unknown-fields", _) => {}
                (_, value) => {
                    out.insert(key.clone(), value.clone());
                }
            }
        }
        Value::Object(out)
    }
}

const API_VERSION: &str = "Group and version of the schema this object is written in.";
const KIND: &str = "Kind of the object.";
const METADATA: &str = "Name, namespace, labels and other metadata of the object.";

fn collect(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(name) if key == "$ref" => {
                        found.insert(name.clone());
                    }
                    _ => collect(value, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|v| collect(v, found)),
        _ => {}
    }
}

/// Leaves out what OpenAPI v2 cannot say: clients must then accept more, never less, than the server.
fn downgrade(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    let nullable = map.get("nullable") == Some(&Value::Bool(true));
    for key in ["allOf", "anyOf", "oneOf", "not", "default", "nullable"] {
        map.shift_remove(key);
    }
    if map.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true)) {
        map.shift_remove("properties");
        map.shift_remove("items");
        map.shift_remove("required");
    }
    if nullable || map.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        for key in ["type", "properties", "items", "required"] {
            map.shift_remove(key);
        }
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(downgrade);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(sub) = map.get_mut(key) {
            downgrade(sub);
        }
    }
}
