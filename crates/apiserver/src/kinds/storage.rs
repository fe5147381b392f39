//! Claims, volumes and storage classes: what the admission plugins StorageObjectInUseProtection, DefaultStorageClass and
//! PersistentVolumeClaimResize do.

use serde_json::{Value, json};

use super::stored;
use crate::meta::{MetaExt as _, object_mut, timestamp};
use crate::schema::quantity;
use crate::server::Core;

const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";
/// Marks the class of claims that name none.
const DEFAULT_CLASS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
/// The class of a claim or volume before there was a field for it.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) fn prepare_claim(object: &mut Value) {
    data_source(object, None);
    object_mut(object).insert("status".into(), json!({"phase": "Pending"}));
}

/// A source is written in both fields; the older one knows claims and snapshots only, and drops anything else.
pub(super) fn data_source(claim: &mut Value, old: Option<&Value>) {
    let had = |field: &str| old.is_some_and(|old| old.pointer(&format!("/spec/{field}")).is_some());
    let had_source = had("dataSource") || had("dataSourceRef");
    let had_reference = had("dataSourceRef");
    let Some(spec) = claim.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let elsewhere = |reference: &Value| reference.get("namespace").is_some_and(|namespace| namespace != "");
    if !had_reference && spec.get("dataSourceRef").is_some_and(elsewhere) {
        spec.shift_remove("dataSourceRef");
    }
    if !had_source && !spec.contains_key("dataSourceRef") && !spec.get("dataSource").is_some_and(known_source) {
        spec.shift_remove("dataSource");
    }
    match (spec.get("dataSource").cloned(), spec.get("dataSourceRef").cloned()) {
        (Some(source), None) => spec.insert("dataSourceRef".into(), source),
        (None, Some(reference)) if !elsewhere(&reference) => spec.insert("dataSource".into(), reference),
        _ => None,
    };
}

fn known_source(source: &Value) -> bool {
    let text = |field: &str| source.get(field).and_then(Value::as_str).unwrap_or_default();
    matches!(
        (text("apiGroup"), text("kind")),
        ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
    )
}

pub(super) fn prepare_volume(object: &mut Value) {
    let status = json!({"phase": "Pending", "lastPhaseTransitionTime": timestamp(jiff::Timestamp::now())});
    object_mut(object).insert("status".into(), status);
}

/// The time of a volume's last change of phase, unless its writer tells it.
pub(super) fn volume_status(new: &mut Value, old: &Value) {
    let at = |volume: &Value, field: &str| volume.get("status").and_then(|status| status.get(field)).cloned();
    let (told, before) = (at(new, "lastPhaseTransitionTime"), at(old, "lastPhaseTransitionTime"));
    let time = match at(new, "phase") == at(old, "phase") {
        true if told.is_none() => before,
        false if told.is_none() || told == before => Some(json!(timestamp(jiff::Timestamp::now()))),
        _ => return,
    };
    if let Some(time) = time {
        object_mut(object_mut(new).entry("status").or_insert(Value::Null))
            .insert("lastPhaseTransitionTime".into(), time);
    }
}

pub(super) fn admit_claim(core: &Core, claim: &mut Value) {
    protect(claim, CLAIM_FINALIZER);
    let classless = claim.pointer("/spec/storageClassName").is_none() && annotated_class(claim).is_none();
    if classless && let Some(class) = default_class(core) {
        object_mut(object_mut(claim).entry("spec").or_insert(Value::Null))
            .insert("storageClassName".into(), class.into());
    }
}

pub(super) fn admit_volume(volume: &mut Value) {
    protect(volume, VOLUME_FINALIZER);
}

/// Nobody loses a claim or volume in use: whoever sees it unused removes the finalizer.
fn protect(object: &mut Value, finalizer: &str) {
    let mut finalizers = object.finalizers();
    if !finalizers.iter().any(|known| known == finalizer) {
        finalizers.push(finalizer.to_owned());
        object.meta_mut().insert("finalizers".into(), json!(finalizers));
    }
}

/// The newest of the default classes, the first by name of those as new.
fn default_class(core: &Core) -> Option<String> {
    let classes = stored(core, "storage.k8s.io", "storageclasses", "");
    let key = |class: &&Value| {
        (class.meta_str("creationTimestamp").to_owned(), std::cmp::Reverse(class.meta_str("name").to_owned()))
    };
    classes.iter().filter(|class| is_default(class)).max_by_key(key).map(|class| class.meta_str("name").to_owned())
}

/// Whether claims that name no class get this one.
pub(crate) fn is_default(class: &Value) -> bool {
    let annotations = class.meta("annotations");
    DEFAULT_CLASS.iter().any(|name| annotations.and_then(|all| all.get(name)).is_some_and(|value| value == "true"))
}

fn annotated_class(object: &Value) -> Option<&str> {
    object.meta("annotations")?.get(CLASS_ANNOTATION)?.as_str()
}

/// The class of a claim or volume, empty when it has none.
pub(crate) fn class_of(object: &Value) -> &str {
    let named = || object.pointer("/spec/storageClassName").and_then(Value::as_str).unwrap_or_default();
    annotated_class(object).unwrap_or_else(named)
}

/// Texts for `Warning:` headers about a claim.
pub(super) fn warnings(claim: &Value) -> Vec<String> {
    let deprecated = annotated_class(claim).map(|_| {
        format!("metadata.annotations[{CLASS_ANNOTATION}]: deprecated since v1.8; use \"storageClassName\" attribute instead")
    });
    let fractional = ["requests", "limits"].into_iter().filter_map(|list| {
        let amount =
            quantity::at(claim, &format!("/spec/resources/{list}/storage")).filter(|amount| !amount.is_whole())?;
        Some(format!(
            "spec.resources.{list}[storage]: fractional byte value \"{amount}\" is invalid, must be an integer"
        ))
    });
    deprecated.into_iter().chain(fractional).collect()
}

/// Why a claim may not ask for more than before.
pub(super) fn check_growth(core: &Core, new: &Value, old: &Value) -> Option<&'static str> {
    let size = |claim: &Value| quantity::at(claim, "/spec/resources/requests/storage").unwrap_or_default();
    if size(new) <= size(old) {
        return None;
    }
    if old.pointer("/status/phase").is_none_or(|phase| phase != "Bound") {
        return Some("Only bound persistent volume claims can be expanded");
    }
    let class = class_of(old);
    let expandable = class == class_of(new)
        && stored(core, "storage.k8s.io", "storageclasses", "").iter().any(|known| {
            known.meta_str("name") == class && known.get("allowVolumeExpansion") == Some(&Value::Bool(true))
        });
    (!expandable).then_some(
        "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
    )
}
