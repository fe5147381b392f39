//! Who owns whom: the pure half of the garbage collector.

use std::collections::{HashMap, HashSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// Finalizer of a foreground deletion: the owner waits for its dependents.
pub const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer of an orphaning deletion: the dependents lose their reference first.
pub const ORPHAN: &str = "orphan";

/// Key of the resource (`group/plural`) an object was seen under.
pub type ResourceKey = String;

/// What the collector knows of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub resource: ResourceKey,
    pub namespace: Option<String>,
    pub name: String,
    pub owners: Vec<OwnerReference>,
    pub deleting: bool,
    pub finalizers: Vec<String>,
}

/// Next step for one object. Deletions carry the UID as precondition when they are carried out.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing to do.
    Keep,
    /// These owners are not in the graph: ask the API about each before deciding ([`Graph::settle`]).
    LookUp(Vec<OwnerReference>),
    /// Delete it: nobody owns it any more, or its last owner waits for its end. With `foreground`, its own dependents go first.
    Delete { foreground: bool },
    /// Drop the references to these owner UIDs: they are gone or going, others remain.
    DropOwners(Vec<String>),
    /// Its dependents (UIDs) must forget it.
    OrphanDependents(Vec<String>),
    /// Nothing holds it any more: remove this finalizer.
    RemoveFinalizer(&'static str),
}

/// All objects seen, by UID.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: HashMap<String, Node>,
    dependents: HashMap<String, HashSet<String>>,
}

