use super::*;
use fv_api::config::Engine;
use serde_json::{Value, json};

fn vmi(value: Value) -> VirtualMachineInstance {
    serde_json::from_value(value).expect("a VMI")
}

fn plain() -> Value {
    json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
        "metadata": {
            "name": "demo", "namespace": "default", "uid": "6ad4b1b4-6f5c-4d1e-9f4e-0c1b5a3f9a11",
            "labels": {"app": "web", "kubevirt.io/nodeName": "n1"},
            "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": "{}", "kubevirt.io/vm-generation": "3",
                "team": "blue"
            }
        },
        "spec": {
            "architecture": "amd64",
            "domain": {
                "cpu": {"cores": 2, "sockets": 1, "threads": 1},
                "memory": {"guest": "268435456"},
                "devices": {"disks": [{"name": "root", "disk": {"bus": "virtio"}}],
                            "interfaces": [{"name": "default", "masquerade": {}}]}
            },
            "networks": [{"name": "default", "pod": {}}],
            "volumes": [{"name": "root", "containerDisk": {"image": "registry.example/demo:1", "imagePullSecret": "reg"}}]
        }
    })
}

fn render(value: Value) -> Pod {
    launcher_pod(&vmi(value), &ClusterConfig::default(), &LauncherPodOptions::default())
}

fn requests(pod: &Pod) -> BTreeMap<String, String> {
    let resources = pod.spec.as_ref().and_then(|spec| spec.containers[0].resources.clone()).expect("resources");
    resources.requests.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect()
}

#[test]
fn plain_vmi_gives_the_golden_pod() {
    insta::assert_json_snapshot!(render(plain()));
}

#[test]
fn everything_a_user_may_set_on_the_pod_arrives_there() {
    let mut value = plain();
    let spec = value["spec"].as_object_mut().expect("object");
    spec.insert("nodeSelector".into(), json!({"disk": "ssd"}));
    spec.insert("tolerations".into(), json!([{"key": "gpu", "operator": "Exists"}]));
    spec.insert(
        "affinity".into(),
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]}}}),
    );
    spec.insert("hostname".into(), json!("web.example"));
    spec.insert("subdomain".into(), json!("vms"));
    spec.insert("priorityClassName".into(), json!("high"));
    spec.insert("dnsPolicy".into(), json!("None"));
    spec.insert("dnsConfig".into(), json!({"nameservers": ["192.0.2.1"]}));
    spec.insert("terminationGracePeriodSeconds".into(), json!(0));
    spec.insert("schedulerName".into(), json!("mine"));
    spec.insert("readinessProbe".into(), json!({"httpGet": {"port": 80, "path": "/ready"}, "periodSeconds": 3}));
    spec["domain"]["resources"] =
        json!({"requests": {"cpu": "250m", "memory": "536870912"}, "limits": {"cpu": "2", "memory": "1073741824"}});
    spec["volumes"]
        .as_array_mut()
        .expect("array")
        .push(json!({"name": "scratch", "emptyDisk": {"capacity": "1073741824"}}));
    let options = LauncherPodOptions { attempt: 1, pinned_node: Some("n1".into()), ..Default::default() };
    let config = ClusterConfig { launcher_pull_policy: "Always".into(), ..ClusterConfig::default() };
    insta::assert_json_snapshot!(launcher_pod(&vmi(value), &config, &options));
}

#[test]
fn what_is_asked_of_the_guest_agent_never_runs_in_the_pod() {
    for ask in [json!({"guestAgentPing": {}}), json!({"exec": {"command": ["rm", "-r", "/"]}})] {
        let mut value = plain();
        value["spec"]["readinessProbe"] = json!({"periodSeconds": 3, "failureThreshold": 2, "timeoutSeconds": 1});
        json_patch::merge(&mut value["spec"]["readinessProbe"], &ask);
        let spec = render(value).spec.expect("spec");
        let probe = serde_json::to_value(&spec.containers[0].readiness_probe).expect("json");
        let command = ["/usr/bin/virt-launcher", "probe", "--file", "/var/run/kubevirt-private/readiness"];
        let expected =
            json!({"exec": {"command": command}, "periodSeconds": 3, "failureThreshold": 2, "timeoutSeconds": 10});
        assert_eq!(probe, expected, "{ask}");
    }
}

