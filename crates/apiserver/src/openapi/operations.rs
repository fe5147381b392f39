//! Paths and their operations, with the parameters by which clients learn what the server supports.

use serde_json::{Map, Value, json};

use super::definitions::{Dialect, list_name, name};
use super::gv_path;
use crate::registry::{Resource, Subresource, Version};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// (name, type)
type Parameter = (&'static str, &'static str);

const WRITE: &[Parameter] =
    &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"), ("pretty", "string")];
const LIST: &[Parameter] = &[
    ("allowWatchBookmarks", "boolean"),
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
];
const DELETE: &[Parameter] = &[
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];
const LOG: &[Parameter] = &[
    ("container", "string"),
    ("follow", "boolean"),
    ("limitBytes", "integer"),
    ("previous", "boolean"),
    ("sinceSeconds", "integer"),
    ("sinceTime", "string"),
    ("tailLines", "integer"),
    ("timestamps", "boolean"),
];

/// Adds every path of a resource in a version.
pub(super) fn add_paths(resource: &Resource, version: &Version, dialect: Dialect, paths: &mut Map<String, Value>) {
    let base = format!("/{}", gv_path(&resource.group, &version.name));
    let renderer = Renderer { resource, version, dialect };
    let collection = match resource.namespaced() {
        true => format!("{base}/namespaces/{{namespace}}/{}", resource.plural),
        false => format!("{base}/{}", resource.plural),
    };
    let has = |verb: &str| resource.verbs.contains(&verb);
    let own = name(resource, &version.name);
    let list = list_name(resource, &version.name);

    let mut item = Map::new();
    if has("list") {
        item.insert("get".into(), renderer.operation("list", "list", "", LIST, None, &list));
    }
    if has("create") {
        item.insert("post".into(), renderer.operation("create", "post", "", WRITE, Some(&own), &own));
    }
    if has("deletecollection") {
        let parameters = [DELETE, LIST].concat();
        let status = format!("{META}.Status");
        let options = format!("{META}.DeleteOptions");
        let operation =
            renderer.operation("deleteCollection", "deletecollection", "", &parameters, Some(&options), &status);
        item.insert("delete".into(), operation);
    }
    renderer.close(&mut item, false);
    paths.insert(collection.clone(), Value::Object(item));

    let mut item = renderer.views("", &own, resource.verbs);
    if has("delete") {
        let status = format!("{META}.Status");
        let options = format!("{META}.DeleteOptions");
        item.insert("delete".into(), renderer.operation("delete", "delete", "", DELETE, Some(&options), &status));
    }
    renderer.close(&mut item, true);
    paths.insert(format!("{collection}/{{name}}"), Value::Object(item));

    for sub in &version.subresources {
        let item = renderer.subresource(sub, &own);
        paths.insert(format!("{collection}/{{name}}/{}", sub.name), Value::Object(item));
    }
    if resource.namespaced() && has("list") {
        let mut item = Map::new();
        item.insert("get".into(), renderer.operation("list", "list", "ForAllNamespaces", LIST, None, &list));
        paths.insert(format!("{base}/{}", resource.plural), Value::Object(item));
    }
}

struct Renderer<'r> {
    resource: &'r Resource,
    version: &'r Version,
    dialect: Dialect,
}

