use super::*;

/// Whether everything in `part` is in `whole`, unchanged.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, part)| whole.get(key).is_some_and(|whole| contains(whole, part)))
        }
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() >= part.len() && whole.iter().zip(part).all(|(whole, part)| contains(whole, part))
        }
        (whole, part) => whole == part,
    }
}

#[test]
fn the_plainest_manifest_is_admitted_and_keeps_every_word() {
    let (vm, verdict) = Write::create(Kind::VirtualMachine).admit(plainest());
    assert_eq!(verdict.causes, []);
    assert_eq!(verdict.warnings, ["spec.running is deprecated, please use spec.runStrategy instead."]);
    assert!(contains(&vm, &plainest()), "{vm:#}");
    insta::assert_json_snapshot!("defaulted_vm", vm);

    let vmi = Write::create(Kind::VirtualMachineInstance).by(component()).stored(instance_of(&vm));
    assert!(contains(&vmi, &instance_of(&vm)), "{vmi:#}");
    insta::assert_json_snapshot!("defaulted_vmi", vmi);
}

#[test]
fn ports_of_a_binding_that_opens_all_draw_a_warning() {
    let interface = |binding: &str| json!([{"name": "default", binding: {}, "ports": [{"port": 80}]}]);
    for (binding, warns) in [("bridge", true), ("masquerade", false)] {
        let mut vmi = instance();
        set(&mut vmi, "/spec/domain/devices/interfaces", interface(binding));
        set(&mut vmi, "/spec/networks", json!([{"name": "default", "pod": {}}]));
        let (_, verdict) = Write::create(Kind::VirtualMachineInstance).admit(vmi);
        assert_eq!(verdict.causes, []);
        let warned =
            verdict.warnings.iter().any(|w| w.starts_with("spec.domain.devices.interfaces[0].ports has no effect"));
        assert_eq!(warned, warns, "{binding}: {:?}", verdict.warnings);
    }
}

#[test]
fn a_detailed_instance_is_defaulted_as_upstream_does() {
    let mut vmi = instance();
    set(&mut vmi, "/spec/domain/resources", json!({"limits": {"cpu": "1500m", "memory": "1Gi"}}));
    set(
        &mut vmi,
        "/spec/domain/clock",
        json!({"utc": {}, "timer": {"hpet": {"present": false}, "rtc": {}, "kvm": {}}}),
    );
    let hyperv = json!({"synictimer": {"direct": {}}, "spinlocks": {}, "tlbflush": {"enabled": false}, "evmcs": {}, "vapic": {}});
    set(&mut vmi, "/spec/domain/features", json!({"apic": {}, "smm": {}, "hyperv": hyperv}));
    set(
        &mut vmi,
        "/spec/domain/devices/disks",
        json!([{"name": "containerdisk"}, {"name": "cloudinitdisk", "cdrom": {}}]),
    );
    set(&mut vmi, "/spec/volumes/-", json!({"name": "scratch", "emptyDisk": {"capacity": "1Gi"}}));
    let vmi = Write::create(Kind::VirtualMachineInstance).stored(vmi);
    insta::assert_json_snapshot!("detailed_vmi", vmi["spec"]);
}

#[test]
fn topology_comes_from_limits_then_requests_then_one() {
    for (resources, cpu, sockets) in [
        (json!({}), json!({}), json!(1)),
        (json!({"requests": {"cpu": "500m"}}), json!({}), json!(1)),
        (json!({"requests": {"cpu": 3}}), json!({}), json!(3)),
        (json!({"requests": {"cpu": 1}, "limits": {"cpu": "2500m"}}), json!({}), json!(3)),
        (json!({"limits": {"cpu": 4}}), json!({"cores": 2}), Value::Null),
        (json!({"requests": {"cpu": "0"}}), json!({"cores": 0}), json!(1)),
    ] {
        let mut vmi = instance();
        set(&mut vmi, "/spec/domain/resources", resources.clone());
        set(&mut vmi, "/spec/domain/memory", json!({"guest": "64Mi"}));
        set(&mut vmi, "/spec/domain/cpu", cpu);
        let (vmi, _) = Write::create(Kind::VirtualMachineInstance).admit(vmi);
        assert_eq!(vmi["spec"]["domain"]["cpu"]["sockets"], sockets, "{resources}");
    }
}

