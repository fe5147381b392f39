//! Writes the VMI's status.

use fv_api::{Quantity, VirtualMachineInstance, VirtualMachineInstanceStatus};
use fv_netplan::Binding;

use super::{StepError, Worker};
use crate::cluster::ClusterError;
use crate::vm::decide::Goal;
use crate::vm::facts::PauseCause;
use crate::vm::status::{InterfaceFact, RunningFacts, StatusGoal, compose};

/// Writes that lose against somebody else's are repeated on the newer object this often.
const ATTEMPTS: usize = 5;

impl Worker {
    pub(super) async fn publish(&mut self, goal: &Goal) -> Result<(), StepError> {
        let goal = match goal {
            Goal::Running { paused } => StatusGoal::Running(Box::new(self.running_facts(*paused)?)),
            Goal::Ended(outcome) => StatusGoal::Ended(outcome.clone()),
            Goal::Deleted => StatusGoal::Deleted,
        };
        self.write(&goal).await
    }

    /// Tells of a failure; when that fails too the retry will tell.
    pub(super) async fn publish_failure(&mut self, reason: &str, message: &str) {
        let wanted = self.shared.present().is_some_and(|vmi| {
            let here =
                vmi.status.as_ref().and_then(|s| s.node_name.as_deref()) == Some(self.node.config.node_name.as_str());
            here && vmi.metadata.deletion_timestamp.is_none()
        });
        if !wanted {
            return;
        }
        let goal = StatusGoal::Failing { reason: reason.to_owned(), message: message.to_owned() };
        if let Err(error) = self.write(&goal).await {
            tracing::debug!(error = %error.chain(), "failure not told");
        }
    }

    async fn write(&mut self, goal: &StatusGoal) -> Result<(), StepError> {
        for _ in 0..ATTEMPTS {
            // Gone or not known: there is nothing to write to, and the next look finds out which.
            let vmi = self.shared.present().ok_or(StepError::Stale)?;
            let none = VirtualMachineInstanceStatus::default();
            let old = vmi.status.as_ref().unwrap_or(&none);
            let new = compose(old, goal, self.now());
            if new == *old {
                return Ok(());
            }
            match self.node.cluster.write_status(&vmi, &new).await {
                Ok(written) => {
                    self.shared.offer(written);
                    return Ok(());
                }
                Err(ClusterError::Conflict { .. }) => self.refresh().await?,
                Err(ClusterError::Request { source, .. }) if is_not_found(&source) => {
                    self.shared.doubt();
                    return Err(StepError::Stale);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let (namespace, name) = (&self.shared.namespace, &self.shared.name);
        Err(ClusterError::Conflict { what: format!("the status of VirtualMachineInstance {namespace}/{name}") }.into())
    }

    async fn refresh(&mut self) -> Result<(), StepError> {
        let asked = self.shared.asking();
        let answer = self.node.cluster.vmi(&self.shared.namespace, &self.shared.name).await?;
        self.last_vmi = Some(self.shared.confirm(asked, answer).ok_or(StepError::Stale)?);
        Ok(())
    }

    fn running_facts(&mut self, paused: Option<PauseCause>) -> Result<RunningFacts, StepError> {
        let vmi = self.shared.present().ok_or(StepError::Stale)?;
        let agent = self.shared.agent.lock().clone();
        let failing = self.failure.as_ref().map(|failure| (failure.reason.clone(), failure.message.clone()));
        let defined = self.record.as_ref().and_then(|record| record.defined.clone()).unwrap_or_default();
        let plan = self.network_plan().ok();
        let bridged = plan.is_some_and(|plan| plan.interfaces.iter().any(|i| i.binding == Binding::Bridge));
        let interfaces =
            plan.map(|plan| plan.interfaces.iter().map(|i| interface_fact(i, &vmi)).collect()).unwrap_or_default();
        Ok(RunningFacts {
            paused,
            failing,
            emulation: defined.emulation,
            agent,
            interfaces,
            machine: Some(defined.machine).filter(|machine| !machine.is_empty()),
            memory: guest_memory(&vmi),
            volumes: defined.volumes,
            not_migratable: not_migratable(bridged),
        })
    }
}

fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

fn interface_fact(interface: &fv_netplan::InterfacePlan, vmi: &VirtualMachineInstance) -> InterfaceFact {
    InterfaceFact {
        is_up: !is_wanted_down(vmi, &interface.name),
        name: interface.name.clone(),
        mac: interface.guest_mac.to_string(),
        ips: interface.status.ips.iter().map(ToString::to_string).collect(),
        pod_interface_name: interface.status.pod_interface_name.clone(),
        queue_count: interface.status.queue_count,
    }
}

/// Whether the user wants the cable of an interface out.
pub(super) fn is_wanted_down(vmi: &VirtualMachineInstance, interface: &str) -> bool {
    let mut interfaces = vmi.spec.domain.devices.interfaces.iter();
    interfaces.any(|i| i.name == interface && i.state.as_deref() == Some("down"))
}

fn guest_memory(vmi: &VirtualMachineInstance) -> Option<Quantity> {
    let domain = &vmi.spec.domain;
    if let Some(guest) = domain.memory.as_ref().and_then(|memory| memory.guest) {
        return Some(guest);
    }
    let resources = domain.resources.as_ref()?;
    resources.requests.get("memory").or_else(|| resources.limits.get("memory")).copied()
}

fn not_migratable(bridged: bool) -> (String, String) {
    let (reason, message) = if bridged {
        (
            "InterfaceNotLiveMigratable",
            "the bridge binding gives the guest the address of its pod, which cannot move with it",
        )
    } else {
        ("LiveMigrationNotSupported", "live migration is not supported yet by Ferrovirt")
    };
    (reason.into(), message.into())
}
