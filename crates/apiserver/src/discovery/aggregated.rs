//! Aggregated discovery: one document for everything below `/api` or `/apis`.

use serde_json::{Map, Value, json};

use super::{foreign, served};
use crate::registry::{AggregatedResource, Resource, Tables, Version};

/// The versions of `apidiscovery.k8s.io` a client may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AggregatedVersion {
    /// `v2`
    V2,
    /// `v2beta1`
    V2Beta1,
}

impl AggregatedVersion {
    /// `v2`, `v2beta1`.
    pub fn name(self) -> &'static str {
        match self {
            AggregatedVersion::V2 => "v2",
            AggregatedVersion::V2Beta1 => "v2beta1",
        }
    }
}

/// The groups below `/api` (`core`) or below `/apis`.
pub fn group_discovery_list(tables: &Tables, core: bool, version: AggregatedVersion) -> Value {
    let items: Vec<Value> = tables
        .group_versions()
        .into_iter()
        .filter(|(group, _)| group.is_empty() == core)
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|v| json!({"version": v, "resources": resources(tables, &group, v), "freshness": "Current"}))
                .collect();
            let metadata = if core { json!({}) } else { json!({"name": group}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{}", version.name()),
        "metadata": {},
        "items": items,
    })
}

fn resources(tables: &Tables, group: &str, version: &str) -> Vec<Value> {
    let own = served(tables, group, version).into_iter().map(|(resource, v)| resource_entry(resource, v));
    let mut entries: Vec<Value> = own.collect();
    entries.extend(foreign_entries(group, version, foreign(tables, group, version)));
    entries
}

fn response_kind(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

fn scope(namespaced: bool) -> &'static str {
    if namespaced { "Namespaced" } else { "Cluster" }
}

fn resource_entry(resource: &Resource, version: &Version) -> Value {
    let mut entry = Map::new();
    entry.insert("resource".into(), json!(resource.plural));
    entry.insert("responseKind".into(), response_kind(&resource.group, &version.name, &resource.kind));
    entry.insert("scope".into(), json!(scope(resource.namespaced())));
    entry.insert("singularResource".into(), json!(resource.singular));
    entry.insert("verbs".into(), json!(resource.verbs));
    if !resource.short_names.is_empty() {
        entry.insert("shortNames".into(), json!(resource.short_names));
    }
    if !resource.categories.is_empty() {
        entry.insert("categories".into(), json!(resource.categories));
    }
    let subresources: Vec<Value> = version
        .subresources
        .iter()
        .map(|sub| {
            let kind = match &sub.group_version {
                Some((group, version)) => response_kind(group, version, &sub.kind),
                None => response_kind(&resource.group, &version.name, &sub.kind),
            };
            json!({"subresource": sub.name, "responseKind": kind, "verbs": sub.verbs})
        })
        .collect();
    if !subresources.is_empty() {
        entry.insert("subresources".into(), Value::Array(subresources));
    }
    Value::Object(entry)
}

/// Turns `virtualmachines/start`, `virtualmachines/stop`, `version` into entries with their subresources beneath.
fn foreign_entries<'r>(
    group: &str,
    version: &str,
    resources: impl Iterator<Item = &'r AggregatedResource>,
) -> Vec<Value> {
    let mut entries: Vec<(String, Map<String, Value>, Vec<Value>)> = Vec::new();
    for resource in resources {
        let (parent, sub) = match resource.name.split_once('/') {
            Some((parent, sub)) => (parent, Some(sub)),
            None => (resource.name.as_str(), None),
        };
        let at = match entries.iter().position(|(name, ..)| name == parent) {
            Some(at) => at,
            None => {
                let mut entry = Map::new();
                entry.insert("resource".into(), json!(parent));
                entry.insert("scope".into(), json!(scope(resource.namespaced)));
                entry.insert("singularResource".into(), json!(""));
                entry.insert("verbs".into(), json!([]));
                entries.push((parent.to_owned(), entry, Vec::new()));
                entries.len() - 1
            }
        };
        let kind = response_kind(group, version, &resource.kind);
        match sub {
            Some(sub) => {
                entries[at].2.push(json!({"subresource": sub, "responseKind": kind, "verbs": resource.verbs}));
            }
            None => {
                let entry = &mut entries[at].1;
                entry.insert("responseKind".into(), kind);
                entry.insert("singularResource".into(), json!(resource.singular));
                entry.insert("verbs".into(), json!(resource.verbs));
            }
        }
    }
    entries
        .into_iter()
        .map(|(_, mut entry, subresources)| {
            if !subresources.is_empty() {
                entry.insert("subresources".into(), Value::Array(subresources));
            }
            Value::Object(entry)
        })
        .collect()
}
