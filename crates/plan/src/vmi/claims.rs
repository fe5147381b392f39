//! The claims behind a VMI's volumes. A pod is made once all of them exist, and handed to a node once their size is known.

use std::collections::{BTreeMap, BTreeSet};

use fv_api::{
    PersistentVolumeClaimInfo, Quantity, VirtualMachineInstance, VirtualMachineInstanceStatus, Volume, VolumeStatus,
};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as CoreQuantity;

use super::Observed;
use crate::plan::ObjectKey;

/// Upstream's word for a claim that is not there.
pub(super) const NOT_FOUND: &str = "FailedPvcNotFound";
const BLOCK: &str = "Block";

/// What is kept of a claim.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClaimFacts {
    pub key: ObjectKey,
    /// As a VMI's status tells it.
    pub info: PersistentVolumeClaimInfo,
}

impl ClaimFacts {
    /// Copies what matters out of `claim`.
    pub fn of(claim: &PersistentVolumeClaim) -> Self {
        let key = ObjectKey::of(claim);
        let (spec, status) = (claim.spec.as_ref(), claim.status.as_ref());
        let info = PersistentVolumeClaimInfo {
            claim_name: Some(key.name.clone()),
            access_modes: spec.and_then(|spec| spec.access_modes.clone()).unwrap_or_default(),
            capacity: amounts(status.and_then(|status| status.capacity.as_ref())),
            requests: amounts(spec.and_then(|spec| spec.resources.as_ref()).and_then(|all| all.requests.as_ref())),
            volume_mode: spec.and_then(|spec| spec.volume_mode.clone()),
            ..Default::default()
        };
        Self { key, info }
    }

    fn is_bound(&self) -> bool {
        !self.info.capacity.is_empty()
    }
}

fn amounts(all: Option<&BTreeMap<String, CoreQuantity>>) -> BTreeMap<String, Quantity> {
    let read = |(name, amount): (&String, &CoreQuantity)| Some((name.clone(), amount.0.parse().ok()?));
    all.into_iter().flatten().filter_map(read).collect()
}

/// The claim that a volume is.
fn claim_of(volume: &Volume) -> Option<&str> {
    let persistent = volume.persistent_volume_claim.as_ref().map(|claim| claim.claim_name.as_str());
    let ephemeral = || Some(volume.ephemeral.as_ref()?.persistent_volume_claim.as_ref()?.claim_name.as_str());
    persistent.or_else(ephemeral)
}

/// Names of all claims of a VMI.
pub fn claims_of(vmi: &VirtualMachineInstance) -> BTreeSet<&str> {
    vmi.spec.volumes.iter().filter_map(claim_of).collect()
}

impl Observed {
    fn claim(&self, name: &str) -> Option<&ClaimFacts> {
        self.claims.iter().find(|claim| claim.key.name == name).map(|claim| &**claim)
    }

    /// What there is to say about the first claim that does not exist, while no pod stands for the VMI.
    pub(super) fn missing_claim(&self) -> Option<String> {
        let missing = claims_of(&self.vmi).into_iter().find(|name| self.claim(name).is_none())?;
        let namespace = self.vmi.metadata.namespace.as_deref().unwrap_or_default();
        Some(format!("PVC {namespace}/{missing} does not exist, waiting for it to appear"))
    }

    /// Whether the sizes of all claims are known.
    pub(super) fn claims_are_bound(&self) -> bool {
        claims_of(&self.vmi).into_iter().all(|name| self.claim(name).is_some_and(ClaimFacts::is_bound))
    }

    /// Volumes that are block devices: as their claims say, or as they were when a node got the VMI.
    pub(super) fn block_volumes(&self) -> BTreeSet<String> {
        let known = self.vmi.status.iter().flat_map(|status| &status.volume_status);
        let known: BTreeMap<&str, &PersistentVolumeClaimInfo> = known
            .filter_map(|volume| Some((volume.name.as_str(), volume.persistent_volume_claim_info.as_ref()?)))
            .collect();
        let is_block = |volume: &&Volume| {
            let info = claim_of(volume).and_then(|name| self.claim(name)).map(|claim| &claim.info);
            let info = info.or_else(|| known.get(volume.name.as_str()).copied());
            info.is_some_and(|info| info.volume_mode.as_deref() == Some(BLOCK))
        };
        self.vmi.spec.volumes.iter().filter(is_block).map(|volume| volume.name.clone()).collect()
    }
}

