use proptest::prelude::*;

use super::*;

/// JSON of any shape, rich in words of the API so that it gets deep into admission.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("64Mi".to_owned()),
        Just("-1".to_owned()),
        Just("default".to_owned()),
        Just("virtio".to_owned()),
        Just("latest".to_owned()),
        "\\PC{0,8}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 5, |inner| {
        let key = prop::sample::select(vec![
            "accessCredentials",
            "affinity",
            "bootOrder",
            "bridge",
            "bus",
            "capacity",
            "cdrom",
            "cloudInitNoCloud",
            "clock",
            "containerDisk",
            "cores",
            "cpu",
            "devices",
            "disk",
            "disks",
            "domain",
            "efi",
            "emptyDisk",
            "enabled",
            "features",
            "firmware",
            "guest",
            "hyperv",
            "image",
            "interfaces",
            "labels",
            "limits",
            "machine",
            "masquerade",
            "memory",
            "metadata",
            "multus",
            "name",
            "networks",
            "pod",
            "ports",
            "requests",
            "resources",
            "running",
            "runStrategy",
            "serial",
            "sockets",
            "spec",
            "status",
            "synic",
            "template",
            "timer",
            "type",
            "userData",
            "uuid",
            "volumes",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..5)
                .prop_map(|fields| fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Value>()),
        ]
    })
}

fn any_kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(vec![Kind::VirtualMachine, Kind::VirtualMachineInstance])
}

/// Where a generated value is put into a good object.
fn any_place() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "/spec",
        "/spec/domain",
        "/spec/domain/cpu",
        "/spec/domain/memory",
        "/spec/domain/resources",
        "/spec/domain/devices",
        "/spec/domain/devices/disks",
        "/spec/domain/devices/disks/0",
        "/spec/domain/devices/interfaces",
        "/spec/domain/features",
        "/spec/domain/features/hyperv",
        "/spec/domain/clock",
        "/spec/domain/firmware",
        "/spec/volumes",
        "/spec/volumes/0",
        "/spec/networks",
        "/spec/affinity",
        "/spec/tolerations",
        "/metadata",
        "/metadata/labels",
        "/metadata/annotations",
        "/status",
    ])
}

fn broken(place: &str, value: Value) -> Value {
    let mut vmi = instance();
    set(&mut vmi, place, value);
    vmi
}

fn as_vm(vmi: &Value) -> Value {
    json!({"metadata": vmi["metadata"], "spec": {"runStrategy": "Always", "template": {"spec": vmi["spec"], "metadata": vmi["metadata"]}}})
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn admission_never_panics(kind in any_kind(), object in any_json(), old in prop::option::of(any_json())) {
        let write = Write { old: old.as_ref(), ..Write::create(kind) };
        let _ = write.admit(object.clone());
        let _ = write.admit(json!({"spec": object}));
        let _ = crate::renamed_fields(kind, &object);
    }

    #[test]
    fn defaults_are_stable(place in any_place(), value in any_json()) {
        let vmi = broken(place, value);
        for (kind, object) in [(Kind::VirtualMachineInstance, vmi.clone()), (Kind::VirtualMachine, as_vm(&vmi))] {
            let write = Write::create(kind);
            let (once, first) = write.admit(object);
            let (twice, second) = write.admit(once.clone());
            prop_assert_eq!(&once, &twice);
            prop_assert_eq!(first, second);
        }
    }

    #[test]
    fn an_unchanged_object_is_never_refused(place in any_place(), value in any_json(), label in "[a-z]{1,5}") {
        let vmi = broken(place, value);
        for (kind, old) in [(Kind::VirtualMachineInstance, vmi.clone()), (Kind::VirtualMachine, as_vm(&vmi))] {
            let mut new = old.clone();
            if new.pointer("/metadata/labels").is_some_and(Value::is_object) {
                new["metadata"]["labels"][&label] = json!("x");
            }
            prop_assert_eq!(Write::update(kind, &old).causes(new), vec![]);
        }
    }

    #[test]
    fn any_vm_can_be_stopped(place in any_place(), value in any_json()) {
        let old = as_vm(&broken(place, value));
        let mut stopped = old.clone();
        stopped["spec"]["runStrategy"] = json!("Halted");
        prop_assert_eq!(Write::update(Kind::VirtualMachine, &old).causes(stopped), vec![]);
    }
}
