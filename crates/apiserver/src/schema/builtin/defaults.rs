//! Defaults of built-in kinds which are not in their schemas.

use serde_json::{Map, Value, json};

/// Completes an object of a built-in kind before it is validated and stored.
pub fn complete(group: &str, kind: &str, object: &mut Value) {
    match (group, kind) {
        ("", "Pod") => at(object, &["spec"], pod),
        ("", "Secret") => secret(object),
        ("", "ResourceQuota") | ("policy", "PodDisruptionBudget") => at(object, &[], |map| put(map, "spec", json!({}))),
        ("", "LimitRange") => at(object, &["spec"], |spec| each(spec, "limits").for_each(limit)),
        ("scheduling.k8s.io", "PriorityClass") => at(object, &[], |class| {
            put(class, "value", json!(0));
            put(class, "preemptionPolicy", json!("PreemptLowerPriority"));
        }),
        ("", "PersistentVolumeClaim") => at(object, &["spec"], |spec| put(spec, "volumeMode", json!("Filesystem"))),
        ("", "PersistentVolume") => at(object, &["spec"], volume_spec),
        ("storage.k8s.io", "StorageClass") => at(object, &[], |class| {
            put(class, "reclaimPolicy", json!("Delete"));
            put(class, "volumeBindingMode", json!("Immediate"));
        }),
        ("" | "events.k8s.io", "Event") => microseconds(object, &["/eventTime", "/series/lastObservedTime"]),
        ("coordination.k8s.io", "Lease") => microseconds(object, &["/spec/acquireTime", "/spec/renewTime"]),
        ("", "Namespace") => namespace(object),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => crate::schema::crd::complete(object),
        _ => {}
    }
}

/// Completes the map at a path, if it is there.
fn at(object: &mut Value, path: &[&str], complete: impl FnOnce(&mut Map<String, Value>)) {
    let found = path.iter().try_fold(object, |value, step| value.get_mut(step));
    if let Some(map) = found.and_then(Value::as_object_mut) {
        complete(map);
    }
}

/// Every namespace can be selected by its name.
fn namespace(object: &mut Value) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let Some(name) = metadata.get("name").filter(|name| name.as_str().is_some_and(|name| !name.is_empty())).cloned()
    else {
        return;
    };
    put(metadata, "labels", json!({}));
    if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
        labels.insert("kubernetes.io/metadata.name".into(), name);
    }
}

/// Writes these times with all six digits of their microseconds: Go's clients read no others, and one they cannot read keeps them from
/// reading the whole list.
fn microseconds(object: &mut Value, pointers: &[&str]) {
    for pointer in pointers {
        if let Some(place) = object.pointer_mut(pointer)
            && let Some(time) = place.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok())
        {
            *place = json!(time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string());
        }
    }
}

fn put(map: &mut Map<String, Value>, key: &str, value: Value) {
    if map.get(key).is_none_or(Value::is_null) {
        map.insert(key.to_owned(), value);
    }
}

fn each<'v>(map: &'v mut Map<String, Value>, key: &str) -> impl Iterator<Item = &'v mut Map<String, Value>> {
    map.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

fn pod(spec: &mut Map<String, Value>) {
    put(spec, "restartPolicy", json!("Always"));
    put(spec, "dnsPolicy", json!("ClusterFirst"));
    put(spec, "schedulerName", json!("default-scheduler"));
    put(spec, "terminationGracePeriodSeconds", json!(30));
    if spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64).is_some_and(|s| s < 0) {
        spec.insert("terminationGracePeriodSeconds".into(), json!(1));
    }
    put(spec, "enableServiceLinks", json!(true));
    put(spec, "securityContext", json!({}));
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        each(spec, list).for_each(container);
    }
    each(spec, "volumes").for_each(volume);
}

