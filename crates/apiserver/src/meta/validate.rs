//! Validation of `metadata`.

use serde_json::Value;

use super::MetaExt;
use crate::registry::Resource;
use crate::schema::Cause;
use crate::schema::builtin::{NameRule, check_object_meta, name_rule};

fn rule(resource: &Resource) -> NameRule {
    name_rule(&resource.group, &resource.plural)
}

/// Built-in kinds want finalizers to name a domain; definitions and custom resources do not.
fn strict_finalizers(resource: &Resource) -> bool {
    resource.builtin() && resource.group != "apiextensions.k8s.io"
}

/// Problems of a new object's metadata.
pub(crate) fn validate_create(resource: &Resource, object: &Value) -> Vec<Cause> {
    check_object_meta(object, rule(resource), strict_finalizers(resource))
}

/// Problems of an updated object's metadata which the stored one does not have.
pub(crate) fn validate_update(resource: &Resource, object: &Value, old: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let before = check_object_meta(old, rule(resource), strict_finalizers(resource));
    causes.extend(
        check_object_meta(object, rule(resource), strict_finalizers(resource))
            .into_iter()
            .filter(|cause| !before.contains(cause)),
    );
    if old.deleting() {
        let before = old.finalizers();
        let added: Vec<String> =
            object.finalizers().iter().filter(|f| !before.contains(f)).map(|f| format!("{f:?}")).collect();
        if !added.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            causes.push(Cause::forbidden("metadata.finalizers", &detail));
        }
    }
    causes
}

/// Whether an update may come without a resourceVersion.
pub(crate) fn allows_unconditional_update(resource: &Resource) -> bool {
    resource.builtin()
        && !matches!(resource.plural.as_str(), "leases" | "customresourcedefinitions" | "poddisruptionbudgets")
}
