//! What a guest agent says, as upstream's objects. All of it was written by the guest: lists and strings are cut, types are checked,
//! and what does not fit is left out.

use std::collections::BTreeMap;
use std::time::Duration;

use fv_api::{
    VirtualMachineInstanceFileSystem, VirtualMachineInstanceFileSystemDisk, VirtualMachineInstanceGuestOSInfo,
    VirtualMachineInstanceGuestOSUser,
};
use fv_hypervisor::{Hypervisor, HypervisorError};
use fv_stream::agent::AgentQuery;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::vm::status::AgentFacts;

const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest text taken from a guest.
const MAX_TEXT: usize = 256;
/// Most users, file systems, interfaces or commands taken from a guest.
const MAX_ITEMS: usize = 64;

/// A text of a guest, cut; never empty, for it says that something is wrong.
pub(crate) fn bounded_fault(text: &str) -> String {
    let text = bounded(text);
    if text.is_empty() { "the guest agent gave no reason".to_owned() } else { text }
}

fn bounded(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect()
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().map(bounded)
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten().take(MAX_ITEMS)
}

/// `guest-get-osinfo`.
pub fn os_info(answer: &Value) -> VirtualMachineInstanceGuestOSInfo {
    VirtualMachineInstanceGuestOSInfo {
        id: text(answer, "id"),
        kernel_release: text(answer, "kernel-release"),
        kernel_version: text(answer, "kernel-version"),
        machine: text(answer, "machine"),
        name: text(answer, "name"),
        pretty_name: text(answer, "pretty-name"),
        version: text(answer, "version"),
        version_id: text(answer, "version-id"),
    }
}

/// Guest names of interfaces by MAC, of `guest-network-get-interfaces`.
pub fn interface_names(answer: &Value) -> BTreeMap<String, String> {
    items(answer)
        .filter_map(|interface| Some((text(interface, "hardware-address")?.to_lowercase(), text(interface, "name")?)))
        .collect()
}

/// `guest-get-users`.
pub fn users(answer: &Value) -> Vec<VirtualMachineInstanceGuestOSUser> {
    items(answer)
        .filter_map(|user| {
            Some(VirtualMachineInstanceGuestOSUser {
                domain: text(user, "domain"),
                login_time: user.get("login-time").and_then(Value::as_f64),
                user_name: text(user, "user")?,
            })
        })
        .collect()
}

/// `guest-get-fsinfo`.
pub fn filesystems(answer: &Value) -> Vec<VirtualMachineInstanceFileSystem> {
    let disk = |disk: &Value| VirtualMachineInstanceFileSystemDisk {
        bus_type: text(disk, "bus-type").unwrap_or_default(),
        serial: text(disk, "serial"),
    };
    items(answer)
        .filter_map(|fs| {
            let bytes = |key: &str| fs.get(key).and_then(Value::as_i64).unwrap_or(0).max(0);
            Some(VirtualMachineInstanceFileSystem {
                disk: items(fs.get("disk").unwrap_or(&Value::Null)).map(disk).collect(),
                disk_name: text(fs, "name")?,
                file_system_type: text(fs, "type").unwrap_or_default(),
                mount_point: text(fs, "mountpoint").unwrap_or_default(),
                total_bytes: bytes("total-bytes"),
                used_bytes: bytes("used-bytes"),
            })
        })
        .collect()
}

async fn ask(hypervisor: &dyn Hypervisor, uuid: Uuid, command: &str) -> Result<Value, HypervisorError> {
    hypervisor.agent_command(uuid, &json!({"execute": command}), TIMEOUT).await
}

/// A question the guest's agent may not know, or not be allowed to answer.
async fn ask_optional(hypervisor: &dyn Hypervisor, uuid: Uuid, command: &str) -> Result<Value, HypervisorError> {
    match ask(hypervisor, uuid, command).await {
        Err(HypervisorError::Agent { .. }) => Ok(Value::Null),
        other => other,
    }
}

/// What the status shows; `None`: there is no agent.
pub async fn facts(hypervisor: &dyn Hypervisor, uuid: Uuid) -> Option<AgentFacts> {
    let os = ask_optional(hypervisor, uuid, "guest-get-osinfo").await.ok()?;
    let interfaces = ask_optional(hypervisor, uuid, "guest-network-get-interfaces").await.ok()?;
    Some(AgentFacts { os: os_info(&os), interface_names: interface_names(&interfaces) })
}

fn list(kind: &str, items: impl serde::Serialize) -> Value {
    json!({"apiVersion": "subresources.kubevirt.io/v1", "kind": kind, "metadata": {}, "items": items})
}