#[test]
fn cpu_request_follows_the_allocation_ratio() {
    for (cpu, ratio, expected) in [
        (json!({"cores": 1}), 10, "100m"),
        (json!({"cores": 2, "sockets": 2, "threads": 2}), 10, "800m"),
        (json!({"cores": 1}), 3, "334m"),
        (json!({"cores": 0, "sockets": 0}), 1, "1000m"),
        (json!({"cores": 1}), 0, "1000m"),
    ] {
        let mut value = plain();
        value["spec"]["domain"]["cpu"] = cpu.clone();
        let config = ClusterConfig { cpu_allocation_ratio: ratio, ..ClusterConfig::default() };
        let pod = launcher_pod(&vmi(value), &config, &LauncherPodOptions::default());
        assert_eq!(requests(&pod)["cpu"], expected, "{cpu} / {ratio}");
    }
}

#[test]
fn overhead_stays_below_upstreams() {
    const MIB: i128 = 1 << 20;
    for (cores, guest, emulation) in
        [(1, 64_i64 << 20, true), (1, 1 << 30, false), (4, 8 << 30, true), (16, 64 << 30, true)]
    {
        let mut value = plain();
        value["spec"]["domain"]["cpu"]["cores"] = json!(cores);
        value["spec"]["domain"]["memory"]["guest"] = json!(guest.to_string());
        let config = ClusterConfig { use_emulation: emulation, ..ClusterConfig::default() };
        let ours = resources::memory_overhead(&vmi(value).spec, &config);
        let upstream = (240 + 8 * i128::from(cores) + 8 + 32) * MIB + i128::from(guest) / 512;
        assert!(ours <= upstream, "{cores} cores: {ours} > {upstream}");
        assert!(ours >= 65_000_000, "less than QEMU was measured to need");
    }
}

#[test]
fn memory_request_is_guest_by_overcommit_plus_overhead() {
    let config = ClusterConfig { memory_overcommit: 200, ..ClusterConfig::default() };
    let vmi = vmi(plain());
    let pod = launcher_pod(&vmi, &config, &LauncherPodOptions::default());
    let expected = (128_i128 << 20) + resources::memory_overhead(&vmi.spec, &config);
    assert_eq!(requests(&pod)["memory"], format!("{}Ki", expected / 1024));
}

#[test]
fn under_a_quota_of_limits_every_container_has_them() {
    let limits = |value: &Value, auto_limits| {
        let options = LauncherPodOptions { auto_limits, ..Default::default() };
        let pod = launcher_pod(&vmi(value.clone()), &on_kubernetes(), &options);
        let spec = pod.spec.expect("spec");
        let of = |container: &Container| {
            let resources = container.resources.clone().unwrap_or_default();
            let text = |(name, amount): (String, PodQuantity)| (name, amount.0);
            resources.limits.unwrap_or_default().into_iter().map(text).collect::<BTreeMap<_, _>>()
        };
        let others = spec.containers[1..].iter().chain(spec.init_containers.iter().flatten());
        for other in others {
            assert!(["cpu", "memory"].iter().all(|name| of(other).contains_key(*name)), "{}", other.name);
        }
        of(&spec.containers[0])
    };
    let mut value = plain();
    value["spec"]["domain"]["cpu"] = json!({"cores": 3});
    assert_eq!(limits(&value, AutoLimits::default()), BTreeMap::new());
    let overhead = resources::memory_overhead(&vmi(value.clone()).spec, &on_kubernetes());
    let memory = format!("{}Ki", ((512_i128 << 20) + overhead) / 1024);
    let found = limits(&value, AutoLimits { cpu: true, memory: true });
    assert_eq!(found, BTreeMap::from([("cpu".to_owned(), "3".to_owned()), ("memory".to_owned(), memory.clone())]));
    assert_eq!(
        limits(&value, AutoLimits { cpu: false, memory: true }),
        BTreeMap::from([("memory".to_owned(), memory)])
    );

    value["spec"]["domain"]["resources"] = json!({"requests": {"cpu": "3500m"}, "limits": {"memory": "1Gi"}});
    let found = limits(&value, AutoLimits { cpu: true, memory: true });
    assert_eq!(found["cpu"], "4", "not less than the request");
    assert_eq!(found["memory"], format!("{}Ki", ((1_i128 << 30) + overhead) / 1024), "the user's");
}