#[test]
fn memory_of_the_guest_comes_from_what_is_asked_for() {
    for (domain, guest) in [
        (json!({"resources": {"requests": {"memory": "64M"}}}), json!("64M")),
        (json!({"resources": {"requests": {"memory": 134_217_728}}}), json!("134217728")),
        (json!({"resources": {"limits": {"memory": "1024Mi"}}}), json!("1Gi")),
        (json!({"resources": {"requests": {"memory": "1Gi"}}, "memory": {"guest": "512Mi"}}), json!("512Mi")),
        (json!({}), Value::Null),
    ] {
        let mut vmi = instance();
        vmi["spec"]["domain"] = domain.clone();
        let (vmi, _) = Write::create(Kind::VirtualMachineInstance).admit(vmi);
        assert_eq!(vmi["spec"]["domain"]["memory"]["guest"], guest, "{domain}");
    }
}

#[test]
fn only_a_vmi_that_says_nothing_about_networks_gets_one() {
    let write = Write::create(Kind::VirtualMachineInstance);
    let vmi = write.stored(instance());
    assert_eq!(vmi["spec"]["networks"], json!([{"name": "default", "pod": {}}]));
    assert_eq!(vmi["spec"]["domain"]["devices"]["interfaces"], json!([{"name": "default", "bridge": {}}]));

    let mut none = instance();
    set(&mut none, "/spec/domain/devices/autoattachPodInterface", json!(false));
    assert!(write.stored(none)["spec"].get("networks").is_none());

    let mut masquerade = Write::create(Kind::VirtualMachineInstance);
    masquerade.config.default_network_interface = fv_api::config::DefaultBinding::Masquerade;
    let vmi = masquerade.stored(instance());
    assert_eq!(vmi["spec"]["domain"]["devices"]["interfaces"], json!([{"name": "default", "masquerade": {}}]));
}

#[test]
fn configured_cpu_request_and_model_are_taken_over() {
    let mut write = Write::create(Kind::VirtualMachineInstance);
    write.config.cpu_request = Some(fv_api::Quantity::from_millis(250));
    write.config.cpu_model = Some("Penryn".into());
    let vmi = write.stored(instance());
    assert_eq!(vmi["spec"]["domain"]["resources"]["requests"]["cpu"], "250m");
    assert_eq!(vmi["spec"]["domain"]["cpu"]["model"], "Penryn");
    write.config.cpu_request = Some(fv_api::Quantity::from_millis(100));
    assert!(write.stored(instance())["spec"]["domain"]["resources"]["requests"].get("cpu").is_none());
}

#[test]
fn firmware_identity_is_given_to_a_vm_once_at_its_creation() {
    let write = Write::create(Kind::VirtualMachine);
    let vm = write.stored(plainest());
    let firmware = &vm["spec"]["template"]["spec"]["domain"]["firmware"];
    assert_eq!(firmware["uuid"], Uuid::from_u128(1).to_string());
    assert_eq!(firmware["serial"], Uuid::from_u128(2).to_string());

    let mut old = vm.clone();
    old["spec"]["template"]["spec"]["domain"].as_object_mut().unwrap().remove("firmware");
    let updated = Write::update(Kind::VirtualMachine, &old).stored(old.clone());
    assert!(
        updated["spec"]["template"]["spec"]["domain"].get("firmware").is_none(),
        "the VM controller decides for old VMs"
    );
}

#[test]
fn status_writes_and_deletions_are_not_touched() {
    let write = Write::create(Kind::VirtualMachine);
    for request in [
        Request { subresource: Some("status"), ..write.request() },
        Request { operation: Operation::Delete, ..write.request() },
    ] {
        let mut vm = plainest();
        vm["spec"]["runStrategy"] = json!("Sideways");
        let before = vm.clone();
        mutate(&request, &mut vm, &mut || Uuid::nil());
        assert_eq!(vm, before);
        assert!(validate(&request, &vm).is_admitted());
    }
}

#[test]
fn a_deletion_time_in_the_manifest_of_a_new_object_spares_it_nothing() {
    let write = Write::create(Kind::VirtualMachine);
    let mut vm = plainest();
    set(&mut vm, "/metadata/deletionTimestamp", json!("2026-11-21T10:00:00Z"));
    let (stored, verdict) = write.admit(vm.clone());
    assert_eq!(verdict.causes, []);
    assert_eq!(stored["spec"], write.stored(plainest())["spec"]);

    set(&mut vm, "/spec/runStrategy", json!("Sideways"));
    assert_ne!(write.causes(vm.clone()), []);

    // One that is really on its way out is let go as it is.
    assert_eq!(Write::update(Kind::VirtualMachine, &plainest()).stored(vm.clone()), vm);
}
