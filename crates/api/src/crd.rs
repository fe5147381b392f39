//! The CustomResourceDefinitions of the kinds we serve, generated from the Rust types.
//!
//! Schemas are structural and the same for every version of a kind, as upstream's. Descriptions are the doc comments of our
//! types (`crd/descriptions.rs`). What the types cannot say (defaults, enumerations, map keys of lists, nullable fields) is in
//! `crd/marks.rs`.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, CustomResourceDefinitionNames,
    CustomResourceDefinitionSpec, CustomResourceDefinitionVersion, CustomResourceSubresourceStatus,
    CustomResourceSubresources, CustomResourceValidation, JSONSchemaProps,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::CustomResourceExt;
use schemars::JsonSchema;
use serde_json::Value;

use crate::{KubeVirt, VirtualMachine, VirtualMachineInstance};

mod descriptions;
mod marks;
#[cfg(test)]
mod tests;

/// API group of the kinds below.
pub const GROUP: &str = "kubevirt.io";

/// A CRD that could not be built from its type. A test builds them all, so it never happens in a release.
#[derive(Debug, thiserror::Error)]
pub enum CrdError {
    #[error("the schema of kind {kind} is not a CRD schema")]
    Schema {
        kind: &'static str,
        #[source]
        source: serde_json::Error,
    },
    #[error("the schema of kind {kind} lacks {paths:?}")]
    Marks { kind: &'static str, paths: Vec<String> },
}

/// The CRDs of what users work with, in the order to install them. Both engines serve them; [`kubevirt`] is for clusters, where
/// an operator acts on it.
pub fn all() -> Result<Vec<CustomResourceDefinition>, CrdError> {
    Ok(vec![virtual_machine()?, virtual_machine_instance()?])
}

/// `virtualmachines.kubevirt.io`.
pub fn virtual_machine() -> Result<CustomResourceDefinition, CrdError> {
    let columns = vec![
        age(),
        CustomResourceColumnDefinition {
            description: Some("Human Readable Status".into()),
            ..column("Status", ".status.printableStatus")
        },
        column("Ready", ".status.conditions[?(@.type=='Ready')].status"),
    ];
    let marks = [("", marks::VIRTUAL_MACHINE), ("spec.template.spec", marks::INSTANCE_SPEC)];
    build::<VirtualMachine>("VirtualMachine", &marks, columns, Some(status()))
}

/// `virtualmachineinstances.kubevirt.io`. Its status is no subresource: admission keeps it from users.
pub fn virtual_machine_instance() -> Result<CustomResourceDefinition, CrdError> {
    let columns = vec![
        age(),
        column("Phase", ".status.phase"),
        column("IP", ".status.interfaces[0].ipAddress"),
        column("NodeName", ".status.nodeName"),
        column("Ready", ".status.conditions[?(@.type=='Ready')].status"),
        wide(column("Live-Migratable", ".status.conditions[?(@.type=='LiveMigratable')].status")),
        wide(column("Paused", ".status.conditions[?(@.type=='Paused')].status")),
    ];
    let marks = [("", marks::VIRTUAL_MACHINE_INSTANCE), ("spec", marks::INSTANCE_SPEC)];
    build::<VirtualMachineInstance>("VirtualMachineInstance", &marks, columns, None)
}

/// `kubevirts.kubevirt.io`. Its label tells it from the CRDs that the operator installs and removes.
pub fn kubevirt() -> Result<CustomResourceDefinition, CrdError> {
    let columns = vec![age(), column("Phase", ".status.phase")];
    let mut crd = build::<KubeVirt>("KubeVirt", &[("", marks::KUBEVIRT)], columns, Some(status()))?;
    crd.metadata.labels = Some(labels(crate::meta::labels::OPERATOR));
    Ok(crd)
}

/// Whose a definition is, and which level of the KubeVirt API its objects follow.
fn labels(owner: &str) -> BTreeMap<String, String> {
    let level = (crate::meta::labels::VERSION.to_owned(), crate::meta::KUBEVIRT_API_LEVEL.to_owned());
    [(owner.to_owned(), String::new()), level].into()
}

fn status() -> CustomResourceSubresources {
    CustomResourceSubresources {
        status: Some(CustomResourceSubresourceStatus(serde_json::json!({}))),
        ..Default::default()
    }
}

fn age() -> CustomResourceColumnDefinition {
    CustomResourceColumnDefinition { type_: "date".into(), ..column("Age", ".metadata.creationTimestamp") }
}

fn column(name: &str, json_path: &str) -> CustomResourceColumnDefinition {
    CustomResourceColumnDefinition {
        name: name.into(),
        json_path: json_path.into(),
        type_: "string".into(),
        ..Default::default()
    }
}

/// A column of `kubectl get -o wide` only.
fn wide(column: CustomResourceColumnDefinition) -> CustomResourceColumnDefinition {
    CustomResourceColumnDefinition { priority: Some(1), ..column }
}

fn build<K: CustomResourceExt + JsonSchema>(
    kind: &'static str,
    marks: &[(&str, &[marks::Mark])],
    columns: Vec<CustomResourceColumnDefinition>,
    subresources: Option<CustomResourceSubresources>,
) -> Result<CustomResourceDefinition, CrdError> {
    let derived = K::crd().spec;
    let wrap = |source| CrdError::Schema { kind, source };
    let schema =
        derived.versions.into_iter().find_map(|v| v.schema).and_then(|v| v.open_api_v3_schema).unwrap_or_default();
    let mut schema = serde_json::to_value(schema).map_err(wrap)?;
    descriptions::keep_own(&mut schema, &descriptions::foreign::<K>());
    marks::tidy(&mut schema);
    if let Some(root) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        root.insert("apiVersion".into(), serde_json::json!({"type": "string"}));
        root.insert("kind".into(), serde_json::json!({"type": "string"}));
        root.insert("metadata".into(), serde_json::json!({"type": "object"}));
        root.sort_keys();
    }
    let missing: Vec<String> = marks.iter().flat_map(|(base, marks)| marks::apply(&mut schema, base, marks)).collect();
    if !missing.is_empty() {
        return Err(CrdError::Marks { kind, paths: missing });
    }
    let schema: JSONSchemaProps = serde_json::from_value(schema).map_err(wrap)?;

    let version = |name: &str, storage: bool, warning: Option<String>| CustomResourceDefinitionVersion {
        name: name.into(),
        served: true,
        storage,
        deprecated: warning.is_some().then_some(true),
        deprecation_warning: warning,
        additional_printer_columns: Some(columns.clone()),
        schema: Some(CustomResourceValidation { open_api_v3_schema: Some(schema.clone()) }),
        subresources: subresources.clone(),
        ..Default::default()
    };
    let warning = format!("{GROUP}/v1alpha3 is now deprecated and will be removed in a future release.");
    let singular = kind.to_lowercase();
    let plural = format!("{singular}s");
    Ok(CustomResourceDefinition {
        metadata: ObjectMeta {
            name: Some(format!("{plural}.{GROUP}")),
            labels: Some(labels(crate::meta::labels::APP)),
            ..Default::default()
        },
        spec: CustomResourceDefinitionSpec {
            group: GROUP.into(),
            scope: "Namespaced".into(),
            names: CustomResourceDefinitionNames {
                kind: kind.into(),
                list_kind: Some(format!("{kind}List")),
                plural,
                singular: Some(singular),
                short_names: derived.names.short_names,
                categories: derived.names.categories,
            },
            versions: vec![version("v1", true, None), version("v1alpha3", false, Some(warning))],
            ..Default::default()
        },
        status: None,
    })
}
