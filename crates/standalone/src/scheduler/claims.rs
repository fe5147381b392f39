//! Whether the claims of a pod let it onto the node: pure, in the order and with the words of Kubernetes' scheduler plugins.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};

use super::fit::matches_terms;
use crate::storage::World;
use crate::storage::matching::best;
use crate::storage::words::{
    BIND_COMPLETED, NO_PROVISIONER, SELECTED_NODE, annotation, claim_phase, class_of_claim, is_deleting,
    waits_for_consumer,
};

/// What the scheduler is to do for a claim that waits for its first consumer.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    /// Keep this volume for it.
    Reserve(&'a PersistentVolume, &'a PersistentVolumeClaim),
    /// Let its provisioner make one here.
    SelectNode(&'a PersistentVolumeClaim),
}

/// What a pod's claims say.
#[derive(Debug)]
pub(crate) enum Verdict<'a> {
    /// Each has its volume.
    Bound,
    /// The pod fits as soon as these are bound; what is left to do for that.
    Binding(Vec<Step<'a>>),
    /// On no node.
    Unresolvable(String),
    /// Not on this node.
    Misfit(&'static str),
}

/// Names of the claims of a pod.
pub(crate) fn names(pod: &Pod) -> impl Iterator<Item = &str> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes.filter_map(|v| v.persistent_volume_claim.as_ref()).map(|c| c.claim_name.as_str())
}

/// Looks at the claims of `pod`, which is to run on `node` beside `others`.
pub(crate) fn look<'a>(pod: &Pod, node: &Node, others: &[&Pod], world: &'a World) -> Verdict<'a> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut claims = Vec::new();
    for name in names(pod) {
        let Some(claim) = world.claim(namespace, name) else {
            return Verdict::Unresolvable(format!("persistentvolumeclaim {name:?} not found"));
        };
        if claim_phase(claim) == "Lost" {
            let volume = volume_name(claim);
            return Verdict::Unresolvable(format!(
                "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}"
            ));
        }
        if is_deleting(&claim.metadata) {
            return Verdict::Unresolvable(format!("persistentvolumeclaim {name:?} is being deleted"));
        }
        claims.push(claim);
    }
    let (bound, unbound): (Vec<_>, Vec<_>) = claims
        .iter()
        .copied()
        .partition(|claim| !volume_name(claim).is_empty() && annotation(&claim.metadata, BIND_COMPLETED).is_some());
    let class = |claim: &PersistentVolumeClaim| class_of_claim(claim).and_then(|name| world.class(name));
    let waits = |claim: &PersistentVolumeClaim| class(claim).is_some_and(waits_for_consumer);
    if unbound.iter().any(|claim| !waits(claim) || !volume_name(claim).is_empty()) {
        return Verdict::Unresolvable("pod has unbound immediate PersistentVolumeClaims".into());
    }
    if claims.iter().any(|claim| is_taken(claim, namespace, others)) {
        return Verdict::Misfit(
            "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod",
        );
    }
    for claim in bound {
        match world.volume(volume_name(claim)) {
            None => {
                return Verdict::Misfit("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)");
            }
            Some(volume) if !is_reachable(volume, node) => {
                return Verdict::Misfit("node(s) didn't match PersistentVolume's node affinity");
            }
            Some(_) => {}
        }
    }
    if unbound.is_empty() {
        return Verdict::Bound;
    }
    let mut chosen: HashSet<&str> = HashSet::new();
    let mut steps = Vec::new();
    for claim in unbound {
        if annotation(&claim.metadata, SELECTED_NODE).is_some() {
            continue;
        }
        let name_of = |volume: &'a PersistentVolume| volume.metadata.name.as_deref().unwrap_or_default();
        let free = world.volumes().filter(|v| is_reachable(v, node) && !chosen.contains(name_of(v)));
        match best(claim, free, false) {
            Some(volume) => {
                chosen.insert(name_of(volume));
                steps.push(Step::Reserve(volume, claim));
            }
            None if class(claim).is_some_and(|class| class.provisioner != NO_PROVISIONER) => {
                steps.push(Step::SelectNode(claim));
            }
            None => return Verdict::Misfit("node(s) didn't find available persistent volumes to bind"),
        }
    }
    Verdict::Binding(steps)
}

fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).unwrap_or_default()
}

/// Whether another pod has a claim that only one pod may have.
fn is_taken(claim: &PersistentVolumeClaim, namespace: &str, others: &[&Pod]) -> bool {
    let modes = claim.spec.as_ref().and_then(|s| s.access_modes.as_deref()).unwrap_or_default();
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    modes.iter().any(|mode| mode == "ReadWriteOncePod")
        && others.iter().any(|o| o.metadata.namespace.as_deref() == Some(namespace) && names(o).any(|n| n == name))
}

