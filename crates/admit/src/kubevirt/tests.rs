use serde_json::{Value, json};

use super::*;

fn kubevirt(spec: Value) -> Value {
    json!({
        "apiVersion": "kubevirt.io/v1", "kind": "KubeVirt",
        "metadata": {"name": "kubevirt", "namespace": "kubevirt"}, "spec": spec
    })
}

fn messages(spec: Value) -> Vec<String> {
    kubevirt_causes(&kubevirt(spec)).into_iter().map(|cause| cause.message).collect()
}

#[test]
fn upstreams_example_resource_is_admitted() {
    let spec = json!({
        "certificateRotateStrategy": {}, "configuration": {"developerConfiguration": {"featureGates": []}},
        "customizeComponents": {}, "imagePullPolicy": "IfNotPresent", "workloadUpdateStrategy": {}
    });
    assert_eq!(create_kubevirt(&kubevirt(spec), &[]), Ok(()));
}

#[test]
fn everything_that_is_implemented_is_admitted() {
    let spec = json!({
        "imageRegistry": "registry.example:5000/mirror", "imageTag": "v1.0.0-rc.1", "imagePullPolicy": "Always",
        "imagePullSecrets": [{"name": "mirror"}],
        "infra": {"replicas": 3, "nodePlacement": {"nodeSelector": {"role": "infra"},
            "tolerations": [{"key": "infra", "operator": "Exists", "effect": "NoSchedule"}]}},
        "workloads": {"nodePlacement": {"nodeSelector": {"role": "vms"}}},
        "uninstallStrategy": "BlockUninstallIfWorkloadsExist",
        "certificateRotateStrategy": {"selfSigned": {"ca": {"duration": "48h"}, "server": {"duration": "12h"}}},
        "customizeComponents": {
            "flags": {"api": {"v": "5"}},
            "patches": [
                {"resourceType": "Deployment", "resourceName": "virt-api", "type": "json", "patch": "[]"},
                {"resourceType": "DaemonSet", "resourceName": "virt-handler", "type": "merge", "patch": "{}"}
            ]
        },
        "productName": "shop", "productVersion": "1.2", "productComponent": "vms",
        "configuration": {
            "cpuModel": "host-model", "cpuRequest": "100m", "machineType": "q35", "emulatedMachines": ["q35*"],
            "evictionStrategy": "None", "vmRolloutStrategy": "Stage", "roleAggregationStrategy": "Manual",
            "developerConfiguration": {"useEmulation": true, "featureGates": ["LiveMigration", "PortRangesSpec"]},
            "network": {"defaultNetworkInterface": "masquerade"},
            "virtualMachineOptions": {"disableSerialConsoleLog": {}}
        }
    });
    assert_eq!(messages(spec), Vec::<String>::new());
}

#[test]
fn what_is_not_implemented_is_refused_with_its_path_and_a_way_out() {
    for (spec, message) in [
        (
            json!({"configuration": {"migrations": {"parallelMigrationsPerCluster": 4}}}),
            "spec.configuration.migrations is not supported yet by Ferrovirt: remove it; machines are not migrated",
        ),
        (
            json!({"configuration": {"evictionStrategy": "LiveMigrate"}}),
            "spec.configuration.evictionStrategy: LiveMigrate is not supported yet by Ferrovirt: use None; machines are not migrated",
        ),
        (
            json!({"configuration": {"developerConfiguration": {"featureGates": ["Snapshot", "HostDevices"]}}}),
            "spec.configuration.developerConfiguration.featureGates[1]: HostDevices is not supported yet by Ferrovirt: remove it",
        ),
        (
            json!({"workloadUpdateStrategy": {"workloadUpdateMethods": ["LiveMigrate"]}}),
            "spec.workloadUpdateStrategy.workloadUpdateMethods[0]: LiveMigrate is not supported yet by Ferrovirt: leave it empty; guests are not part of launcher pods and outlive upgrades",
        ),
        (
            json!({"certificateRotateStrategy": {"selfSigned": {"caRotateInterval": "24h"}}}),
            "spec.certificateRotateStrategy.selfSigned.caRotateInterval: 24h is not supported yet by Ferrovirt: use ca.duration",
        ),
        (
            json!({"synchronizationPort": "9185"}),
            "spec.synchronizationPort: 9185 is not supported yet by Ferrovirt: remove it",
        ),
    ] {
        assert_eq!(messages(spec), [message]);
    }
}