/// Answers a question of the API.
pub async fn answer(hypervisor: &dyn Hypervisor, uuid: Uuid, query: AgentQuery) -> Result<Value, HypervisorError> {
    match query {
        AgentQuery::UserList => {
            Ok(list("VirtualMachineInstanceGuestOSUserList", users(&ask(hypervisor, uuid, "guest-get-users").await?)))
        }
        AgentQuery::FilesystemList => {
            let answer = ask(hypervisor, uuid, "guest-get-fsinfo").await?;
            Ok(list("VirtualMachineInstanceFileSystemList", filesystems(&answer)))
        }
        AgentQuery::GuestOsInfo => {
            let info = ask(hypervisor, uuid, "guest-info").await?;
            let os = ask_optional(hypervisor, uuid, "guest-get-osinfo").await?;
            let host = ask_optional(hypervisor, uuid, "guest-get-host-name").await?;
            let zone = ask_optional(hypervisor, uuid, "guest-get-timezone").await?;
            let logged_in = ask_optional(hypervisor, uuid, "guest-get-users").await?;
            let mounted = ask_optional(hypervisor, uuid, "guest-get-fsinfo").await?;
            let frozen = ask_optional(hypervisor, uuid, "guest-fsfreeze-status").await?;
            Ok(os_info_object(&Answers { info, os, host, zone, logged_in, mounted, frozen }))
        }
    }
}

struct Answers {
    info: Value,
    os: Value,
    host: Value,
    zone: Value,
    logged_in: Value,
    mounted: Value,
    frozen: Value,
}

fn os_info_object(a: &Answers) -> Value {
    let commands: Vec<Value> = a
        .info
        .get("supported_commands")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        // Agents know about eighty commands; a list without end is none of theirs.
        .take(256)
        .filter_map(|c| Some(json!({"name": text(c, "name")?, "enabled": c.get("enabled")?.as_bool()?})))
        .collect();
    let mut object = json!({
        "apiVersion": "subresources.kubevirt.io/v1",
        "kind": "VirtualMachineInstanceGuestAgentInfo",
        "guestAgentVersion": text(&a.info, "version").unwrap_or_default(),
        "supportedCommands": commands,
        "hostname": text(&a.host, "host-name").unwrap_or_default(),
        "os": serde_json::to_value(os_info(&a.os)).unwrap_or_default(),
        "timezone": timezone(&a.zone),
        "userList": users(&a.logged_in),
        "fsInfo": {"disks": filesystems(&a.mounted)},
    });
    if a.frozen.as_str() == Some("frozen") {
        object["fsFreezeStatus"] = "frozen".into();
    }
    object
}

fn timezone(answer: &Value) -> String {
    let offset = answer.get("offset").and_then(Value::as_i64);
    match (text(answer, "zone"), offset) {
        (Some(zone), Some(offset)) => format!("{zone}, {offset}"),
        (Some(zone), None) => zone,
        (None, Some(offset)) => offset.to_string(),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn answers_become_upstreams_objects() {
        let object = os_info_object(&Answers {
            info: json!({"version": "7.2.0", "supported_commands": [{"name": "guest-ping", "enabled": true, "success-response": true}]}),
            os: json!({"id": "debian", "kernel-release": "6.1.0", "pretty-name": "Debian 12", "version-id": "12"}),
            host: json!({"host-name": "vm1"}),
            zone: json!({"zone": "UTC", "offset": 0}),
            logged_in: json!([{"user": "root", "login-time": 12.5}]),
            mounted: json!([{"name": "vda1", "mountpoint": "/", "type": "ext4", "used-bytes": 5_000_000_000i64, "total-bytes": 9_000_000_000i64,
                "disk": [{"bus-type": "virtio", "serial": "x"}]}]),
            frozen: json!("thawed"),
        });
        insta::assert_json_snapshot!(object);
    }

    #[test]
    fn endless_lists_and_texts_are_cut() {
        let many: Vec<Value> = (0..100_000)
            .map(|i| json!({"name": "e".repeat(5000), "hardware-address": format!("02:00:00:00:{i}")}))
            .collect();
        let names = interface_names(&Value::Array(many));
        assert!(names.len() <= MAX_ITEMS);
        assert!(names.values().all(|name| name.len() <= MAX_TEXT));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,20}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 32, 6, |inner| {
            let keys = prop::sample::select(vec![
                "name",
                "disk",
                "user",
                "login-time",
                "hardware-address",
                "supported_commands",
                "total-bytes",
            ]);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
                prop::collection::vec((keys, inner), 0..6)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_a_guest_says_is_survived(answer in any_json()) {
            os_info(&answer);
            interface_names(&answer);
            users(&answer);
            filesystems(&answer);
            let a = answer.clone();
            os_info_object(&Answers { info: a.clone(), os: a.clone(), host: a.clone(), zone: a.clone(), logged_in: a.clone(), mounted: a.clone(), frozen: a });
        }
    }
}
