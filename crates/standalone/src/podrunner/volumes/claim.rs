//! The directory behind a claim: pure, with kubelet's rules and words.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use crate::storage::words::{CLAIM_PROTECTION, claim_phase, claim_ref, has_finalizer, is_block, is_deleting};

/// What is mounted for a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Backing {
    /// A directory that must be there.
    Local(PathBuf),
    /// A hostPath: path and type.
    HostPath(String, String),
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

/// What to mount.
///
/// # Errors
/// The volume is not the claim's, or of a kind that cannot be mounted here.
pub(super) fn backing(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Result<Backing, String> {
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
        return Err(format!("volume {name} has volumeMode Block: the embedded pod runner mounts directories only"));
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
        backing(&claim(json!({})), &serde_json::from_value(full).unwrap())
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
            (json!({"volumeMode": "Block", "local": {"path": "/x"}}), "volumeMode Block"),
            (json!({"nfs": {"path": "/x", "server": "s"}}), "neither local nor hostPath"),
        ];
        for (spec, expected) in cases {
            let refusal = backed(spec.clone()).unwrap_err();
            assert!(refusal.contains(expected), "{spec}: {refusal}");
        }
    }
}
