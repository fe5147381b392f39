//! OpenAPI documents: v3 per group version, and one v2 (Swagger) document.
//!
//! kubectl reads them for `explain`, to merge on the client side, and to learn from the parameters of PATCH whether the server
//! validates fields and supports dry run. Documents are built when asked for and not kept: only their text leaves.

mod definitions;
mod gnostic;
mod operations;
mod routes;
mod swagger;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::registry::{Resource, Tables, Version, group_version};
use crate::schema::builtin;

pub use routes::respond;
pub use swagger::document as swagger_document;

/// Part of every hash: counts changes of how documents are rendered.
const RENDERING: &str = "1";

/// `GET /openapi/v3`: where each group version's document is, with a hash by which clients cache it.
pub fn index(tables: &Tables) -> Value {
    let mut paths = Map::new();
    for (group, version) in group_versions(tables) {
        let path = gv_path(&group, &version);
        let url = format!("/openapi/v3/{path}?hash={}", hash(tables, &group, &version));
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

/// `GET /openapi/v3/api/v1`, `GET /openapi/v3/apis/<group>/<version>`; `None` when nothing of ours is served there.
pub fn document(tables: &Tables, group: &str, version: &str) -> Option<Value> {
    let resources = served(tables, group, version);
    if resources.is_empty() {
        return None;
    }
    let mut paths = Map::new();
    let mut schemas = definitions::Definitions::new(definitions::Dialect::V3);
    for (resource, version) in resources {
        operations::add_paths(resource, version, definitions::Dialect::V3, &mut paths);
        schemas.add_resource(resource, version);
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": paths,
        "components": {"schemas": schemas.finish()},
    }))
}

/// The hash of a document, computed from what it is made of.
pub fn hash(tables: &Tables, group: &str, version: &str) -> String {
    let mut hasher = Sha256::new();
    let mut feed = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    feed(RENDERING.as_bytes());
    feed(env!("CARGO_PKG_VERSION").as_bytes());
    for (resource, version) in served(tables, group, version) {
        feed(resource.qualified_kind().as_bytes());
        feed(resource.plural.as_bytes());
        feed(if resource.namespaced() { b"n" } else { b"c" });
        for verb in resource.verbs {
            feed(verb.as_bytes());
        }
        for sub in &version.subresources {
            feed(sub.name.as_bytes());
        }
        match &version.schema {
            Some(schema) => feed(schema.as_bytes()),
            None => feed(builtin::table_digest().as_bytes()),
        }
    }
    hex::encode_upper(hasher.finalize())
}

/// The hash of the v2 document.
fn swagger_hash(tables: &Tables) -> String {
    let mut hasher = Sha256::new();
    for (group, version) in group_versions(tables) {
        hasher.update(gv_path(&group, &version));
        hasher.update(hash(tables, &group, &version));
    }
    hex::encode_upper(hasher.finalize())
}

/// The group versions that have a document.
fn group_versions(tables: &Tables) -> impl Iterator<Item = (String, String)> + '_ {
    let all = tables.group_versions().into_iter().flat_map(|(group, versions)| {
        versions.into_iter().map(move |version| (group.clone(), version)).collect::<Vec<_>>()
    });
    all.filter(|(group, version)| !served(tables, group, version).is_empty())
}

fn served<'t>(tables: &'t Tables, group: &str, version: &str) -> Vec<(&'t Resource, &'t Version)> {
    let of_group = tables.resources.iter().filter(|r| r.group == group);
    of_group.filter_map(|r| r.version(version).filter(|v| v.served).map(|v| (r.as_ref(), v))).collect()
}

/// `api/v1`, `apis/<group>/<version>`.
fn gv_path(group: &str, version: &str) -> String {
    let root = if group.is_empty() { "api" } else { "apis" };
    format!("{root}/{}", group_version(group, version))
}

#[cfg(test)]
mod tests;
