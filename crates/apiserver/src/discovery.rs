//! Discovery: what is served, in the old form (`/api`, `/apis`, one document per version) and the aggregated one.
//!
//! Everything is computed from the registry's tables; [`respond`] is the one door for the request handler.

mod aggregated;
mod routes;

use base64::Engine as _;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::registry::{AggregatedResource, Resource, Subresource, Tables, Version, group_version};

pub use aggregated::{AggregatedVersion, group_discovery_list};
pub use routes::respond;

/// `GET /api`: the versions of the core group.
pub fn api_versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

/// `GET /apis`: every named group.
pub fn api_group_list(tables: &Tables) -> Value {
    let groups: Vec<Value> = tables
        .group_versions()
        .into_iter()
        .filter(|(group, _)| !group.is_empty())
        .map(|(group, versions)| group_document(&group, &versions))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `GET /apis/<group>`.
pub fn api_group(tables: &Tables, group: &str) -> Option<Value> {
    let (_, versions) = tables.group_versions().into_iter().find(|(g, _)| g == group && !group.is_empty())?;
    let mut document = json!({"kind": "APIGroup", "apiVersion": "v1"});
    if let (Value::Object(document), Value::Object(body)) = (&mut document, group_document(group, &versions)) {
        document.extend(body);
    }
    Some(document)
}

fn group_document(group: &str, versions: &[String]) -> Value {
    let entry = |version: &String| json!({"groupVersion": group_version(group, version), "version": version});
    let all: Vec<Value> = versions.iter().map(entry).collect();
    json!({"name": group, "versions": all, "preferredVersion": versions.first().map(entry)})
}

/// `GET /api/v1`, `GET /apis/<group>/<version>`.
pub fn api_resource_list(tables: &Tables, group: &str, version: &str) -> Option<Value> {
    let known = tables.group_versions().iter().any(|(g, versions)| g == group && versions.iter().any(|v| v == version));
    if !known {
        return None;
    }
    let mut resources = Vec::new();
    for (resource, version) in served(tables, group, version) {
        resources.push(main_resource(resource));
        resources.extend(version.subresources.iter().map(|sub| subresource(resource, sub)));
    }
    for foreign in foreign(tables, group, version) {
        resources.push(json!({
            "name": foreign.name,
            "singularName": foreign.singular,
            "namespaced": foreign.namespaced,
            "kind": foreign.kind,
            "verbs": foreign.verbs,
        }));
    }
    Some(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version(group, version),
        "resources": resources,
    }))
}

/// The resources served in a version, by name.
fn served<'t>(tables: &'t Tables, group: &str, version: &str) -> Vec<(&'t Resource, &'t Version)> {
    let mut list: Vec<(&Resource, &Version)> = tables
        .resources
        .iter()
        .filter(|r| r.group == group)
        .filter_map(|r| r.version(version).filter(|v| v.served).map(|v| (r.as_ref(), v)))
        .collect();
    list.sort_by(|a, b| a.0.plural.cmp(&b.0.plural));
    list
}

/// The resources another component serves in a version.
fn foreign<'t>(tables: &'t Tables, group: &str, version: &str) -> impl Iterator<Item = &'t AggregatedResource> {
    let group = tables.aggregated.iter().find(|g| g.group == group);
    let versions = group.into_iter().flat_map(|g| &g.versions);
    versions.filter(move |(v, _)| v == version).flat_map(|(_, resources)| resources).collect::<Vec<_>>().into_iter()
}

fn main_resource(resource: &Resource) -> Value {
    let mut entry = Map::new();
    entry.insert("name".into(), json!(resource.plural));
    entry.insert("singularName".into(), json!(resource.singular));
    entry.insert("namespaced".into(), json!(resource.namespaced()));
    entry.insert("kind".into(), json!(resource.kind));
    entry.insert("verbs".into(), json!(resource.verbs));
    if !resource.short_names.is_empty() {
        entry.insert("shortNames".into(), json!(resource.short_names));
    }
    if !resource.categories.is_empty() {
        entry.insert("categories".into(), json!(resource.categories));
    }
    entry.insert("storageVersionHash".into(), json!(storage_version_hash(resource)));
    Value::Object(entry)
}

fn subresource(resource: &Resource, sub: &Subresource) -> Value {
    let mut entry = Map::new();
    entry.insert("name".into(), json!(format!("{}/{}", resource.plural, sub.name)));
    entry.insert("singularName".into(), json!(""));
    entry.insert("namespaced".into(), json!(resource.namespaced()));
    if let Some((group, version)) = &sub.group_version {
        entry.insert("group".into(), json!(group));
        entry.insert("version".into(), json!(version));
    }
    entry.insert("kind".into(), json!(sub.kind));
    entry.insert("verbs".into(), json!(sub.verbs));
    Value::Object(entry)
}

/// Changes when the version objects are stored in changes.
fn storage_version_hash(resource: &Resource) -> String {
    let text = format!("{}/{}/{}", resource.group, resource.storage_version, resource.kind);
    base64::engine::general_purpose::STANDARD.encode(&Sha256::digest(text.as_bytes())[..8])
}

#[cfg(test)]
mod tests;