#[test]
fn limits_cover_the_overhead_and_zero_is_no_limit() {
    const GUEST: i128 = 256 << 20;
    let overhead = resources::memory_overhead(&vmi(plain()).spec, &ClusterConfig::default());
    let kib = |bytes: i128| Some(format!("{}Ki", bytes / 1024));
    let both = AutoLimits { cpu: true, memory: true };
    // resources, limits the pod must have → memory request, memory limit, CPU limit
    let table = [
        (
            json!({"limits": {"memory": "1Gi", "cpu": "3"}}),
            AutoLimits::default(),
            kib(GUEST + overhead),
            kib((1 << 30) + overhead),
            Some("3"),
        ),
        (
            json!({"limits": {"memory": "1Gi"}, "overcommitGuestOverhead": true}),
            AutoLimits::default(),
            Some("256Mi".to_owned()),
            kib((1 << 30) + overhead),
            None,
        ),
        (
            json!({"overcommitGuestOverhead": true}),
            both,
            Some("256Mi".to_owned()),
            kib(2 * GUEST + overhead),
            Some("2"),
        ),
        (json!({"limits": {"memory": "0", "cpu": "0"}}), AutoLimits::default(), kib(GUEST + overhead), None, None),
        (
            json!({"limits": {"memory": "0", "cpu": "0m"}}),
            both,
            kib(GUEST + overhead),
            kib(2 * GUEST + overhead),
            Some("2"),
        ),
    ];
    for (given, auto_limits, request, memory, cpu) in table {
        let mut value = plain();
        value["spec"]["domain"]["resources"] = given.clone();
        let options = LauncherPodOptions { auto_limits, ..Default::default() };
        let pod = launcher_pod(&vmi(value), &ClusterConfig::default(), &options);
        let resources = pod.spec.as_ref().and_then(|spec| spec.containers[0].resources.clone()).expect("resources");
        let limits = resources.limits.unwrap_or_default();
        let limit = |name: &str| limits.get(name).map(|amount| amount.0.clone());
        assert_eq!(requests(&pod).get("memory").cloned(), request, "{given}");
        assert_eq!((limit("memory"), limit("cpu").as_deref()), (memory, cpu), "{given}");
    }
}

#[test]
fn console_log_container_obeys_its_switches() {
    let cases = [
        (json!({}), false, true),
        (json!({"logSerialConsole": false}), false, false),
        (json!({}), true, false),
        (json!({"logSerialConsole": true}), true, true),
        (json!({"autoattachSerialConsole": false}), false, false),
        (json!({"autoattachSerialConsole": false, "logSerialConsole": true}), false, false),
    ];
    for (devices, disabled, expected) in cases {
        let mut value = plain();
        value["spec"]["domain"]["devices"] = devices.clone();
        let config = ClusterConfig { disable_serial_console_log: disabled, ..ClusterConfig::default() };
        let pod = launcher_pod(&vmi(value), &config, &LauncherPodOptions::default());
        let sidecars = pod.spec.and_then(|spec| spec.init_containers).unwrap_or_default();
        assert_eq!(sidecars.len() == 1, expected, "{devices} disabled={disabled}");
    }
}

#[test]
fn replacement_keeps_the_users_alternatives_but_only_on_the_node() {
    let mut value = plain();
    value["spec"]["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]},
                              {"matchExpressions": [{"key": "b", "operator": "Exists"}]}]}}});
    let options = LauncherPodOptions { attempt: 1, pinned_node: Some("n7".into()), ..Default::default() };
    let pod = launcher_pod(&vmi(value), &ClusterConfig::default(), &options);
    let affinity = serde_json::to_value(pod.spec.and_then(|spec| spec.affinity)).expect("json");
    for term in 0..2 {
        let term =
            &affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"][term];
        assert_eq!(term["matchFields"], json!([{"key": "metadata.name", "operator": "In", "values": ["n7"]}]));
    }
}

