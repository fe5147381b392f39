//! What the server serves: the table of resources, built in and custom, and of aggregated API groups.
//!
//! Readers take a [`Tables`] snapshot and never hold a lock; a change of a CustomResourceDefinition publishes a new snapshot
//! with a higher `generation`, by which discovery and OpenAPI know that their cached documents are stale.

pub mod builtin;
pub mod resource;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

pub use resource::{Origin, PrinterColumn, Resource, ScalePaths, Scope, Subresource, Version, group_version};

/// One resource of an aggregated API, as discovery lists it.
#[derive(Debug, Clone)]
pub struct AggregatedResource {
    /// `virtualmachines/start`, `version`, …
    pub name: String,
    /// Singular name, often empty.
    pub singular: String,
    /// Kind of the body.
    pub kind: String,
    /// Whether it lives in namespaces.
    pub namespaced: bool,
    /// Verbs.
    pub verbs: Vec<String>,
}

/// An API group which another component serves.
#[derive(Debug, Clone)]
pub struct AggregatedGroup {
    /// Group name.
    pub group: String,
    /// Versions (preferred first), each with its resources.
    pub versions: Vec<(String, Vec<AggregatedResource>)>,
}

/// An immutable picture of everything that is served.
#[derive(Debug, Default)]
pub struct Tables {
    /// Counts the changes of this table.
    pub generation: u64,
    /// Resources in discovery order.
    pub resources: Vec<Arc<Resource>>,
    /// Aggregated groups.
    pub aggregated: Vec<AggregatedGroup>,
    index: HashMap<(String, String), Arc<Resource>>,
}

impl Tables {
    /// The resource of this group and plural name.
    pub fn resource(&self, group: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.index.get(&(group.to_owned(), plural.to_owned()))
    }

    /// Every (group, version) with at least one served resource, in discovery order; the first version of a group is its
    /// preferred one. The core group is the empty name.
    pub fn group_versions(&self) -> Vec<(String, Vec<String>)> {
        let mut groups: Vec<(String, Vec<String>)> = Vec::new();
        for resource in &self.resources {
            for version in resource.versions.iter().filter(|v| v.served) {
                let at = match groups.iter().position(|(g, _)| *g == resource.group) {
                    Some(at) => at,
                    None => {
                        groups.push((resource.group.clone(), Vec::new()));
                        groups.len() - 1
                    }
                };
                if !groups[at].1.contains(&version.name) {
                    groups[at].1.push(version.name.clone());
                }
            }
        }
        for group in &self.aggregated {
            if !groups.iter().any(|(g, _)| *g == group.group) {
                groups.push((group.group.clone(), group.versions.iter().map(|(v, _)| v.clone()).collect()));
            }
        }
        groups
    }

    fn rebuild(&self, resources: Vec<Arc<Resource>>, aggregated: Vec<AggregatedGroup>) -> Tables {
        let index = resources.iter().map(|r| ((r.group.clone(), r.plural.clone()), r.clone())).collect();
        Tables { generation: self.generation + 1, resources, aggregated, index }
    }
}

/// The changeable table: publishes [`Tables`].
#[derive(Debug)]
pub struct Registry {
    current: RwLock<Arc<Tables>>,
}

impl Registry {
    /// A registry of the built-in resources.
    pub fn new(aggregated: Vec<AggregatedGroup>) -> Self {
        let resources = builtin::resources().into_iter().map(Arc::new).collect();
        Registry { current: RwLock::new(Arc::new(Tables::default().rebuild(resources, aggregated))) }
    }

    /// The table as of now.
    pub fn tables(&self) -> Arc<Tables> {
        self.current.read().clone()
    }

    /// Adds or replaces a custom resource. Built-in resources are never replaced. Watches of versions that are still served go on.
    pub fn put(&self, mut resource: Resource) {
        let mut current = self.current.write();
        let mut resources = current.resources.clone();
        match resources.iter().position(|r| r.group == resource.group && r.plural == resource.plural) {
            Some(at) if resources[at].builtin() => return,
            Some(at) => {
                if resource.stores_as(&resources[at]) {
                    resource.since = resources[at].since;
                }
                for old in resources[at].versions.iter().filter(|old| old.served) {
                    match resource.versions.iter_mut().find(|new| new.name == old.name && new.served) {
                        Some(new) => new.withdrawn = old.withdrawn.clone(),
                        None => old.withdrawn.cancel(),
                    }
                }
                resources[at] = Arc::new(resource);
            }
            None => resources.push(Arc::new(resource)),
        }
        *current = Arc::new(current.rebuild(resources, current.aggregated.clone()));
    }

    /// Removes the resource of a deleted CustomResourceDefinition, and ends its watches.
    pub fn remove(&self, crd: &str) {
        let mut current = self.current.write();
        let origin = Origin::Crd(crd.to_owned());
        let (gone, resources): (Vec<_>, Vec<_>) = current.resources.iter().cloned().partition(|r| r.origin == origin);
        gone.iter().flat_map(|resource| &resource.versions).for_each(|version| version.withdrawn.cancel());
        *current = Arc::new(current.rebuild(resources, current.aggregated.clone()));
    }
}
