//! Who uses a claim: pure. A claim in use is not deleted, however long that takes.

use fv_api::VirtualMachineInstance;
use fv_api::meta::phases::VmiPhase;
use k8s_openapi::api::core::v1::Pod;

/// Whether a pod names the claim in one of its volumes.
pub(crate) fn names(pod: &Pod, claim: &str) -> bool {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes.filter_map(|v| v.persistent_volume_claim.as_ref()).any(|c| c.claim_name == claim)
}

/// Whether a pod is on a node and has not ended.
fn is_active(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    let placed = pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).is_some_and(|n| !n.is_empty());
    placed && !matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether a guest has the claim for a disk, or is about to. Its pod may be lost while it runs, so it counts by itself.
fn is_disk_of(vmi: &VirtualMachineInstance, claim: &str) -> bool {
    let phase = VmiPhase::parse(vmi.status.as_ref().and_then(|s| s.phase.as_deref()));
    !phase.is_final()
        && vmi.spec.volumes.iter().any(|volume| {
            let direct = volume.persistent_volume_claim.as_ref().map(|c| c.claim_name.as_str());
            let ephemeral = volume.ephemeral.as_ref().and_then(|e| e.persistent_volume_claim.as_ref());
            let data_volume = volume.data_volume.as_ref().map(|d| d.name.as_str());
            [direct, ephemeral.map(|c| c.claim_name.as_str()), data_volume].contains(&Some(claim))
        })
}

/// Whether anything of the claim's namespace uses it.
pub(crate) fn is_used(claim: &str, pods: &[Pod], vmis: &[VirtualMachineInstance]) -> bool {
    pods.iter().any(|pod| is_active(pod) && names(pod, claim)) || vmis.iter().any(|vmi| is_disk_of(vmi, claim))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(node: &str, phase: &str, claim: &str) -> Value {
        json!({"spec": {"nodeName": node, "containers": [], "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]},
            "status": {"phase": phase}})
    }

    fn vmi(phase: Value, volume: Value) -> Value {
        json!({"metadata": {"name": "v"}, "spec": {"domain": {"devices": {}}, "volumes": [volume]}, "status": {"phase": phase}})
    }

    #[test]
    fn pods_on_a_node_and_guests_use_a_claim_until_they_end() {
        let direct = json!({"name": "d", "persistentVolumeClaim": {"claimName": "c"}});
        let ephemeral = json!({"name": "d", "ephemeral": {"persistentVolumeClaim": {"claimName": "c"}}});
        let cases = [
            (json!([]), json!([]), false),
            (json!([pod("n", "Running", "c")]), json!([]), true),
            (json!([pod("n", "Pending", "c")]), json!([]), true),
            (json!([pod("", "Pending", "c")]), json!([]), false),
            (json!([pod("n", "Succeeded", "c"), pod("n", "Failed", "c")]), json!([]), false),
            (json!([pod("n", "Running", "other")]), json!([]), false),
            (json!([]), json!([vmi(json!("Running"), direct.clone())]), true),
            (json!([]), json!([vmi(json!("Running"), ephemeral)]), true),
            (json!([]), json!([vmi(json!("Failed"), direct.clone())]), false),
            (json!([]), json!([vmi(json!(null), direct)]), true),
            (json!([]), json!([vmi(json!("Running"), json!({"name": "d", "emptyDisk": {"capacity": "1Gi"}}))]), false),
        ];
        for (pods, vmis, expected) in cases {
            let pods: Vec<Pod> = serde_json::from_value(pods).unwrap();
            let vmis: Vec<VirtualMachineInstance> = serde_json::from_value(vmis).unwrap();
            assert_eq!(is_used("c", &pods, &vmis), expected, "{pods:?} {vmis:?}");
        }
    }
}
