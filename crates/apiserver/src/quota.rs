//! What objects count for in a ResourceQuota. Pure: admission charges by it, the quota controller counts afresh by it.

use fv_api::Quantity;
use jiff::Timestamp;
use serde_json::Value;

use crate::amounts::{self, Amounts};
use crate::kinds::storage::class_of;

const CLAIM: &str = "persistentvolumeclaims";
/// Kinds whose number may be limited by their plain name.
const COUNTED: [&str; 3] = ["configmaps", "resourcequotas", "secrets"];
/// Compute resources a quota knows by their plain name and after `requests.` and `limits.`.
const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// What every container must state when a quota limits it.
const STATED: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

/// What an object of a resource counts for.
pub fn usage(group: &str, plural: &str, object: &Value, now: Timestamp) -> Amounts {
    let one = Quantity::from_units(1);
    let mut used = Amounts::from([(count_name(group, plural), one)]);
    match (group, plural) {
        ("", "pods") if runs(object, now) => {
            used.extend(compute(&amounts::of_pod(object, "requests"), &amounts::of_pod(object, "limits")));
        }
        ("", CLAIM) => {
            let class = Some(class_of(object)).filter(|class| !class.is_empty());
            let of_class = |what: &str| class.map(|class| format!("{class}.storageclass.storage.k8s.io/{what}"));
            used.insert(CLAIM.into(), one);
            used.extend(of_class(CLAIM).map(|name| (name, one)));
            if let Some(size) = amounts::read(&object["spec"]["resources"]["requests"]).get("storage") {
                used.insert("requests.storage".into(), *size);
                used.extend(of_class("requests.storage").map(|name| (name, *size)));
            }
        }
        ("", plural) if COUNTED.contains(&plural) => drop(used.insert(plural.into(), one)),
        _ => {}
    }
    used
}

/// `count/pods`, `count/widgets.example.com`.
fn count_name(group: &str, plural: &str) -> String {
    if group.is_empty() { format!("count/{plural}") } else { format!("count/{plural}.{group}") }
}

/// Requests and limits under the names a quota has for them.
fn compute(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut used = Amounts::from([("pods".to_owned(), Quantity::from_units(1))]);
    for (name, amount) in requests {
        let known = COMPUTE.contains(&name.as_str()) || name.starts_with("hugepages-");
        if known {
            used.insert(name.clone(), *amount);
        }
        if known || name.contains('/') {
            used.insert(format!("requests.{name}"), *amount);
        }
    }
    for (name, amount) in limits.iter().filter(|(name, _)| COMPUTE.contains(&name.as_str())) {
        used.insert(format!("limits.{name}"), *amount);
    }
    used
}

/// A pod counts until it has ended, or should have.
fn runs(pod: &Value, now: Timestamp) -> bool {
    if matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) {
        return false;
    }
    // The time of a deletion is when its grace period ends.
    let ends = pod["metadata"]["deletionTimestamp"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
    ends.is_none_or(|ends| now <= ends)
}

/// The names of a quota that concern a resource.
pub fn concerns(group: &str, plural: &str, name: &str) -> bool {
    name == count_name(group, plural)
        || match (group, plural) {
            ("", "pods") => {
                let bare = name.strip_prefix("requests.").or_else(|| name.strip_prefix("limits.")).unwrap_or(name);
                name == "pods"
                    || COMPUTE.contains(&bare)
                    || bare.starts_with("hugepages-")
                    || (name.starts_with("requests.") && name.contains('/'))
            }
            ("", CLAIM) => {
                let bare = name.split_once(".storageclass.storage.k8s.io/").map_or(name, |(_, bare)| bare);
                matches!(bare, CLAIM | "requests.storage")
            }
            ("", plural) => COUNTED.contains(&plural) && name == plural,
            _ => false,
        }
}

/// Whether an object is in a quota's scopes.
pub fn in_scope(spec: &Value, plural: &str, object: &Value) -> bool {
    let list = |value: &'_ Value| value.as_array().cloned().unwrap_or_default();
    let plain = list(&spec["scopes"]).into_iter().map(|scope| (scope, Value::Null));
    let selected = list(&spec["scopeSelector"]["matchExpressions"]).into_iter().map(|e| (e["scopeName"].clone(), e));
    let mut all = plain.chain(selected);
    all.all(|(scope, expression)| {
        plural == "pods" && pod_in_scope(scope.as_str().unwrap_or_default(), &expression, object)
    })
}

