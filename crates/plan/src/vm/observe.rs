//! What the VM controller looks at.

use std::sync::Arc;

use fv_api::meta::phases::VmiPhase;
use fv_api::{VirtualMachine, VirtualMachineInstance, VirtualMachineStatus};
use kube::Resource;

use crate::plan::{EffectFailure, ObjectKey, ObjectRef};

/// Facts about one VM.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub vm: Arc<VirtualMachine>,
    /// The instance of the VM's name, whoever it belongs to.
    pub vmi: Option<Arc<VirtualMachineInstance>>,
    /// What went wrong the last time, if nothing has gone right since.
    pub last_failure: Option<EffectFailure>,
}

/// `spec.runStrategy`, or what `spec.running` says in its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunStrategy {
    Always,
    RerunOnFailure,
    Manual,
    Halted,
    Once,
    /// None given, or one this release does not know: nothing is started, nothing is stopped.
    Unknown,
}

impl RunStrategy {
    /// The strategy of `vm`.
    pub fn of(vm: &VirtualMachine) -> Self {
        match (vm.spec.run_strategy.as_deref(), vm.spec.running) {
            (Some("Always"), _) => Self::Always,
            (Some("RerunOnFailure"), _) => Self::RerunOnFailure,
            (Some("Manual"), _) => Self::Manual,
            (Some("Halted"), _) => Self::Halted,
            (Some("Once"), _) => Self::Once,
            (Some(_), _) => Self::Unknown,
            (None, Some(true)) => Self::Always,
            (None, Some(false)) => Self::Halted,
            (None, None) => Self::Unknown,
        }
    }

    /// The word the API uses.
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Always => Some("Always"),
            Self::RerunOnFailure => Some("RerunOnFailure"),
            Self::Manual => Some("Manual"),
            Self::Halted => Some("Halted"),
            Self::Once => Some("Once"),
            Self::Unknown => None,
        }
    }

    /// Whether a start that fails is tried again, later and later.
    pub(super) fn backs_off(self) -> bool {
        matches!(self, Self::Always | Self::RerunOnFailure | Self::Once)
    }
}

/// The VM's own instance, as far as decisions need it.
pub(super) struct Instance<'a> {
    pub vmi: &'a VirtualMachineInstance,
    pub uid: &'a str,
    pub phase: VmiPhase,
    pub deleting: bool,
}

impl Instance<'_> {
    /// Neither ended nor asked to end.
    pub(super) fn is_live(&self) -> bool {
        !self.phase.is_final() && !self.deleting
    }

    /// Whether the guest ever ran.
    pub(super) fn was_running(&self) -> bool {
        self.phase == VmiPhase::Running
            || self
                .vmi
                .status
                .iter()
                .flat_map(|status| &status.phase_transition_timestamps)
                .any(|step| step.phase.as_deref() == Some(VmiPhase::Running.as_str()))
    }
}

impl Observed {
    pub(super) fn key(&self) -> ObjectKey {
        ObjectKey::of(&*self.vm)
    }

    pub(super) fn uid(&self) -> &str {
        self.vm.metadata.uid.as_deref().unwrap_or_default()
    }

    pub(super) fn resource_version(&self) -> &str {
        self.vm.metadata.resource_version.as_deref().unwrap_or_default()
    }

    pub(super) fn status(&self) -> VirtualMachineStatus {
        self.vm.status.clone().unwrap_or_default()
    }

    pub(super) fn deleting(&self) -> bool {
        self.vm.metadata.deletion_timestamp.is_some()
    }

    pub(super) fn about(&self) -> ObjectRef {
        ObjectRef { api_version: "kubevirt.io/v1", kind: "VirtualMachine", key: self.key(), uid: self.uid().to_owned() }
    }

    /// The instance, if this VM controls it.
    pub(super) fn instance(&self) -> Option<Instance<'_>> {
        let vmi = self.vmi.as_deref().filter(|vmi| self.owns(vmi))?;
        Some(Instance {
            vmi,
            uid: vmi.metadata.uid.as_deref().unwrap_or_default(),
            phase: VmiPhase::parse(vmi.status.as_ref().and_then(|status| status.phase.as_deref())),
            deleting: vmi.metadata.deletion_timestamp.is_some(),
        })
    }

    /// Somebody else's instance that holds the VM's name.
    pub(super) fn foreign_instance(&self) -> Option<&VirtualMachineInstance> {
        self.vmi.as_deref().filter(|vmi| !self.owns(vmi))
    }

    fn owns(&self, vmi: &VirtualMachineInstance) -> bool {
        let owners = vmi.meta().owner_references.as_deref().unwrap_or_default();
        owners.iter().any(|owner| owner.controller == Some(true) && owner.uid == self.uid() && !owner.uid.is_empty())
    }
}
