//! Claims, volumes and storage classes.

use fv_api::Quantity;
use serde_json::{Map, Value, json};

use super::{enumerated, immutable, list, text};
use crate::schema::{Cause, names, quantity};

const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];
/// The size a claim asks for, in its spec.
const REQUEST: &str = "/resources/requests/storage";
const PARAMETERS_BYTES: usize = 256 << 10;
const PARAMETERS: usize = 512;
/// Fields of a volume's spec that are not its source.
const NO_SOURCE: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

pub(super) fn claim(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    access_modes(spec, "at least 1 access mode is required", causes);
    let path = "spec.resources[storage]";
    match quantity::at(spec, REQUEST) {
        None => causes.push(Cause::required(path, "")),
        Some(size) => positive(path, size, causes),
    }
    class_name(spec, "storageClassName", causes);
    class_name(spec, "volumeAttributesClassName", causes);
    enumerated(spec, "volumeMode", "spec", &VOLUME_MODES, causes);
    for field in ["dataSource", "dataSourceRef"] {
        if let Some(source) = spec.get(field) {
            data_source(source, &format!("spec.{field}"), causes);
        }
    }
    if let (Some(source), Some(reference)) = (spec.get("dataSource"), spec.get("dataSourceRef")) {
        let differs = ["apiGroup", "kind", "name"].iter().any(|field| source.get(field) != reference.get(field));
        let elsewhere = !text(reference, "namespace").is_empty();
        if elsewhere {
            let detail = "may not be specified when dataSourceRef.namespace is specified";
            causes.push(Cause::invalid("spec", &json!({}), detail));
        } else if differs {
            causes.push(Cause::invalid("spec", &json!({}), "must match dataSourceRef"));
        }
    }
    if let Some(old) = old {
        claim_update(object, old, causes);
    }
}

/// A claim can get a class and a volume once; when it is bound it can ask for more.
fn claim_update(object: &Value, old: &Value, causes: &mut Vec<Cause>) {
    let (mut new_spec, mut old_spec) = (fields(&object["spec"]), fields(&old["spec"]));
    if text(&old["spec"], "volumeName").is_empty() {
        old_spec.shift_remove("volumeName");
        new_spec.shift_remove("volumeName");
    }
    if !old_spec.contains_key("storageClassName") {
        new_spec.shift_remove("storageClassName");
    }
    if text(&object["status"], "phase") == "Bound" {
        for spec in [&mut new_spec, &mut old_spec] {
            spec.shift_remove("volumeAttributesClassName");
            if let Some(requests) = spec.get_mut("resources").and_then(|r| r.get_mut("requests")) {
                requests["storage"] = Value::Null;
            }
        }
    }
    if new_spec != old_spec {
        let detail =
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        causes.push(Cause::forbidden("spec", detail));
    }
    let size = |claim: &Value| quantity::at(&claim["spec"], REQUEST).unwrap_or_default();
    let given = quantity::at(old, "/status/capacity/storage").unwrap_or_default();
    if size(object) < size(old) && size(object) <= given {
        let detail = "field can not be less than status.capacity";
        causes.push(Cause::forbidden("spec.resources.requests.storage", detail));
    }
    immutable("volumeMode", &object["spec"]["volumeMode"], &old["spec"]["volumeMode"], causes);
}

