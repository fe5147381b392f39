//! Labels and annotations that mean something to us.

use fv_api::VirtualMachineSpec;
use fv_api::meta::{annotations, labels, users};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use crate::causes::{Causes, Field};
use crate::json;
use crate::names;

/// Labels only our components write.
pub(super) fn reserved(labels: Option<&Value>) -> Vec<(&str, &Value)> {
    let labels = labels.and_then(Value::as_object).into_iter().flatten();
    labels
        .filter(|(key, _)| labels::RESERVED.contains(&key.as_str()))
        .map(|(key, value)| (key.as_str(), value))
        .collect()
}

/// Labels and annotations of a new instance.
pub(super) fn labels(metadata: Option<&Value>, user: &str, field: &Field, causes: &mut Causes) {
    let Some(metadata) = metadata else { return };
    if !users::is_component(user) && !reserved(metadata.get("labels")).is_empty() {
        causes.not_supported(
            &field.child("labels"),
            "creation of the following reserved kubevirt.io/ labels on a VMI object is prohibited",
        );
    }
    for (annotation, what) in annotations::UNSUPPORTED {
        // Not a path: annotation keys have dots.
        let value = json::get(metadata, "annotations").and_then(|all| all.get(*annotation)).and_then(Value::as_str);
        if value.is_some_and(|value| !value.is_empty()) {
            let at = field.child("annotations");
            causes.not_supported(
                &at,
                format!("{at}: {annotation} is not supported yet by Ferrovirt ({what}): remove it"),
            );
        }
    }
}

/// Labels and annotations that the instances of a VirtualMachine will have.
pub(super) fn template(spec: &VirtualMachineSpec, user: &str, field: &Field, causes: &mut Causes) {
    let Some(metadata) = &spec.template.metadata else { return };
    words(metadata, field, causes);
    labels(serde_json::to_value(metadata).ok().as_ref(), user, field, causes);
}

/// Kubernetes itself does not look into templates; what it would refuse on the instance is refused here.
fn words(metadata: &ObjectMeta, field: &Field, causes: &mut Causes) {
    let at = field.child("labels");
    for (key, value) in metadata.labels.iter().flatten() {
        for fault in names::qualified_name(key) {
            causes.invalid(&at, format!("{at}: {key:?}: {fault}"));
        }
        for fault in names::label_value(value) {
            causes.invalid(&at, format!("{at}: {key}: {value:?}: {fault}"));
        }
    }
    let at = field.child("annotations");
    for key in metadata.annotations.iter().flatten().map(|(key, _)| key) {
        for fault in names::qualified_name(&key.to_lowercase()) {
            causes.invalid(&at, format!("{at}: {key:?}: {fault}"));
        }
    }
}
