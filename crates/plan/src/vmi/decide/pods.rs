//! Making and removing launcher pods.

use fv_api::config::ClusterConfig;
use fv_api::meta::conditions as types;
use fv_render::{LauncherPodOptions, launcher_pod, launcher_pod_name};

use crate::conditions;
use crate::plan::{Effect, EventKind, EventSpec, Step, failures};
use crate::vmi::claims;
use crate::vmi::observe::{Observed, PodFacts};

/// The next pod of the VMI: the first attempt whose name no known pod holds. Needs no memory of earlier attempts; when the
/// cache is behind, the name collides with the pod it has not seen and nothing happens.
pub(super) fn create(observed: &Observed, config: &ClusterConfig, pinned_node: Option<&str>) -> Step {
    let vmi_name = observed.key().name;
    let taken = |attempt: u32| {
        let name = launcher_pod_name(&vmi_name, observed.uid(), attempt);
        observed.pods.iter().any(|pod| pod.key.name == name)
    };
    // As many attempts as there are pods, and one, hold a free name.
    let last = u32::try_from(observed.pods.len()).unwrap_or(u32::MAX);
    let attempt = (0..last).find(|attempt| !taken(*attempt)).unwrap_or(last);
    let options = LauncherPodOptions {
        attempt,
        pinned_node: pinned_node.map(str::to_owned),
        block_volumes: observed.block_volumes(),
        auto_limits: observed.auto_limits,
    };
    let pod = launcher_pod(&observed.vmi, config, &options);
    let name = pod.metadata.name.clone().unwrap_or_default();
    Step {
        effect: Effect::CreatePod(Box::new(pod)),
        done: vec![EventSpec {
            about: observed.about(),
            kind: EventKind::Normal,
            reason: "SuccessfulCreate",
            message: format!("Created virtual machine pod {name}"),
        }],
        failed: failures::CREATE,
        failed_text: "Error creating pod".to_owned(),
        about: observed.about(),
    }
}

/// The pod is not made yet, for this reason; said once.
pub(super) fn waits(observed: &Observed, reason: String) -> Option<EventSpec> {
    let status = observed.status();
    let told = conditions::find(&status.conditions, types::SYNCHRONIZED).and_then(|told| told.message.as_deref());
    (told != Some(reason.as_str())).then(|| EventSpec {
        about: observed.about(),
        kind: EventKind::Normal,
        reason: claims::NOT_FOUND,
        message: reason,
    })
}

/// What a launcher is given that nobody will ever release.
const UNHELD_GRACE_SECONDS: u32 = 1;

/// Whether somebody else (who deletes a namespace, say) gave a pod time that is of no use: its launcher waits to be released, and no node
/// has its guest.
pub(super) fn waits_in_vain(observed: &Observed, pod: &PodFacts) -> bool {
    observed.node().is_none() && pod.grace_seconds.is_some_and(|given| given > i64::from(UNHELD_GRACE_SECONDS))
}

/// Removes `pod`, and only the pod of this uid. A launcher waits to be released by the node that has its guest; where none ever had it,
/// waiting would only keep the user.
pub(super) fn delete(observed: &Observed, pod: &PodFacts) -> Step {
    let grace_seconds = observed.node().is_none().then_some(UNHELD_GRACE_SECONDS);
    Step {
        effect: Effect::DeletePod { key: pod.key.clone(), uid: pod.uid.clone(), grace_seconds },
        done: vec![EventSpec {
            about: observed.about(),
            kind: EventKind::Normal,
            reason: "SuccessfulDelete",
            message: format!("Deleted virtual machine pod {}", pod.key.name),
        }],
        failed: failures::DELETE,
        failed_text: format!("Error deleting pod {}", pod.key.name),
        about: observed.about(),
    }
}
