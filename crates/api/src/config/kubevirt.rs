//! From the KubeVirt resource to the resolved configuration.

use crate::{ArchSpecificConfiguration, KubeVirt, KubeVirtConfiguration};

use super::{ClusterConfig, DefaultBinding, HOST_DISK};

/// A setting that cannot be followed. Admission refuses it; who meets it all the same keeps the last valid configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {value:?} is not valid: use {way_out}")]
pub struct ConfigError {
    /// Path of the setting in the KubeVirt resource.
    pub field: &'static str,
    pub value: String,
    /// What would be valid.
    pub way_out: &'static str,
}

impl ClusterConfig {
    /// What a KubeVirt resource asks for, over `base`: what the program was started with (launcher image, architecture of the
    /// machines). A setting that the resource does not have keeps the value of `base`.
    pub fn from_kubevirt(kubevirt: &KubeVirt, base: &Self) -> Result<Self, ConfigError> {
        let mut config = base.clone();
        if let Some(policy) = text(&kubevirt.spec.image_pull_policy) {
            config.launcher_pull_policy = policy;
        }
        let Some(wanted) = &kubevirt.spec.configuration else { return Ok(config) };
        if let Some(developer) = &wanted.developer_configuration {
            config.host_disk |= developer.feature_gates.iter().any(|gate| gate == HOST_DISK);
            if let Some(use_emulation) = developer.use_emulation {
                config.use_emulation = use_emulation;
            }
            if let Some(ratio) = developer.cpu_allocation_ratio {
                config.cpu_allocation_ratio =
                    positive("spec.configuration.developerConfiguration.cpuAllocationRatio", ratio)?;
            }
            if let Some(percent) = developer.memory_overcommit {
                config.memory_overcommit =
                    positive("spec.configuration.developerConfiguration.memoryOvercommit", percent)?;
            }
        }
        if let Some(model) = text(&wanted.cpu_model) {
            config.cpu_model = Some(model);
        }
        if let Some(request) = &wanted.cpu_request {
            config.cpu_request = Some(*request);
        }
        machines(wanted, &mut config);
        if let Some(network) = &wanted.network {
            if let Some(binding) = text(&network.default_network_interface) {
                config.default_network_interface = default_binding(binding)?;
            }
            if let Some(is_permitted) = network.permit_bridge_interface_on_pod_network {
                config.permit_bridge_on_pod_network = is_permitted;
            }
        }
        if let Some(options) = &wanted.virtual_machine_options {
            config.disable_serial_console_log = options.disable_serial_console_log.is_some();
        }
        Ok(config)
    }
}

/// Architecture first, since the machine types hang on it; the old settings without an architecture win, as upstream.
fn machines(wanted: &KubeVirtConfiguration, config: &mut ClusterConfig) {
    let architectures = wanted.architecture_configuration.as_ref();
    if let Some(architecture) = architectures.and_then(|known| text(&known.default_architecture)) {
        let (machine, globs): (&str, &[&str]) = match architecture.as_str() {
            "arm64" => ("virt", &["virt*"]),
            "s390x" => ("s390-ccw-virtio", &["s390-ccw-virtio*"]),
            _ => ("q35", &["q35*", "pc-q35*"]),
        };
        if architecture != config.default_architecture {
            config.machine_type = machine.to_owned();
            config.emulated_machines = globs.iter().map(|glob| (*glob).to_owned()).collect();
        }
        config.default_architecture = architecture;
    }
    let own: Option<&ArchSpecificConfiguration> =
        architectures.and_then(|known| match config.default_architecture.as_str() {
            "amd64" => known.amd64.as_ref(),
            "arm64" => known.arm64.as_ref(),
            "s390x" => known.s390x.as_ref(),
            _ => None,
        });
    let own_machine = own.and_then(|own| text(&own.machine_type));
    if let Some(machine) = text(&wanted.machine_type).or(own_machine) {
        config.machine_type = machine;
    }
    let own_globs = own.map(|own| own.emulated_machines.as_slice()).unwrap_or_default();
    if let Some(globs) = [wanted.emulated_machines.as_slice(), own_globs].into_iter().find(|globs| !globs.is_empty()) {
        config.emulated_machines = globs.to_vec();
    }
}

/// An empty text counts as absent, as in upstream's types.
fn text(value: &Option<String>) -> Option<String> {
    value.as_ref().filter(|text| !text.is_empty()).cloned()
}

fn positive(field: &'static str, value: i32) -> Result<u32, ConfigError> {
    u32::try_from(value).ok().filter(|value| *value > 0).ok_or(ConfigError {
        field,
        value: value.to_string(),
        way_out: "a number above 0",
    })
}

