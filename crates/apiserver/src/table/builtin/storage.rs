//! `kubectl get pvc`, `pv` and `sc`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Column, age_column, created, list_at, name, name_column, str_at, text, text_or};
use crate::kinds::storage::{class_of, is_default};
use crate::meta::MetaExt as _;

fn column(name: &str, description: &str) -> Column {
    Column::new(name, "string", "", description, 0)
}

fn mode_column() -> Column {
    Column::new("VolumeMode", "string", "", "Whether it is used as a file system or as a block device.", 1)
}

pub(super) fn claim_columns() -> Vec<Column> {
    vec![
        name_column(),
        column("Status", "Whether a volume is bound to the claim."),
        column("Volume", "The volume that is bound to the claim."),
        column("Capacity", "The size of the volume."),
        column("Access Modes", "The ways the volume can be mounted."),
        column("StorageClass", "Class of the claim."),
        column("VolumeAttributesClass", "Class of the volume's attributes."),
        age_column(),
        mode_column(),
    ]
}

pub(super) fn claim_cells(claim: &Value, now: Timestamp) -> (Vec<Value>, Vec<Value>) {
    let bound = !str_at(claim, "/spec/volumeName").is_empty();
    let of_volume = |value: String| if bound { value } else { String::new() };
    let cells = vec![
        name(claim),
        phase(claim),
        text(claim, "/spec/volumeName"),
        json!(of_volume(amount(claim, "/status/capacity/storage"))),
        json!(of_volume(modes(claim, "/status/accessModes"))),
        json!(class_of(claim)),
        text_or(claim, "/spec/volumeAttributesClassName", "<unset>"),
        created(claim, now),
        text_or(claim, "/spec/volumeMode", "<unset>"),
    ];
    (cells, vec![])
}

pub(super) fn volume_columns() -> Vec<Column> {
    vec![
        name_column(),
        column("Capacity", "The size of the volume."),
        column("Access Modes", "The ways the volume can be mounted."),
        column("Reclaim Policy", "What becomes of the volume when its claim is gone."),
        column("Status", "Whether the volume is free, bound or released."),
        column("Claim", "The claim the volume is bound to."),
        column("StorageClass", "Class of the volume."),
        column("VolumeAttributesClass", "Class of the volume's attributes."),
        column("Reason", "Why the volume failed."),
        age_column(),
        mode_column(),
    ]
}

pub(super) fn volume_cells(volume: &Value, now: Timestamp) -> (Vec<Value>, Vec<Value>) {
    let claim = volume
        .pointer("/spec/claimRef")
        .map_or_else(String::new, |claim| format!("{}/{}", str_at(claim, "/namespace"), str_at(claim, "/name")));
    let cells = vec![
        name(volume),
        json!(amount(volume, "/spec/capacity/storage")),
        json!(modes(volume, "/spec/accessModes")),
        text(volume, "/spec/persistentVolumeReclaimPolicy"),
        phase(volume),
        json!(claim),
        json!(class_of(volume)),
        text_or(volume, "/spec/volumeAttributesClassName", "<unset>"),
        text(volume, "/status/reason"),
        created(volume, now),
        text_or(volume, "/spec/volumeMode", "<unset>"),
    ];
    (cells, vec![])
}

pub(super) fn class_columns() -> Vec<Column> {
    vec![
        name_column(),
        column("Provisioner", "Who makes the volumes."),
        column("ReclaimPolicy", "What becomes of a volume when its claim is gone."),
        column("VolumeBindingMode", "When a claim is bound."),
        column("AllowVolumeExpansion", "Whether a claim may ask for more."),
        age_column(),
    ]
}

pub(super) fn class_cells(class: &Value, now: Timestamp) -> (Vec<Value>, Vec<Value>) {
    let mark = if is_default(class) { " (default)" } else { "" };
    let cells = vec![
        json!(format!("{}{mark}", str_at(class, "/metadata/name"))),
        text(class, "/provisioner"),
        text_or(class, "/reclaimPolicy", "Delete"),
        text_or(class, "/volumeBindingMode", "Immediate"),
        json!(class.get("allowVolumeExpansion") == Some(&Value::Bool(true))),
        created(class, now),
    ];
    (cells, vec![])
}

fn phase(object: &Value) -> Value {
    if object.deleting() { json!("Terminating") } else { text(object, "/status/phase") }
}

fn amount(object: &Value, pointer: &str) -> String {
    match str_at(object, pointer) {
        "" => "0".into(),
        amount => amount.into(),
    }
}

fn modes(object: &Value, pointer: &str) -> String {
    let given = list_at(object, pointer);
    let short =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let has = |mode: &str| given.iter().any(|given| given == mode);
    short.iter().filter(|(mode, _)| has(mode)).map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}