pub(super) fn volume(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    access_modes(spec, "", causes);
    let capacity = fields(&spec["capacity"]);
    if capacity.is_empty() {
        causes.push(Cause::required("spec.capacity", ""));
    }
    if !capacity.contains_key("storage") || capacity.len() > 1 {
        causes.push(Cause::not_supported("spec.capacity", &spec["capacity"], &["storage".to_owned()]));
    }
    for (name, value) in &capacity {
        let path = format!("spec.capacity[{name}]");
        let Some(size) = quantity::of(value) else { continue };
        if size.is_negative() {
            causes.push(Cause::invalid(path.clone(), &json!(size.value_i64()), "must be a valid resource quantity"));
        }
        positive(&path, size, causes);
    }
    enumerated(spec, "persistentVolumeReclaimPolicy", "spec", &["Delete", "Recycle", "Retain"], causes);
    let affinity = spec.get("nodeAffinity");
    if affinity.is_some_and(|affinity| affinity.get("required").is_none()) {
        causes.push(Cause::required("spec.nodeAffinity.required", "must specify required node constraints"));
    }
    let mut sources = sources(spec);
    match sources.next() {
        None => causes.push(Cause::required("spec", "must specify a volume type")),
        Some((kind, source)) => volume_source(kind, source, affinity.is_some(), causes),
    }
    for (kind, _) in sources {
        causes.push(Cause::forbidden(format!("spec.{kind}"), "may not specify more than 1 volume type"));
    }
    class_name(spec, "storageClassName", causes);
    enumerated(spec, "volumeMode", "spec", &VOLUME_MODES, causes);
    if let Some(class) = spec.get("volumeAttributesClassName") {
        if class == "" {
            causes.push(Cause::required("spec.volumeAttributesClassName", "an empty string is disallowed"));
        }
        class_name(spec, "volumeAttributesClassName", causes);
        if spec.get("csi").is_none() {
            causes.push(Cause::required("spec.csi", "has to be specified when using volumeAttributesClassName"));
        }
    }
    let Some(old) = old else { return };
    let before = &old["spec"];
    let source = |spec: &Value| {
        let mut all: Map<String, Value> = self::sources(spec).map(|(k, v)| (k.to_owned(), v.clone())).collect();
        // This secret may be named later.
        if before["csi"].get("controllerExpandSecretRef").is_none()
            && let Some(csi) = all.get_mut("csi").and_then(Value::as_object_mut)
        {
            csi.shift_remove("controllerExpandSecretRef");
        }
        all
    };
    if source(spec) != source(before) {
        let detail = "spec.persistentvolumesource is immutable after creation";
        causes.push(Cause::forbidden("spec.persistentvolumesource", detail));
    }
    immutable("volumeMode", &spec["volumeMode"], &before["volumeMode"], causes);
    if let Some(affinity) = before.get("nodeAffinity")
        && spec.get("nodeAffinity") != Some(affinity)
    {
        causes.push(Cause::invalid_value("nodeAffinity", "field is immutable"));
    }
    if before.get("volumeAttributesClassName").is_some() && spec.get("volumeAttributesClassName").is_none() {
        let detail = "update from non-nil value to nil is forbidden";
        causes.push(Cause::forbidden("spec.volumeAttributesClassName", detail));
    }
}

fn sources(spec: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let all = spec.as_object().into_iter().flatten();
    all.map(|(key, value)| (key.as_str(), value)).filter(|(key, _)| !NO_SOURCE.contains(key))
}

/// The sources a machine of one node can have; what is in the others is for their drivers to judge.
fn volume_source(kind: &str, source: &Value, placed: bool, causes: &mut Vec<Cause>) {
    let field = |name: &str| format!("spec.{kind}.{name}");
    let mut required = |name: &str| {
        let missing = text(source, name).is_empty();
        if missing {
            causes.push(Cause::required(field(name), ""));
        }
        !missing
    };
    match kind {
        "hostPath" | "local" => {
            if required("path") && text(source, "path").split('/').any(|part| part == "..") {
                causes.push(Cause::invalid(field("path"), &source["path"], "must not contain '..'"));
            }
            if kind == "local" && !placed {
                causes.push(Cause::required("spec.nodeAffinity", "Local volume requires node affinity"));
            }
            let types =
                ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
            enumerated(source, "type", &format!("spec.{kind}"), &types, causes);
        }
        "nfs" => {
            required("server");
            if required("path") && !text(source, "path").starts_with('/') {
                causes.push(Cause::invalid(field("path"), &source["path"], "must be an absolute path"));
            }
        }
        "csi" => {
            let named = required("driver");
            required("volumeHandle");
            let driver = text(source, "driver");
            if driver.len() > 63 {
                causes.push(Cause::too_long(field("driver"), 63));
            }
            for error in names::dns_1123_subdomain(&driver.to_lowercase()).iter().filter(|_| named) {
                causes.push(Cause::invalid(field("driver"), &source["driver"], error));
            }
        }
        _ => {}
    }
}