fn default_binding(value: String) -> Result<DefaultBinding, ConfigError> {
    match value.as_str() {
        "bridge" => Ok(DefaultBinding::Bridge),
        "masquerade" => Ok(DefaultBinding::Masquerade),
        _ => Err(ConfigError {
            field: "spec.configuration.network.defaultNetworkInterface",
            value,
            way_out: "bridge or masquerade",
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn resolved(configuration: Value) -> Result<ClusterConfig, ConfigError> {
        let kubevirt: KubeVirt = serde_json::from_value(json!({
            "apiVersion": "kubevirt.io/v1", "kind": "KubeVirt", "metadata": {"name": "kubevirt"},
            "spec": {"configuration": configuration}
        }))
        .unwrap();
        let base = ClusterConfig { launcher_image: "registry/virt-launcher:v2".into(), ..ClusterConfig::default() };
        ClusterConfig::from_kubevirt(&kubevirt, &base)
    }

    #[test]
    fn what_the_resource_does_not_say_stays_as_the_program_was_started() {
        let base = ClusterConfig { launcher_image: "registry/virt-launcher:v2".into(), ..ClusterConfig::default() };
        assert_eq!(resolved(json!({})), Ok(base.clone()));
        assert_eq!(
            resolved(json!({"cpuModel": "", "machineType": "", "network": {}, "virtualMachineOptions": {}})),
            Ok(base)
        );
    }

    #[test]
    fn every_implemented_setting_is_taken_over() {
        let config = resolved(json!({
            "developerConfiguration": {"useEmulation": true, "cpuAllocationRatio": 4, "memoryOvercommit": 150,
                                       "featureGates": ["LiveMigration", "HostDisk"]},
            "cpuModel": "Haswell", "cpuRequest": "50m",
            "network": {"defaultNetworkInterface": "masquerade", "permitBridgeInterfaceOnPodNetwork": false},
            "virtualMachineOptions": {"disableSerialConsoleLog": {}}
        }))
        .unwrap();
        assert!(config.use_emulation && config.disable_serial_console_log && !config.permit_bridge_on_pod_network);
        assert!(config.host_disk);
        assert_eq!((config.cpu_allocation_ratio, config.memory_overcommit), (4, 150));
        assert_eq!(config.cpu_model.as_deref(), Some("Haswell"));
        assert_eq!(config.cpu_request.unwrap().to_string(), "50m");
        assert_eq!(config.default_network_interface, DefaultBinding::Masquerade);
        assert_eq!(config.launcher_image, "registry/virt-launcher:v2");
    }

    #[test]
    fn launchers_are_pulled_as_the_components_are() {
        let spec = crate::KubeVirtSpec { image_pull_policy: Some("Always".into()), ..Default::default() };
        let config = ClusterConfig::from_kubevirt(&KubeVirt::new("kubevirt", spec), &ClusterConfig::default());
        assert_eq!(config.unwrap().launcher_pull_policy, "Always");
    }

    #[test]
    fn machine_types_follow_the_architecture_and_old_settings_win() {
        let machine = |configuration| {
            let config = resolved(configuration).unwrap();
            (config.default_architecture, config.machine_type, config.emulated_machines.join(","))
        };
        let own = json!({"amd64": {"machineType": "pc-q35-7.2", "emulatedMachines": ["pc-q35-7*"]}});
        for (configuration, expected) in [
            (json!({"architectureConfiguration": own}), ("amd64", "pc-q35-7.2", "pc-q35-7*")),
            (
                json!({"machineType": "q35", "emulatedMachines": ["q35"], "architectureConfiguration": own}),
                ("amd64", "q35", "q35"),
            ),
            (json!({"architectureConfiguration": {"defaultArchitecture": "arm64"}}), ("arm64", "virt", "virt*")),
            (
                json!({"architectureConfiguration": {"defaultArchitecture": "s390x", "amd64": {"machineType": "q35"}}}),
                ("s390x", "s390-ccw-virtio", "s390-ccw-virtio*"),
            ),
        ] {
            let (architecture, machine_type, globs) = machine(configuration);
            assert_eq!((architecture.as_str(), machine_type.as_str(), globs.as_str()), expected);
        }
    }

    #[test]
    fn an_invalid_setting_is_named_with_the_way_out() {
        for (configuration, text) in [
            (
                json!({"developerConfiguration": {"cpuAllocationRatio": 0}}),
                "spec.configuration.developerConfiguration.cpuAllocationRatio: \"0\" is not valid: use a number above 0",
            ),
            (
                json!({"developerConfiguration": {"memoryOvercommit": -5}}),
                "spec.configuration.developerConfiguration.memoryOvercommit: \"-5\" is not valid: use a number above 0",
            ),
            (
                json!({"network": {"defaultNetworkInterface": "slirp"}}),
                "spec.configuration.network.defaultNetworkInterface: \"slirp\" is not valid: use bridge or masquerade",
            ),
        ] {
            assert_eq!(resolved(configuration).unwrap_err().to_string(), text);
        }
    }
}
