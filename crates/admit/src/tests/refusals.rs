use super::*;
use crate::denial;

/// A change to the plainest VM (a pointer, `{}` being the template's spec, and a value) and the causes it brings: field, and text
/// with `…` for anything.
type Row = (&'static str, Value, &'static [(&'static str, &'static str)]);

#[test]
fn bad_specs_are_refused_with_field_and_reason() {
    let spec = "/spec/template/spec";
    let table: &[Row] = &[
        (
            "/spec/runStrategy",
            json!("Always"),
            &[("spec.running", "Running and RunStrategy are mutually exclusive. Note…")],
        ),
        ("/spec/running", Value::Null, &[("spec.running", "RunStrategy must be specified")]),
        (
            "/spec/instancetype",
            json!({"name": "small"}),
            &[("spec.instancetype", "spec.instancetype is not supported yet by Ferrovirt: write cpu…")],
        ),
        (
            "{}/startStrategy",
            json!("Later"),
            &[("{}.startStrategy", "{}.startStrategy is set with an unrecognized option: Later")],
        ),
        (
            "{}/evictionStrategy",
            json!("LiveMigrate"),
            &[(
                "{}.evictionStrategy",
                "{}.evictionStrategy: LiveMigrate is not supported yet by Ferrovirt: use None or leave it out",
            )],
        ),
        (
            "{}/evictionStrategy",
            json!("Never"),
            &[("{}.evictionStrategy", "{}.evictionStrategy is set with an unrecognized option: Never")],
        ),
        (
            "{}/hostname",
            json!("My Host"),
            &[("{}.hostname", "{}.hostname does not conform to the kubernetes DNS_LABEL rules : a lowercase…")],
        ),
        (
            "{}/subdomain",
            json!("a..b"),
            &[("{}.subdomain", "{}.subdomain does not conform to the kubernetes DNS_SUBDOMAIN rules : …")],
        ),
        (
            "{}/readinessProbe",
            json!({"periodSeconds": -1}),
            &[
                ("{}.readinessProbe", "either {}.readinessProbe.tcpSocket, …"),
                (
                    "{}.readinessProbe.periodSeconds",
                    "{}.readinessProbe.periodSeconds '-1': must be greater than or equal to 0",
                ),
            ],
        ),
        (
            "{}/livenessProbe",
            json!({"tcpSocket": {"port": "ssh"}, "httpGet": {"port": 0, "scheme": "GOPHER", "host": "web"}, "successThreshold": 2}),
            &[
                ("{}.livenessProbe", "{}.livenessProbe must have exactly one probe type set"),
                (
                    "{}.livenessProbe.httpGet.port",
                    "{}.livenessProbe.httpGet.port '0': must be a number between 1 and 65535, inclusive",
                ),
                ("{}.livenessProbe.httpGet.host", "{}.livenessProbe.httpGet.host 'web': must be an IP address…"),
                (
                    "{}.livenessProbe.httpGet.scheme",
                    "{}.livenessProbe.httpGet.scheme 'GOPHER' is not supported: use one of HTTP, HTTPS",
                ),
                ("{}.livenessProbe.tcpSocket.port", "{}.livenessProbe.tcpSocket.port 'ssh': must be a number…"),
                ("{}.livenessProbe.successThreshold", "{}.livenessProbe.successThreshold '2': must be 1"),
            ],
        ),
        (
            "{}/readinessProbe",
            json!({"guestAgentPing": {}, "exec": {"command": [""]}}),
            &[("{}.readinessProbe", "{}.readinessProbe must have exactly one probe type set")],
        ),
        (
            "{}/livenessProbe",
            json!({"exec": {"command": []}}),
            &[("{}.livenessProbe.exec.command", "{}.livenessProbe.exec.command must name a program in the guest")],
        ),
        ("{}/terminationGracePeriodSeconds", json!(-1), &[("{}.terminationGracePeriodSeconds", "…")]),
        ("{}/architecture", json!("vax"), &[("{}.architecture", "unsupported architecture: vax")]),
        (
            "{}/architecture",
            json!("arm64"),
            &[("{}.architecture", "{}.architecture: arm64 is not supported yet…"), ("{}.domain.machine.type", "…")],
        ),
        (
            "{}/domain/machine",
            json!({"type": "pc"}),
            &[(
                "{}.domain.machine.type",
                "{}.domain.machine.type is not supported: pc (allowed values: [q35* pc-q35*])",
            )],
        ),
        (
            "{}/domain/resources/requests/memory",
            json!("-1"),
            &[(
                "{}.domain.resources.requests.memory",
                "{}.domain.resources.requests.memory '-1': must be greater than or equal to 0.",
            )],
        ),
        (
            "{}/domain/resources/requests/memory",
            json!("64m"),
            &[(
                "{}.domain.resources.requests.memory",
                "{}.domain.resources.requests.memory '64m': must be greater than or equal to 1M.",
            )],
        ),
        (
            "{}/domain/resources/requests/memory",
            json!("64MB"),
            &[(
                "{}.domain.resources.requests.memory",
                "{}.domain.resources.requests.memory: `64MB` is not a quantity…",
            )],
        ),
        (
            "{}/domain/resources/limits",
            json!({"memory": "32M"}),
            &[
                (
                    "{}.domain.resources.requests.memory",
                    "{}.domain.resources.requests.memory '64M' is greater than {}.domain.resources.limits.memory '32M'",
                ),
                (
                    "{}.domain.memory.guest",
                    "{}.domain.memory.guest '64M' must be equal to or less than the memory limit {}.domain.resources.limits.memory '32M'",
                ),
            ],
        ),
        (
            "{}/domain/resources/requests/cpu",
            json!("-1"),
            &[(
                "{}.domain.resources.requests.cpu",
                "{}.domain.resources.requests.cpu '-1': must be greater than or equal to 0.",
            )],
        ),
        ("{}/domain/resources/requests/gpu", json!("1"), &[("{}.domain.resources.requests", "…only cpu and memory…")]),
        (
            "{}/domain/memory",
            json!({"guest": "64Mi", "hugepages": {"pageSize": "2Mi"}}),
            &[("{}.domain.memory.hugepages", "…not supported yet…")],
        ),
        (
            "{}/domain/cpu",
            json!({"dedicatedCpuPlacement": true}),
            &[(
                "{}.domain.cpu.dedicatedCpuPlacement",
                "{}.domain.cpu.dedicatedCpuPlacement: true is not supported yet…",
            )],
        ),
        ("{}/domain/cpu", json!({"cores": -1}), &[("{}.domain.cpu.cores", "…")]),
        (
            "{}/domain/cpu",
            json!({"cores": 4_000_000_000_i64, "threads": 4_000_000_000_i64}),
            &[("{}.domain.cpu", "…at most 512 work")],
        ),
        ("{}/domain/cpu", json!({"model": "a b"}), &[("{}.domain.cpu.model", "…")]),
        (
            "{}/domain/cpu",
            json!({"features": [{"name": "vmx", "policy": "maybe"}]}),
            &[("{}.domain.cpu.features[0].policy", "CPU feature vmx uses policy maybe that is not supported.")],
        ),
        (
            "{}/domain/firmware",
            json!({"bootloader": {"efi": {}}}),
            &[(
                "{}.domain",
                "{}.domain has EFI SecureBoot enabled. SecureBoot requires SMM, which is currently disabled.",
            )],
        ),
        (
            "{}/domain/firmware",
            json!({"bootloader": {"bios": {}, "efi": {"secureBoot": false}}}),
            &[(
                "{}.domain.firmware.bootloader",
                "{}.domain.firmware.bootloader has both EFI and BIOS configured, but they are mutually exclusive.",
            )],
        ),
        (
            "{}/domain/firmware",
            json!({"bootloader": {"efi": {"secureBoot": false, "persistent": true}}}),
            &[("{}.domain.firmware.bootloader.efi.persistent", "…")],
        ),
        (
            "{}/domain/firmware",
            json!({"uuid": "7"}),
            &[("{}.domain.firmware.uuid", "{}.domain.firmware.uuid '7' is not a UUID…")],
        ),
        ("{}/domain/firmware", json!({"serial": "a b"}), &[("{}.domain.firmware.serial", "…")]),
        ("{}/domain/clock", json!({"timezone": "a\nb"}), &[("{}.domain.clock.timezone", "…")]),
        (
            "{}/domain/clock",
            json!({"timer": {"rtc": {"track": "moon"}}}),
            &[("{}.domain.clock.timer.rtc.track", "…guest, wall")],
        ),
        (
            "{}/domain/features",
            json!({"hyperv": {"spinlocks": {"spinlocks": 12}}}),
            &[("{}.domain.features.hyperv.spinlocks.spinlocks", "…at least 4095")],
        ),
        (
            "{}/domain/devices/disks/-",
            json!({"name": "containerdisk"}),
            &[(
                "{}.domain.devices.disks[2].name",
                "{}.domain.devices.disks[2] and {}.domain.devices.disks[0] must not have the same Name.",
            )],
        ),
        (
            "{}/domain/devices/disks/-",
            json!({"name": "a b"}),
            &[
                ("{}.domain.devices.disks[2].name", "a lowercase RFC 1123 label…"),
                ("{}.domain.devices.disks[2].name", "{}.domain.devices.disks[2].Name 'a b' not found."),
            ],
        ),
        (
            "{}/domain/devices/disks/-",
            json!({"name": "cd", "cdrom": {}}),
            &[("{}.domain.devices.disks[2].name", "…an empty CD-ROM drive is not supported yet…")],
        ),
        (
            "{}/domain/devices/disks/0",
            json!({"name": "containerdisk", "disk": {}, "cdrom": {}}),
            &[("{}.domain.devices.disks[0]", "{}.domain.devices.disks[0] can only have a single target type defined")],
        ),
        (
            "{}/domain/devices/disks/0/disk/bus",
            json!("ide"),
            &[("{}.domain.devices.disks[0].disk.bus", "IDE bus is not supported")],
        ),
        (
            "{}/domain/devices/disks/0/disk/bus",
            json!("usb"),
            &[(
                "{}.domain.devices.disks[0].disk.bus",
                "{}.domain.devices.disks[0].disk.bus: usb is not supported yet by Ferrovirt: use virtio or sata",
            )],
        ),
        (
            "{}/domain/devices/disks/0/disk/bus",
            json!("tape"),
            &[(
                "{}.domain.devices.disks[0].disk.bus",
                "{}.domain.devices.disks[0] is set with an unrecognized bus tape, must be one of: [virtio scsi sata usb]",
            )],
        ),
        (
            "{}/domain/devices/disks/0",
            json!({"name": "containerdisk", "cdrom": {"bus": "virtio"}}),
            &[("{}.domain.devices.disks[0].cdrom.bus", "Bus type virtio is invalid for CD-ROM device")],
        ),
        (
            "{}/domain/devices/disks/0",
            json!({"name": "containerdisk", "disk": {"bus": "sata", "readonly": true}}),
            &[("{}.domain.devices.disks[0].disk.bus", "sata hard-disks do not support read-only.")],
        ),
        (
            "{}/domain/devices/disks/0/bootOrder",
            json!(0),
            &[(
                "{}.domain.devices.disks[0].bootOrder",
                "{}.domain.devices.disks[0] must have a boot order > 0, if supplied",
            )],
        ),
        (
            "{}/domain/devices/disks/0/serial",
            json!("a b"),
            &[(
                "{}.domain.devices.disks[0].serial",
                "{}.domain.devices.disks[0] must be made up of the following characters [A-Za-z0-9_.+-], if specified",
            )],
        ),
        (
            "{}/domain/devices/disks/0/cache",
            json!("writeonly"),
            &[("{}.domain.devices.disks[0].cache", "{}.domain.devices.disks[0].cache has invalid value writeonly")],
        ),
        (
            "{}/domain/devices/disks/0/io",
            json!("fast"),
            &[("{}.domain.devices.disks[0].io", "…Supported modes are: native, threads.")],
        ),
        (
            "{}/domain/devices/gpus",
            json!([{"name": "g", "deviceName": "d"}]),
            &[("{}.domain.devices.gpus", "{}.domain.devices.gpus is not supported yet by Ferrovirt: remove it")],
        ),
        (
            "{}/volumes/-",
            json!({"name": "containerdisk", "emptyDisk": {"capacity": "1Gi"}}),
            &[("{}.volumes[2].name", "{}.volumes[2] and {}.volumes[0] must not have the same Name.")],
        ),
        (
            "{}/volumes/0",
            json!({"name": "containerdisk"}),
            &[("{}.volumes[0]", "{}.volumes[0] must have exactly one source type set")],
        ),
        (
            "{}/volumes/0/emptyDisk",
            json!({"capacity": "1Gi"}),
            &[("{}.volumes[0]", "{}.volumes[0] must have exactly one source type set")],
        ),
        (
            "{}/volumes/0",
            json!({"name": "containerdisk", "emptyDisk": {"capacity": "0"}}),
            &[("{}.volumes[0].emptyDisk.capacity", "…greater than 0.")],
        ),
        (
            "{}/volumes/0/containerDisk/path",
            json!("disk/../../etc/shadow"),
            &[(
                "{}.volumes[0].containerDisk",
                "{}.volumes[0].containerDisk must be an absolute path to a file without relative components",
            )],
        ),
        (
            "{}/volumes/0/containerDisk/image",
            json!(""),
            &[("{}.volumes[0].containerDisk.image", "{}.volumes[0].containerDisk.image is a required field")],
        ),
        (
            "{}/volumes/0/containerDisk/image",
            json!("a b"),
            &[("{}.volumes[0].containerDisk.image", "…no image reference")],
        ),
        (
            "{}/volumes/0/containerDisk/imagePullPolicy",
            json!("Sometimes"),
            &[("{}.volumes[0].containerDisk.imagePullPolicy", "…")],
        ),
        (
            "{}/volumes/0",
            json!({"name": "containerdisk", "dataVolume": {"name": "c"}}),
            &[(
                "{}.volumes[0].dataVolume",
                "{}.volumes[0].dataVolume is not supported yet by Ferrovirt: use a persistentVolumeClaim",
            )],
        ),
        (
            "{}/volumes/1/cloudInitNoCloud",
            json!({}),
            &[(
                "{}.volumes[1].cloudInitNoCloud",
                "{}.volumes[1].cloudInitNoCloud must have at least one userdatasource or one networkdatasource set.",
            )],
        ),
        (
            "{}/volumes/1/cloudInitNoCloud",
            json!({"userData": "a", "secretRef": {"name": "s"}}),
            &[(
                "{}.volumes[1].cloudInitNoCloud",
                "{}.volumes[1].cloudInitNoCloud must have only one userdatasource set.",
            )],
        ),
        (
            "{}/volumes/1/cloudInitNoCloud",
            json!({"networkData": "a", "networkDataBase64": "YQ=="}),
            &[(
                "{}.volumes[1].cloudInitNoCloud",
                "{}.volumes[1].cloudInitNoCloud must have only one networkdata source set.",
            )],
        ),
        (
            "{}/volumes/1/cloudInitNoCloud",
            json!({"userDataBase64": "%%"}),
            &[(
                "{}.volumes[1].cloudInitNoCloud.userDataBase64",
                "{}.volumes[1].cloudInitNoCloud.userDataBase64 is not a valid base64 value.",
            )],
        ),
        (
            "{}/volumes/1/cloudInitNoCloud",
            json!({"userData": "x".repeat(2049)}),
            &[(
                "{}.volumes[1].cloudInitNoCloud",
                "{}.volumes[1].cloudInitNoCloud userdata exceeds 2048 byte limit. Should use UserDataSecretRef for larger data.",
            )],
        ),
        ("{}/nodeSelector", json!({"a b": "c d"}), &[("{}.nodeSelector", "…"), ("{}.nodeSelector", "…")]),
        (
            "{}/tolerations",
            json!([{"operator": "Equal"}, {"key": "a", "operator": "Exists", "value": "b"}]),
            &[("{}.tolerations[0].operator", "…"), ("{}.tolerations[1].value", "…")],
        ),
        (
            "{}/affinity",
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Near"}]}]}}}),
            &[(
                "{}.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values",
                "…",
            )],
        ),
        ("/spec/template/metadata/labels", json!({"a": "b c"}), &[("spec.template.metadata.labels", "…")]),
        (
            "/spec/template/metadata/annotations",
            json!({"hooks.kubevirt.io/hookSidecars": "[]"}),
            &[("spec.template.metadata.annotations", "…hook sidecars…")],
        ),
    ];
    let base = "spec.template.spec";
    for (pointer, value, expected) in table.iter().chain(&more()) {
        let mut vm = plainest();
        set(&mut vm, &pointer.replace("{}", spec), value.clone());
        let causes = Write::create(Kind::VirtualMachine).causes(vm);
        let found: Vec<(&str, &str)> = causes.iter().map(|c| (c.field.as_str(), c.message.as_str())).collect();
        let fits = found.len() == expected.len()
            && expected.iter().all(|(field, text)| {
                let (field, text) = (field.replace("{}", base), text.replace("{}", base));
                found.iter().any(|(f, m)| *f == field && fits(m, &text))
            });
        assert!(fits, "{pointer} = {value}:\n  found {found:#?}\n  expected {expected:#?}");
    }
}

