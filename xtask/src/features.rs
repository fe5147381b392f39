//! docs/features.md: for each feature as upstream's examples use it, what admission says.

use std::path::Path;

use anyhow::{Context, Result};
use fv_admit::{Kind, Operation, Request, mutate, validate};
use fv_api::config::ClusterConfig;
use jiff::Timestamp;
use json_patch::merge;
use serde_json::{Map, Value, json};

use crate::page::Page;

mod table;

const PAGE: Page = Page { file: "docs/features.md", task: "features" };

/// Writes the table into the page.
pub(crate) fn write(root: &Path) -> Result<()> {
    PAGE.write(root, &answers()?)
}

/// Fails when the page's table is not what [`write`] would write.
pub(crate) fn check(root: &Path) -> Result<()> {
    PAGE.check(root, &answers()?)
}

fn answers() -> Result<String> {
    let mut text = String::new();
    for (group, features) in table::GROUPS {
        text += &format!("## {group}\n\n| | in the manifest | |\n|---|---|---|\n");
        for (name, place, value) in *features {
            let value: Value = serde_json::from_str(value).with_context(|| format!("the value of {name}"))?;
            let shown = place.shown(&value);
            text += &format!("| {name} | `{shown}` | {} |\n", answer(place.machine(value))?);
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    Ok(text)
}

/// Where an example's value belongs.
#[derive(Clone, Copy)]
enum Place {
    /// Into `spec` of the VirtualMachine.
    Machine,
    /// Into `spec.template.spec`.
    Instance,
    /// Into the `domain` of that.
    Domain,
    /// Into the domain's `devices`.
    Devices,
    /// Into the one disk.
    Disk,
    /// Instead of the one disk's `disk: {bus: virtio}`.
    Target,
    /// One more volume, with a disk.
    Volume,
    /// The one interface, on the pod network.
    Interface,
    /// The one interface, on a network of Multus.
    Multus,
}

impl Place {
    /// The value as a user would write it, at its place.
    fn shown(self, value: &Value) -> String {
        let under = match self {
            Self::Machine | Self::Instance => "",
            Self::Domain => "domain.",
            Self::Devices => "devices.",
            Self::Disk | Self::Target => "disks[].",
            Self::Volume => "volumes[].",
            Self::Interface | Self::Multus => "interfaces[].",
        };
        format!("{under}{}", words(value)).replace('|', "\\|")
    }

    /// The plainest machine with the value at its place.
    fn machine(self, value: Value) -> Value {
        let mut disk = json!({"name": "root"});
        let mut target = json!({"disk": {"bus": "virtio"}});
        let mut devices = json!({});
        let mut domain = json!({"memory": {"guest": "128Mi"}});
        let mut instance = json!({});
        let mut spec = json!({"runStrategy": "Halted"});
        let mut volumes = vec![json!({"name": "root", "containerDisk": {"image": "registry.example/demo"}})];
        let mut disks = Vec::new();
        match self {
            Self::Machine => merge(&mut spec, &value),
            Self::Instance => merge(&mut instance, &value),
            Self::Domain => merge(&mut domain, &value),
            Self::Devices => merge(&mut devices, &value),
            Self::Disk => merge(&mut disk, &value),
            Self::Target => target = value,
            Self::Volume => {
                let mut volume = json!({"name": "more"});
                merge(&mut volume, &value);
                volumes.push(volume);
                disks.push(json!({"name": "more", "disk": {"bus": "virtio"}}));
            }
            Self::Interface | Self::Multus => {
                let mut interface = json!({"name": "default"});
                merge(&mut interface, &value);
                devices["interfaces"] = json!([interface]);
                let multus = json!([{"name": "default", "multus": {"networkName": "blue"}}]);
                let pod = json!([{"name": "default", "pod": {}}]);
                instance["networks"] = if matches!(self, Self::Multus) { multus } else { pod };
            }
        }
        merge(&mut disk, &target);
        disks.insert(0, disk);
        devices["disks"] = json!(disks);
        merge(&mut domain, &json!({"devices": devices}));
        merge(&mut instance, &json!({"domain": domain, "volumes": volumes}));
        merge(&mut spec, &json!({"template": {"spec": instance}}));
        json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "example"}, "spec": spec})
    }
}

/// What admission answers to the creation of a machine.
fn answer(mut machine: Value) -> Result<String> {
    let config = ClusterConfig::default();
    let request = Request {
        operation: Operation::Create,
        kind: Kind::VirtualMachine,
        subresource: None,
        namespace: "default",
        user: "jane",
        old: None,
        config: &config,
        now: Timestamp::UNIX_EPOCH,
    };
    mutate(&request, &mut machine, &mut uuid::Uuid::nil);
    let verdict = validate(&request, &machine);
    let refusals: Vec<String> = verdict.causes.iter().map(|cause| cause.message.clone()).collect();
    Ok(if refusals.is_empty() {
        "yes".to_owned()
    } else {
        format!("refused: {}", refusals.join("; ").replace('|', "\\|"))
    })
}

/// A value on one line, as YAML's flow style has it, without the braces around all of it and without what only undoes a default.
fn words(value: &Value) -> String {
    let fields = |object: &Map<String, Value>| -> Vec<String> {
        let given = object.iter().filter(|(_, value)| !value.is_null());
        given.map(|(key, value)| format!("{key}: {}", flow(value))).collect()
    };
    match value {
        Value::Object(object) => fields(object).join(", "),
        other => flow(other),
    }
}

fn flow(value: &Value) -> String {
    match value {
        Value::Object(_) => format!("{{{}}}", words(value)),
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn committed_table_of_features_is_what_admission_says() {
        super::check(&crate::root().unwrap()).unwrap();
    }
}
