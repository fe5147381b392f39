//! From a definition to the resource it describes.

use std::cmp::Ordering;
use std::sync::Arc;

use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use crate::meta::MetaExt as _;
use crate::registry::builtin::{CUSTOM_VERBS, VIEW_VERBS};
use crate::registry::{Origin, PrinterColumn, Resource, ScalePaths, Scope, Subresource, Version, group_version};
use crate::schema::Structural;

/// The resource of an accepted definition that was written at this revision.
pub(super) fn from_definition(definition: &Value, revision: u64) -> Result<Resource, String> {
    let spec = definition.get("spec").ok_or("spec is missing")?;
    let group = text(spec, "group")?;
    let names = spec.get("names").ok_or("spec.names is missing")?;
    let (plural, kind) = (text(names, "plural")?, text(names, "kind")?);
    let mut versions = Vec::new();
    let mut storage_version = None;
    for entry in spec.get("versions").and_then(Value::as_array).into_iter().flatten() {
        let version = version(entry, &group, &kind, &versions)?;
        if entry["storage"] == true {
            storage_version = Some(version.name.clone());
        }
        versions.push(version);
    }
    versions.sort_by(|a, b| version_order(&a.name, &b.name));
    recommend(&group, &kind, spec, &mut versions);
    let or = |key: &str, default: String| match names.get(key).and_then(Value::as_str) {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => default,
    };
    Ok(Resource {
        storage: format!("{group}/{plural}").into(),
        singular: or("singular", kind.to_lowercase()),
        list_kind: or("listKind", format!("{kind}List")),
        short_names: strings(names.get("shortNames")),
        categories: strings(names.get("categories")),
        scope: if text(spec, "scope")? == "Namespaced" { Scope::Namespaced } else { Scope::Cluster },
        origin: Origin::Crd(definition.meta_str("name").to_owned()),
        storage_version: storage_version.ok_or("no version is the storage version")?,
        versions,
        verbs: CUSTOM_VERBS,
        since: revision,
        terminating: definition.deleting(),
        group,
        plural,
        kind,
    })
}

/// Tells users of deprecated versions which one to use, as long as the definition does not word the warning itself.
fn recommend(group: &str, kind: &str, spec: &Value, versions: &mut [Version]) {
    let Some(best) = versions.iter().find(|v| v.served && v.deprecation_warning.is_none()).map(|v| v.name.clone())
    else {
        return;
    };
    for entry in spec.get("versions").and_then(Value::as_array).into_iter().flatten() {
        let own = entry.get("deprecationWarning").is_some_and(|w| !w.is_null());
        let name = entry["name"].as_str().unwrap_or_default();
        if own || version_order(&best, name).is_gt() {
            continue;
        }
        if let Some(warning) = versions.iter_mut().find(|v| v.name == name).and_then(|v| v.deprecation_warning.as_mut())
        {
            warning.push_str(&format!("; use {} {kind}", group_version(group, &best)));
        }
    }
}

fn version(entry: &Value, group: &str, kind: &str, others: &[Version]) -> Result<Version, String> {
    let name = text(entry, "name")?;
    let schema = entry.pointer("/schema/openAPIV3Schema");
    let text_of: Option<Arc<str>> = schema.map(|schema| schema.to_string().into());
    // Versions with the same schema, the usual case, share it.
    let twin = others.iter().find(|other| other.schema == text_of);
    let (text_of, structural) = match (schema, twin) {
        (_, Some(twin)) => (twin.schema.clone(), twin.structural.clone().unwrap_or_else(Structural::anything)),
        (Some(schema), None) => {
            (text_of, Structural::parse(schema).map_err(|e| format!("schema of version {name}: {e}"))?)
        }
        (None, None) => (None, Structural::anything()),
    };
    let deprecation_warning = (entry["deprecated"] == true).then(|| {
        let own = entry.get("deprecationWarning").and_then(Value::as_str);
        own.map_or_else(|| format!("{} {kind} is deprecated", group_version(group, &name)), str::to_owned)
    });
    let mut subresources = Vec::new();
    let declared = |name: &str| entry.get("subresources").and_then(|s| s.get(name)).filter(|v| v.is_object());
    if declared("status").is_some() {
        subresources.push(subresource("status", kind, None));
    }
    let scale = declared("scale").map(|scale| {
        let path = |key: &str| scale.get(key).and_then(Value::as_str).unwrap_or_default().trim_start_matches('.');
        let selector = path("labelSelectorPath");
        ScalePaths {
            spec_replicas: path("specReplicasPath").to_owned(),
            status_replicas: path("statusReplicasPath").to_owned(),
            label_selector: (!selector.is_empty()).then(|| selector.to_owned()),
        }
    });
    if scale.is_some() {
        subresources.push(subresource("scale", "Scale", Some(("autoscaling".into(), "v1".into()))));
    }
    let columns = entry.get("additionalPrinterColumns").and_then(Value::as_array);
    let selectable = entry.get("selectableFields").and_then(Value::as_array);
    Ok(Version {
        served: entry["served"] == true,
        deprecation_warning,
        schema: text_of,
        structural: Some(structural),
        subresources,
        columns: columns.into_iter().flatten().filter_map(Value::as_object).map(column).collect(),
        selectable_fields: selectable
            .into_iter()
            .flatten()
            .filter_map(|f| f.get("jsonPath")?.as_str())
            .map(|path| path.trim_start_matches('.').to_owned())
            .collect(),
        scale,
        withdrawn: CancellationToken::new(),
        name,
    })
}

fn subresource(name: &str, kind: &str, group_version: Option<(String, String)>) -> Subresource {
    Subresource { name: name.into(), kind: kind.into(), group_version, verbs: VIEW_VERBS }
}

fn column(entry: &Map<String, Value>) -> PrinterColumn {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    PrinterColumn {
        name: text("name"),
        column_type: text("type"),
        format: text("format"),
        description: text("description"),
        priority: entry.get("priority").and_then(Value::as_i64).unwrap_or(0),
        json_path: text("jsonPath"),
    }
}

fn text(value: &Value, key: &str) -> Result<String, String> {
    let text = value.get(key).and_then(Value::as_str).filter(|t| !t.is_empty());
    text.map(str::to_owned).ok_or_else(|| format!("{key} is missing"))
}

fn strings(list: Option<&Value>) -> Vec<String> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

/// Kubernetes' order of versions: stable before beta before alpha, higher numbers first, other names last by alphabet.
fn version_order(a: &str, b: &str) -> Ordering {
    match (rank(a), rank(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// (stability, major, minor) of `v1`, `v2beta3`.
fn rank(version: &str) -> Option<(u8, u64, u64)> {
    let rest = version.strip_prefix('v')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let major = rest[..digits].parse().ok()?;
    let (stability, minor) = match &rest[digits..] {
        "" => return Some((2, major, 0)),
        tail => match (tail.strip_prefix("beta"), tail.strip_prefix("alpha")) {
            (Some(minor), _) => (1, minor),
            (_, Some(minor)) => (0, minor),
            _ => return None,
        },
    };
    Some((stability, major, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_kubernetes_does() {
        let mut versions = ["foo1", "v1alpha3", "v1", "v10", "v2beta1", "v2", "v11alpha2", "bar", "v2beta10"];
        versions.sort_by(|a, b| version_order(a, b));
        assert_eq!(versions, ["v10", "v2", "v1", "v2beta10", "v2beta1", "v11alpha2", "v1alpha3", "bar", "foo1"]);
    }
}