pub(super) fn class(object: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let provisioner = text(object, "provisioner");
    if provisioner.is_empty() {
        causes.push(Cause::required("provisioner", ""));
    } else {
        for error in names::qualified_name(&provisioner.to_lowercase()) {
            causes.push(Cause::invalid("provisioner", &json!(provisioner.to_lowercase()), &error));
        }
    }
    let parameters = fields(&object["parameters"]);
    let bytes: usize = parameters.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if parameters.len() > PARAMETERS {
        causes.push(Cause::too_long("parameters", PARAMETERS as u64));
    } else if bytes > PARAMETERS_BYTES {
        causes.push(Cause::too_long("parameters", PARAMETERS_BYTES as u64));
    }
    if parameters.contains_key("") {
        causes.push(Cause::invalid("parameters", &json!(""), "field can not be empty."));
    }
    for (field, allowed) in
        [("reclaimPolicy", ["Delete", "Retain"]), ("volumeBindingMode", ["Immediate", "WaitForFirstConsumer"])]
    {
        let given = text(object, field);
        if !given.is_empty() && !allowed.contains(&given) {
            causes.push(Cause::not_supported(field, &json!(given), &allowed.map(str::to_owned)));
        }
    }
    let Some(old) = old else { return };
    for field in ["parameters", "provisioner", "reclaimPolicy"] {
        if object.get(field) != old.get(field) {
            causes.push(Cause::forbidden(field, &format!("updates to {field} are forbidden.")));
        }
    }
    immutable("volumeBindingMode", &object["volumeBindingMode"], &old["volumeBindingMode"], causes);
}

fn access_modes(spec: &Value, detail: &str, causes: &mut Vec<Cause>) {
    let modes = list(spec, "accessModes");
    if modes.is_empty() {
        causes.push(Cause::required("spec.accessModes", detail));
    }
    for mode in modes {
        if !ACCESS_MODES.iter().any(|known| mode == known) {
            causes.push(Cause::not_supported("spec.accessModes", mode, &ACCESS_MODES.map(str::to_owned)));
        }
    }
    let single = |mode: &&Value| *mode == "ReadWriteOncePod";
    let other = |mode: &Value| ACCESS_MODES[..3].iter().any(|known| mode == known);
    if modes.iter().any(|mode| single(&mode)) && modes.iter().any(other) {
        let detail = "may not use ReadWriteOncePod with other access modes";
        causes.push(Cause::forbidden("spec.accessModes", detail));
    }
}

fn data_source(source: &Value, path: &str, causes: &mut Vec<Cause>) {
    for field in ["name", "kind"] {
        if text(source, field).is_empty() {
            causes.push(Cause::required(format!("{path}.{field}"), ""));
        }
    }
    let group = text(source, "apiGroup");
    if group.is_empty() && text(source, "kind") != "PersistentVolumeClaim" {
        let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        causes.push(Cause::invalid(path, &json!(text(source, "kind")), detail));
    }
    for error in names::dns_1123_subdomain(group).iter().filter(|_| !group.is_empty()) {
        causes.push(Cause::invalid(format!("{path}.apiGroup"), &json!(group), error));
    }
}

fn class_name(spec: &Value, field: &str, causes: &mut Vec<Cause>) {
    let name = text(spec, field);
    for error in names::dns_1123_subdomain(name).iter().filter(|_| !name.is_empty()) {
        causes.push(Cause::invalid(format!("spec.{field}"), &json!(name), error));
    }
}

fn positive(path: &str, size: Quantity, causes: &mut Vec<Cause>) {
    if size <= Quantity::ZERO {
        causes.push(Cause::invalid(path, &json!(size.to_string()), "must be greater than zero"));
    }
}

fn fields(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}
