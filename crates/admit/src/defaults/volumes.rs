//! Image pull policies, and disks for volumes that have none.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::json;

pub(super) fn pull_policies(spec: &mut Value) {
    for volume in json::items_mut(spec, "volumes") {
        let Some(image) = json::text(volume, "containerDisk.image") else { continue };
        let policy = if is_latest(image) { "Always" } else { "IfNotPresent" };
        json::default(volume, "containerDisk.imagePullPolicy", policy);
    }
}

/// Whether an image reference stands for whatever is newest: tag `latest`, or neither tag nor digest.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    // A colon before the last slash belongs to the registry's port.
    let name = image.rsplit('/').next().unwrap_or(image);
    match name.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => true,
    }
}

/// Every volume that neither a disk nor a filesystem names gets a disk.
pub(super) fn disks(spec: &mut Value) {
    let mut attached: BTreeSet<&str> = ["domain.devices.disks", "domain.devices.filesystems"]
        .iter()
        .flat_map(|devices| json::list(spec, devices))
        .filter_map(|device| json::text(device, "name"))
        .collect();
    let mut missing: Vec<String> = Vec::new();
    for name in json::list(spec, "volumes").iter().filter_map(|volume| json::text(volume, "name")) {
        if attached.insert(name) {
            missing.push(name.to_owned());
        }
    }
    if missing.is_empty() {
        return;
    }
    let Some(devices) = json::object(spec, "domain.devices") else { return };
    let disks = devices.entry("disks").or_insert(Value::Null);
    if disks.is_null() {
        *disks = json!([]);
    }
    if let Some(disks) = disks.as_array_mut() {
        disks.extend(missing.into_iter().map(|name| json!({"name": name})));
    }
}

#[cfg(test)]
mod tests {
    use super::is_latest;

    #[test]
    fn a_registry_port_is_not_a_tag() {
        for (image, latest) in [
            ("a", true),
            ("a:latest", true),
            ("a:1", false),
            ("r:5000/a", true),
            ("r:5000/a:2", false),
            ("r/a@sha256:00", false),
            ("r/a:latest@sha256:00", false),
        ] {
            assert_eq!(is_latest(image), latest, "{image}");
        }
    }
}