fn is_reachable(volume: &PersistentVolume, node: &Node) -> bool {
    let affinity = volume.spec.as_ref().and_then(|s| s.node_affinity.as_ref());
    affinity.and_then(|a| a.required.as_ref()).is_none_or(|selector| matches_terms(selector, node))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn claim(name: &str, class: &str, extra: Value) -> Value {
        let mut full = json!({"metadata": {"name": name, "namespace": "n", "uid": name},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": class, "resources": {"requests": {"storage": "1Gi"}}},
            "status": {"phase": "Pending"}});
        json_patch::merge(&mut full, &extra);
        full
    }

    fn bound(name: &str, volume: &str) -> Value {
        claim(
            name,
            "late",
            json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
            "spec": {"volumeName": volume}, "status": {"phase": "Bound"}}),
        )
    }

    fn volume(name: &str, class: &str, host: Option<&str>) -> Value {
        let terms = host.map(|h| {
            json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": [h]}]}]}})
        });
        json!({"metadata": {"name": name}, "status": {"phase": "Available"}, "spec": {"capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"], "storageClassName": class, "nodeAffinity": terms}})
    }

    fn verdict(claims: Value, volumes: Value, others: Value) -> String {
        let classes = json!([
            {"metadata": {"name": "late"}, "provisioner": "p", "volumeBindingMode": "WaitForFirstConsumer"},
            {"metadata": {"name": "manual"}, "provisioner": "kubernetes.io/no-provisioner",
                "volumeBindingMode": "WaitForFirstConsumer"},
            {"metadata": {"name": "soon"}, "provisioner": "p", "volumeBindingMode": "Immediate"}]);
        fn arcs<T: serde::de::DeserializeOwned>(list: Value) -> Vec<Arc<T>> {
            serde_json::from_value::<Vec<T>>(list).unwrap().into_iter().map(Arc::new).collect()
        }
        let names: Vec<String> = claims
            .as_array()
            .unwrap()
            .iter()
            .filter(|c| c["metadata"]["namespace"] == "n")
            .map(|c| c["metadata"]["name"].as_str().unwrap().to_string())
            .collect();
        let world = World::new(arcs(claims), arcs(volumes), arcs(classes), vec![]);
        let pod = |names: &[String]| -> Pod {
            let volumes: Vec<Value> =
                names.iter().map(|n| json!({"name": n, "persistentVolumeClaim": {"claimName": n}})).collect();
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"},
                "spec": {"containers": [], "volumes": volumes}}))
            .unwrap()
        };
        let wanted = if names.is_empty() { vec!["missing".to_string()] } else { names };
        let others: Vec<Pod> = serde_json::from_value::<Vec<String>>(others)
            .unwrap()
            .iter()
            .map(|n| pod(std::slice::from_ref(n)))
            .collect();
        let node: Node =
            serde_json::from_value(json!({"metadata": {"name": "n1", "labels": {"kubernetes.io/hostname": "n1"}}}))
                .unwrap();
        match look(&pod(&wanted), &node, &others.iter().collect::<Vec<_>>(), &world) {
            Verdict::Bound => "bound".to_string(),
            Verdict::Unresolvable(text) => text,
            Verdict::Misfit(text) => text.to_string(),
            Verdict::Binding(steps) => {
                let show = |step: &Step<'_>| match step {
                    Step::Reserve(v, c) => {
                        format!("{} for {}", v.metadata.name.as_ref().unwrap(), c.metadata.name.as_ref().unwrap())
                    }
                    Step::SelectNode(c) => format!("node for {}", c.metadata.name.as_ref().unwrap()),
                };
                steps.iter().map(show).collect::<Vec<_>>().join(", ")
            }
        }
    }

    #[test]
    fn claims_are_judged_as_by_kubernetes() {
        let deleting = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        let cases = [
            (json!([]), json!([]), "persistentvolumeclaim \"missing\" not found"),
            (json!([claim("a", "late", deleting)]), json!([]), "persistentvolumeclaim \"a\" is being deleted"),
            (
                json!([claim("a", "late", json!({"spec": {"volumeName": "v"}, "status": {"phase": "Lost"}}))]),
                json!([]),
                "persistentvolumeclaim \"a\" bound to non-existent persistentvolume \"v\"",
            ),
            (json!([claim("a", "soon", json!({}))]), json!([]), "pod has unbound immediate PersistentVolumeClaims"),
            (json!([claim("a", "nowhere", json!({}))]), json!([]), "pod has unbound immediate PersistentVolumeClaims"),
            (json!([claim("a", "late", json!({}))]), json!([]), "node for a"),
            (
                json!([claim(
                    "a",
                    "late",
                    json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n1"}}})
                )]),
                json!([]),
                "",
            ),
            (json!([claim("a", "late", json!({}))]), json!([volume("v", "late", None)]), "v for a"),
            (
                json!([claim("a", "manual", json!({})), claim("b", "manual", json!({}))]),
                json!([volume("v", "manual", None), volume("w", "manual", Some("n1"))]),
                "v for a, w for b",
            ),
            (
                json!([claim("a", "manual", json!({}))]),
                json!([volume("v", "manual", Some("n2"))]),
                "node(s) didn't find available persistent volumes to bind",
            ),
            (json!([bound("a", "v")]), json!([volume("v", "late", Some("n1"))]), "bound"),
            (
                json!([bound("a", "v")]),
                json!([volume("v", "late", Some("n2"))]),
                "node(s) didn't match PersistentVolume's node affinity",
            ),
            (
                json!([bound("a", "v")]),
                json!([]),
                "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
            ),
        ];
        for (claims, volumes, expected) in cases {
            let shown = verdict(claims.clone(), volumes.clone(), json!([]));
            assert_eq!(shown, expected, "{claims} {volumes}");
        }
    }

    #[test]
    fn a_claim_for_one_pod_is_not_given_to_a_second() {
        let mut once = bound("a", "v");
        once["spec"]["accessModes"] = json!(["ReadWriteOncePod"]);
        let volumes = json!([volume("v", "late", None)]);
        assert_eq!(verdict(json!([once.clone()]), volumes.clone(), json!(["b"])), "bound");
        assert!(verdict(json!([once]), volumes.clone(), json!(["a"])).contains("ReadWriteOncePod"));
        assert_eq!(verdict(json!([bound("a", "v")]), volumes, json!(["a"])), "bound", "the node may have it twice");
    }
}
