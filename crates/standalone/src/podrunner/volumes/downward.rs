//! What the downward API tells of a pod: pure, with kubelet's rules and words.

use std::collections::BTreeMap;

use fv_api::Quantity;
use k8s_openapi::api::core::v1::{Container, DownwardAPIVolumeFile, Node, Pod, ResourceFieldSelector};

/// The content of one file.
///
/// # Errors
/// The field does not exist, or is not told.
pub(super) fn value(item: &DownwardAPIVolumeFile, pod: &Pod, node: Option<&Node>) -> Result<String, String> {
    match (&item.field_ref, &item.resource_field_ref) {
        (Some(field), _) => of_field(&field.field_path, pod),
        (None, Some(resource)) => of_resource(resource, pod, node),
        (None, None) => Err(format!("{}: neither fieldRef nor resourceFieldRef is given", item.path)),
    }
}

fn of_field(path: &str, pod: &Pod) -> Result<String, String> {
    let meta = &pod.metadata;
    let subscript = path.strip_suffix("']").and_then(|p| p.split_once("['")).filter(|(map, _)| !map.is_empty());
    if let Some((map, key)) = subscript {
        let map = match map {
            "metadata.annotations" => &meta.annotations,
            "metadata.labels" => &meta.labels,
            _ => return Err(format!("fieldPath {path:?} does not support subscript")),
        };
        return Ok(map.as_ref().and_then(|m| m.get(key)).cloned().unwrap_or_default());
    }
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    match path {
        "metadata.annotations" => Ok(lines(meta.annotations.as_ref())),
        "metadata.labels" => Ok(lines(meta.labels.as_ref())),
        "metadata.name" => Ok(text(&meta.name)),
        "metadata.namespace" => Ok(text(&meta.namespace)),
        "metadata.uid" => Ok(text(&meta.uid)),
        _ => Err(format!("unsupported fieldPath: {path}")),
    }
}

fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map.into_iter().flatten().map(|(key, value)| format!("{key}={}", quoted(value))).collect();
    lines.join("\n")
}

/// A string as Go quotes it.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn of_resource(selector: &ResourceFieldSelector, pod: &Pod, node: Option<&Node>) -> Result<String, String> {
    let name = selector.container_name.as_deref().unwrap_or_default();
    let spec = pod.spec.as_ref();
    let containers = spec.map(|s| s.containers.as_slice()).unwrap_or_default();
    let inits = spec.and_then(|s| s.init_containers.as_deref()).unwrap_or_default();
    let container =
        containers.iter().chain(inits).find(|c| c.name == name).ok_or_else(|| format!("container {name} not found"))?;
    let unsupported = || format!("unsupported container resource : {}", selector.resource);
    let (list, resource) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    if !matches!(resource, "cpu" | "memory" | "ephemeral-storage") && !resource.starts_with("hugepages-") {
        return Err(unsupported());
    }
    let amount = match list {
        "limits" => limit(container, resource).or_else(|| allocatable(node, resource)),
        // The API server makes a request of a limit that has none.
        "requests" => request(container, resource).or_else(|| limit(container, resource)),
        _ => return Err(unsupported()),
    };
    let one = || "1".to_string();
    let divisor = selector.divisor.as_ref().map(|q| q.0.clone()).filter(|d| !is_zero(d)).unwrap_or_else(one);
    let base = |text: &str| {
        let quantity = text.parse::<Quantity>().map_err(|e| e.to_string())?;
        Ok::<i128, String>(if resource == "cpu" { quantity.milli_value() } else { quantity.value() })
    };
    let (amount, divisor) = (base(&amount.unwrap_or_else(|| "0".into()))?, base(&divisor)?.max(1));
    Ok((amount / divisor + i128::from(amount % divisor > 0)).to_string())
}

fn is_zero(quantity: &str) -> bool {
    quantity.parse::<Quantity>().is_ok_and(|q| q.is_zero())
}

fn limit(container: &Container, resource: &str) -> Option<String> {
    container.resources.as_ref()?.limits.as_ref()?.get(resource).map(|q| q.0.clone())
}

fn request(container: &Container, resource: &str) -> Option<String> {
    container.resources.as_ref()?.requests.as_ref()?.get(resource).map(|q| q.0.clone())
}

/// A container without a limit may have the whole node.
fn allocatable(node: Option<&Node>, resource: &str) -> Option<String> {
    node?.status.as_ref()?.allocatable.as_ref()?.get(resource).map(|q| q.0.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn told(item: Value) -> Result<String, String> {
        let pod = json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"b": "2", "a": "1"},
                "annotations": {"note": "say \"x\"\n\t\u{1}ü"}},
            "spec": {"containers": [
                {"name": "c", "resources": {"limits": {"cpu": "1500m", "memory": "100Mi"}, "requests": {"memory": "1"}}},
                {"name": "free"}]}});
        let node = json!({"status": {"allocatable": {"cpu": "4", "memory": "8Gi"}}});
        let mut full = json!({"path": "f"});
        json_patch::merge(&mut full, &item);
        let [pod, node, item] = [pod, node, full];
        let node = serde_json::from_value(node).unwrap();
        value(&serde_json::from_value(item).unwrap(), &serde_json::from_value(pod).unwrap(), Some(&node))
    }

    #[test]
    fn fields_are_told_as_kubelet_tells_them() {
        let cases = [
            ("metadata.name", Ok("p")),
            ("metadata.namespace", Ok("n")),
            ("metadata.uid", Ok("u")),
            ("metadata.labels", Ok("a=\"1\"\nb=\"2\"")),
            ("metadata.annotations", Ok("note=\"say \\\"x\\\"\\n\\t\\x01ü\"")),
            ("metadata.labels['b']", Ok("2")),
            ("metadata.labels['none']", Ok("")),
            ("metadata.annotations['none']", Ok("")),
            ("metadata.name['x']", Err("fieldPath \"metadata.name['x']\" does not support subscript")),
            ("status.podIP", Err("unsupported fieldPath: status.podIP")),
        ];
        for (path, expected) in cases {
            let expected = expected.map(str::to_string).map_err(str::to_string);
            assert_eq!(told(json!({"fieldRef": {"fieldPath": path}})), expected, "{path}");
        }
    }

    #[test]
    fn amounts_are_rounded_up_and_a_missing_limit_is_the_node() {
        let cases = [
            ("c", "limits.cpu", None, Ok("2")),
            ("c", "limits.cpu", Some("1m"), Ok("1500")),
            ("c", "limits.memory", Some("1Mi"), Ok("100")),
            ("c", "limits.memory", Some("3Mi"), Ok("34")),
            ("c", "limits.memory", Some("0"), Ok("104857600")),
            ("c", "requests.memory", None, Ok("1")),
            ("c", "requests.cpu", None, Ok("2")),
            ("free", "limits.cpu", None, Ok("4")),
            ("free", "requests.cpu", None, Ok("0")),
            ("c", "limits.gpu", None, Err("unsupported container resource : limits.gpu")),
            ("nobody", "limits.cpu", None, Err("container nobody not found")),
        ];
        for (container, resource, divisor, expected) in cases {
            let mut selector = json!({"containerName": container, "resource": resource});
            if let Some(divisor) = divisor {
                selector["divisor"] = divisor.into();
            }
            let expected = expected.map(str::to_string).map_err(str::to_string);
            assert_eq!(told(json!({"resourceFieldRef": selector})), expected, "{container} {resource} {divisor:?}");
        }
    }
}
