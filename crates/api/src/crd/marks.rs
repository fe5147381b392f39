//! What the types cannot say about their schema: defaults, enumerations, sizes and merge keys of lists, nullable fields.
//!
//! A mark is a path and the keywords to put there, as JSON; `null` takes a keyword out. In paths `[]` stands for the items of
//! a list and `{}` for the values of a map. A path that is not in the schema is an error, so marks cannot go stale.

use serde_json::{Value, json};

pub(super) type Mark = (&'static str, &'static str);

const MAP_BY_NAME: &str = r#"{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}"#;
const AT_MOST_256: &str = r#"{"maxItems": 256}"#;
const KEPT_METADATA: &str = r#"{"nullable": true, "x-kubernetes-preserve-unknown-fields": true}"#;
const NULLABLE: &str = r#"{"nullable": true}"#;
const INT32: &str = r#"{"format": "int32"}"#;
const OPTIONAL_NAME: &str = r#"{"required": null, "x-kubernetes-map-type": "atomic"}"#;
const ATOMIC: &str = r#"{"x-kubernetes-list-type": "atomic"}"#;
/// Formats that Kubernetes does not know draw a warning.
const BYTE: &str = r#"{"format": null, "minimum": 0, "maximum": 255}"#;
const EMPTY_DEFAULT: &str = r#"{"default": ""}"#;

