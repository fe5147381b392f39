//! The OpenAPI v2 document over all groups.

use serde_json::{Map, Value, json};

use super::definitions::{Definitions, Dialect};
use super::operations::add_paths;
use crate::registry::Tables;

/// `GET /openapi/v2`.
pub fn document(tables: &Tables) -> Value {
    let mut paths = Map::new();
    let mut definitions = Definitions::new(Dialect::V2);
    for resource in &tables.resources {
        for version in resource.versions.iter().filter(|v| v.served) {
            add_paths(resource, version, Dialect::V2, &mut paths);
            definitions.add_resource(resource, version);
        }
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": paths,
        "definitions": definitions.finish(),
    })
}
