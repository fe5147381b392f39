use super::*;

/// A VM stored when the rules were laxer (or by another version): today nearly everything about it is refused.
fn relic() -> Value {
    let mut vm = Write::create(Kind::VirtualMachine).stored(plainest());
    vm["spec"]["running"] = json!(true);
    set(&mut vm, "/spec/template/spec/evictionStrategy", json!("LiveMigrate"));
    set(&mut vm, "/spec/template/spec/domain/devices/disks/0/disk/bus", json!("scsi"));
    set(&mut vm, "/spec/template/spec/domain/devices/gpus", json!([{"name": "g", "deviceName": "x"}]));
    set(&mut vm, "/spec/template/spec/domain/machine/type", json!("pc-i440fx-2.0"));
    set(&mut vm, "/spec/template/spec/volumes/-", json!({"name": "data", "dataVolume": {"name": "c"}}));
    set(&mut vm, "/spec/template/spec/domain/resources/requests/memory", json!("12k"));
    assert!(Write::create(Kind::VirtualMachine).causes(vm.clone()).len() >= 6);
    vm
}

#[test]
fn a_stored_object_that_is_refused_today_can_be_labelled_stopped_and_deleted() {
    let old = relic();
    let update = Write::update(Kind::VirtualMachine, &old);

    let mut labelled = old.clone();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    update.stored(labelled);

    let mut stopped = old.clone();
    stopped["spec"]["running"] = json!(false);
    update.stored(stopped);

    let mut halted = old.clone();
    halted["spec"].as_object_mut().unwrap().remove("running");
    halted["spec"]["runStrategy"] = json!("Halted");
    update.stored(halted);

    let mut deleted = old.clone();
    deleted["metadata"]["deletionTimestamp"] = json!("2026-11-21T10:00:00Z");
    deleted["metadata"]["finalizers"] = json!([]);
    deleted["spec"] = json!({"nonsense": true});
    update.stored(deleted);

    let request = Request { operation: Operation::Delete, ..update.request() };
    assert!(validate(&request, &old).is_admitted());
}

#[test]
fn an_update_is_refused_for_what_it_makes_worse_only() {
    let old = relic();
    let update = Write::update(Kind::VirtualMachine, &old);
    let mut worse = old.clone();
    set(&mut worse, "/spec/template/spec/domain/devices/disks/1/disk/bus", json!("usb"));
    let causes = update.causes(worse);
    let fields: Vec<&str> = causes.iter().map(|cause| cause.field.as_str()).collect();
    assert_eq!(fields, ["spec.template.spec.domain.devices.disks[1].disk.bus"]);

    let mut other = old.clone();
    set(&mut other, "/spec/template/spec/evictionStrategy", json!("External"));
    assert_eq!(update.causes(other).len(), 1, "another bad value is a new fault");

    let mut shorter = old.clone();
    shorter.pointer_mut("/spec/template/spec/domain/devices/disks").unwrap().as_array_mut().unwrap().swap(0, 1);
    assert_eq!(update.causes(shorter), [], "faults that only moved are old ones");
}

#[test]
fn an_old_instance_can_be_labelled_and_its_status_written() {
    let mut old = Write::create(Kind::VirtualMachineInstance).stored(instance());
    set(&mut old, "/spec/domain/devices/gpus", json!([{"name": "g"}]));
    set(&mut old, "/spec/domain/memory/guest", json!("nonsense"));
    let mut labelled = old.clone();
    set(&mut labelled, "/metadata/labels/a", json!("b"));
    assert_eq!(Write::update(Kind::VirtualMachineInstance, &old).causes(labelled.clone()), []);
    labelled["status"]["phase"] = json!("Failed");
    assert_eq!(Write::update(Kind::VirtualMachineInstance, &old).by(component()).causes(labelled), []);
}