#[test]
fn values_that_cannot_work_are_refused_with_path_and_way_out() {
    for (spec, message) in [
        (
            json!({"uninstallStrategy": "Never"}),
            "spec.uninstallStrategy 'Never': use one of RemoveWorkloads, BlockUninstallIfWorkloadsExist",
        ),
        (json!({"infra": {"replicas": 0}}), "infra replica count can't be 0"),
        (
            json!({"customizeComponents": {"patches": [
                {"resourceType": "servicemonitor", "resourceName": "*", "type": "strategic", "patch": "{}"}]}}),
            "spec.customizeComponents.patches[0].type: there are no strategic patches of servicemonitor: use json or merge",
        ),
        (
            json!({"monitorNamespace": "Watchers"}),
            "spec.monitorNamespace: a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
        ),
        (json!({"imageTag": "a b"}), "spec.imageTag: \"a b\" is not a tag: use one such as v1.0.0"),
        (
            json!({"imageRegistry": "quay.io/x/"}),
            "spec.imageRegistry: \"quay.io/x/\" is not a registry: use one such as quay.io/ferrovirt",
        ),
        (
            json!({"customizeComponents": {"flags": {"handler": {"--v": "5"}}}}),
            "spec.customizeComponents.flags.handler: \"--v\" is not the name of a flag: write it without dashes and value",
        ),
        (
            json!({"customizeComponents": {"patches": [
                {"resourceType": "Deployment", "resourceName": "virt-api", "type": "json", "patch": "{}"}]}}),
            "spec.customizeComponents.patches[0].patch: a JSON patch is a list of operations",
        ),
        (
            json!({"customizeComponents": {"patches": [
                {"resourceType": "Deployment", "resourceName": "virt-api", "type": "apply", "patch": "{}"}]}}),
            "spec.customizeComponents.patches[0].type 'apply': use one of json, merge, strategic",
        ),
        (
            json!({"workloads": {"nodePlacement": {"nodeSelector": {"a b": "c"}}}}),
            "spec.workloads.nodePlacement.nodeSelector: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
        ),
        (
            json!({"configuration": {"network": {"defaultNetworkInterface": "slirp"}}}),
            "spec.configuration.network.defaultNetworkInterface: \"slirp\" is not valid: use bridge or masquerade",
        ),
        (
            json!({"certificateRotateStrategy": {"selfSigned": {"ca": {"duration": "1m"}}}}),
            "spec.certificateRotateStrategy.selfSigned.ca.duration: \"1m\" is not valid: use at least 10m",
        ),
    ] {
        assert_eq!(messages(spec), [message]);
    }
}

#[test]
fn a_second_resource_is_refused() {
    let refused = create_kubevirt(&kubevirt(json!({})), &["other/kubevirt".to_owned()]);
    assert_eq!(refused, Err(KubeVirtRefusal::Request("Kubevirt is already created".to_owned())));
}

#[test]
fn an_update_is_refused_only_for_what_it_adds_and_never_on_the_way_out() {
    let stored = kubevirt(json!({"configuration": {"ovmfPath": "/x"}}));
    let mut changed = stored.clone();
    changed["spec"]["imageTag"] = json!("v2");
    assert_eq!(update_kubevirt(&stored, &changed), Ok(()));
    changed["spec"]["uninstallStrategy"] = json!("Never");
    let Err(KubeVirtRefusal::Fields(causes)) = update_kubevirt(&stored, &changed) else { panic!("admitted") };
    assert_eq!(causes.iter().map(|c| c.field.as_str()).collect::<Vec<_>>(), ["spec.uninstallStrategy"]);
    changed["metadata"]["deletionTimestamp"] = json!("2026-11-25T00:00:00Z");
    assert_eq!(update_kubevirt(&stored, &changed), Ok(()));
}

#[test]
fn removal_is_blocked_by_workloads_only_when_asked_to() {
    let text = |present: &str| {
        Err(KubeVirtRefusal::Request(format!(
            "Rejecting the uninstall request, since there are still {present} present. Either delete all KubeVirt related workloads or change the uninstall strategy before uninstalling KubeVirt."
        )))
    };
    let some = Workloads { instances: 1, machines: 2 };
    let stopped = Workloads { instances: 0, machines: 1 };
    let blocking = kubevirt(json!({"uninstallStrategy": "BlockUninstallIfWorkloadsExist"}));
    assert_eq!(delete_kubevirt(&blocking, some), text("Virtual Machine Instances"));
    assert_eq!(delete_kubevirt(&blocking, stopped), text("Virtual Machines"));
    assert_eq!(delete_kubevirt(&blocking, Workloads::default()), Ok(()));
    assert_eq!(delete_kubevirt(&kubevirt(json!({"uninstallStrategy": "RemoveWorkloads"})), some), Ok(()));
    assert_eq!(delete_kubevirt(&kubevirt(json!({})), some), Ok(()));
}
