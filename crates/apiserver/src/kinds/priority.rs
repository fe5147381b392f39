//! Priority classes: the two every cluster has, the default, and what they make of pods (the admission plugin Priority).

use serde_json::{Value, json};

use super::stored;
use crate::meta::{MetaExt as _, object_mut};
use crate::schema::builtin::SYSTEM_PRIORITIES;
use crate::server::Core;
use crate::status::Status;

/// Where no class says anything.
const PREEMPT: &str = "PreemptLowerPriority";

/// The classes every cluster has.
pub(super) fn standard() -> impl Iterator<Item = Value> {
    SYSTEM_PRIORITIES.iter().map(|(name, value, description)| {
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value,
            "description": description})
    })
}

pub(super) fn check_delete(name: &str) -> Result<(), Status> {
    if SYSTEM_PRIORITIES.iter().any(|(known, ..)| *known == name) {
        let why = "this is a system priority class and cannot be deleted";
        return Err(Status::forbidden("scheduling.k8s.io", "priorityclasses", name, why));
    }
    Ok(())
}

/// Why there may not be another default.
pub(super) fn check_default(core: &Core, class: &Value, updates: bool) -> Option<String> {
    if class["globalDefault"] != true {
        return None;
    }
    let name = default_class(core)?.meta_str("name").to_owned();
    let same = updates && name == class.meta_str("name");
    (!same).then(|| format!("PriorityClass {name} is already marked as default. Only one default can exist"))
}

/// The default of least value: races may have made several.
fn default_class(core: &Core) -> Option<Value> {
    let classes = stored(core, "scheduling.k8s.io", "priorityclasses", "");
    let defaults = classes.into_iter().filter(|class| class["globalDefault"] == true);
    defaults.min_by_key(|class| class["value"].as_i64())
}

/// Gives a new pod the priority of its class.
pub(super) fn admit_pod(core: &Core, pod: &mut Value) -> Result<(), String> {
    let spec = object_mut(object_mut(pod).entry("spec").or_insert(Value::Null));
    let named = spec.get("priorityClassName").and_then(Value::as_str).unwrap_or_default().to_owned();
    let class = match named.as_str() {
        "" => default_class(core),
        name => {
            let classes = stored(core, "scheduling.k8s.io", "priorityclasses", "");
            let found = classes.into_iter().find(|class| class.meta_str("name") == name);
            Some(found.ok_or_else(|| format!("no PriorityClass with name {name} was found"))?)
        }
    };
    let (value, policy) = match &class {
        Some(class) => {
            spec.insert("priorityClassName".into(), json!(class.meta_str("name")));
            (class["value"].as_i64().unwrap_or_default(), class["preemptionPolicy"].as_str().unwrap_or(PREEMPT))
        }
        None => (0, PREEMPT),
    };
    if let Some(given) = spec.get("priority").and_then(Value::as_i64).filter(|given| *given != value) {
        return Err(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed \
             {value} from the given PriorityClass name"
        ));
    }
    if let Some(given) = spec.get("preemptionPolicy").and_then(Value::as_str).filter(|given| *given != policy) {
        return Err(format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller \
             computed {policy} from the given PriorityClass name"
        ));
    }
    spec.insert("priority".into(), json!(value));
    spec.insert("preemptionPolicy".into(), json!(policy));
    Ok(())
}

/// An update that leaves the priority out does not mean to change it.
pub(super) fn keep(pod: &mut Value, old: &Value) {
    for field in ["priority", "preemptionPolicy"] {
        if let (Some(spec), Some(before)) = (pod.get_mut("spec"), old["spec"].get(field))
            && spec.get(field).is_none()
        {
            object_mut(spec).insert(field.into(), before.clone());
        }
    }
}
