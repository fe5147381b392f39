//! Whether a pod fits the node: pure, in the order and with the words of Kubernetes' scheduler plugins.

use std::collections::BTreeMap;

use fv_api::Quantity;
use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodAffinityTerm, Taint, Toleration,
};

use crate::selector::selects;

/// Adds up what a pod asks for, per resource, in base units (CPU in thousandths): the larger of the plain containers plus
/// the init containers that keep running, and any single init container, plus the pod's overhead.
pub fn requests(pod: &Pod) -> BTreeMap<String, i128> {
    let mut total = BTreeMap::new();
    let Some(spec) = &pod.spec else { return total };
    let sidecar = |policy: &Option<String>| policy.as_deref() == Some("Always");
    let (sidecars, inits): (Vec<_>, Vec<_>) =
        spec.init_containers.iter().flatten().partition(|c| sidecar(&c.restart_policy));
    for container in spec.containers.iter().chain(sidecars) {
        add(&mut total, container.resources.as_ref().and_then(|r| r.requests.as_ref()));
    }
    for container in inits {
        let mut single = BTreeMap::new();
        add(&mut single, container.resources.as_ref().and_then(|r| r.requests.as_ref()));
        for (name, amount) in single {
            let entry = total.entry(name).or_insert(0);
            *entry = (*entry).max(amount);
        }
    }
    add(&mut total, spec.overhead.as_ref());
    total
}

fn add(
    total: &mut BTreeMap<String, i128>,
    amounts: Option<&BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>,
) {
    for (name, quantity) in amounts.into_iter().flatten() {
        *total.entry(name.clone()).or_insert(0) += base_units(name, &quantity.0);
    }
}

fn base_units(resource: &str, quantity: &str) -> i128 {
    // The API server admits only well-formed quantities; an unreadable one counts as nothing, as in Kubernetes.
    let Ok(quantity) = quantity.parse::<Quantity>() else { return 0 };
    if resource == "cpu" { quantity.milli_value() } else { quantity.value() }
}

/// The labels of each namespace, by its name.
pub type Namespaces = BTreeMap<String, BTreeMap<String, String>>;

/// Why `pod` cannot run on `node` beside `others` (the pods already bound to it); empty when it can.
pub fn misfits(pod: &Pod, node: &Node, others: &[&Pod], namespaces: &Namespaces) -> Vec<String> {
    let mut reasons = Vec::new();
    let spec = pod.spec.as_ref();
    let node_spec = node.spec.as_ref();
    let tolerations = spec.and_then(|s| s.tolerations.as_deref()).unwrap_or_default();

    if node_spec.and_then(|s| s.unschedulable) == Some(true)
        && !tolerations.iter().any(|t| tolerates(t, &unschedulable_taint()))
    {
        reasons.push("node(s) were unschedulable".to_string());
        return reasons;
    }
    if spec.and_then(|s| s.node_name.as_deref()).is_some_and(|n| Some(n) != node.metadata.name.as_deref()) {
        reasons.push("node(s) didn't match the requested node name".to_string());
        return reasons;
    }
    let taints = node_spec.and_then(|s| s.taints.as_deref()).unwrap_or_default();
    if let Some(taint) = taints.iter().find(|t| {
        matches!(t.effect.as_str(), "NoSchedule" | "NoExecute") && !tolerations.iter().any(|x| tolerates(x, t))
    }) {
        reasons.push(format!(
            "node(s) had untolerated taint {{{}: {}}}",
            taint.key,
            taint.value.as_deref().unwrap_or_default()
        ));
        return reasons;
    }
    if !matches_selector(pod, node) {
        reasons.push("node(s) didn't match Pod's node affinity/selector".to_string());
        return reasons;
    }
    reasons.extend(insufficient(pod, node, others));
    let neighbourhood = Neighbourhood { node: node.metadata.labels.as_ref(), others, namespaces };
    if reasons.is_empty() && neighbourhood.violates_affinity(pod) {
        reasons.push("node(s) didn't match pod affinity rules".to_string());
    }
    if reasons.is_empty() && neighbourhood.violates_anti_affinity(pod) {
        reasons.push("node(s) didn't match pod anti-affinity rules".to_string());
    }
    reasons
}

