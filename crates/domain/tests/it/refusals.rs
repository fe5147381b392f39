//! What is refused, and that the refusal names field and value.

use fv_domain::{DomainError, DomainFacts, build};
use serde_json::json;

use crate::support::{facts, merged, plain, vmi};

#[test]
fn bad_values_are_refused_with_field_and_value() {
    for (change, field, value) in [
        (json!({"domain": {"memory": {"guest": "1"}}}), "spec.domain.memory.guest", "1"),
        (json!({"domain": {"memory": {"guest": "8192Pi"}}}), "spec.domain.memory.guest", "between 1Mi and 1Pi"),
        (json!({"domain": {"cpu": {"cores": -1}}}), "spec.domain.cpu.cores", "-1"),
        (json!({"domain": {"cpu": {"cores": 5000000000i64}}}), "spec.domain.cpu.cores", "5000000000"),
        (
            json!({"domain": {"cpu": {"cores": 4000000000u32, "sockets": 4000000000u32}}}),
            "spec.domain.cpu",
            "more than 4096",
        ),
        (
            json!({"domain": {"cpu": {"sockets": 2, "maxSockets": 1}}}),
            "spec.domain.cpu.maxSockets",
            "less than sockets",
        ),
        (json!({"domain": {"cpu": {"features": [{"name": "a b"}]}}}), "spec.domain.cpu.features[0].name", "a b"),
        (
            json!({"domain": {"cpu": {"features": [{"name": "a", "policy": "x"}]}}}),
            "features[0].policy",
            "force, require",
        ),
        (json!({"domain": {"firmware": {"uuid": "nope"}}}), "spec.domain.firmware.uuid", "nope"),
        (json!({"domain": {"firmware": {"serial": "a\u{1}b"}}}), "spec.domain.firmware.serial", "U+0001"),
        (json!({"domain": {"rebootPolicy": "x"}}), "spec.domain.rebootPolicy", "Reboot or Terminate"),
        (
            json!({"domain": {"clock": {"timer": {"rtc": {"track": "x"}}}}}),
            "spec.domain.clock.timer.rtc.track",
            "guest, wall",
        ),
        (
            json!({"domain": {"devices": {"disks": [{"name": "root", "disk": {"bus": "ide"}}]}}}),
            "disks[0].disk.bus",
            "ide",
        ),
        (
            json!({"domain": {"devices": {"disks": [{"name": "root", "disk": {"readonly": true}}]}}}),
            "disks[0].disk.bus",
            "read-only",
        ),
        (json!({"domain": {"devices": {"disks": [{"name": "root", "cache": "unsafe"}]}}}), "disks[0].cache", "unsafe"),
        (
            json!({"domain": {"devices": {"disks": [{"name": "root", "io": "native", "cache": "writeback"}]}}}),
            "disks[0].io",
            "cache none",
        ),
        (json!({"domain": {"devices": {"disks": [{"name": "root", "bootOrder": 0}]}}}), "disks[0].bootOrder", "0"),
        (
            json!({"domain": {"devices": {"disks": [{"name": "root", "cdrom": {"bus": "virtio"}}]}}}),
            "disks[0].cdrom.bus",
            "virtio",
        ),
        (
            json!({"domain": {"devices": {"interfaces": [{"name": "default", "model": "ne3k"}]}}}),
            "interfaces[0].model",
            "ne3k",
        ),
        (json!({"domain": {"devices": {"inputs": [{"name": "a", "type": "mouse"}]}}}), "inputs[0].type", "mouse"),
        (
            json!({"domain": {"devices": {"autoattachGraphicsDevice": false, "video": {"type": "vga"}}}}),
            "video.type",
            "vga",
        ),
        (
            json!({"domain": {"features": {"smm": {"enabled": false}}, "firmware": {"bootloader": {"efi": {}}}}}),
            "smm",
            "Secure Boot",
        ),
    ] {
        let mut facts = facts();
        if let Some(efi) = facts.efi.as_mut() {
            efi.secure = true;
        }
        let error = build(&vmi(merged(plain(), change.clone())), &facts).unwrap_err().to_string();
        assert!(error.contains(field) && error.contains(value), "{change}: {error}");
    }
}

#[test]
fn fields_without_an_implementation_are_refused_by_name() {
    for (change, field) in [
        (json!({"domain": {"memory": {"hugepages": {"pageSize": "2Mi"}}}}), "spec.domain.memory.hugepages"),
        (json!({"domain": {"cpu": {"dedicatedCpuPlacement": true}}}), "spec.domain.cpu.dedicatedCpuPlacement"),
        (json!({"domain": {"devices": {"tpm": {}}}}), "spec.domain.devices.tpm"),
        (json!({"domain": {"devices": {"gpus": [{"name": "g"}]}}}), "spec.domain.devices.gpus"),
        (json!({"domain": {"devices": {"disks": [{"name": "root", "lun": {}}]}}}), "disks[0].lun"),
        (json!({"domain": {"launchSecurity": {}}}), "spec.domain.launchSecurity"),
    ] {
        let error = build(&vmi(merged(plain(), change)), &facts()).unwrap_err();
        assert!(matches!(&error, DomainError::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(field), "{error}");
    }
}

#[test]
fn what_the_node_did_not_prepare_is_named() {
    let mut none = facts();
    none.disks.clear();
    let error = build(&vmi(plain()), &none).unwrap_err().to_string();
    assert!(error.contains("\"root\"") && error.contains("volume"), "{error}");
    let mut none = facts();
    none.interfaces.clear();
    assert!(matches!(build(&vmi(plain()), &none), Err(DomainError::MissingFact { what: "tap device", .. })));
    let efi = merged(plain(), json!({"domain": {"firmware": {"bootloader": {"efi": {"secureBoot": false}}}}}));
    assert!(matches!(build(&vmi(efi), &DomainFacts { efi: None, ..facts() }), Err(DomainError::MissingFact { .. })));
}

#[test]
fn facts_that_cannot_be_written_are_refused() {
    type Change = fn(&mut DomainFacts);
    let changes: [Change; 6] = [
        |facts| facts.emulator = "qemu".into(),
        |facts| facts.sockets.serial = format!("/{}", "x".repeat(120)),
        |facts| facts.interfaces.get_mut("default").unwrap().mac = "01:00:00:00:00:01".into(),
        |facts| facts.interfaces.get_mut("default").unwrap().mac = "02:00:00:00:01".into(),
        |facts| facts.interfaces.get_mut("default").unwrap().tap = "a-name-that-is-too-long".into(),
        |facts| facts.disks.get_mut("root").unwrap().path = "/a\nb".into(),
    ];
    for change in changes {
        let mut facts = facts();
        change(&mut facts);
        assert!(matches!(build(&vmi(plain()), &facts), Err(DomainError::InvalidFact { .. })));
    }
}

#[test]
fn an_object_without_a_proper_uid_has_no_domain() {
    let mut object = vmi(plain());
    object.metadata.uid = Some("not-a-uuid".into());
    assert_eq!(build(&object, &facts()), Err(DomainError::InvalidUid { value: "not-a-uuid".into() }));
    object.metadata.uid = None;
    assert_eq!(build(&object, &facts()), Err(DomainError::MissingUid));
}