/// Tells what the claims are: users while it waits for them, and then the node, which sees no claims.
pub(super) fn fill(observed: &Observed, status: &mut VirtualMachineInstanceStatus) {
    for volume in &observed.vmi.spec.volumes {
        let Some(claim) = claim_of(volume).and_then(|name| observed.claim(name)) else { continue };
        let info = Some(claim.info.clone());
        match status.volume_status.iter_mut().find(|known| known.name == volume.name) {
            Some(known) => known.persistent_volume_claim_info = info,
            None => status.volume_status.push(VolumeStatus {
                name: volume.name.clone(),
                persistent_volume_claim_info: info,
                ..Default::default()
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fv_api::config::ClusterConfig;
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;
    use crate::plan::{Effect, Plan};
    use crate::vmi::{PodFacts, decide};

    fn observed(status: Value, claims: &[Value], pods: Vec<PodFacts>) -> Observed {
        let vmi = json!({
            "metadata": {"name": "demo", "namespace": "ns", "uid": "u", "resourceVersion": "1"},
            "spec": {"domain": {"devices": {}}, "volumes": [
                {"name": "system", "persistentVolumeClaim": {"claimName": "disk"}},
                {"name": "golden", "ephemeral": {"persistentVolumeClaim": {"claimName": "base"}}}]},
            "status": status,
        });
        let claim = |claim: &Value| Arc::new(ClaimFacts::of(&serde_json::from_value(claim.clone()).expect("a claim")));
        Observed {
            vmi: Arc::new(serde_json::from_value(vmi).expect("a VMI")),
            pods: pods.into_iter().map(Arc::new).collect(),
            claims: claims.iter().map(claim).collect(),
            ..Observed::default()
        }
    }

    fn claim(name: &str, mode: &str, capacity: Option<&str>) -> Value {
        json!({
            "metadata": {"name": name, "namespace": "ns"},
            "spec": {"accessModes": ["ReadWriteOnce"], "volumeMode": mode, "resources": {"requests": {"storage": "1Gi"}}},
            "status": {"capacity": capacity.map(|size| json!({"storage": size}))},
        })
    }

    fn ready_pod() -> PodFacts {
        PodFacts {
            key: ObjectKey::new("ns", "virt-launcher-demo"),
            owner_uid: Some("u".into()),
            created_by: Some("u".into()),
            phase: "Running".into(),
            node: Some("n1".into()),
            containers_ready: true,
            ..PodFacts::default()
        }
    }

    fn plan(observed: &Observed) -> Plan {
        decide(observed, &ClusterConfig::default(), Timestamp::UNIX_EPOCH)
    }

    /// Names of the block devices of the pod that is made.
    fn devices(plan: &Plan) -> Vec<String> {
        let [step] = plan.effects.as_slice() else { panic!("{plan:?}") };
        let Effect::CreatePod(pod) = &step.effect else { panic!("{step:?}") };
        let compute = &pod.spec.as_ref().expect("a spec").containers[0];
        compute.volume_devices.iter().flatten().map(|device| device.name.clone()).collect()
    }

    #[test]
    fn a_missing_claim_is_waited_for_and_told_once() {
        let text = "PVC ns/base does not exist, waiting for it to appear";
        let first = plan(&observed(json!({"phase": "Pending"}), &[claim("disk", "Filesystem", None)], vec![]));
        assert!(first.effects.is_empty());
        assert_eq!(
            first.events.iter().map(|e| (e.reason, e.message.as_str())).collect::<Vec<_>>(),
            [(NOT_FOUND, text)]
        );
        let patch = &first.status.expect("a write").patch;
        let conditions = patch["status"]["conditions"].as_array().expect("conditions").clone();
        let told = conditions.iter().find(|c| c["type"] == "Synchronized").expect("Synchronized");
        assert_eq!(
            (&told["status"], &told["reason"], &told["message"]),
            (&json!("False"), &json!(NOT_FOUND), &json!(text))
        );

        let status = json!({"phase": "Pending", "conditions": conditions});
        let again = plan(&observed(status, &[claim("disk", "Filesystem", None)], vec![]));
        assert!(again.is_idle(), "{again:?}");
    }

    #[test]
    fn the_pod_gets_devices_or_directories_as_the_claims_are() {
        let claims = [claim("disk", "Block", None), claim("base", "Filesystem", None)];
        assert_eq!(devices(&plan(&observed(json!({"phase": "Pending"}), &claims, vec![]))), ["system"]);
        // A replacement, although the claim is gone.
        let status = json!({"phase": "Running", "nodeName": "n1", "volumeStatus": [
            {"name": "golden", "target": "vdb", "persistentVolumeClaimInfo": {"volumeMode": "Block"}}]});
        assert_eq!(devices(&plan(&observed(status, &[], vec![]))), ["golden"]);
    }

    #[test]
    fn a_node_gets_the_instance_with_the_sizes_of_its_claims() {
        let status = json!({"phase": "Scheduling"});
        let claims = |size| [claim("disk", "Filesystem", size), claim("base", "Block", Some("2Gi"))];
        let waiting = plan(&observed(status.clone(), &claims(None), vec![ready_pod()]));
        let told = waiting.status.expect("a write").patch["status"].clone();
        assert!(told["phase"].is_null());
        let info = |volume: usize| &told["volumeStatus"][volume]["persistentVolumeClaimInfo"];
        assert_eq!((info(0).get("capacity"), &info(1)["capacity"]), (None, &json!({"storage": "2Gi"})));
        let handed = plan(&observed(status, &claims(Some("1Gi")), vec![ready_pod()])).status.expect("a write").patch;
        assert_eq!(handed["status"]["phase"], "Scheduled");
        let volumes = &handed["status"]["volumeStatus"];
        assert_eq!((&volumes[0]["name"], &volumes[1]["name"]), (&json!("system"), &json!("golden")));
        let info = &volumes[0]["persistentVolumeClaimInfo"];
        assert_eq!(info["capacity"], json!({"storage": "1Gi"}));
        assert_eq!((&info["claimName"], &info["volumeMode"]), (&json!("disk"), &json!("Filesystem")));
        assert_eq!(volumes[1]["persistentVolumeClaimInfo"]["volumeMode"], "Block");
    }
}