fn insufficient(pod: &Pod, node: &Node, others: &[&Pod]) -> Vec<String> {
    let empty = BTreeMap::new();
    let allocatable = node.status.as_ref().and_then(|s| s.allocatable.as_ref()).unwrap_or(&empty);
    let available = |name: &str| allocatable.get(name).map_or(0, |q| base_units(name, &q.0));
    let mut reasons = Vec::new();
    if others.len() as i128 + 1 > available("pods") {
        reasons.push("Too many pods".to_string());
    }
    let mut used = BTreeMap::new();
    for other in others {
        for (name, amount) in requests(other) {
            *used.entry(name).or_insert(0) += amount;
        }
    }
    for (name, wanted) in requests(pod) {
        if wanted > 0 && wanted + used.get(&name).copied().unwrap_or(0) > available(&name) {
            reasons.push(format!("Insufficient {name}"));
        }
    }
    reasons
}

fn unschedulable_taint() -> Taint {
    Taint { key: "node.kubernetes.io/unschedulable".into(), effect: "NoSchedule".into(), ..Taint::default() }
}

/// Kubernetes' rule for one toleration and one taint.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect_matches = toleration.effect.as_deref().unwrap_or_default();
    if !effect_matches.is_empty() && effect_matches != taint.effect {
        return false;
    }
    let key = toleration.key.as_deref().unwrap_or_default();
    if !key.is_empty() && key != taint.key {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or("Equal") {
        "Exists" => true,
        "Equal" | "" => {
            !key.is_empty()
                && toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
        }
        _ => false,
    }
}

fn matches_selector(pod: &Pod, node: &Node) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let empty = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&empty);
    if !spec.node_selector.iter().flatten().all(|(k, v)| labels.get(k) == Some(v)) {
        return false;
    }
    let required = spec
        .affinity
        .as_ref()
        .and_then(|a| a.node_affinity.as_ref())
        .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    match required {
        None => true,
        Some(selector) => matches_terms(selector, node),
    }
}

/// Whether a node is one of those selected.
pub(crate) fn matches_terms(selector: &NodeSelector, node: &Node) -> bool {
    let empty = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&empty);
    selector.node_selector_terms.iter().any(|term| matches_term(term, node, labels))
}

fn matches_term(term: &NodeSelectorTerm, node: &Node, labels: &BTreeMap<String, String>) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let name = BTreeMap::from([("metadata.name".to_string(), node.metadata.name.clone().unwrap_or_default())]);
    expressions.iter().all(|e| matches_requirement(e, labels)) && fields.iter().all(|e| matches_requirement(e, &name))
}

fn matches_requirement(requirement: &NodeSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&requirement.key);
    let values = requirement.values.as_deref().unwrap_or_default();
    let compare = |wanted: fn(i64, i64) -> bool| {
        let (Some(have), [bound]) = (value, values) else { return false };
        matches!((have.parse::<i64>(), bound.parse::<i64>()), (Ok(a), Ok(b)) if wanted(a, b))
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|v| values.contains(v)),
        "NotIn" => value.is_none_or(|v| !values.contains(v)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|a, b| a > b),
        "Lt" => compare(|a, b| a < b),
        _ => false,
    }
}

/// What pods may say about others: the one node there is, and the namespaces the others are in.
struct Neighbourhood<'a> {
    node: Option<&'a BTreeMap<String, String>>,
    others: &'a [&'a Pod],
    namespaces: &'a Namespaces,
}

impl Neighbourhood<'_> {
    /// Whether the node lies in one of the term's topology domains: it has the label.
    fn has_domain(&self, term: &PodAffinityTerm) -> bool {
        self.node.is_some_and(|labels| labels.contains_key(&term.topology_key))
    }

    /// Whether the owner's term is about another pod. On one node whatever runs is in the same domain.
    fn concerns(&self, term: &PodAffinityTerm, owner: &Pod, other: &Pod) -> bool {
        let other_namespace = other.metadata.namespace.as_deref().unwrap_or("default");
        let named = term.namespaces.as_deref().unwrap_or_default();
        let in_scope = match &term.namespace_selector {
            None if named.is_empty() => owner.metadata.namespace.as_deref().unwrap_or("default") == other_namespace,
            None => false,
            Some(selector) => selects(selector, self.namespaces.get(other_namespace)),
        };
        (in_scope || named.iter().any(|n| n == other_namespace))
            && term.label_selector.as_ref().is_some_and(|selector| selects(selector, other.metadata.labels.as_ref()))
    }

    fn violates_affinity(&self, pod: &Pod) -> bool {
        let affinity = pod.spec.as_ref().and_then(|s| s.affinity.as_ref()).and_then(|a| a.pod_affinity.as_ref());
        let terms = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        // A pod that matches its own term may be the first of its group, as in Kubernetes.
        terms.into_iter().flatten().any(|term| {
            !self.has_domain(term)
                || (!self.concerns(term, pod, pod) && !self.others.iter().any(|other| self.concerns(term, pod, other)))
        })
    }

    fn violates_anti_affinity(&self, pod: &Pod) -> bool {
        let repels = |owner: &Pod, other: &Pod| {
            anti_affinity(owner).any(|term| self.has_domain(term) && self.concerns(term, owner, other))
        };
        self.others.iter().any(|other| repels(pod, other) || repels(other, pod))
    }
}