impl Renderer<'_> {
    /// GET, PUT and PATCH of an object or of a view of it.
    fn views(&self, suffix: &str, body: &str, verbs: &[&str]) -> Map<String, Value> {
        let mut item = Map::new();
        if verbs.contains(&"get") {
            item.insert("get".into(), self.operation("read", "get", suffix, &[("pretty", "string")], None, body));
        }
        if verbs.contains(&"update") {
            item.insert("put".into(), self.operation("replace", "put", suffix, WRITE, Some(body), body));
        }
        if verbs.contains(&"patch") {
            let parameters = [WRITE, &[("force", "boolean")]].concat();
            let patch = format!("{META}.Patch");
            item.insert("patch".into(), self.operation("patch", "patch", suffix, &parameters, Some(&patch), body));
        }
        item
    }

    fn subresource(&self, sub: &Subresource, own: &str) -> Map<String, Value> {
        let suffix = capitalise(&sub.name);
        let mut item = match sub.name.as_str() {
            "log" => {
                let mut item = Map::new();
                item.insert("get".into(), self.operation("read", "get", &suffix, LOG, None, "string"));
                item
            }
            "binding" | "eviction" | "token" => {
                let body = match sub.name.as_str() {
                    "binding" => "io.k8s.api.core.v1.Binding",
                    "eviction" => "io.k8s.api.policy.v1.Eviction",
                    _ => "io.k8s.api.authentication.v1.TokenRequest",
                };
                let mut item = Map::new();
                item.insert("post".into(), self.operation("create", "post", &suffix, WRITE, Some(body), body));
                item
            }
            // The body is autoscaling's Scale, which is not among our definitions: any object.
            "scale" => self.views(&suffix, "object", sub.verbs),
            _ => self.views(&suffix, own, sub.verbs),
        };
        self.close(&mut item, true);
        item
    }

    /// Adds the parameters of the path itself.
    fn close(&self, item: &mut Map<String, Value>, named: bool) {
        let mut parameters = Vec::new();
        if named {
            parameters.push(self.parameter("name", "path", "string"));
        }
        if self.resource.namespaced() {
            parameters.push(self.parameter("namespace", "path", "string"));
        }
        item.insert("parameters".into(), Value::Array(parameters));
    }

    fn parameter(&self, name: &str, place: &str, ty: &str) -> Value {
        let mut out = Map::new();
        out.insert("name".into(), json!(name));
        out.insert("in".into(), json!(place));
        if place == "path" {
            out.insert("required".into(), json!(true));
        }
        match self.dialect {
            Dialect::V3 => {
                out.insert("schema".into(), json!({"type": ty, "uniqueItems": true}));
            }
            Dialect::V2 => {
                out.insert("type".into(), json!(ty));
                out.insert("uniqueItems".into(), json!(true));
            }
        }
        Value::Object(out)
    }

    fn schema(&self, name: &str) -> Value {
        match name {
            "string" | "object" => json!({"type": name}),
            _ => json!({"$ref": self.dialect.reference(name)}),
        }
    }

    fn operation(
        &self,
        verb: &str,
        action: &str,
        suffix: &str,
        parameters: &[Parameter],
        body: Option<&str>,
        answer: &str,
    ) -> Value {
        let scope = if self.resource.namespaced() && suffix != "ForAllNamespaces" { "Namespaced" } else { "" };
        let group: String = match self.resource.group.as_str() {
            "" => "Core".into(),
            group => group.split('.').map(capitalise).collect(),
        };
        let version = capitalise(&self.version.name);
        let mut out = Map::new();
        let id = format!("{verb}{group}{version}{scope}{}{suffix}", self.resource.kind);
        out.insert("operationId".into(), json!(id));
        let mut list: Vec<Value> = parameters.iter().map(|(name, ty)| self.parameter(name, "query", ty)).collect();
        let media = match action {
            "patch" if self.resource.builtin() => PATCHES,
            "patch" => &PATCHES[..2],
            _ => &["application/json"],
        };
        match (self.dialect, body) {
            (Dialect::V3, Some(body)) => {
                let content: Map<String, Value> =
                    media.iter().map(|m| ((*m).to_owned(), json!({"schema": self.schema(body)}))).collect();
                out.insert("requestBody".into(), json!({"content": content, "required": action != "delete"}));
            }
            (Dialect::V2, Some(body)) => {
                list.push(json!({"name": "body", "in": "body", "schema": self.schema(body)}));
                out.insert("consumes".into(), json!(media));
            }
            (_, None) => {}
        }
        out.insert("parameters".into(), Value::Array(list));
        let produced = if suffix == "Log" { "text/plain" } else { "application/json" };
        let ok = match self.dialect {
            Dialect::V3 => json!({"description": "OK", "content": {produced: {"schema": self.schema(answer)}}}),
            Dialect::V2 => json!({"description": "OK", "schema": self.schema(answer)}),
        };
        if self.dialect == Dialect::V2 {
            out.insert("produces".into(), json!([produced]));
        }
        out.insert("responses".into(), json!({"200": ok, "401": {"description": "Unauthorized"}}));
        out.insert("x-kubernetes-action".into(), json!(action));
        let gvk = json!({"group": self.resource.group, "version": self.version.name, "kind": self.resource.kind});
        out.insert("x-kubernetes-group-version-kind".into(), gvk);
        Value::Object(out)
    }
}

/// Patch types; the last one only for built-in kinds, whose merge keys are known.
const PATCHES: &[&str] =
    &["application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"];

fn capitalise(text: &str) -> String {
    let mut chars = text.chars().filter(|c| c.is_alphanumeric());
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}