fn pod_in_scope(scope: &str, expression: &Value, pod: &Value) -> bool {
    let ends = || pod["spec"]["activeDeadlineSeconds"].as_i64().is_some_and(|seconds| seconds >= 0);
    let best_effort = || pod["status"]["qosClass"] == "BestEffort";
    match scope {
        "Terminating" => ends(),
        "NotTerminating" => !ends(),
        "BestEffort" => best_effort(),
        "NotBestEffort" => !best_effort(),
        "PriorityClass" => {
            let class = pod["spec"]["priorityClassName"].as_str().unwrap_or_default();
            let listed =
                expression["values"].as_array().is_some_and(|values| values.iter().any(|value| value == class));
            match expression["operator"].as_str().unwrap_or("Exists") {
                "In" => listed,
                "NotIn" => !listed,
                "DoesNotExist" => class.is_empty(),
                _ => !class.is_empty(),
            }
        }
        "CrossNamespacePodAffinity" => crosses_namespaces(&pod["spec"]["affinity"]),
        _ => false,
    }
}

/// Whether a term of an affinity names other namespaces.
fn crosses_namespaces(affinity: &Value) -> bool {
    let terms = ["podAffinity", "podAntiAffinity"].iter().flat_map(|kind| {
        let list = |field: &str| affinity[kind][field].as_array().cloned().unwrap_or_default();
        let preferred = list("preferredDuringSchedulingIgnoredDuringExecution");
        let required = list("requiredDuringSchedulingIgnoredDuringExecution");
        required.into_iter().chain(preferred.into_iter().map(|weighted| weighted["podAffinityTerm"].clone()))
    });
    let elsewhere = |namespaces: &Value| namespaces.as_array().is_some_and(|list| !list.is_empty());
    terms.into_iter().any(|term| elsewhere(&term["namespaces"]) || !term["namespaceSelector"].is_null())
}

/// What a pod's containers leave open although one of these names limits it: `must specify …`.
pub(crate) fn unstated<'n>(pod: &Value, names: impl Iterator<Item = &'n String>) -> Option<String> {
    let spec = &pod["spec"];
    if !spec["resources"].is_null() {
        return None;
    }
    let containers = |field: &str| spec[field].as_array().into_iter().flatten();
    let mut missing: std::collections::BTreeMap<&str, std::collections::BTreeSet<&str>> = Default::default();
    for name in names.filter(|name| STATED.contains(&name.as_str())) {
        for container in containers("containers").chain(containers("initContainers")) {
            let resources = &container["resources"];
            let stated = compute(&amounts::read(&resources["requests"]), &amounts::read(&resources["limits"]));
            if !stated.contains_key(name) {
                missing.entry(name).or_default().insert(container["name"].as_str().unwrap_or_default());
            }
        }
    }
    let word = |(name, containers): (&&str, &std::collections::BTreeSet<&str>)| {
        format!("{name} for: {}", containers.iter().copied().collect::<Vec<_>>().join(","))
    };
    let words: Vec<String> = missing.iter().map(word).collect();
    (!words.is_empty()).then(|| format!("must specify {}", words.join("; ")))
}

/// A quota with what one more object makes of its usage.
pub(crate) enum Charge {
    /// The quota has nothing to say.
    Nothing,
    /// The new `status.used`.
    Used(Amounts),
}

