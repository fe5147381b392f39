//! What is to be done next about a volume: pure.

use k8s_openapi::api::core::v1::PersistentVolume;

use super::World;
use super::claim::Notice;
use super::words::{
    BOUND_BY_CONTROLLER, PROVISIONED_BY, PROVISIONER_FINALIZER, VOLUME_PROTECTION, annotation, claim_ref,
    has_finalizer, is_bound_to, is_deleting, is_ours, volume_phase,
};

/// The next step of a volume.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    Keep,
    Phase(&'static str),
    /// Nobody removes it while it is used.
    Protect,
    /// It may go: it is being deleted and no claim is bound to it.
    Unprotect,
    /// Its claim is bound to another volume; `reserved`: an administrator keeps it for that claim.
    Unbind {
        reserved: bool,
    },
    /// Its claim is gone, if the API still says so.
    Release,
    /// Remove its directory, and it.
    Reclaim,
    /// Its directory stays: let it go.
    LetGo,
    /// It cannot be reclaimed by anybody here.
    Fail(Notice),
}

/// Decides.
pub(crate) fn decide(volume: &PersistentVolume, world: &World) -> Step {
    let meta = &volume.metadata;
    let phase = volume_phase(volume);
    if !is_deleting(meta) && !has_finalizer(meta, VOLUME_PROTECTION) {
        return Step::Protect;
    }
    if is_deleting(meta) && phase != "Bound" {
        if has_finalizer(meta, PROVISIONER_FINALIZER) && is_ours(volume) {
            return if is_deleted_with_claim(volume) { Step::Reclaim } else { Step::LetGo };
        }
        return if has_finalizer(meta, VOLUME_PROTECTION) { Step::Unprotect } else { Step::Keep };
    }
    let to_phase = |wanted: &'static str| if phase == wanted { Step::Keep } else { Step::Phase(wanted) };
    let Some(claim_ref) = claim_ref(volume) else { return to_phase("Available") };
    if claim_ref.uid.as_deref().unwrap_or_default().is_empty() {
        return to_phase("Available");
    }
    let namespace = claim_ref.namespace.as_deref().unwrap_or_default();
    let claim = world.claim(namespace, claim_ref.name.as_deref().unwrap_or_default());
    let Some(claim) = claim.filter(|claim| is_bound_to(volume, claim)) else {
        return match phase {
            "Released" | "Failed" => reclaim(volume, phase),
            _ => Step::Release,
        };
    };
    match claim.spec.as_ref().and_then(|s| s.volume_name.as_deref()).unwrap_or_default() {
        // The claim's own step comes first.
        "" => Step::Keep,
        name if Some(name) == meta.name.as_deref() => to_phase("Bound"),
        _ if is_ours(volume) && is_deleted_with_claim(volume) => Step::Release,
        _ => Step::Unbind { reserved: annotation(meta, BOUND_BY_CONTROLLER).is_none() },
    }
}

/// Whether the reclaim policy is Delete.
fn is_deleted_with_claim(volume: &PersistentVolume) -> bool {
    let policy = volume.spec.as_ref().and_then(|s| s.persistent_volume_reclaim_policy.as_deref());
    policy == Some("Delete")
}

