//! VMIs and node facts for tests.

use std::collections::BTreeMap;

use fv_api::VirtualMachineInstance;
use fv_domain::{
    Accelerator, DiskFormat, DiskSource, DomainFacts, EfiFiles, InterfaceFacts, Owner, SocketPaths, SourceKind,
};
use serde_json::{Value, json};

pub(crate) const UID: &str = "6f1a3f5e-43a1-4c0c-9a3f-0123456789ab";

/// A VMI with this spec.
pub(crate) fn vmi(spec: Value) -> VirtualMachineInstance {
    serde_json::from_value(json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "metadata": {"name": "demo", "namespace": "default", "uid": UID},
        "spec": spec,
    }))
    .unwrap()
}

/// `base` with `change` merged into it.
pub(crate) fn merged(mut base: Value, change: Value) -> Value {
    fn merge(base: &mut Value, change: Value) {
        match (base, change) {
            (Value::Object(base), Value::Object(change)) => {
                for (key, value) in change {
                    merge(base.entry(key).or_insert(Value::Null), value);
                }
            }
            (base, change) => *base = change,
        }
    }
    merge(&mut base, change);
    base
}

/// A small ordinary VMI.
pub(crate) fn plain() -> Value {
    json!({
        "domain": {
            "memory": {"guest": "64M"},
            "devices": {
                "disks": [
                    {"name": "root", "disk": {"bus": "virtio"}},
                    {"name": "init", "disk": {"bus": "sata"}},
                ],
                "interfaces": [{"name": "default", "masquerade": {}}],
            },
        },
        "networks": [{"name": "default", "pod": {}}],
    })
}

/// A node without KVM that prepared everything for volumes `root`, `init`, `data` and interfaces `default`, `second`.
pub(crate) fn facts() -> DomainFacts {
    let disk = |name: &str, format| DiskSource {
        kind: SourceKind::File,
        path: format!("/var/lib/ferrovirt/node/vmis/{UID}/disks/{name}"),
        format,
        read_only: false,
        direct_io: true,
        preallocated: false,
    };
    DomainFacts {
        instance_id: "1a2b3c4d".into(),
        pod_uid: "0d9c8b7a-0000-4000-8000-000000000001".into(),
        accelerator: Accelerator::Tcg,
        arch: "x86_64".into(),
        emulator: "/usr/bin/qemu-system-x86_64".into(),
        machine_type: "pc-q35-7.2".into(),
        disks: BTreeMap::from([
            ("root".into(), disk("root.qcow2", DiskFormat::Qcow2)),
            ("init".into(), disk("init.iso", DiskFormat::Raw)),
            (
                "data".into(),
                DiskSource { kind: SourceKind::Block, path: "/dev/loop7".into(), ..disk("data", DiskFormat::Raw) },
            ),
        ]),
        interfaces: BTreeMap::from([
            (
                "default".into(),
                InterfaceFacts {
                    tap: "fvt-0a1b2c3d".into(),
                    mac: "02:11:22:33:44:55".into(),
                    mtu: Some(1450),
                    queues: 1,
                },
            ),
            (
                "second".into(),
                InterfaceFacts { tap: "fvt-0a1b2c3e".into(), mac: "02-11-22-AA-BB-CC".into(), mtu: None, queues: 2 },
            ),
        ]),
        sockets: SocketPaths {
            serial: format!("/run/ferrovirt/1a2b3c4d/vmis/{UID}/virt-serial0"),
            vnc: format!("/run/ferrovirt/1a2b3c4d/vmis/{UID}/virt-vnc"),
            agent: format!("/run/ferrovirt/1a2b3c4d/vmis/{UID}/agent"),
        },
        owner: Owner { uid: 1_000_000_007, gid: 107 },
        efi: Some(EfiFiles {
            code: "/usr/share/OVMF/OVMF_CODE_4M.fd".into(),
            vars_template: "/usr/share/OVMF/OVMF_VARS_4M.fd".into(),
            vars: format!("/var/lib/ferrovirt/node/vmis/{UID}/nvram.fd"),
            secure: false,
        }),
        partition: Some("/ferrovirt-1a2b3c4d-vms".into()),
    }
}

pub(crate) fn kvm() -> DomainFacts {
    DomainFacts { accelerator: Accelerator::Kvm, ..facts() }
}
