//! Golden files: one VMI each, checked against libvirt's schema and by a define on libvirt's test driver.

use std::collections::BTreeMap;
use std::process::Command;

use fv_domain::{DiskFormat, DiskSource, DomainFacts, DomainMetadata, EfiFiles, SourceKind, build};
use serde_json::{Value, json};

use crate::support::{UID, facts, kvm, merged, plain, vmi};

/// Builds, compares with the golden file, and lets libvirt judge.
fn check(name: &str, spec: Value, facts: &DomainFacts) -> fv_domain::BuiltDomain {
    let built = build(&vmi(spec), facts).unwrap();
    insta::with_settings!({snapshot_path => "../golden", prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!(name, built.xml);
    });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("domain.xml");
    std::fs::write(&file, &built.xml).unwrap();
    run(Command::new("virt-xml-validate").arg(&file).arg("domain"));
    define_on_test_driver(&built.xml, dir.path());
    let metadata = DomainMetadata::parse(&built.xml).unwrap();
    assert_eq!((metadata.vmi_uid.to_string().as_str(), metadata.instance_id.as_str()), (UID, "1a2b3c4d"));
    assert_eq!(built.name, format!("fv-{UID}"));
    built
}

/// libvirt's parser and its checks of cross-references, without a hypervisor. The test driver has domains of its own type only and
/// knows no `qemu:` namespace.
fn define_on_test_driver(xml: &str, dir: &std::path::Path) {
    let mut text = xml.replacen("type=\"kvm\"", "type=\"test\"", 1).replacen("type=\"qemu\"", "type=\"test\"", 1);
    if let Some(start) = text.find("  <qemu:commandline>") {
        let end = text.find("</qemu:commandline>\n").unwrap() + "</qemu:commandline>\n".len();
        text.replace_range(start..end, "");
    }
    let file = dir.join("test.xml");
    std::fs::write(&file, text).unwrap();
    run(Command::new("virsh").args(["-q", "-c", "test:///default", "define", "--validate"]).arg(&file));
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn plain_vmi_under_emulation() {
    let built = check("plain_tcg", plain(), &facts());
    assert_eq!(
        built.notes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["cpu model host-model needs hardware virtualisation, which this node lacks: the guest gets max"]
    );
    let targets: Vec<_> = built.disks.iter().map(|disk| (disk.name.as_str(), disk.target.as_str())).collect();
    assert_eq!(targets, [("root", "vda"), ("init", "sda")]);
}

#[test]
fn plain_vmi_with_kvm() {
    let built = check("plain_kvm", plain(), &kvm());
    assert_eq!(built.notes, []);
}

#[test]
fn least_vmi() {
    let spec = json!({"domain": {"resources": {"requests": {"memory": "64M", "cpu": "2"}}, "devices": {
        "autoattachGraphicsDevice": false, "autoattachSerialConsole": false, "autoattachMemBalloon": false,
    }}});
    check("least", spec, &facts());
}

#[test]
fn identity_of_the_guest() {
    let spec = merged(
        plain(),
        json!({"domain": {
            "firmware": {"uuid": "5d307ca9-b3ef-428c-8861-06e72d69f223", "serial": "e4686d2c-6e8d-4335-b8fd-81bee22f4815"},
            "chassis": {"manufacturer": "Acme & Sons", "serial": "<1>", "sku": "a,b"},
        }}),
    );
    check("identity", spec, &facts());
}

#[test]
fn uefi_with_and_without_secure_boot() {
    let efi = |secure: bool| {
        merged(plain(), json!({"domain": {"firmware": {"bootloader": {"efi": {"secureBoot": secure}}}}}))
    };
    check("efi", efi(false), &facts());
    let secure = EfiFiles {
        code: "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd".into(),
        vars_template: "/usr/share/OVMF/OVMF_VARS_4M.ms.fd".into(),
        secure: true,
        ..facts().efi.unwrap()
    };
    check("efi_secure_boot", efi(true), &DomainFacts { efi: Some(secure), ..kvm() });
}

#[test]
fn images_and_devices_in_volumes_of_the_pod() {
    let spec = merged(
        plain(),
        json!({"domain": {"devices": {"disks": [
            {"name": "claim", "disk": {"bus": "virtio"}},
            {"name": "fixed", "cdrom": {"bus": "sata"}},
            {"name": "device", "disk": {"bus": "virtio"}},
            {"name": "golden", "disk": {"bus": "virtio"}},
        ]}}}),
    );
    let image = |name: &str, kind| DiskSource {
        kind,
        path: format!("/run/ferrovirt/1a2b3c4d/volumes/{UID}/{name}"),
        format: DiskFormat::Raw,
        read_only: name == "fixed",
        direct_io: true,
        preallocated: name == "claim",
    };
    let mut facts = facts();
    facts.disks = BTreeMap::from([
        ("claim".into(), image("claim", SourceKind::File)),
        ("fixed".into(), image("fixed", SourceKind::File)),
        ("device".into(), image("device", SourceKind::Block)),
        (
            "golden".into(),
            DiskSource { direct_io: false, format: DiskFormat::Qcow2, ..image("golden", SourceKind::File) },
        ),
    ]);
    check("pod_volumes", spec, &facts);
}

#[test]
fn disks_with_all_their_options() {
    let spec = merged(
        plain(),
        json!({"domain": {"devices": {"blockMultiQueue": true, "disks": [
            {"name": "root", "disk": {"bus": "virtio", "pciAddress": "0000:07:00.0"}, "bootOrder": 2, "cache": "writeback",
             "io": "threads", "errorPolicy": "report", "serial": "DISK_1.a+b", "shareable": true,
             "blockSize": {"custom": {"logical": 4096, "physical": 4096}}},
            {"name": "data", "disk": {"bus": "virtio", "readonly": true}, "errorPolicy": "enospace"},
            {"name": "init", "cdrom": {"bus": "sata", "tray": "closed"}, "bootOrder": 1},
        ]}, "cpu": {"sockets": 2, "cores": 2, "threads": 1}}}),
    );
    check("disks", spec, &facts());
}

#[test]
fn interfaces_with_all_their_options() {
    let spec = merged(
        plain(),
        json!({"domain": {"devices": {"interfaces": [
            {"name": "default", "bridge": {}, "model": "e1000e", "bootOrder": 1, "acpiIndex": 101},
            {"name": "second", "bridge": {}, "state": "down", "pciAddress": "0000:08:00.0"},
            {"name": "gone", "bridge": {}, "state": "absent"},
        ]}}}),
    );
    check("interfaces", spec, &facts());
}

#[test]
fn cpu_features_clock_and_devices() {
    let spec = merged(
        plain(),
        json!({"domain": {
            "cpu": {"sockets": 1, "cores": 2, "threads": 2, "maxSockets": 4, "model": "Haswell-noTSX", "features": [
                {"name": "pcid"}, {"name": "vmx", "policy": "disable"}, {"name": "aes", "policy": "optional"}]},
            "clock": {"utc": {"offsetSeconds": 3600}, "timer": {
                "rtc": {"tickPolicy": "catchup", "track": "guest"}, "pit": {"tickPolicy": "delay"}, "hpet": {"present": false},
                "kvm": {"present": true}, "hyperv": {"present": true}}},
            "features": {"apic": {"endOfInterrupt": true}, "kvm": {"hidden": true}, "pvspinlock": {"enabled": false}, "hyperv": {
                "relaxed": {}, "vapic": {}, "vpindex": {}, "runtime": {}, "synic": {}, "synictimer": {"direct": {}},
                "spinlocks": {"spinlocks": 8191}, "vendorid": {"vendorid": "KVM Hv"}, "tlbflush": {}, "ipi": {"enabled": false}}},
            "rebootPolicy": "Terminate",
            "devices": {"rng": {}, "autoattachInputDevice": true, "inputs": [
                {"name": "t1", "type": "tablet", "bus": "usb"}, {"name": "t2", "type": "tablet", "bus": "virtio"}],
                "watchdog": {"name": "dog", "i6300esb": {"action": "poweroff"}}, "video": {"type": "bochs"},
                "panicDevices": [{"model": "isa"}], "useVirtioTransitional": true},
        }}),
    );
    check("rich_kvm", spec.clone(), &kvm());
    let built = check("rich_tcg", spec, &facts());
    assert_eq!(built.notes.len(), 6, "{:?}", built.notes);
}

#[test]
fn host_passthrough_timezone_and_no_acpi() {
    let spec = merged(
        plain(),
        json!({"domain": {"cpu": {"model": "host-passthrough"}, "clock": {"timezone": "Europe/Berlin"},
            "features": {"acpi": {"enabled": false}}, "firmware": {"bootloader": {"bios": {"useSerial": true}}}}}),
    );
    assert!(!fv_domain::has_acpi(&vmi(spec.clone())));
    check("host_passthrough", spec, &kvm());
}