impl Graph {
    /// Takes in an object; returns the UIDs whose next step may have changed.
    pub fn upsert(&mut self, resource: &str, meta: &ObjectMeta) -> Vec<String> {
        let (Some(uid), Some(name)) = (meta.uid.clone(), meta.name.clone()) else { return Vec::new() };
        let node = Node {
            resource: resource.to_string(),
            namespace: meta.namespace.clone(),
            name,
            owners: meta.owner_references.clone().unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            finalizers: meta.finalizers.clone().unwrap_or_default(),
        };
        let mut changed = self.unlink(&uid);
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
            changed.push(owner.uid.clone());
        }
        if node.deleting {
            changed.extend(self.dependents_of(&uid));
        }
        changed.push(uid.clone());
        self.nodes.insert(uid, node);
        changed
    }

    /// Forgets an object that is gone; returns the UIDs whose next step may have changed.
    pub fn remove(&mut self, uid: &str) -> Vec<String> {
        let mut changed = self.unlink(uid);
        self.nodes.remove(uid);
        changed.extend(self.dependents_of(uid));
        changed
    }

    fn unlink(&mut self, uid: &str) -> Vec<String> {
        let owners: Vec<String> =
            self.nodes.get(uid).map(|n| n.owners.iter().map(|o| o.uid.clone()).collect()).unwrap_or_default();
        for owner in &owners {
            if let Some(set) = self.dependents.get_mut(owner) {
                set.remove(uid);
                if set.is_empty() {
                    self.dependents.remove(owner);
                }
            }
        }
        owners
    }

    fn dependents_of(&self, uid: &str) -> Vec<String> {
        let mut all: Vec<String> = self.dependents.get(uid).into_iter().flatten().cloned().collect();
        all.sort();
        all
    }

    /// The object of a UID.
    pub fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// UIDs seen under a resource.
    pub fn of_resource(&self, resource: &str) -> Vec<String> {
        self.nodes.iter().filter(|(_, n)| n.resource == resource).map(|(uid, _)| uid.clone()).collect()
    }

    /// Objects that name an owner which was not seen: a complete list of the owner's kind may decide about them.
    pub fn of_unseen_owners(&self) -> Vec<String> {
        let unseen = |node: &Node| node.owners.iter().any(|o| !self.nodes.contains_key(&o.uid));
        self.nodes.iter().filter(|(_, node)| unseen(node)).map(|(uid, _)| uid.clone()).collect()
    }

    /// What to do about `uid` now.
    pub fn step(&self, uid: &str) -> Step {
        let Some(node) = self.nodes.get(uid) else { return Step::Keep };
        if node.deleting {
            return self.step_of_deleting(uid, node);
        }
        let unseen = node.owners.iter().filter(|o| !self.nodes.contains_key(&o.uid));
        let unseen: Vec<_> = unseen.chain(self.misplaced(uid)).cloned().collect();
        if unseen.is_empty() { self.settle(uid, &HashSet::new()) } else { Step::LookUp(unseen) }
    }

    /// Owners an object cannot have: they live in another namespace, or in one while the object itself lives in none.
    pub fn misplaced(&self, uid: &str) -> impl Iterator<Item = &OwnerReference> {
        let node = self.nodes.get(uid);
        node.into_iter().flat_map(move |node| {
            node.owners.iter().filter(move |owner| {
                let known = self.nodes.get(&owner.uid).and_then(|owner| owner.namespace.as_ref());
                known.is_some() && known != node.namespace.as_ref()
            })
        })
    }

    /// Decides after a look-up: `gone` are the owner UIDs that the API says do not exist. One owner that stays keeps an object,
    /// whatever becomes of the others.
    pub fn settle(&self, uid: &str, gone: &HashSet<String>) -> Step {
        let Some(node) = self.nodes.get(uid) else { return Step::Keep };
        if node.deleting || node.owners.is_empty() {
            return Step::Keep;
        }
        let waited_for = node.owners.iter().any(|o| self.waits_for_dependents(&o.uid));
        let leaving = |o: &&OwnerReference| gone.contains(&o.uid) || self.waits_for_dependents(&o.uid);
        let leaving: Vec<String> = node.owners.iter().filter(leaving).map(|o| o.uid.clone()).collect();
        match leaving.len() {
            0 => Step::Keep,
            n if n == node.owners.len() => {
                Step::Delete { foreground: waited_for && !self.dependents_of(uid).is_empty() }
            }
            _ => Step::DropOwners(leaving),
        }
    }

    fn waits_for_dependents(&self, owner: &str) -> bool {
        self.nodes.get(owner).is_some_and(|n| n.deleting && n.finalizers.iter().any(|f| f == FOREGROUND))
    }

    fn step_of_deleting(&self, uid: &str, node: &Node) -> Step {
        let dependents = self.dependents_of(uid);
        if node.finalizers.iter().any(|f| f == ORPHAN) {
            return if dependents.is_empty() {
                Step::RemoveFinalizer(ORPHAN)
            } else {
                Step::OrphanDependents(dependents)
            };
        }
        if node.finalizers.iter().any(|f| f == FOREGROUND) {
            let blocks = |d: &String| {
                self.nodes
                    .get(d)
                    .is_some_and(|n| n.owners.iter().any(|o| o.uid == uid && o.block_owner_deletion == Some(true)))
            };
            // Each dependent decides for itself: one that has another owner stays and only forgets this one.
            return if dependents.iter().any(blocks) { Step::Keep } else { Step::RemoveFinalizer(FOREGROUND) };
        }
        Step::Keep
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn owner(uid: &str, block: bool) -> OwnerReference {
        OwnerReference { uid: uid.into(), name: uid.into(), block_owner_deletion: Some(block), ..Default::default() }
    }

    fn meta(uid: &str, owners: &[OwnerReference]) -> ObjectMeta {
        ObjectMeta {
            uid: Some(uid.into()),
            name: Some(uid.into()),
            owner_references: Some(owners.to_vec()),
            ..Default::default()
        }
    }

    fn deleting(uid: &str, finalizer: &str) -> ObjectMeta {
        ObjectMeta {
            deletion_timestamp: Some(Time(Timestamp::UNIX_EPOCH)),
            finalizers: Some(vec![finalizer.into()]),
            ..meta(uid, &[])
        }
    }

    #[test]
    fn a_dependent_is_deleted_only_after_the_api_said_its_owner_is_gone() {
        let mut graph = Graph::default();
        graph.upsert("vms", &meta("vm", &[]));
        graph.upsert("vmis", &meta("vmi", &[owner("vm", false)]));
        assert_eq!(graph.step("vmi"), Step::Keep);
        assert_eq!(graph.remove("vm"), ["vmi"]);
        assert!(matches!(graph.step("vmi"), Step::LookUp(owners) if owners[0].uid == "vm"));
        assert_eq!(graph.settle("vmi", &HashSet::new()), Step::Keep, "no answer is no reason to delete");
        assert_eq!(graph.settle("vmi", &HashSet::from(["vm".into()])), Step::Delete { foreground: false });
    }

    #[test]
    fn one_living_owner_keeps_an_object() {
        let mut graph = Graph::default();
        graph.upsert("vms", &meta("a", &[]));
        graph.upsert("x", &meta("x", &[owner("a", false), owner("b", false)]));
        assert_eq!(graph.settle("x", &HashSet::from(["b".into()])), Step::DropOwners(vec!["b".into()]));
    }

    #[test]
    fn foreground_deletion_waits_for_blocking_dependents() {
        let mut graph = Graph::default();
        graph.upsert("x", &meta("child", &[owner("top", true)]));
        graph.upsert("tops", &deleting("top", FOREGROUND));
        assert_eq!(graph.step("child"), Step::Delete { foreground: false });
        assert_eq!(graph.step("top"), Step::Keep);
        graph.remove("child");
        assert_eq!(graph.step("top"), Step::RemoveFinalizer(FOREGROUND));
    }

    #[test]
    fn foreground_deletion_spares_a_dependent_with_another_owner() {
        let mut graph = Graph::default();
        graph.upsert("tops", &meta("other", &[]));
        graph.upsert("x", &meta("child", &[owner("top", true), owner("other", false)]));
        graph.upsert("tops", &deleting("top", FOREGROUND));
        assert_eq!(graph.step("top"), Step::Keep);
        assert_eq!(graph.step("child"), Step::DropOwners(vec!["top".into()]));
        graph.upsert("x", &meta("child", &[owner("other", false)]));
        assert_eq!(graph.step("top"), Step::RemoveFinalizer(FOREGROUND));
        assert_eq!(graph.step("child"), Step::Keep);
    }

    #[test]
    fn foreground_deletion_goes_down_through_the_generations() {
        let mut graph = Graph::default();
        graph.upsert("x", &meta("child", &[owner("top", true)]));
        graph.upsert("x", &meta("grandchild", &[owner("child", true)]));
        let changed = graph.upsert("tops", &deleting("top", FOREGROUND));
        assert!(changed.contains(&"child".to_string()), "{changed:?}");
        assert_eq!(graph.step("child"), Step::Delete { foreground: true });
        assert_eq!(graph.step("grandchild"), Step::Keep);
    }

    #[test]
    fn an_owner_in_another_namespace_is_looked_up_where_it_would_have_to_be() {
        let mut graph = Graph::default();
        let place = |namespace: &str, meta: ObjectMeta| ObjectMeta { namespace: Some(namespace.into()), ..meta };
        graph.upsert("x", &place("a", meta("owner", &[])));
        graph.upsert("x", &place("a", meta("near", &[owner("owner", false)])));
        graph.upsert("x", &place("b", meta("far", &[owner("owner", false)])));
        assert_eq!(graph.step("near"), Step::Keep);
        assert!(matches!(graph.step("far"), Step::LookUp(owners) if owners[0].uid == "owner"));
        assert_eq!(graph.misplaced("near").count(), 0);
        assert_eq!(graph.misplaced("far").count(), 1);
        graph.upsert("x", &meta("nowhere", &[owner("owner", false)]));
        assert_eq!(graph.misplaced("nowhere").count(), 1);
    }

    #[test]
    fn orphaning_frees_the_dependents_first() {
        let mut graph = Graph::default();
        graph.upsert("x", &meta("child", &[owner("top", true)]));
        graph.upsert("tops", &deleting("top", ORPHAN));
        assert_eq!(graph.step("top"), Step::OrphanDependents(vec!["child".into()]));
        graph.upsert("x", &meta("child", &[]));
        assert_eq!(graph.step("top"), Step::RemoveFinalizer(ORPHAN));
        assert_eq!(graph.step("child"), Step::Keep);
    }
}