/// Charges an object to a quota; the error is why it may not be.
pub(crate) fn charge(
    quota: &Value,
    (group, plural): (&str, &str),
    object: &Value,
    old: Option<&Value>,
    now: Timestamp,
) -> Result<Charge, String> {
    let name = quota["metadata"]["name"].as_str().unwrap_or_default();
    let hard = amounts::read(&quota["status"]["hard"]);
    let limited: Vec<&String> = hard.keys().filter(|name| concerns(group, plural, name)).collect();
    if limited.is_empty() || !in_scope(&quota["spec"], plural, object) {
        return Ok(Charge::Nothing);
    }
    if plural == "pods"
        && let Some(why) = unstated(object, limited.iter().copied())
    {
        return Err(format!("failed quota: {name}: {why}"));
    }
    let used = amounts::read(&quota["status"]["used"]);
    if limited.iter().any(|name| !used.contains_key(*name)) {
        let names: Vec<&str> = limited.iter().map(|name| name.as_str()).collect();
        return Err(format!("status unknown for quota: {name}, resources: {}", names.join(",")));
    }
    let mut delta = usage(group, plural, object, now);
    let negative: Vec<&str> = delta.iter().filter(|(_, v)| v.is_negative()).map(|(name, _)| name.as_str()).collect();
    if !negative.is_empty() {
        return Err(format!("quota usage is negative for resource(s): {}", negative.join(",")));
    }
    if let Some(old) = old.filter(|old| in_scope(&quota["spec"], plural, old)) {
        for (name, before) in usage(group, plural, old, now) {
            let known = delta.entry(name).or_default();
            *known = (*known - before).max(Quantity::ZERO);
        }
    }
    delta.retain(|name, amount| hard.contains_key(name) && !amount.is_zero());
    if delta.is_empty() {
        return Ok(Charge::Nothing);
    }
    let mut total = used.clone();
    amounts::add(&mut total, &delta);
    let exceeded = |name: &String| delta.contains_key(name) && total[name] > hard[name];
    let only = |all: &Amounts| -> Amounts {
        all.iter().filter(|(name, _)| exceeded(name)).map(|(name, amount)| (name.clone(), *amount)).collect()
    };
    if delta.keys().any(exceeded) {
        let words = |all: &Amounts| amounts::words(&only(all));
        let (requested, used, limit) = (words(&delta), words(&used), words(&hard));
        return Err(format!("exceeded quota: {name}, requested: {requested}, used: {used}, limited: {limit}"));
    }
    Ok(Charge::Used(total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(cpu: &str) -> Value {
        json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
    }

    fn quota(hard: Value, used: Value) -> Value {
        json!({"metadata": {"name": "q"}, "spec": {}, "status": {"hard": hard, "used": used}})
    }

    fn refusal(quota: &Value, object: &Value) -> Option<String> {
        charge(quota, ("", "pods"), object, None, Timestamp::UNIX_EPOCH).err()
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_sums() {
        let quota = quota(json!({"pods": "2", "requests.cpu": "1"}), json!({"pods": "1", "requests.cpu": "800m"}));
        assert_eq!(refusal(&quota, &pod("200m")), None);
        let expected =
            "exceeded quota: q, requested: requests.cpu=300m, used: requests.cpu=800m, limited: requests.cpu=1";
        assert_eq!(refusal(&quota, &pod("300m")).as_deref(), Some(expected));
    }

    #[test]
    fn limited_amounts_must_be_stated_and_counted() {
        let unstated = json!({"spec": {"containers": [{"name": "b"}, {"name": "a"}]}});
        let limited = quota(json!({"limits.memory": "1"}), json!({"limits.memory": "0"}));
        let expected = "failed quota: q: must specify limits.memory for: a,b";
        assert_eq!(refusal(&limited, &unstated).as_deref(), Some(expected));
        let expected = "status unknown for quota: q, resources: pods";
        assert_eq!(refusal(&quota(json!({"pods": "1"}), json!({})), &unstated).as_deref(), Some(expected));
    }

    #[test]
    fn ended_pods_are_objects_and_nothing_else() {
        let mut ended = pod("1");
        ended["status"] = json!({"phase": "Failed"});
        let used = usage("", "pods", &ended, Timestamp::UNIX_EPOCH);
        assert_eq!(used.keys().collect::<Vec<_>>(), ["count/pods"]);
        assert!(usage("", "pods", &pod("1"), Timestamp::UNIX_EPOCH).contains_key("pods"));
    }

    #[test]
    fn claims_count_by_class() {
        let claim = json!({"spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}}});
        let used = usage("", CLAIM, &claim, Timestamp::UNIX_EPOCH);
        assert_eq!(used["requests.storage"].to_string(), "1Gi");
        assert_eq!(used["fast.storageclass.storage.k8s.io/requests.storage"].to_string(), "1Gi");
        assert!(concerns("", CLAIM, "fast.storageclass.storage.k8s.io/persistentvolumeclaims"));
    }

    #[test]
    fn scopes_choose_pods() {
        let spec = json!({"scopes": ["NotTerminating"]});
        assert!(in_scope(&spec, "pods", &pod("1")));
        assert!(!in_scope(&spec, "pods", &json!({"spec": {"activeDeadlineSeconds": 1}})));
        assert!(!in_scope(&spec, "configmaps", &json!({})));
        let spec = json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}});
        assert!(in_scope(&spec, "pods", &json!({"spec": {"priorityClassName": "high"}})));
        assert!(!in_scope(&spec, "pods", &pod("1")));
    }
}