#[test]
fn a_vmi_with_nothing_in_it_still_renders() {
    let pod =
        launcher_pod(&VirtualMachineInstance::default(), &ClusterConfig::default(), &LauncherPodOptions::default());
    assert!(pod.metadata.name.is_some());
}

fn on_kubernetes() -> ClusterConfig {
    ClusterConfig { engine: Engine::Kubernetes, ..ClusterConfig::default() }
}

#[test]
fn kubelet_gets_container_disks_to_bring_along() {
    let mut value = plain();
    value["spec"]["volumes"].as_array_mut().expect("array").push(json!({"name": "extra", "containerDisk": {
        "image": "registry.example/extra@sha256:00", "imagePullPolicy": "Always", "path": "/images/extra.raw"}}));
    insta::assert_json_snapshot!(launcher_pod(&vmi(value), &on_kubernetes(), &LauncherPodOptions::default()));
}

#[test]
fn container_names_of_volumes_are_dns_labels_and_differ() {
    let long = "a".repeat(60);
    let longer = format!("{long}b");
    let names: Vec<String> = ["root", &long, &longer, "with.dot"].map(container_disk_container).to_vec();
    assert_eq!(names[0], "volumeroot");
    for name in &names {
        assert!(
            name.len() <= 63 && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
            "{name}"
        );
    }
    assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), names.len());
}

#[test]
fn guests_that_may_not_be_emulated_go_where_kvm_is() {
    for (config, expected) in [
        (on_kubernetes(), Some("true")),
        (ClusterConfig { use_emulation: true, ..on_kubernetes() }, None),
        (ClusterConfig::default(), None),
    ] {
        let pod = launcher_pod(&vmi(plain()), &config, &LauncherPodOptions::default());
        assert!(requests(&pod).keys().all(|name| !name.contains('/')), "a kubelet's restart would end it");
        let selector = pod.spec.and_then(|spec| spec.node_selector).unwrap_or_default();
        assert_eq!(selector.get(labels::NODE_KVM).map(String::as_str), expected);
    }
}

