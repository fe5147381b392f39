//! Which volume suits a claim: pure, by Kubernetes' rules.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use crate::selector::selects;

use super::words::{
    capacity, claim_ref, class_of_claim, class_of_volume, is_block, is_deleting, is_for, requested, volume_phase,
};

/// The volume kept for the claim, else the smallest that suits it (the first by name of those as large). With `reserved_only`
/// only the former: the claim waits for its first consumer.
pub(crate) fn best<'a>(
    claim: &PersistentVolumeClaim,
    volumes: impl IntoIterator<Item = &'a PersistentVolume>,
    reserved_only: bool,
) -> Option<&'a PersistentVolume> {
    let mut smallest: Option<&PersistentVolume> = None;
    for volume in volumes {
        let kept = is_for(volume, claim);
        if (claim_ref(volume).is_some() && !kept) || mismatch_of_size_or_mode(volume, claim).is_some() {
            continue;
        }
        if kept {
            return Some(volume);
        }
        let selector = claim.spec.as_ref().and_then(|s| s.selector.as_ref());
        let suits = !reserved_only
            && volume_phase(volume) == "Available"
            && selector.is_none_or(|s| selects(s, volume.metadata.labels.as_ref()))
            && class_of_volume(volume) == class_of_claim(claim).unwrap_or_default()
            && has_modes(volume, claim);
        let key = |v: &PersistentVolume| (capacity(v), v.metadata.name.clone());
        if suits && smallest.is_none_or(|s| key(volume) < key(s)) {
            smallest = Some(volume);
        }
    }
    smallest
}

/// Why the volume that a claim names does not suit it.
pub(crate) fn mismatch(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<String> {
    if let Some(reason) = mismatch_of_size_or_mode(volume, claim) {
        return Some(reason);
    }
    if class_of_volume(volume) != class_of_claim(claim).unwrap_or_default() {
        return Some("storageClassName does not match".into());
    }
    (!has_modes(volume, claim)).then(|| "incompatible accessMode".into())
}

fn mismatch_of_size_or_mode(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<String> {
    if is_deleting(&volume.metadata) {
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        return Some(format!("the volume is marked for deletion {name:?}"));
    }
    if capacity(volume) < requested(claim) {
        return Some("requested PV is too small".into());
    }
    let of_volume = volume.spec.as_ref().and_then(|s| s.volume_mode.as_deref());
    let of_claim = claim.spec.as_ref().and_then(|s| s.volume_mode.as_deref());
    (is_block(of_volume) != is_block(of_claim)).then(|| "incompatible volumeMode".into())
}

fn has_modes(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let offered = volume.spec.as_ref().and_then(|s| s.access_modes.as_deref()).unwrap_or_default();
    let wanted = claim.spec.as_ref().and_then(|s| s.access_modes.as_deref()).unwrap_or_default();
    wanted.iter().all(|mode| offered.contains(mode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn volume(name: &str, size: &str, extra: Value) -> PersistentVolume {
        let mut full = json!({"metadata": {"name": name}, "status": {"phase": "Available"},
            "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "s"}});
        json_patch::merge(&mut full, &extra);
        serde_json::from_value(full).unwrap()
    }

    fn claim(extra: Value) -> PersistentVolumeClaim {
        let mut full = json!({"metadata": {"name": "c", "namespace": "n", "uid": "u"},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "s", "resources": {"requests": {"storage": "5Gi"}}}});
        json_patch::merge(&mut full, &extra);
        serde_json::from_value(full).unwrap()
    }

    fn name_of(found: Option<&PersistentVolume>) -> Option<&str> {
        found.and_then(|v| v.metadata.name.as_deref())
    }

    #[test]
    fn the_smallest_that_is_large_enough_is_taken() {
        let volumes = [
            volume("a", "1Gi", json!({})),
            volume("b", "20Gi", json!({})),
            volume("d", "10Gi", json!({})),
            volume("c", "10Gi", json!({})),
        ];
        assert_eq!(name_of(best(&claim(json!({})), &volumes, false)), Some("c"));
        assert_eq!(best(&claim(json!({})), &volumes, true), None, "it waits for its consumer");
    }

    #[test]
    fn every_condition_counts() {
        let cases = [
            (json!({}), json!({}), true),
            (json!({"status": {"phase": "Released"}}), json!({}), false),
            (json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}), json!({}), false),
            (json!({"spec": {"storageClassName": "other"}}), json!({}), false),
            (json!({"spec": {"storageClassName": null}}), json!({"spec": {"storageClassName": ""}}), true),
            (json!({"spec": {"volumeMode": "Block"}}), json!({}), false),
            (json!({"spec": {"volumeMode": "Block"}}), json!({"spec": {"volumeMode": "Block"}}), true),
            (json!({}), json!({"spec": {"accessModes": ["ReadWriteMany"]}}), false),
            (json!({"spec": {"accessModes": ["ReadWriteOnce", "ReadWriteMany"]}}), json!({}), true),
            (json!({}), json!({"spec": {"selector": {"matchLabels": {"disk": "fast"}}}}), false),
            (
                json!({"metadata": {"labels": {"disk": "fast"}}}),
                json!({"spec": {"selector": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["fast"]}]}}}),
                true,
            ),
            (json!({"spec": {"claimRef": {"namespace": "n", "name": "other"}}}), json!({}), false),
            (json!({"spec": {"claimRef": {"namespace": "n", "name": "c", "uid": "older"}}}), json!({}), false),
        ];
        for (of_volume, of_claim, expected) in cases {
            let volumes = [volume("v", "10Gi", of_volume.clone())];
            assert_eq!(best(&claim(of_claim.clone()), &volumes, false).is_some(), expected, "{of_volume} {of_claim}");
        }
    }

    #[test]
    fn a_volume_kept_for_the_claim_wins_even_while_it_waits_but_must_be_large_enough() {
        let kept = |size: &str| {
            volume("kept", size, json!({"spec": {"storageClassName": "", "claimRef": {"namespace": "n", "name": "c"}}}))
        };
        let volumes = [volume("a", "5Gi", json!({})), kept("50Gi")];
        assert_eq!(name_of(best(&claim(json!({})), &volumes, false)), Some("kept"));
        assert_eq!(name_of(best(&claim(json!({})), &volumes, true)), Some("kept"));
        assert_eq!(best(&claim(json!({})), &[kept("1Gi")], false), None);
    }

    #[test]
    fn why_a_named_volume_does_not_suit_is_said_in_kubernetes_words() {
        let cases = [
            (json!({}), None),
            (json!({"spec": {"capacity": {"storage": "1Gi"}}}), Some("requested PV is too small")),
            (json!({"spec": {"storageClassName": "x"}}), Some("storageClassName does not match")),
            (json!({"spec": {"volumeMode": "Block"}}), Some("incompatible volumeMode")),
            (json!({"spec": {"accessModes": ["ReadOnlyMany"]}}), Some("incompatible accessMode")),
        ];
        for (extra, expected) in cases {
            assert_eq!(mismatch(&volume("v", "5Gi", extra.clone()), &claim(json!({}))).as_deref(), expected, "{extra}");
        }
    }
}