/// A volume without its claim.
fn reclaim(volume: &PersistentVolume, phase: &str) -> Step {
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let policy = volume.spec.as_ref().and_then(|s| s.persistent_volume_reclaim_policy.as_deref()).unwrap_or("Retain");
    let fail = |reason, message: String| {
        if phase == "Failed" { Step::Keep } else { Step::Fail(Notice::warning(reason, message)) }
    };
    match policy {
        "Delete" if is_ours(volume) => Step::Reclaim,
        // Somebody else's provisioner removes it.
        "Delete" if annotation(&volume.metadata, PROVISIONED_BY).is_some() => Step::Keep,
        "Delete" => fail(
            "VolumeFailedDelete",
            format!("error getting deleter volume plugin for volume {name:?}: no deletable volume plugin matched"),
        ),
        "Recycle" => fail("VolumeFailedRecycle", "no volume plugin matched".into()),
        _ => Step::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PersistentVolumeClaim;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn after(volume: Value, claims: Value) -> Step {
        let mut full = json!({"metadata": {"name": "v", "finalizers": ["kubernetes.io/pv-protection"]},
            "spec": {"persistentVolumeReclaimPolicy": "Retain"}, "status": {"phase": "Bound"}});
        json_patch::merge(&mut full, &volume);
        let volume: Arc<PersistentVolume> = Arc::new(serde_json::from_value(full).unwrap());
        let claims: Vec<PersistentVolumeClaim> = serde_json::from_value(claims).unwrap();
        let world = World::new(claims.into_iter().map(Arc::new).collect(), vec![Arc::clone(&volume)], vec![], vec![]);
        decide(&volume, &world)
    }

    fn claim(uid: &str, volume: &str) -> Value {
        json!([{"metadata": {"name": "c", "namespace": "n", "uid": uid}, "spec": {"volumeName": volume}}])
    }

    fn claimed(extra: Value) -> Value {
        let mut full = json!({"spec": {"claimRef": {"namespace": "n", "name": "c", "uid": "u"}}});
        json_patch::merge(&mut full, &extra);
        full
    }

    #[test]
    fn the_phase_follows_the_claim() {
        let reserved = json!({"spec": {"claimRef": {"namespace": "n", "name": "c"}}});
        let cases = [
            (json!({}), json!([]), Step::Phase("Available")),
            (json!({"status": {"phase": "Available"}}), json!([]), Step::Keep),
            (reserved, json!([]), Step::Phase("Available")),
            (claimed(json!({})), claim("u", "v"), Step::Keep),
            (claimed(json!({"status": {"phase": "Pending"}})), claim("u", "v"), Step::Phase("Bound")),
            (claimed(json!({})), claim("u", ""), Step::Keep),
            (claimed(json!({})), json!([]), Step::Release),
            (claimed(json!({})), claim("another", "v"), Step::Release),
            (claimed(json!({})), claim("u", "other"), Step::Unbind { reserved: true }),
            (
                claimed(json!({"metadata": {"annotations": {"pv.kubernetes.io/bound-by-controller": "yes"}}})),
                claim("u", "other"),
                Step::Unbind { reserved: false },
            ),
            (json!({"metadata": {"finalizers": null}}), json!([]), Step::Protect),
        ];
        for (volume, claims, expected) in cases {
            assert_eq!(after(volume.clone(), claims.clone()), expected, "{volume} {claims}");
        }
    }

    #[test]
    fn only_directories_of_ours_are_removed_and_only_without_their_claim() {
        let released = |policy: &str, by: Option<&str>, phase: &str| {
            claimed(json!({"spec": {"persistentVolumeReclaimPolicy": policy}, "status": {"phase": phase},
                "metadata": {"annotations": {"pv.kubernetes.io/provisioned-by": by}}}))
        };
        let ours = Some("ferrovirt.io/local-path");
        assert_eq!(after(released("Delete", ours, "Released"), json!([])), Step::Reclaim);
        assert_eq!(after(released("Delete", ours, "Failed"), json!([])), Step::Reclaim, "tried again");
        assert_eq!(after(released("Delete", ours, "Bound"), json!([])), Step::Release, "first seen to be released");
        assert_eq!(after(released("Delete", ours, "Released"), claim("u", "v")), Step::Phase("Bound"));
        assert_eq!(after(released("Retain", ours, "Released"), json!([])), Step::Keep);
        assert_eq!(after(released("Delete", Some("csi.example"), "Released"), json!([])), Step::Keep);
        assert!(matches!(after(released("Delete", None, "Released"), json!([])), Step::Fail(n)
            if n.reason == "VolumeFailedDelete"));
        assert!(matches!(after(released("Recycle", None, "Released"), json!([])), Step::Fail(_)));
        assert_eq!(after(released("Delete", None, "Failed"), json!([])), Step::Keep);
    }

    #[test]
    fn a_volume_that_is_deleted_goes_when_no_claim_is_bound_to_it() {
        let deleted = |policy: &str, phase: &str| {
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z",
                    "annotations": {"pv.kubernetes.io/provisioned-by": "ferrovirt.io/local-path"},
                    "finalizers": ["kubernetes.io/pv-protection", "external-provisioner.volume.kubernetes.io/finalizer"]},
                "spec": {"persistentVolumeReclaimPolicy": policy, "claimRef": {"namespace": "n", "name": "c", "uid": "u"}},
                "status": {"phase": phase}})
        };
        assert_eq!(after(deleted("Delete", "Bound"), claim("u", "v")), Step::Keep);
        assert_eq!(after(deleted("Delete", "Bound"), json!([])), Step::Release);
        assert_eq!(after(deleted("Delete", "Released"), json!([])), Step::Reclaim);
        assert_eq!(after(deleted("Retain", "Released"), json!([])), Step::LetGo);
        let mut others = deleted("Delete", "Available");
        others["metadata"]["finalizers"] = json!(["kubernetes.io/pv-protection"]);
        assert_eq!(after(others, json!([])), Step::Unprotect);
    }
}
