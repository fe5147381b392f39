//! Lists of amounts by resource name: what containers request, what a quota allows.

use std::collections::BTreeMap;

use fv_api::Quantity;
use serde_json::{Value, json};

use crate::schema::quantity;

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// Reads a resource list; what is no quantity is left out.
pub fn read(list: &Value) -> Amounts {
    let entries = list.as_object().into_iter().flatten();
    entries.filter_map(|(name, value)| Some((name.clone(), quantity::of(value)?))).collect()
}

/// A resource list.
pub fn write(amounts: &Amounts) -> Value {
    amounts.iter().map(|(name, amount)| (name.clone(), json!(amount.to_string()))).collect()
}

/// `cpu=1,memory=2Gi`, for messages.
pub(crate) fn words(amounts: &Amounts) -> String {
    amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(",")
}

/// Adds each amount.
pub fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        *to.entry(name.clone()).or_default() += *amount;
    }
}

/// Keeps the larger of each amount.
fn raise(to: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let known = to.entry(name.clone()).or_insert(*amount);
        *known = (*known).max(*amount);
    }
}

/// What a pod takes as a whole, `which` being `requests` or `limits`: its containers together, or more while it initialises.
pub(crate) fn of_pod(pod: &Value, which: &str) -> Amounts {
    let spec = &pod["spec"];
    let of = |value: &Value| read(&value["resources"][which]);
    let list = |field: &str| spec[field].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut total = Amounts::new();
    list("containers").iter().for_each(|container| add(&mut total, &of(container)));
    let (mut sidecars, mut initialising) = (Amounts::new(), Amounts::new());
    for container in list("initContainers") {
        let mut now = sidecars.clone();
        add(&mut now, &of(container));
        if container["restartPolicy"] == "Always" {
            add(&mut total, &of(container));
            sidecars.clone_from(&now);
        }
        raise(&mut initialising, &now);
    }
    raise(&mut total, &initialising);
    // What the pod says of itself counts instead of what its containers say.
    total.extend(of(spec));
    for (name, amount) in read(&spec["overhead"]) {
        match total.get_mut(&name) {
            Some(known) => *known += amount,
            None if which == "requests" => drop(total.insert(name, amount)),
            None => {}
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(cpu: &str) -> Value {
        json!({"resources": {"requests": {"cpu": cpu}}})
    }

    fn cpu(spec: Value) -> String {
        of_pod(&json!({"spec": spec}), "requests")["cpu"].to_string()
    }

    #[test]
    fn containers_add_up_and_initialisation_may_need_more() {
        let two = json!([container("1"), container("500m")]);
        assert_eq!(cpu(json!({"containers": two})), "1500m");
        assert_eq!(cpu(json!({"containers": two, "initContainers": [container("4"), container("1")]})), "4");
        let mut sidecar = container("1");
        sidecar["restartPolicy"] = json!("Always");
        assert_eq!(cpu(json!({"containers": two, "initContainers": [sidecar, container("4")]})), "5");
        assert_eq!(cpu(json!({"containers": two, "initContainers": [sidecar]})), "2500m");
    }

    #[test]
    fn overhead_is_requested_too_and_the_pods_own_amount_counts() {
        assert_eq!(cpu(json!({"containers": [container("1")], "overhead": {"cpu": "1"}})), "2");
        assert_eq!(cpu(json!({"containers": [container("1")], "resources": {"requests": {"cpu": "3"}}})), "3");
        let pod = json!({"spec": {"containers": [container("1")], "overhead": {"cpu": "1"}}});
        assert_eq!(of_pod(&pod, "limits"), Amounts::new());
    }
}
