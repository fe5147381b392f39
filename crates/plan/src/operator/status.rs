//! The status: phase and conditions, as upstream sets them.

use fv_api::meta::conditions::SYNCHRONIZED;
use fv_api::{Condition, KubeVirtStatus};
use jiff::Timestamp;

use super::{Observed, Target};
use crate::conditions::{FALSE, TRUE, new, remove, set};

const CREATED: &str = "Created";
const AVAILABLE: &str = "Available";
const PROGRESSING: &str = "Progressing";
const DEGRADED: &str = "Degraded";

/// Why an operator does nothing.
pub(super) const EXISTING_DEPLOYMENT: &str = "ExistingDeployment";
pub(super) const ANOTHER_NAMESPACE: &str = "AnotherNamespace";
pub(super) const DEPLOYMENT_FAILED: &str = "DeploymentFailed";
pub(super) const DELETION_FAILED: &str = "DeletionFailed";

/// How an installation is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The first installation, or one that lost something it needs.
    Deploying,
    /// Another version or other settings are being installed over a working installation.
    Updating,
    Ready,
    Failed {
        reason: &'static str,
        message: String,
    },
    Deleting,
}

/// The conditions of a state. `target` is `None` where it cannot be worked out.
pub(super) fn conditions(
    conditions: &mut Vec<Condition>,
    state: &State,
    previous: &KubeVirtStatus,
    target: Option<&Target>,
    now: Timestamp,
) {
    let rows: [(&str, &str, &str, String); 3] = match state {
        State::Deploying => {
            let (version, registry) = target.map_or(("", ""), |target| (&target.version, &target.registry));
            let text = format!("Deploying version {version} with registry {registry}");
            let row = |type_, status| (type_, status, "DeploymentInProgress", text.clone());
            [row(AVAILABLE, FALSE), row(PROGRESSING, TRUE), row(DEGRADED, FALSE)]
        }
        State::Updating => {
            let (version, registry) = target.map_or(("", ""), |target| (&target.version, &target.registry));
            let was = |text: &Option<String>| text.clone().unwrap_or_default();
            let text = format!(
                "Transitioning from previous version {} with registry {} to target version {version} using registry {registry}",
                was(&previous.observed_kube_virt_version),
                was(&previous.observed_kube_virt_registry),
            );
            let row = |type_, status| (type_, status, "UpdateInProgress", text.clone());
            [row(AVAILABLE, TRUE), row(PROGRESSING, TRUE), row(DEGRADED, TRUE)]
        }
        State::Ready => {
            let row = |type_, status| (type_, status, "AllComponentsReady", "All components are ready.".to_owned());
            [row(AVAILABLE, TRUE), row(PROGRESSING, FALSE), row(DEGRADED, FALSE)]
        }
        State::Failed { message, .. } => {
            let text = format!("An error occurred during deployment: {message}");
            let row = |type_, status| (type_, status, DEPLOYMENT_FAILED, text.clone());
            [row(AVAILABLE, FALSE), row(PROGRESSING, FALSE), row(DEGRADED, TRUE)]
        }
        State::Deleting => {
            let row = |type_, status| (type_, status, "DeletionInProgress", "Deletion was triggered".to_owned());
            [row(AVAILABLE, FALSE), row(PROGRESSING, FALSE), row(DEGRADED, TRUE)]
        }
    };
    for (type_, status, reason, message) in rows {
        set(conditions, new(type_, status, reason, &message), now);
    }
    match state {
        State::Ready => {
            let text = "All resources were created.";
            set(conditions, new(CREATED, TRUE, "AllResourcesCreated", text), now);
        }
        State::Updating | State::Deleting => remove(conditions, CREATED),
        State::Deploying | State::Failed { .. } => {}
    }
    match state {
        State::Failed { reason, message } => set(conditions, new(SYNCHRONIZED, FALSE, reason, message), now),
        State::Deploying | State::Updating | State::Ready | State::Deleting => remove(conditions, SYNCHRONIZED),
    }
}

/// The status of a state, before what only a finished step adds. Everything in it is about the resource's present generation.
pub(super) fn of_state(observed: &Observed, state: &State, now: Timestamp) -> KubeVirtStatus {
    let previous = observed.status();
    let target = observed.target.as_ref().ok();
    let mut status = previous.clone();
    conditions(&mut status.conditions, state, &previous, target, now);
    status.observed_generation = observed.kubevirt.metadata.generation;
    status.operator_version = Some(observed.operator_version.clone());
    status.default_architecture = Some(observed.architecture.clone());
    if let Some(outdated) = observed.outdated {
        status.outdated_virtual_machine_instance_workloads = Some(i32::try_from(outdated).unwrap_or(i32::MAX));
    }
    if let (Some(target), false) = (target, observed.is_deleting() || observed.is_elsewhere()) {
        status.target_deployment_config = Some(target.config.clone());
        status.target_deployment_id = Some(target.identifier.clone());
        status.target_kube_virt_registry = Some(target.registry.clone());
        status.target_kube_virt_version = Some(target.version.clone());
    }
    status
}

/// The status to write: none when it says nothing new.
pub(super) fn news(observed: &Observed, status: KubeVirtStatus) -> Option<KubeVirtStatus> {
    (observed.kubevirt.status.as_ref() != Some(&status)).then_some(status)
}
