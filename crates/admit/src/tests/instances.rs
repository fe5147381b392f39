use super::*;

#[test]
fn only_components_write_the_status() {
    let mut sent = instance();
    sent["status"] = json!({"phase": "Running", "nodeName": "node9"});
    let stored = Write::create(Kind::VirtualMachineInstance).stored(sent);
    assert_eq!(stored["status"]["phase"], "Pending");
    assert!(stored["status"].get("nodeName").is_none());

    let mut lie = stored.clone();
    lie["status"] = json!({"phase": "Succeeded"});
    let after = Write::update(Kind::VirtualMachineInstance, &stored).stored(lie.clone());
    assert_eq!(after["status"], stored["status"]);
    let after = Write::update(Kind::VirtualMachineInstance, &stored).by(component()).stored(lie.clone());
    assert_eq!(after["status"], lie["status"]);

    let mut bare = stored.clone();
    bare.as_object_mut().unwrap().remove("status");
    assert_eq!(Write::update(Kind::VirtualMachineInstance, &stored).stored(bare)["status"], stored["status"]);
}

#[test]
fn the_spec_is_for_components_to_change() {
    let stored = Write::create(Kind::VirtualMachineInstance).stored(instance());
    let mut changed = stored.clone();
    set(&mut changed, "/spec/domain/cpu/sockets", json!(2));
    let causes = Write::update(Kind::VirtualMachineInstance, &stored).causes(changed.clone());
    let [cause] = causes.as_slice() else { panic!("{causes:?}") };
    assert_eq!((cause.message.as_str(), cause.field.as_str()), ("update of VMI object is restricted", ""));
    assert_eq!(cause.reason, crate::CauseReason::FieldValueNotSupported);
    assert_eq!(Write::update(Kind::VirtualMachineInstance, &stored).by(component()).causes(changed), []);
}

#[test]
fn a_spec_written_otherwise_by_a_typed_client_is_the_same_spec() {
    let mut sent = instance();
    set(&mut sent, "/spec/domain/resources/requests/memory", json!("1024Mi"));
    set(&mut sent, "/spec/domain/devices/disks/0/disk/readonly", json!(false));
    set(&mut sent, "/spec/domain/devices/autoattachMemBalloon", json!(false));
    set(&mut sent, "/spec/hostname", json!(""));
    let stored = Write::create(Kind::VirtualMachineInstance).stored(sent);

    let mut rewritten = stored.clone();
    set(&mut rewritten, "/spec/domain/resources/requests/memory", json!("1Gi"));
    rewritten.pointer_mut("/spec/domain/devices/disks/0/disk").unwrap().as_object_mut().unwrap().remove("readonly");
    rewritten["spec"].as_object_mut().unwrap().remove("hostname");
    rewritten["spec"]["accessCredentials"] = Value::Null;
    assert_eq!(Write::update(Kind::VirtualMachineInstance, &stored).causes(rewritten.clone()), []);

    let devices = rewritten.pointer_mut("/spec/domain/devices").unwrap().as_object_mut().unwrap();
    devices.remove("autoattachMemBalloon");
    let causes = Write::update(Kind::VirtualMachineInstance, &stored).causes(rewritten);
    assert_eq!(causes.len(), 1, "false and absent differ for a switch that is on by default");
}

#[test]
fn reserved_labels_are_for_components() {
    let text = "creation of the following reserved kubevirt.io/ labels on a VMI object is prohibited";
    let mut labelled = instance();
    set(&mut labelled, "/metadata/labels", json!({"kubevirt.io/nodeName": "n", "kubevirt.io/mine": "x"}));
    let causes = Write::create(Kind::VirtualMachineInstance).causes(labelled.clone());
    assert_eq!(
        causes.iter().map(|c| (c.message.as_str(), c.field.as_str())).collect::<Vec<_>>(),
        [(text, "metadata.labels")]
    );
    let stored = Write::create(Kind::VirtualMachineInstance).by(component()).stored(labelled);

    let mut moved = stored.clone();
    moved["metadata"]["labels"]["kubevirt.io/nodeName"] = json!("m");
    assert_eq!(Write::update(Kind::VirtualMachineInstance, &stored).causes(moved.clone()).len(), 1);
    assert_eq!(Write::update(Kind::VirtualMachineInstance, &stored).by(component()).causes(moved), []);
    let mut free = stored.clone();
    free["metadata"]["labels"]["mine"] = json!("y");
    assert_eq!(Write::update(Kind::VirtualMachineInstance, &stored).causes(free), []);

    let mut vm = plainest();
    vm["spec"]["template"]["metadata"]["labels"] = json!({"kubevirt.io/nodeName": "n"});
    let causes = Write::create(Kind::VirtualMachine).causes(vm);
    assert_eq!(causes[0].field, "spec.template.metadata.labels");
}

#[test]
fn an_instance_needs_memory_and_a_disk_for_every_volume() {
    let mut vmi = instance();
    vmi["spec"]["domain"]["resources"] = json!({});
    let causes = Write::create(Kind::VirtualMachineInstance).causes(vmi);
    assert_eq!(
        causes[0].message,
        "no memory requested, at least one of 'spec.domain.memory.guest', 'spec.domain.memory.hugepages.pageSize' or \
         'spec.domain.resources.requests.memory' must be set"
    );
    let mut vmi = instance();
    vmi["spec"]["domain"]["devices"]["disks"][0]["name"] = json!("other");
    let causes = Write::create(Kind::VirtualMachineInstance).causes(vmi);
    assert_eq!(causes[0].message, "spec.domain.devices.disks[0].Name 'other' not found.");
}

#[test]
fn hyperv_features_keep_what_they_need() {
    let mut vmi = instance();
    set(&mut vmi, "/spec/domain/features", json!({"hyperv": {"synic": {}, "vpindex": {"enabled": false}}}));
    let causes = Write::create(Kind::VirtualMachineInstance).causes(vmi);
    assert_eq!(
        causes[0].message,
        "'spec.domain.features.hyperv.synic' requires 'spec.domain.features.hyperv.vpindex', which was disabled."
    );
}