/// Whether a text consists of the pieces of a pattern, in order, with anything where it has `…`.
fn fits(text: &str, pattern: &str) -> bool {
    let mut pieces = pattern.split('…');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    pattern.ends_with('…') || rest.is_empty()
}

#[test]
fn networks_and_interfaces_fit_each_other() {
    let pod = json!([{"name": "default", "pod": {}}]);
    let at = "spec.domain.devices.interfaces[0]";
    for (interfaces, networks, expected) in [
        (json!([{"name": "default", "masquerade": {}}]), pod.clone(), vec![]),
        (
            json!([{"name": "default", "bridge": {}, "model": "e1000e", "macAddress": "DE-AD-00-00-BE-EF"}]),
            pod.clone(),
            vec![],
        ),
        (
            json!([{"name": "default", "masquerade": {}, "ports": [{"port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]}]),
            pod.clone(),
            vec![],
        ),
        (json!([{"name": "default"}]), pod.clone(), vec![(at, "FieldValueRequired")]),
        (json!([{"name": "default", "masquerade": {}, "bridge": {}}]), pod.clone(), vec![(at, "FieldValueInvalid")]),
        (
            json!([{"name": "other", "masquerade": {}}]),
            pod.clone(),
            vec![
                ("spec.networks[0].name", "FieldValueRequired"),
                ("spec.domain.devices.interfaces[0].name", "FieldValueInvalid"),
            ],
        ),
        (
            json!([{"name": "default", "masquerade": {}}]),
            json!([{"name": "default"}]),
            vec![
                ("spec.networks[0]", "FieldValueRequired"),
                ("spec.domain.devices.interfaces[0].name", "FieldValueInvalid"),
            ],
        ),
        (
            json!([{"name": "default", "bridge": {}}]),
            json!([{"name": "default", "multus": {"networkName": "n"}}]),
            vec![("spec.networks[0].multus", "FieldValueNotSupported")],
        ),
        (
            json!([{"name": "default", "sriov": {}}]),
            pod.clone(),
            vec![("spec.domain.devices.interfaces[0].sriov", "FieldValueNotSupported")],
        ),
        (
            json!([{"name": "default", "slirp": {}}]),
            pod.clone(),
            vec![("spec.domain.devices.interfaces[0].slirp", "FieldValueInvalid")],
        ),
        (
            json!([{"name": "default", "masquerade": {}, "model": "rtl8139"}]),
            pod.clone(),
            vec![("spec.domain.devices.interfaces[0].model", "FieldValueNotSupported")],
        ),
        (
            json!([{"name": "default", "masquerade": {}, "model": "ne9000"}]),
            pod.clone(),
            vec![("spec.domain.devices.interfaces[0].model", "FieldValueNotSupported")],
        ),
        (
            json!([{"name": "default", "masquerade": {}, "macAddress": "02:00:00:00:00:00"}]),
            pod.clone(),
            vec![("spec.domain.devices.interfaces[0].macAddress", "FieldValueInvalid")],
        ),
        (
            json!([{"name": "default", "bridge": {}, "macAddress": "03:00:00:00:00:01"}]),
            pod.clone(),
            vec![("spec.domain.devices.interfaces[0].macAddress", "FieldValueInvalid")],
        ),
        (
            json!([{"name": "default", "bridge": {}, "macAddress": "de:ad"}]),
            pod.clone(),
            vec![("spec.domain.devices.interfaces[0].macAddress", "FieldValueInvalid")],
        ),
        (
            json!([{"name": "default", "masquerade": {}, "ports": [{"port": 0}, {"port": 65536}, {"port": 1, "protocol": "SCTP"}]}]),
            pod.clone(),
            vec![
                ("spec.domain.devices.interfaces[0].ports[0]", "FieldValueRequired"),
                ("spec.domain.devices.interfaces[0].ports[1]", "FieldValueInvalid"),
                ("spec.domain.devices.interfaces[0].ports[2].protocol", "FieldValueInvalid"),
            ],
        ),
        (
            json!([{"name": "default", "masquerade": {}, "ports": [{"name": "a", "port": 1}, {"name": "a", "port": 2}]}]),
            pod.clone(),
            vec![("spec.domain.devices.interfaces[0].ports[1].name", "FieldValueDuplicate")],
        ),
        (
            json!([{"name": "default", "masquerade": {}}]),
            json!([{"name": "default", "pod": {"vmNetworkCIDR": "10.0.2.0/31"}}]),
            vec![("spec.networks[0].pod.vmNetworkCIDR", "FieldValueInvalid")],
        ),
        (
            json!([{"name": "default", "masquerade": {}}]),
            json!([{"name": "default", "pod": {"vmIPv6NetworkCIDR": "fd10::/120"}}]),
            vec![("spec.networks[0].pod.vmIPv6NetworkCIDR", "FieldValueNotSupported")],
        ),
        (
            json!([{"name": "a", "masquerade": {}}, {"name": "b", "bridge": {}}]),
            json!([{"name": "a", "pod": {}}, {"name": "b", "pod": {}}]),
            vec![("spec.interfaces", "FieldValueDuplicate")],
        ),
        (
            json!([{"name": "default", "bridge": {}, "portRanges": [{"protocol": "TCP", "start": 9, "end": 2}]}]),
            pod.clone(),
            vec![
                ("spec.domain.devices.interfaces[0].portRanges", "FieldValueInvalid"),
                ("spec.domain.devices.interfaces[0].portRanges[0]", "FieldValueInvalid"),
            ],
        ),
        (
            json!([{"name": "default", "masquerade": {}, "portRanges": [{"protocol": "TCP", "start": 1, "end": 9}, {"protocol": "TCP", "start": 9, "end": 9}]}]),
            pod.clone(),
            vec![("spec.domain.devices.interfaces[0].portRanges[1]", "FieldValueInvalid")],
        ),
        (
            json!([{"name": "default", "masquerade": {}, "dhcpOptions": {"ntpServers": ["::1"], "privateOptions": [{"option": 12, "value": ""}]}}]),
            pod.clone(),
            vec![
                ("spec.domain.devices.interfaces[0].dhcpOptions.ntpServers[0]", "FieldValueInvalid"),
                ("spec.domain.devices.interfaces[0].dhcpOptions.privateOptions[0]", "FieldValueInvalid"),
            ],
        ),
    ] {
        let mut vmi = instance();
        set(&mut vmi, "/spec/networks", networks.clone());
        set(&mut vmi, "/spec/domain/devices/interfaces", interfaces.clone());
        let causes = Write::create(Kind::VirtualMachineInstance).causes(vmi);
        let found: Vec<(&str, &str)> = causes.iter().map(|c| (c.field.as_str(), c.reason.as_str())).collect();
        let mut sorted = found.clone();
        sorted.sort_unstable();
        let mut expected = expected;
        expected.sort_unstable();
        assert_eq!(sorted, expected, "{interfaces} {networks}: {causes:#?}");
    }
}

#[test]
fn boot_order_is_unique_over_all_devices() {
    let mut vmi = instance();
    set(&mut vmi, "/spec/domain/devices/disks/0/bootOrder", json!(1));
    set(&mut vmi, "/spec/domain/devices/disks/1/bootOrder", json!(1));
    let causes = Write::create(Kind::VirtualMachineInstance).causes(vmi);
    assert_eq!(
        causes.iter().map(|c| c.message.as_str()).collect::<Vec<_>>(),
        ["Boot order for spec.domain.devices.disks[1].bootOrder already set for a different device."]
    );
}

#[test]
fn bridge_on_the_pod_network_can_be_forbidden() {
    let mut write = Write::create(Kind::VirtualMachineInstance);
    write.config.permit_bridge_on_pod_network = false;
    let causes = write.causes(instance());
    assert_eq!(causes[0].message, "Bridge on pod network configuration is not enabled under kubevirt-config");
}

#[test]
fn a_denial_is_the_status_kubectl_prints_causes_of() {
    let write = Write::create(Kind::VirtualMachine);
    let mut vm = plainest();
    vm["spec"]["runStrategy"] = json!("Always");
    let causes = write.causes(vm);
    insta::assert_json_snapshot!("denial", denial(&write.request(), &causes));
    let many: Vec<Cause> = std::iter::repeat_n(causes[0].clone(), 12).collect();
    let status = denial(&write.request(), &many);
    assert_eq!(status["details"]["causes"].as_array().unwrap().len(), 10);
    assert!(status["message"].as_str().unwrap().ends_with(", and 2 more validation errors"));
}

/// Devices beyond disks and interfaces.
fn more() -> Vec<Row> {
    vec![
        ("{}/domain/memory", json!({"guest": "1M"}), &[("{}.domain.memory.guest", "…must be between 1Mi and 1Pi")]),
        (
            "{}/domain/devices/inputs",
            json!([{"name": "a", "type": "mouse", "bus": "ps2"}]),
            &[
                ("{}.domain.devices.inputs[0].bus", "Input device can have only virtio or usb bus."),
                ("{}.domain.devices.inputs[0].type", "Input device can have only tablet type."),
            ],
        ),
        (
            "{}/domain/devices/video",
            json!({"type": "voodoo"}),
            &[("{}.domain.devices.video.type", "video model 'voodoo' is not supported on amd64 architecture")],
        ),
        (
            "{}/domain/devices/watchdog",
            json!({"name": "dog", "diag288": {"action": "reset"}}),
            &[("{}.domain.devices.watchdog.diag288", "…not supported yet…use i6300esb")],
        ),
        (
            "{}/domain/devices/watchdog",
            json!({"name": "dog", "i6300esb": {"action": "bark"}}),
            &[("{}.domain.devices.watchdog.i6300esb.action", "…")],
        ),
        ("{}/domain/chassis", json!({"sku": "a\nb"}), &[("{}.domain.chassis.sku", "…")]),
        (
            "{}/domain/devices/disks/0/disk/pciAddress",
            json!("0000:81:01"),
            &[(
                "{}.domain.devices.disks[0].disk.pciAddress",
                "disk {}.domain.devices.disks[0].name has malformed PCI address (0000:81:01).",
            )],
        ),
        (
            "{}/domain/devices/disks/0/blockSize",
            json!({"custom": {"logical": 4096, "physical": 512}}),
            &[(
                "{}.domain.devices.disks[0].blockSize.custom.logical",
                "Logical size 4096 must be the same or less than the physical size of 512",
            )],
        ),
        (
            "{}/domain/devices/disks/0/blockSize",
            json!({"custom": {"logical": 1000, "physical": 4_194_304}}),
            &[
                ("{}.domain.devices.disks[0].blockSize.custom.logical", "Provided size of 1000 is not a power of 2"),
                (
                    "{}.domain.devices.disks[0].blockSize.custom.physical",
                    "Provided size of 4194304 is greater than the supported maximum size of 2097152",
                ),
            ],
        ),
        (
            "{}/domain/devices/disks/0/errorPolicy",
            json!("panic"),
            &[("{}.domain.devices.disks[0].errorPolicy", "…has invalid value \"panic\"")],
        ),
        (
            "{}/domain/devices/disks/0",
            json!({"name": "containerdisk", "io": "native", "cache": "writeback"}),
            &[("{}.domain.devices.disks[0].io", "…only with cache none…")],
        ),
        (
            "{}/domain/features",
            json!({"hyperv": {"vendorid": {}}}),
            &[("{}.domain.features.hyperv.vendorid.vendorid", "…")],
        ),
        (
            "{}/domain/features",
            json!({"hyperv": {"tlbflush": {"direct": {}}}}),
            &[("{}.domain.features.hyperv.tlbflush.direct", "…not supported yet…")],
        ),
    ]
}