#[test]
fn on_a_cluster_a_guest_goes_where_its_machine_and_processor_are() {
    let placed = |cpu: Value, machine: &str, config: &ClusterConfig, node: Option<&str>| {
        let mut value = plain();
        value["spec"]["domain"]["machine"] = json!({"type": machine});
        value["spec"]["domain"]["cpu"] = cpu;
        value["spec"]["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {}]}}});
        let options = LauncherPodOptions { pinned_node: node.map(str::to_owned), ..Default::default() };
        let spec = launcher_pod(&vmi(value), config, &options).spec.expect("spec");
        let ours = |name: String| name.split_once(".node.kubevirt.io/").map(|(kind, name)| format!("{kind} {name}"));
        let found: Vec<String> = spec.node_selector.unwrap_or_default().into_keys().filter_map(ours).collect();
        let affinity = serde_json::to_value(spec.affinity).expect("json");
        let terms = &affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
        assert_eq!(terms[1], json!({}), "it matches no node");
        (found, terms[0]["matchExpressions"].as_array().map_or(0, Vec::len))
    };
    let haswell = |features: Value| json!({"model": "Haswell", "features": features});
    let required = haswell(json!([{"name": "aes"}, {"name": "x2apic", "policy": "require"}]));
    let all = ["cpu-feature aes", "cpu-feature x2apic", "cpu-model Haswell", "machine-type q35"].map(str::to_owned);
    let machine = vec!["machine-type q35".to_owned()];
    let cluster = on_kubernetes();
    assert_eq!(placed(required.clone(), "q35", &cluster, None), (all.to_vec(), 1));
    let emulated = ClusterConfig { use_emulation: true, ..on_kubernetes() };
    assert_eq!(
        placed(required.clone(), "q35", &emulated, None),
        (machine.clone(), 1),
        "the emulator leaves out what it lacks"
    );
    assert_eq!(placed(required.clone(), "q35", &cluster, Some("n7")), (vec![], 1), "it runs there already");
    assert_eq!(
        placed(required, "q35", &ClusterConfig::default(), None),
        (vec![], 1),
        "there is one node, which says what it lacks"
    );

    let changed = haswell(json!([{"name": "hle", "policy": "disable"}]));
    assert_eq!(placed(changed, "q35", &cluster, None), (machine.clone(), 1), "a node may have the rest");
    let forbidden = json!({"features": [{"name": "svm", "policy": "forbid"}]});
    assert_eq!(placed(forbidden, "q35", &cluster, None), (machine, 2));
    for model in ["host-model", "host-passthrough", ""] {
        assert_eq!(placed(json!({"model": model}), "", &cluster, None), (vec![], 1));
    }
}

#[test]
fn secrets_of_cloud_init_are_mounted_for_the_node_agent_once_each() {
    let mut value = plain();
    value["spec"]["volumes"] = json!([
        {"name": "seed", "cloudInitNoCloud": {"secretRef": {"name": "user"}, "networkDataSecretRef": {"name": "net"}}},
        {"name": "drive", "cloudInitConfigDrive": {"secretRef": {"name": "user"}}},
    ]);
    let pod = launcher_pod(&vmi(value.clone()), &on_kubernetes(), &LauncherPodOptions::default());
    let spec = pod.spec.expect("spec");
    let secrets = |volume: &Volume| Some((volume.name.clone(), volume.secret.as_ref()?.secret_name.clone()?));
    let mut found: Vec<_> = spec.volumes.iter().flatten().filter_map(secrets).collect();
    let mounts: Vec<_> = spec.containers[0].volume_mounts.iter().flatten().map(|mount| mount.name.clone()).collect();
    assert!(found.iter().all(|(name, _)| mounts.contains(name)), "{mounts:?}");
    found.sort_by(|a, b| a.1.cmp(&b.1));
    let expected = ["net", "user"].map(|secret| (secret_volume_name(secret), secret.to_owned()));
    assert_eq!(found, expected);
    // Embedded the node agent reads them itself.
    assert_eq!(render(value).spec.and_then(|spec| spec.volumes).map(|volumes| volumes.len()), Some(1));
}

#[test]
fn vmi_without_container_disks_carries_no_binary_about() {
    let mut value = plain();
    value["spec"]["volumes"] = json!([{"name": "root", "emptyDisk": {"capacity": "1048576"}}]);
    let spec = launcher_pod(&vmi(value), &on_kubernetes(), &LauncherPodOptions::default()).spec.expect("spec");
    assert_eq!((spec.containers.len(), spec.volumes.unwrap_or_default().len()), (1, 1));
    assert_eq!(spec.init_containers.unwrap_or_default().len(), 1, "the console log");
}

#[test]
fn volumes_are_mounted_for_the_node_agent() {
    let mut value = plain();
    value["spec"]["volumes"] = json!([
        {"name": "settings", "configMap": {"name": "app", "optional": true, "volumeLabel": "settings"}},
        {"name": "private", "secret": {"secretName": "keys"}},
        {"name": "account", "serviceAccount": {"serviceAccountName": "robot"}},
        {"name": "about", "downwardAPI": {"fields": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {"name": "host", "hostDisk": {"path": "/srv/vms/web.img", "type": "Disk"}},
        {"name": "files", "persistentVolumeClaim": {"claimName": "files"}},
        {"name": "fixed", "persistentVolumeClaim": {"claimName": "fixed", "readOnly": true}},
        {"name": "golden", "ephemeral": {"persistentVolumeClaim": {"claimName": "golden"}}},
        {"name": "raw", "persistentVolumeClaim": {"claimName": "raw"}},
    ]);
    let options = LauncherPodOptions { block_volumes: BTreeSet::from(["raw".to_owned()]), ..Default::default() };
    let spec = launcher_pod(&vmi(value), &ClusterConfig::default(), &options).spec.expect("spec");
    assert_eq!(spec.automount_service_account_token, Some(false), "other containers get no token");
    let compute = &spec.containers[0];
    let (mounts, devices) = (&compute.volume_mounts, &compute.volume_devices);
    insta::assert_json_snapshot!(
        json!({"serviceAccountName": spec.service_account_name, "volumes": spec.volumes, "mounts": mounts, "devices": devices})
    );
}