/// What a pod requires not to be beside it.
fn anti_affinity(pod: &Pod) -> impl Iterator<Item = &PodAffinityTerm> {
    let affinity = pod.spec.as_ref().and_then(|s| s.affinity.as_ref()).and_then(|a| a.pod_anti_affinity.as_ref());
    affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()).into_iter().flatten()
}

/// The scheduler's message for a pod that fits on no node at all, for this reason.
pub fn unresolvable(reason: &str) -> String {
    format!(
        "0/1 nodes are available: {reason}. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
    )
}

/// The scheduler's message for a pod that does not fit on the one node, for these reasons.
pub fn message(reasons: &[String], pod: &Pod, node: &Node) -> String {
    let mut counted: Vec<String> = reasons.iter().map(|r| format!("1 {r}")).collect();
    counted.sort();
    // Could it fit if other pods went? Then Kubernetes looked for some to evict, and we never find any.
    let others_in_the_way = |r: &String| {
        r.starts_with("Insufficient ") || r == "Too many pods" || r == "node(s) didn't match pod anti-affinity rules"
    };
    let preemption = if reasons.iter().all(others_in_the_way) && insufficient(pod, node, &[]).is_empty() {
        "No preemption victims found for incoming pod."
    } else {
        "Preemption is not helpful for scheduling."
    };
    format!("0/1 nodes are available: {}. preemption: 0/1 nodes are available: 1 {preemption}", counted.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(extra: serde_json::Value) -> Node {
        let mut node = json!({
            "metadata": {"name": "n1", "labels": {"kubernetes.io/arch": "amd64", "cores": "8",
                "kubernetes.io/hostname": "n1"}},
            "spec": {},
            "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "2", "ephemeral-storage": "1Gi"}}
        });
        json_patch::merge(&mut node, &extra);
        serde_json::from_value(node).unwrap()
    }

    fn pod(spec: serde_json::Value) -> Pod {
        let mut full = json!({"metadata": {"name": "p", "namespace": "default", "labels": {"app": "a"}},
            "spec": {"containers": [{"name": "c"}]}});
        json_patch::merge(&mut full, &json!({"spec": spec}));
        serde_json::from_value(full).unwrap()
    }

    fn asking(cpu: &str, memory: &str) -> Pod {
        pod(json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]}))
    }

    #[test]
    fn requests_are_measured_against_what_other_pods_left() {
        let running = asking("1500m", "256Mi");
        assert!(misfits(&asking("500m", "768Mi"), &node(json!({})), &[&running], &Namespaces::new()).is_empty());
        assert_eq!(
            misfits(&asking("501m", "1Gi"), &node(json!({})), &[&running], &Namespaces::new()),
            ["Insufficient cpu", "Insufficient memory"]
        );
    }

    #[test]
    fn the_message_reads_like_kubernetes() {
        let node = node(json!({}));
        let huge = asking("1", "4Gi");
        assert_eq!(
            message(&misfits(&huge, &node, &[], &Namespaces::new()), &huge, &node),
            "0/1 nodes are available: 1 Insufficient memory. preemption: 0/1 nodes are available: \
             1 Preemption is not helpful for scheduling."
        );
        let fits_alone = asking("2", "1Gi");
        assert_eq!(
            message(&misfits(&fits_alone, &node, &[&asking("1", "1")], &Namespaces::new()), &fits_alone, &node),
            "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory. preemption: 0/1 nodes are available: \
             1 No preemption victims found for incoming pod."
        );
    }

    #[test]
    fn sidecars_count_beside_containers_and_plain_init_containers_do_not_add_up() {
        let pod = pod(json!({
            "containers": [{"name": "c", "resources": {"requests": {"memory": "100"}}}],
            "initContainers": [
                {"name": "side", "restartPolicy": "Always", "resources": {"requests": {"memory": "10"}}},
                {"name": "init", "resources": {"requests": {"memory": "150"}}},
            ],
            "overhead": {"memory": "5"},
        }));
        assert_eq!(requests(&pod)["memory"], 155);
    }

    #[test]
    fn a_full_node_takes_no_more_pods() {
        let one = pod(json!({}));
        assert_eq!(misfits(&pod(json!({})), &node(json!({})), &[&one, &one], &Namespaces::new()), ["Too many pods"]);
    }

    #[test]
    fn selectors_affinity_and_taints_decide() {
        let cases = [
            (json!({"nodeSelector": {"kubernetes.io/arch": "amd64"}}), json!({}), None),
            (
                json!({"nodeSelector": {"kubernetes.io/arch": "arm64"}}),
                json!({}),
                Some("node(s) didn't match Pod's node affinity/selector"),
            ),
            (
                json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                    {"nodeSelectorTerms": [{"matchExpressions": [{"key": "cores", "operator": "Gt", "values": ["4"]}]}]}}}}),
                json!({}),
                None,
            ),
            (
                json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                    {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}]}}}}),
                json!({}),
                Some("node(s) didn't match Pod's node affinity/selector"),
            ),
            (
                json!({}),
                json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}}),
                Some("node(s) had untolerated taint {k: v}"),
            ),
            (
                json!({"tolerations": [{"key": "k", "operator": "Exists"}]}),
                json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}}),
                None,
            ),
            (json!({}), json!({"spec": {"unschedulable": true}}), Some("node(s) were unschedulable")),
        ];
        for (spec, node_extra, expected) in cases {
            let reasons = misfits(&pod(spec.clone()), &node(node_extra), &[], &Namespaces::new());
            assert_eq!(reasons.first().map(String::as_str), expected, "{spec}");
        }
    }

    #[test]
    fn anti_affinity_works_both_ways() {
        let anti = pod(json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            [{"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "a"}}}]}}}));
        let plain = pod(json!({}));
        assert_eq!(
            misfits(&anti, &node(json!({})), &[&plain], &Namespaces::new()),
            ["node(s) didn't match pod anti-affinity rules"]
        );
        assert_eq!(
            misfits(&plain, &node(json!({})), &[&anti], &Namespaces::new()),
            ["node(s) didn't match pod anti-affinity rules"]
        );
    }

    /// Whether a pod with this required term fits beside a pod of the namespace `other`, whose labels are `team: blue`.
    fn beside(kind: &str, term: serde_json::Value) -> Vec<String> {
        let asking = pod(json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}));
        let mut running = pod(json!({}));
        running.metadata.namespace = Some("other".into());
        running.metadata.labels = Some([("app".into(), "b".into())].into());
        let namespaces = Namespaces::from([("other".into(), [("team".into(), "blue".into())].into())]);
        misfits(&asking, &node(json!({})), &[&running], &namespaces)
    }

    #[test]
    fn namespaces_of_a_term_are_named_or_selected() {
        let term = |scope: serde_json::Value| {
            let mut term =
                json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "b"}}});
            json_patch::merge(&mut term, &scope);
            term
        };
        let cases = [
            (json!({}), false),
            (json!({"namespaces": ["other"]}), true),
            (json!({"namespaces": ["elsewhere"]}), false),
            (json!({"namespaceSelector": {}}), true),
            (json!({"namespaceSelector": {"matchLabels": {"team": "blue"}}}), true),
            (
                json!({"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "In", "values": ["red"]}]}}),
                false,
            ),
            (json!({"namespaces": ["other"], "namespaceSelector": {"matchLabels": {"team": "red"}}}), true),
        ];
        for (scope, concerned) in cases {
            assert_eq!(beside("podAntiAffinity", term(scope.clone())).is_empty(), !concerned, "{scope}");
            assert_eq!(beside("podAffinity", term(scope.clone())).is_empty(), concerned, "{scope}");
        }
    }

    #[test]
    fn a_node_without_the_topology_label_separates_nobody_and_joins_nobody() {
        let term = json!({"topologyKey": "topology.kubernetes.io/zone", "namespaceSelector": {},
            "labelSelector": {"matchLabels": {"app": "b"}}});
        assert_eq!(beside("podAntiAffinity", term.clone()), [""; 0]);
        assert_eq!(beside("podAffinity", term), ["node(s) didn't match pod affinity rules"]);
    }
}
