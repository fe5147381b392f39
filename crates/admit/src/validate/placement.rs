//! Where the launcher pod may run: what the API would refuse on the pod is refused on its VMI.

use fv_api::VirtualMachineInstanceSpec;
use k8s_openapi::api::core::v1::{Affinity, NodeSelectorTerm, PodAffinityTerm, Toleration};

use crate::causes::{Causes, Field};
use crate::names;

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
const OPERATORS: [&str; 6] = ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"];

pub(crate) fn check(spec: &VirtualMachineInstanceSpec, field: &Field, causes: &mut Causes) {
    let at = field.child("nodeSelector");
    for (key, value) in &spec.node_selector {
        for fault in names::qualified_name(key) {
            causes.invalid(&at, format!("{at}: {key:?}: {fault}"));
        }
        for fault in names::label_value(value) {
            causes.invalid(&at, format!("{at}: {key}: {value:?}: {fault}"));
        }
    }
    for (index, toleration) in spec.tolerations.iter().enumerate() {
        tolerates(toleration, &field.child("tolerations").index(index), causes);
    }
    if let Some(affinity) = &spec.affinity {
        attracts(affinity, &field.child("affinity"), causes);
    }
}

fn tolerates(toleration: &Toleration, at: &Field, causes: &mut Causes) {
    let key = toleration.key.as_deref().unwrap_or_default();
    let value = toleration.value.as_deref().unwrap_or_default();
    let operator = toleration.operator.as_deref().unwrap_or_default();
    let effect = toleration.effect.as_deref().unwrap_or_default();
    for fault in if key.is_empty() { Vec::new() } else { names::qualified_name(key) } {
        causes.invalid(&at.child("key"), format!("{}: {key:?}: {fault}", at.child("key")));
    }
    match operator {
        "" | "Equal" => {
            if key.is_empty() {
                causes.invalid(
                    &at.child("operator"),
                    "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
                );
            }
            for fault in names::label_value(value) {
                causes.invalid(&at.child("value"), format!("{}: {value:?}: {fault}", at.child("value")));
            }
        }
        "Exists" => {
            if !value.is_empty() {
                causes.invalid(&at.child("value"), "value must be empty when `operator` is 'Exists'");
            }
        }
        _ => causes.not_supported(
            &at.child("operator"),
            format!("{} '{operator}': use Equal or Exists", at.child("operator")),
        ),
    }
    if !effect.is_empty() && !EFFECTS.contains(&effect) {
        causes.not_supported(
            &at.child("effect"),
            format!("{} '{effect}': use one of {}", at.child("effect"), EFFECTS.join(", ")),
        );
    }
    if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
        causes.invalid(&at.child("effect"), "effect must be 'NoExecute' when `tolerationSeconds` is set");
    }
}

fn attracts(affinity: &Affinity, at: &Field, causes: &mut Causes) {
    if let Some(node) = &affinity.node_affinity {
        let at = at.child("nodeAffinity");
        if let Some(required) = &node.required_during_scheduling_ignored_during_execution {
            let at = at.child("requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms");
            if required.node_selector_terms.is_empty() {
                causes.required(&at, "must have at least one node selector term");
            }
            for (index, term) in required.node_selector_terms.iter().enumerate() {
                selects(term, &at.index(index), causes);
            }
        }
        for (index, preferred) in node.preferred_during_scheduling_ignored_during_execution.iter().flatten().enumerate()
        {
            let at = at.child("preferredDuringSchedulingIgnoredDuringExecution").index(index);
            weighs(preferred.weight, &at, causes);
            selects(&preferred.preference, &at.child("preference"), causes);
        }
    }
    let pods = affinity.pod_affinity.as_ref().map(|pods| {
        (
            "podAffinity",
            &pods.required_during_scheduling_ignored_during_execution,
            &pods.preferred_during_scheduling_ignored_during_execution,
        )
    });
    let apart = affinity.pod_anti_affinity.as_ref().map(|pods| {
        (
            "podAntiAffinity",
            &pods.required_during_scheduling_ignored_during_execution,
            &pods.preferred_during_scheduling_ignored_during_execution,
        )
    });
    for (name, required, preferred) in [pods, apart].into_iter().flatten() {
        let at = at.child(name);
        for (index, term) in required.iter().flatten().enumerate() {
            spreads(term, &at.child("requiredDuringSchedulingIgnoredDuringExecution").index(index), causes);
        }
        for (index, term) in preferred.iter().flatten().enumerate() {
            let at = at.child("preferredDuringSchedulingIgnoredDuringExecution").index(index);
            weighs(term.weight, &at, causes);
            spreads(&term.pod_affinity_term, &at.child("podAffinityTerm"), causes);
        }
    }
}

fn weighs(weight: i32, at: &Field, causes: &mut Causes) {
    if !(1..=100).contains(&weight) {
        causes.invalid(&at.child("weight"), format!("{} '{weight}': must be in the range 1-100", at.child("weight")));
    }
}

fn selects(term: &NodeSelectorTerm, at: &Field, causes: &mut Causes) {
    for (name, requirements) in [("matchExpressions", &term.match_expressions), ("matchFields", &term.match_fields)] {
        for (index, requirement) in requirements.iter().flatten().enumerate() {
            let at = at.child(name).index(index);
            for fault in names::qualified_name(&requirement.key) {
                causes.invalid(&at.child("key"), format!("{}: {:?}: {fault}", at.child("key"), requirement.key));
            }
            expects(&requirement.operator, requirement.values.as_deref().unwrap_or_default(), &at, causes);
        }
    }
}

fn expects(operator: &str, values: &[String], at: &Field, causes: &mut Causes) {
    let at = at.child("values");
    match operator {
        "In" | "NotIn" if values.is_empty() => {
            causes.required(&at, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            causes.invalid(&at, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
        }
        "Gt" | "Lt" if values.len() != 1 || values[0].parse::<i64>().is_err() => {
            causes.required(&at, "must be specified as a single integer when `operator` is 'Lt' or 'Gt'");
        }
        known if OPERATORS.contains(&known) => {}
        _ => causes.invalid(
            &at,
            format!(
                "{at}: operator '{operator}' is not a valid selector operator: use one of {}",
                OPERATORS.join(", ")
            ),
        ),
    }
}

fn spreads(term: &PodAffinityTerm, at: &Field, causes: &mut Causes) {
    let at = at.child("topologyKey");
    if term.topology_key.is_empty() {
        causes.required(&at, "can not be empty");
        return;
    }
    for fault in names::qualified_name(&term.topology_key) {
        causes.invalid(&at, format!("{at}: {:?}: {fault}", term.topology_key));
    }
}
