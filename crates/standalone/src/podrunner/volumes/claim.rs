//! The directory or device behind a claim: pure, with kubelet's rules and words.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};

use crate::storage::words::{CLAIM_PROTECTION, claim_phase, claim_ref, has_finalizer, is_block, is_deleting};

/// What a pod gets for a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Backing {
    /// A directory that must be there.
    Local(PathBuf),
    /// A hostPath: path and type.
    HostPath(String, String),
    /// A block device that must be there.
    Device(PathBuf),
}

/// How a pod's containers want a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// As a directory (`volumeMounts`).
    pub(super) mounted: bool,
    /// As a device (`volumeDevices`).
    pub(super) device: bool,
}

impl Usage {
    /// Of the pod's volume `name`.
    pub(super) fn of(pod: &Pod, name: &str) -> Self {
        let containers = || {
            let inits = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
            inits.chain(pod.spec.iter().flat_map(|spec| &spec.containers))
        };
        Self {
            mounted: containers().any(|c| c.volume_mounts.iter().flatten().any(|mount| mount.name == name)),
            device: containers().any(|c| c.volume_devices.iter().flatten().any(|device| device.name == name)),
        }
    }
}

/// Name of the volume a claim is bound to.
///
/// # Errors
/// Why it cannot be used.
pub(super) fn volume_of(claim: &PersistentVolumeClaim) -> Result<&str, String> {
    // Not protected, it may vanish at any moment; protected, its pods go on.
    if is_deleting(&claim.metadata) && !has_finalizer(&claim.metadata, CLAIM_PROTECTION) {
        return Err("PVC is being deleted".into());
    }
    if claim_phase(claim) != "Bound" {
        return Err("PVC is not bound".into());
    }
    let name = claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).unwrap_or_default();
    if name.is_empty() { Err("PVC has empty pvc.Spec.VolumeName".into()) } else { Ok(name) }
}

/// What the pod gets.
///
/// # Errors
/// The volume is not the claim's, of a kind that is not to be had here, or wanted as what it is not.
pub(super) fn backing(
    claim: &PersistentVolumeClaim,
    volume: &PersistentVolume,
    usage: Usage,
) -> Result<Backing, String> {
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let Some(reference) = claim_ref(volume) else {
        return Err(format!(
            "found PV object {name} but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim"
        ));
    };
    let (theirs, ours) =
        (reference.uid.as_deref().unwrap_or_default(), claim.metadata.uid.as_deref().unwrap_or_default());
    if theirs != ours {
        return Err(format!(
            "found PV object {name} but its pv.Spec.ClaimRef.UID {theirs} does not point to claim.UID {ours}"
        ));
    }
    let spec = volume.spec.clone().unwrap_or_default();
    if is_block(spec.volume_mode.as_deref()) {
        if usage.mounted {
            return Err(format!("volume {name} has volumeMode Block, but is specified in volumeMounts"));
        }
        return match spec.local {
            Some(local) => Ok(Backing::Device(local.path.into())),
            None => Err(format!(
                "volume {name} has volumeMode Block and is not local: the embedded pod runner has no other devices"
            )),
        };
    }
    if usage.device {
        return Err(format!("volume {name} has volumeMode Filesystem, but is specified in volumeDevices"));
    }
    if let Some(local) = spec.local {
        return Ok(Backing::Local(local.path.into()));
    }
    if let Some(host) = spec.host_path {
        return Ok(Backing::HostPath(host.path, host.type_.unwrap_or_default()));
    }
    Err(format!("volume {name} is neither local nor hostPath: the embedded pod runner mounts no other kind"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn claim(extra: Value) -> PersistentVolumeClaim {
        let mut full = json!({"metadata": {"name": "c", "namespace": "n", "uid": "u"}, "spec": {"volumeName": "v"},
            "status": {"phase": "Bound"}});
        json_patch::merge(&mut full, &extra);
        serde_json::from_value(full).unwrap()
    }

    fn backed(spec: Value) -> Result<Backing, String> {
        let mut full =
            json!({"metadata": {"name": "v"}, "spec": {"claimRef": {"namespace": "n", "name": "c", "uid": "u"}}});
        json_patch::merge(&mut full["spec"], &spec);
        backing(&claim(json!({})), &serde_json::from_value(full).unwrap(), Usage::default())
    }

    #[test]
    fn a_volume_is_wanted_as_what_it_is() {
        let pod = |container: Value| -> Pod {
            serde_json::from_value(json!({"spec": {"containers": [{"name": "other"}], "initContainers": [container]}}))
                .unwrap()
        };
        let mounted = pod(json!({"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}));
        let device = pod(json!({"name": "c", "volumeDevices": [{"name": "v", "devicePath": "/dev/v"}]}));
        let got = |pod: &Pod, mode: &str| {
            let volume = json!({"metadata": {"name": "pv"}, "spec": {"volumeMode": mode, "local": {"path": "/x"},
                "claimRef": {"namespace": "n", "name": "c", "uid": "u"}}});
            backing(&claim(json!({})), &serde_json::from_value(volume).unwrap(), Usage::of(pod, "v"))
        };
        assert_eq!(got(&mounted, "Filesystem"), Ok(Backing::Local("/x".into())));
        assert_eq!(got(&device, "Block"), Ok(Backing::Device("/x".into())));
        let refused = |pod, mode| got(pod, mode).unwrap_err();
        assert_eq!(refused(&mounted, "Block"), "volume pv has volumeMode Block, but is specified in volumeMounts");
        assert_eq!(
            refused(&device, "Filesystem"),
            "volume pv has volumeMode Filesystem, but is specified in volumeDevices"
        );
    }

    #[test]
    fn only_a_bound_claim_has_a_volume() {
        let deleted = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        let protected = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z",
            "finalizers": ["kubernetes.io/pvc-protection"]}});
        let cases = [
            (json!({}), Ok("v")),
            (protected, Ok("v")),
            (deleted, Err("PVC is being deleted")),
            (json!({"status": {"phase": "Pending"}}), Err("PVC is not bound")),
            (json!({"spec": {"volumeName": null}}), Err("PVC has empty pvc.Spec.VolumeName")),
        ];
        for (extra, expected) in cases {
            assert_eq!(volume_of(&claim(extra.clone())), expected.map_err(str::to_string), "{extra}");
        }
    }

    #[test]
    fn only_the_claims_own_directory_is_mounted() {
        assert_eq!(backed(json!({"local": {"path": "/x"}})), Ok(Backing::Local("/x".into())));
        let host = json!({"hostPath": {"path": "/x", "type": "Directory"}});
        assert_eq!(backed(host), Ok(Backing::HostPath("/x".into(), "Directory".into())));
        let cases = [
            (json!({"claimRef": null, "local": {"path": "/x"}}), "nil pv.Spec.ClaimRef"),
            (json!({"claimRef": {"uid": "other"}, "local": {"path": "/x"}}), "does not point to claim.UID u"),
            (json!({"volumeMode": "Block", "hostPath": {"path": "/x"}}), "volumeMode Block and is not local"),
            (json!({"nfs": {"path": "/x", "server": "s"}}), "neither local nor hostPath"),
        ];
        for (spec, expected) in cases {
            let refusal = backed(spec.clone()).unwrap_err();
            assert!(refusal.contains(expected), "{spec}: {refusal}");
        }
    }
}
