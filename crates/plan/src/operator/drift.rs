//! Is an object as it should be? What others added to it counts where it means rights or where traffic goes; what the API server fills
//! in does not.

use fv_render::install::ObjectId;
use serde_json::Value;

use super::objects::Live;

/// Kinds whose generation nobody counts: an addition to what we wrote would not be noticed by it.
const UNCOUNTED: [&str; 7] =
    ["ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "Service", "APIService"];
/// Where aggregated roles of the cluster look for what they take in.
const AGGREGATION: &str = "rbac.authorization.k8s.io/aggregate-to-";
/// Labels that are given with some settings of the resource.
const OPTIONAL: [&str; 2] = ["app.kubernetes.io/part-of", fv_api::meta::labels::VERSION];

/// Whether the live object is as wanted. What was added beside it is found by the generation of kinds that have one, and by
/// comparison of the others.
pub(super) fn is_as_wanted(live: &Live, wanted: &Value, written: Option<i64>) -> bool {
    let is_untouched = match (live.generation(), written) {
        (Some(generation), Some(written)) => generation == written,
        (Some(_), None) => false,
        (None, _) => !is_added_to(&live.value, wanted),
    };
    is_untouched && contains(&live.value, wanted) && !has_unwanted_label(&live.value, wanted)
}

/// Whether the object must be made anew to become as wanted: what a binding gives cannot be changed.
pub(super) fn must_be_made_anew(live: &Value, wanted: &Value) -> bool {
    wanted.get("roleRef").is_some_and(|role| !live.get("roleRef").is_some_and(|live| contains(live, role)))
}

/// Whether a label is one of ours that is no longer wanted. Those of others are kept, unless they lend rights.
pub(super) fn is_unwanted_label(key: &str, wanted: &Value) -> bool {
    (key.starts_with(AGGREGATION) || OPTIONAL.contains(&key)) && wanted["metadata"]["labels"].get(key).is_none()
}

fn has_unwanted_label(live: &Value, wanted: &Value) -> bool {
    let labels = live["metadata"]["labels"].as_object();
    labels.into_iter().flatten().any(|(key, _)| is_unwanted_label(key, wanted))
}

/// Whether an object whose changes nobody counts has something that is neither wanted nor filled in by the API server.
fn is_added_to(live: &Value, wanted: &Value) -> bool {
    let kind = ObjectId::of(wanted).kind;
    if !UNCOUNTED.contains(&kind.as_str()) {
        return false;
    }
    let mut live = live.clone();
    for key in ["apiVersion", "kind", "metadata", "status"] {
        remove(&mut live, key);
    }
    match kind.as_str() {
        // A token controller may have added to it.
        "ServiceAccount" => ["secrets", "imagePullSecrets"].iter().for_each(|key| remove(&mut live, key)),
        "Service" => {
            let spec = &mut live["spec"];
            ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"].iter().for_each(|key| remove(spec, key));
            for (key, default) in [("sessionAffinity", "None"), ("internalTrafficPolicy", "Cluster")] {
                if spec[key] == default {
                    remove(spec, key);
                }
            }
        }
        _ => {}
    }
    !contains(wanted, &live)
}

fn remove(value: &mut Value, key: &str) {
    if let Some(fields) = value.as_object_mut() {
        fields.shift_remove(key);
    }
}

/// Whether `whole` has all of `part`; lists must be as long.
pub(super) fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part.iter().all(|(key, value)| match whole.get(key) {
            Some(found) => contains(found, value),
            None => is_nothing(value),
        }),
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(whole, part)| contains(whole, part))
        }
        _ => whole == part,
    }
}

/// What the API server leaves out when it stores an object.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}
