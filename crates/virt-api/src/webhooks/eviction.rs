//! Eviction of launcher pods: allowed where the guest may be shut down for it, and otherwise the beginning of an evacuation. Texts
//! are upstream's: the descheduler reads them.
//!
//! Allowing changes nothing here: anybody in the cluster can post a review, so this request is no proof that a guest is to be ended. The
//! API server's own mark on the evicted pod is: virt-controller acts on that.

use fv_api::VirtualMachineInstance;
use fv_api::meta::{annotations, conditions, labels};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;

use super::review::{Answer, Review};
use crate::deadline::within;

/// What is to become of an eviction.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Allowed,
    Denied(String),
    /// Denied; the VMI is to leave `node` first. `marked` when it has been told.
    Evacuate {
        node: String,
        marked: bool,
    },
}

/// Judges the eviction of a pod, and marks its VMI for evacuation where that is the way.
pub(super) async fn judge(client: &Client, review: &Review) -> Result<Answer, kube::Error> {
    let pods = Api::<Pod>::namespaced(client.clone(), review.namespace());
    let Some(pod) = within(pods.get_opt(review.name())).await? else { return Ok(Answer::default()) };
    let Some(name) = instance_of(&pod) else { return Ok(Answer::default()) };
    let vmis = Api::<VirtualMachineInstance>::namespaced(client.clone(), review.namespace());
    let Some(vmi) = within(vmis.get_opt(&name)).await? else { return Ok(Answer::default()) };
    let denied = |text: &str| Answer::refused(429, "TooManyRequests", text);
    Ok(match decide(&pod, &vmi) {
        Verdict::Allowed => Answer::default(),
        Verdict::Denied(why) => denied(&why),
        Verdict::Evacuate { node, marked } => {
            if !marked && !review.dry_run() {
                let patch = json!({"metadata": {"uid": vmi.uid()}, "status": {"evacuationNodeName": node}});
                within(vmis.patch(&name, &PatchParams::default(), &Patch::Merge(&patch))).await?;
            }
            let prefix = if marked { "Evacuation in progress: " } else { "" };
            denied(&format!("{prefix}Eviction triggered evacuation of VMI \"{}/{name}\"", review.namespace()))
        }
    })
}

/// The VMI a launcher pod is of; `None` for other pods, whatever their name.
fn instance_of(pod: &Pod) -> Option<String> {
    let launcher = pod.labels().get(labels::APP).is_some_and(|app| app == labels::APP_LAUNCHER);
    pod.annotations().get(annotations::DOMAIN).filter(|_| launcher).cloned()
}

fn decide(pod: &Pod, vmi: &VirtualMachineInstance) -> Verdict {
    let status = vmi.status.as_ref();
    let node = status.and_then(|s| s.node_name.as_deref()).unwrap_or_default();
    let represents = pod.labels().get(labels::CREATED_BY).map(String::as_str) == vmi.metadata.uid.as_deref();
    let here = pod.spec.as_ref().and_then(|s| s.node_name.as_deref()) == Some(node);
    // Of an earlier instance, or not where the guest is.
    if !represents || !here {
        return Verdict::Allowed;
    }
    let migratable = status
        .is_some_and(|s| s.conditions.iter().any(|c| c.type_ == conditions::LIVE_MIGRATABLE && c.status == "True"));
    match (vmi.spec.eviction_strategy.as_deref(), migratable) {
        (Some("LiveMigrate"), false) => Verdict::Denied(format!(
            "VMI {} is configured with an eviction strategy but is not live-migratable",
            vmi.name_any()
        )),
        (Some("LiveMigrate" | "LiveMigrateIfPossible"), true) | (Some("External"), _) => Verdict::Evacuate {
            node: node.to_owned(),
            marked: status.and_then(|s| s.evacuation_node_name.as_deref()) == Some(node),
        },
        _ => Verdict::Allowed,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn pod(uid: &str, node: &str) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "virt-launcher-demo-x",
            "labels": {"kubevirt.io": "virt-launcher", "kubevirt.io/created-by": uid},
            "annotations": {"kubevirt.io/domain": "demo"}},
            "spec": {"nodeName": node, "containers": []}}))
        .unwrap()
    }

    fn vmi(strategy: Value, status: Value) -> VirtualMachineInstance {
        let mut vmi = json!({"metadata": {"name": "demo", "namespace": "default", "uid": "u1"},
            "spec": {"domain": {"devices": {}}, "evictionStrategy": strategy}, "status": {"nodeName": "n1"}});
        json_patch::merge(&mut vmi, &json!({"status": status}));
        serde_json::from_value(vmi).unwrap()
    }

    #[test]
    fn each_strategy_is_answered_as_upstream_answers_it() {
        let migratable = json!({"conditions": [{"type": "LiveMigratable", "status": "True"}]});
        let evacuate = |marked| Verdict::Evacuate { node: "n1".into(), marked };
        let denied = "VMI demo is configured with an eviction strategy but is not live-migratable";
        for (strategy, status, expected) in [
            (Value::Null, json!({}), Verdict::Allowed),
            (json!("None"), migratable.clone(), Verdict::Allowed),
            (json!("LiveMigrate"), json!({}), Verdict::Denied(denied.into())),
            (json!("LiveMigrate"), migratable.clone(), evacuate(false)),
            (json!("LiveMigrateIfPossible"), json!({}), Verdict::Allowed),
            (json!("LiveMigrateIfPossible"), migratable, evacuate(false)),
            (json!("External"), json!({}), evacuate(false)),
            (json!("External"), json!({"evacuationNodeName": "n1"}), evacuate(true)),
            (json!("External"), json!({"evacuationNodeName": "n0"}), evacuate(false)),
        ] {
            let verdict = decide(&pod("u1", "n1"), &vmi(strategy.clone(), status.clone()));
            assert_eq!(verdict, expected, "{strategy} {status}");
        }
    }

    #[test]
    fn pods_that_do_not_represent_the_guest_may_go() {
        let vmi = vmi(json!("External"), json!({}));
        assert_eq!(decide(&pod("u0", "n1"), &vmi), Verdict::Allowed, "of an earlier instance");
        assert_eq!(decide(&pod("u1", "n2"), &vmi), Verdict::Allowed, "on another node");
        assert_eq!(instance_of(&pod("u1", "n1")).as_deref(), Some("demo"));
        assert_eq!(instance_of(&Pod::default()), None);
    }
}