/// Below `spec` of a VirtualMachineInstance and below `spec.template.spec` of a VirtualMachine.
pub(super) const INSTANCE_SPEC: &[Mark] = &[
    ("accessCredentials", AT_MOST_256),
    ("accessCredentials[].sshPublicKey.propagationMethod.qemuGuestAgent.users", r#"{"x-kubernetes-list-type": "set"}"#),
    ("domain.clock", r#"{"x-kubernetes-preserve-unknown-fields": true}"#),
    ("domain.cpu.cores", INT32),
    ("domain.cpu.maxSockets", INT32),
    ("domain.cpu.sockets", INT32),
    ("domain.cpu.threads", INT32),
    ("domain.devices.disks", AT_MOST_256),
    ("domain.devices.interfaces", AT_MOST_256),
    ("domain.features.hyperv.spinlocks.spinlocks", INT32),
    ("domain.ioThreads.supplementalPoolThreadCount", INT32),
    ("domain.memory.reservedOverhead.memLock", r#"{"enum": ["NotRequired", "Required"]}"#),
    ("domain.rebootPolicy", r#"{"enum": ["Reboot", "Terminate"]}"#),
    ("networks", AT_MOST_256),
    ("resourceClaims", MAP_BY_NAME),
    (
        "topologySpreadConstraints",
        r#"{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["topologyKey", "whenUnsatisfiable"]}"#,
    ),
    ("utilityVolumes", MAP_BY_NAME),
    ("utilityVolumes", AT_MOST_256),
    ("volumes", AT_MOST_256),
    ("volumes[].cloudInitConfigDrive.networkDataSecretRef", OPTIONAL_NAME),
    ("volumes[].cloudInitConfigDrive.networkDataSecretRef.name", EMPTY_DEFAULT),
    ("volumes[].cloudInitConfigDrive.secretRef", OPTIONAL_NAME),
    ("volumes[].cloudInitConfigDrive.secretRef.name", EMPTY_DEFAULT),
    ("volumes[].cloudInitNoCloud.networkDataSecretRef", OPTIONAL_NAME),
    ("volumes[].cloudInitNoCloud.networkDataSecretRef.name", EMPTY_DEFAULT),
    ("volumes[].cloudInitNoCloud.secretRef", OPTIONAL_NAME),
    ("volumes[].cloudInitNoCloud.secretRef.name", EMPTY_DEFAULT),
    ("volumes[].configMap", OPTIONAL_NAME),
    ("volumes[].configMap.name", EMPTY_DEFAULT),
    ("volumes[].containerPath.path", r#"{"maxLength": 4096}"#),
    ("volumes[].containerPath.readOnly", r#"{"default": true}"#),
    ("volumes[].downwardAPI.fields[].fieldRef", r#"{"x-kubernetes-map-type": "atomic"}"#),
    ("volumes[].downwardAPI.fields[].resourceFieldRef", r#"{"x-kubernetes-map-type": "atomic"}"#),
    ("volumes[].sysprep.configMap", OPTIONAL_NAME),
    ("volumes[].sysprep.configMap.name", EMPTY_DEFAULT),
    ("volumes[].sysprep.secret", OPTIONAL_NAME),
    ("volumes[].sysprep.secret.name", EMPTY_DEFAULT),
];

/// Of a VirtualMachine, beside [`INSTANCE_SPEC`].
pub(super) const VIRTUAL_MACHINE: &[Mark] = &[
    ("spec.dataVolumeTemplates[]", NULLABLE),
    ("spec.dataVolumeTemplates[].metadata", KEPT_METADATA),
    ("spec.dataVolumeTemplates[].spec.contentType", r#"{"enum": ["kubevirt", "archive"]}"#),
    ("spec.dataVolumeTemplates[].status", NULLABLE),
    ("spec.template.metadata", KEPT_METADATA),
    ("status.changedBlockTracking", NULLABLE),
    ("status.changedBlockTracking.backupStatus", NULLABLE),
    ("status.conditions[].lastProbeTime", NULLABLE),
    ("status.conditions[].lastTransitionTime", NULLABLE),
    ("status.instancetypeRef", NULLABLE),
    ("status.memoryDumpRequest", NULLABLE),
    ("status.preferenceRef", NULLABLE),
    ("status.printableStatus", r#"{"default": "Stopped"}"#),
    ("status.startFailure", NULLABLE),
];

/// Of a VirtualMachineInstance, beside [`INSTANCE_SPEC`].
pub(super) const VIRTUAL_MACHINE_INSTANCE: &[Mark] = &[
    ("status.changedBlockTracking", NULLABLE),
    ("status.changedBlockTracking.backupStatus", NULLABLE),
    ("status.conditions[].lastProbeTime", NULLABLE),
    ("status.conditions[].lastTransitionTime", NULLABLE),
    ("status.migrationState.endTimestamp", NULLABLE),
    ("status.migrationState.startTimestamp", NULLABLE),
];

/// Of a KubeVirt.
pub(super) const KUBEVIRT: &[Mark] = &[
    ("spec.configuration.confidentialCompute.tdx.attestation.enforced", r#"{"default": false}"#),
    (
        "spec.configuration.confidentialCompute.tdx.attestation.qgsSocketPath",
        r#"{"default": "/var/run/tdx-qgs/qgs.socket"}"#,
    ),
    ("spec.configuration.developerConfiguration.featureGates", ATOMIC),
    ("spec.configuration.hypervisors[].name", r#"{"enum": ["kvm", "hyperv-direct"]}"#),
    ("spec.configuration.instancetype", NULLABLE),
    (
        "spec.configuration.instancetype.referencePolicy",
        r#"{"enum": ["reference", "expand", "expandAll"], "nullable": true}"#,
    ),
    ("spec.configuration.roleAggregationStrategy", r#"{"enum": ["AggregateToDefault", "Manual"]}"#),
    (
        "spec.configuration.tlsConfiguration.minTLSVersion",
        r#"{"enum": ["VersionTLS10", "VersionTLS11", "VersionTLS12", "VersionTLS13"]}"#,
    ),
    ("spec.configuration.vmRolloutStrategy", r#"{"enum": ["Stage", "LiveUpdate"], "nullable": true}"#),
    ("spec.customizeComponents.patches", ATOMIC),
    ("spec.imagePullSecrets", ATOMIC),
    ("spec.imagePullSecrets[]", OPTIONAL_NAME),
    ("spec.imagePullSecrets[].name", EMPTY_DEFAULT),
    ("spec.infra.replicas", BYTE),
    ("spec.workloads.replicas", BYTE),
    ("status.conditions[].lastProbeTime", NULLABLE),
    ("status.conditions[].lastTransitionTime", NULLABLE),
    ("status.generations", ATOMIC),
    ("status.synchronizationAddresses", ATOMIC),
];

/// Puts the marks into the part of a schema at `base`; gives back the paths that are not there.
pub(super) fn apply(schema: &mut Value, base: &str, marks: &[Mark]) -> Vec<String> {
    let mut missing = Vec::new();
    for (path, keywords) in marks {
        let full = if base.is_empty() { (*path).to_owned() } else { format!("{base}.{path}") };
        let target = at(schema, &full).and_then(Value::as_object_mut);
        let (Some(target), Ok(Value::Object(keywords))) = (target, serde_json::from_str(keywords)) else {
            missing.push(full);
            continue;
        };
        for (keyword, value) in keywords {
            if value.is_null() {
                target.shift_remove(&keyword);
            } else {
                target.insert(keyword, value);
            }
        }
    }
    missing
}

/// The schema at a path.
fn at<'a>(mut schema: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    for segment in path.split('.') {
        let (name, nested) = match segment.find(['[', '{']) {
            Some(end) => segment.split_at(end),
            None => (segment, ""),
        };
        schema = schema.get_mut("properties")?.get_mut(name)?;
        match nested {
            "[]" => schema = schema.get_mut("items")?,
            "{}" => schema = schema.get_mut("additionalProperties")?,
            _ => {}
        }
    }
    Some(schema)
}

/// Takes out of a schema what upstream's CRDs do not carry (titles, and nullable on every optional field: a null is then
/// dropped by the API server instead of stored), and adds what holds wherever a shape occurs.
pub(super) fn tidy(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    for key in ["nullable", "title", "default"] {
        object.shift_remove(key);
    }
    if object.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        object.insert("anyOf".into(), json!([{"type": "integer"}, {"type": "string"}]));
    }
    let is_selector = object.get("properties").is_some_and(|p| {
        p.get("nodeSelectorTerms").is_some()
            || (p.get("matchExpressions").is_some() && p.as_object().is_some_and(|p| p.len() == 2))
    });
    if is_selector {
        object.insert("x-kubernetes-map-type".into(), json!("atomic"));
    }
    if let Some(Value::Object(children)) = object.get_mut("properties") {
        children.sort_keys();
        children.values_mut().for_each(tidy);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(child) = object.get_mut(key) {
            tidy(child);
        }
    }
    object.sort_keys();
}
