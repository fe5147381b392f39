//! The examples.

use super::Place::{self, Devices, Disk, Domain, Instance, Interface, Machine, Multus, Target, Volume};

/// What a user calls it, where it belongs, the value as JSON.
type Feature = (&'static str, Place, &'static str);

pub(super) const GROUPS: &[(&str, &[Feature])] = &[
    ("Life", LIFE),
    ("CPU, memory, firmware", MACHINE),
    ("Devices", DEVICES),
    ("Disks", DISKS),
    ("Volumes", VOLUMES),
    ("Network", NETWORK),
    ("Placement and surroundings", PLACEMENT),
];

const LIFE: &[Feature] = &[
    ("running", Machine, r#"{"runStrategy": null, "running": true}"#),
    ("run strategy", Machine, r#"{"runStrategy": "RerunOnFailure"}"#),
    ("waiting for a migration", Machine, r#"{"runStrategy": "WaitAsReceiver"}"#),
    ("start paused", Instance, r#"{"startStrategy": "Paused"}"#),
    ("grace period", Instance, r#"{"terminationGracePeriodSeconds": 30}"#),
    ("eviction: shut down", Instance, r#"{"evictionStrategy": "None"}"#),
    ("eviction: live migration", Instance, r#"{"evictionStrategy": "LiveMigrate"}"#),
    ("readiness by HTTP", Instance, r#"{"readinessProbe": {"httpGet": {"port": 80}}}"#),
    ("liveness by TCP", Instance, r#"{"livenessProbe": {"tcpSocket": {"port": 80}}}"#),
    ("liveness by guest agent", Instance, r#"{"livenessProbe": {"guestAgentPing": {}}}"#),
    ("readiness by guest agent", Instance, r#"{"readinessProbe": {"guestAgentPing": {}}}"#),
    (
        "readiness by command",
        Instance,
        r#"{"readinessProbe": {"exec": {"command": ["systemctl", "is-system-running"]}}}"#,
    ),
    ("instance type", Machine, r#"{"instancetype": {"name": "u1.small"}}"#),
    ("preference", Machine, r#"{"preference": {"name": "fedora"}}"#),
    ("data volume templates", Machine, r#"{"dataVolumeTemplates": [{"metadata": {"name": "root"}, "spec": {}}]}"#),
];

const MACHINE: &[Feature] = &[
    ("CPU topology", Domain, r#"{"cpu": {"sockets": 1, "cores": 2, "threads": 1}}"#),
    ("CPU model", Domain, r#"{"cpu": {"model": "host-passthrough"}}"#),
    ("CPU features", Domain, r#"{"cpu": {"features": [{"name": "vmx", "policy": "disable"}]}}"#),
    ("CPU hotplug", Domain, r#"{"cpu": {"sockets": 1, "maxSockets": 4}}"#),
    ("CPUs of its own", Domain, r#"{"cpu": {"cores": 2, "dedicatedCpuPlacement": true}}"#),
    ("NUMA", Domain, r#"{"cpu": {"numa": {"guestMappingPassthrough": {}}}}"#),
    ("memory by resources", Domain, r#"{"memory": null, "resources": {"requests": {"memory": "64M"}}}"#),
    ("memory overcommit", Domain, r#"{"resources": {"overcommitGuestOverhead": true}}"#),
    ("memory hotplug", Domain, r#"{"memory": {"maxGuest": "1Gi"}}"#),
    ("huge pages", Domain, r#"{"memory": {"hugepages": {"pageSize": "2Mi"}}}"#),
    ("machine type", Domain, r#"{"machine": {"type": "q35"}}"#),
    ("UEFI", Domain, r#"{"firmware": {"bootloader": {"efi": {"secureBoot": false}}}}"#),
    ("secure boot", Domain, r#"{"features": {"smm": {}}, "firmware": {"bootloader": {"efi": {"secureBoot": true}}}}"#),
    (
        "lasting UEFI variables",
        Domain,
        r#"{"firmware": {"bootloader": {"efi": {"secureBoot": false, "persistent": true}}}}"#,
    ),
    (
        "firmware identity",
        Domain,
        r#"{"firmware": {"uuid": "5d307ca9-b3ef-428c-8861-06e72d69f223", "serial": "e4686d2c"}}"#,
    ),
    (
        "kernel boot",
        Domain,
        r#"{"firmware": {"kernelBoot": {"container": {"image": "kernel", "kernelPath": "/vmlinuz"}}}}"#,
    ),
    ("Hyper-V", Domain, r#"{"features": {"hyperv": {"relaxed": {}, "vapic": {}}}}"#),
    ("clock", Domain, r#"{"clock": {"utc": {}, "timer": {"hpet": {"present": false}}}}"#),
    ("chassis", Domain, r#"{"chassis": {"asset": "room 12"}}"#),
    ("encrypted memory", Domain, r#"{"launchSecurity": {"sev": {}}}"#),
    ("I/O threads", Domain, r#"{"ioThreadsPolicy": "auto"}"#),
];

const DEVICES: &[Feature] = &[
    ("no graphics", Devices, r#"{"autoattachGraphicsDevice": false}"#),
    ("no balloon", Devices, r#"{"autoattachMemBalloon": false}"#),
    ("console in the pod's log", Devices, r#"{"logSerialConsole": true}"#),
    ("random numbers", Devices, r#"{"rng": {}}"#),
    ("tablet", Devices, r#"{"inputs": [{"name": "tablet", "type": "tablet", "bus": "usb"}]}"#),
    ("watchdog", Devices, r#"{"watchdog": {"name": "dog", "i6300esb": {"action": "poweroff"}}}"#),
    ("several queues for disks", Devices, r#"{"blockMultiQueue": true}"#),
    ("several queues for networks", Devices, r#"{"networkInterfaceMultiqueue": true}"#),
    ("old virtio", Devices, r#"{"useVirtioTransitional": true}"#),
    ("TPM", Devices, r#"{"tpm": {}}"#),
    ("sound", Devices, r#"{"sound": {"name": "sound"}}"#),
    ("GPU", Devices, r#"{"gpus": [{"name": "gpu", "deviceName": "vendor.example/gpu"}]}"#),
    ("host devices", Devices, r#"{"hostDevices": [{"name": "nic", "deviceName": "vendor.example/nic"}]}"#),
    ("shared folders", Devices, r#"{"filesystems": [{"name": "root", "virtiofs": {}}]}"#),
    ("downward metrics", Devices, r#"{"downwardMetrics": {}}"#),
];

const DISKS: &[Feature] = &[
    ("virtio", Target, r#"{"disk": {"bus": "virtio"}}"#),
    ("SATA", Target, r#"{"disk": {"bus": "sata"}}"#),
    ("SCSI", Target, r#"{"disk": {"bus": "scsi"}}"#),
    ("USB", Target, r#"{"disk": {"bus": "usb"}}"#),
    ("CD-ROM", Target, r#"{"cdrom": {"bus": "sata"}}"#),
    ("LUN", Target, r#"{"lun": {"bus": "scsi"}}"#),
    ("boot order", Disk, r#"{"bootOrder": 1}"#),
    ("serial", Disk, r#"{"serial": "CVLY623300HK240D"}"#),
    ("cache", Disk, r#"{"cache": "none"}"#),
    ("I/O mode", Disk, r#"{"io": "threads"}"#),
    ("block size", Disk, r#"{"blockSize": {"custom": {"logical": 4096, "physical": 4096}}}"#),
    ("what an error does", Disk, r#"{"errorPolicy": "stop"}"#),
    ("shared by machines", Disk, r#"{"shareable": true}"#),
    ("I/O thread of its own", Disk, r#"{"dedicatedIOThread": true}"#),
];

const VOLUMES: &[Feature] = &[
    ("container disk", Volume, r#"{"containerDisk": {"image": "quay.io/containerdisks/fedora:43"}}"#),
    ("cloud-init NoCloud", Volume, r#"{"cloudInitNoCloud": {"userData": "..."}}"#),
    ("cloud-init ConfigDrive", Volume, r#"{"cloudInitConfigDrive": {"userData": "..."}}"#),
    ("empty disk", Volume, r#"{"emptyDisk": {"capacity": "2Gi"}}"#),
    ("claim", Volume, r#"{"persistentVolumeClaim": {"claimName": "data"}}"#),
    ("claim, changes dropped", Volume, r#"{"ephemeral": {"persistentVolumeClaim": {"claimName": "data"}}}"#),
    ("data volume", Volume, r#"{"dataVolume": {"name": "data"}}"#),
    ("file of the node", Volume, r#"{"hostDisk": {"path": "/srv/disk.img", "type": "Disk"}}"#),
    ("config map", Volume, r#"{"configMap": {"name": "settings"}}"#),
    ("secret", Volume, r#"{"secret": {"secretName": "keys"}}"#),
    ("service account", Volume, r#"{"serviceAccount": {"serviceAccountName": "default"}}"#),
    (
        "downward API",
        Volume,
        r#"{"downwardAPI": {"fields": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}"#,
    ),
    ("sysprep", Volume, r#"{"sysprep": {"configMap": {"name": "answers"}}}"#),
];

const NETWORK: &[Feature] = &[
    ("masquerade", Interface, r#"{"masquerade": {}}"#),
    ("bridge", Interface, r#"{"bridge": {}}"#),
    ("bridge on another network", Multus, r#"{"bridge": {}}"#),
    ("SR-IOV", Multus, r#"{"sriov": {}}"#),
    ("passt", Interface, r#"{"passtBinding": {}}"#),
    ("slirp", Interface, r#"{"slirp": {}}"#),
    ("macvtap", Multus, r#"{"macvtap": {}}"#),
    ("binding plugin", Interface, r#"{"binding": {"name": "plugin"}}"#),
    ("listed ports", Interface, r#"{"masquerade": {}, "ports": [{"port": 80}]}"#),
    ("MAC address", Interface, r#"{"masquerade": {}, "macAddress": "02:00:00:00:00:01"}"#),
    ("model", Interface, r#"{"masquerade": {}, "model": "e1000e"}"#),
    ("DHCP options", Interface, r#"{"masquerade": {}, "dhcpOptions": {"bootFileName": "pxe"}}"#),
    ("interface removed", Interface, r#"{"bridge": {}, "state": "absent"}"#),
    ("names", Instance, r#"{"hostname": "web", "subdomain": "shop"}"#),
    ("DNS of its own", Instance, r#"{"dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.53"]}}"#),
];

const PLACEMENT: &[Feature] = &[
    ("node selector", Instance, r#"{"nodeSelector": {"disk": "fast"}}"#),
    ("affinity", Instance, r#"{"affinity": {"podAntiAffinity": {}}}"#),
    ("tolerations", Instance, r#"{"tolerations": [{"operator": "Exists"}]}"#),
    (
        "spread",
        Instance,
        r#"{"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]}"#,
    ),
    ("scheduler", Instance, r#"{"schedulerName": "custom"}"#),
    ("priority", Instance, r#"{"priorityClassName": "high"}"#),
    ("resource claims", Instance, r#"{"resourceClaims": [{"name": "gpu"}]}"#),
    (
        "keys and passwords by secret",
        Instance,
        r#"{"accessCredentials": [{"sshPublicKey": {"source": {"secret": {"secretName": "keys"}}, "propagationMethod": {"noCloud": {}}}}]}"#,
    ),
];