fn container(container: &mut Map<String, Value>) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default().to_owned();
    put(container, "imagePullPolicy", json!(if latest(&image) { "Always" } else { "IfNotPresent" }));
    put(container, "terminationMessagePath", json!("/dev/termination-log"));
    put(container, "terminationMessagePolicy", json!("File"));
    put(container, "resources", json!({}));
    if let Some(resources) = container.get_mut("resources").and_then(Value::as_object_mut)
        && let Some(Value::Object(limits)) = resources.get("limits").cloned()
    {
        // What is limited and not requested is requested as much.
        put(resources, "requests", json!({}));
        if let Some(requests) = resources.get_mut("requests").and_then(Value::as_object_mut) {
            for (name, value) in limits {
                put(requests, &name, value);
            }
        }
    }
    each(container, "ports").for_each(|port| put(port, "protocol", json!("TCP")));
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe).and_then(Value::as_object_mut) {
            put(probe, "timeoutSeconds", json!(1));
            put(probe, "periodSeconds", json!(10));
            put(probe, "successThreshold", json!(1));
            put(probe, "failureThreshold", json!(3));
            if let Some(get) = probe.get_mut("httpGet").and_then(Value::as_object_mut) {
                put(get, "path", json!("/"));
                put(get, "scheme", json!("HTTP"));
            }
        }
    }
    each(container, "env").for_each(|env| {
        let field = env.get_mut("valueFrom").and_then(|v| v.get_mut("fieldRef")).and_then(Value::as_object_mut);
        if let Some(field) = field {
            put(field, "apiVersion", json!("v1"));
        }
    });
}

fn volume(volume: &mut Map<String, Value>) {
    if volume.len() <= 1 {
        put(volume, "emptyDir", json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.get_mut(source).and_then(Value::as_object_mut) {
            for item in each(source, "items") {
                if let Some(field) = item.get_mut("fieldRef").and_then(Value::as_object_mut) {
                    put(field, "apiVersion", json!("v1"));
                }
            }
            put(source, "defaultMode", json!(0o644));
        }
    }
    if let Some(host) = volume.get_mut("hostPath").and_then(Value::as_object_mut) {
        put(host, "type", json!(""));
    }
}

/// What containers may have at most or must have at least is also what they get.
fn limit(limit: &mut Map<String, Value>) {
    if limit.get("type").is_none_or(|kind| kind != "Container") {
        return;
    }
    for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
        let Some(bounds) = limit.get(from).and_then(Value::as_object).cloned() else { continue };
        put(limit, to, json!({}));
        if let Some(defaults) = limit.get_mut(to).and_then(Value::as_object_mut) {
            bounds.into_iter().for_each(|(name, bound)| put(defaults, &name, bound));
        }
    }
}

fn volume_spec(spec: &mut Map<String, Value>) {
    put(spec, "persistentVolumeReclaimPolicy", json!("Retain"));
    put(spec, "volumeMode", json!("Filesystem"));
    if let Some(host) = spec.get_mut("hostPath").and_then(Value::as_object_mut) {
        put(host, "type", json!(""));
    }
}

/// Whether an image reference has no tag, or the tag `latest`, and no digest.
fn latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    match last.split_once(':') {
        None => true,
        Some((_, tag)) => tag == "latest",
    }
}

fn secret(object: &mut Value) {
    let Some(map) = object.as_object_mut() else { return };
    // stringData is write-only: it overrides data and is not stored.
    if let Some(Value::Object(texts)) = map.shift_remove("stringData") {
        use base64::Engine as _;
        put(map, "data", json!({}));
        if let Some(data) = map.get_mut("data").and_then(Value::as_object_mut) {
            for (key, value) in texts {
                let text = value.as_str().unwrap_or_default();
                data.insert(key, Value::from(base64::engine::general_purpose::STANDARD.encode(text)));
            }
        }
    }
    put(map, "type", json!("Opaque"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_microseconds_have_six_digits() {
        for (given, kept) in [
            ("2026-11-29T09:10:15.97365Z", "2026-11-29T09:10:15.973650Z"),
            ("2026-11-29T10:10:15+01:00", "2026-11-29T09:10:15.000000Z"),
            ("2026-11-29T09:10:15.123456789Z", "2026-11-29T09:10:15.123456Z"),
            ("no time", "no time"),
        ] {
            let mut lease = json!({"spec": {"renewTime": given}});
            complete("coordination.k8s.io", "Lease", &mut lease);
            assert_eq!(lease, json!({"spec": {"renewTime": kept}}));
            let mut event = json!({"eventTime": given, "series": {"lastObservedTime": given}});
            complete("events.k8s.io", "Event", &mut event);
            assert_eq!(event, json!({"eventTime": kept, "series": {"lastObservedTime": kept}}));
        }
    }
}
