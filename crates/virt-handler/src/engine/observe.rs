//! Gathers the facts of one VM.

use std::collections::BTreeSet;

use fv_api::VirtualMachineInstance;
use fv_api::meta::conditions;
use fv_api::meta::phases::VmiPhase;
use fv_hypervisor::HypervisorError;
use jiff::SignedDuration;

use super::{VmiSlot, Worker};
use crate::process;
use crate::sandbox::PodSandbox;
use crate::vm::facts::{DomainFact, ExitCause, Observed, ProcessFact, SandboxFact, VmiFact, VmiFacts};

/// Upstream's grace period of VMIs that name none.
const DEFAULT_GRACE_SECONDS: i64 = 30;

/// A sandbox of the VM's launcher pod on this node.
#[derive(Debug)]
pub(crate) struct Located {
    pub(crate) pod_uid: String,
    pub(crate) sandbox: PodSandbox,
    pub(crate) id: String,
}

impl Worker {
    pub(super) async fn observe(&mut self) -> Observed {
        let vmi = self.observe_vmi().await;
        let domain = self.observe_domain().await;
        let absent = domain == DomainFact::Absent;
        let process = if absent { self.observe_process().await } else { ProcessFact::NotAsked };
        let exit = self.observe_exit(absent).await;
        let sandbox = self.observe_sandbox().await;
        let acpi = self.last_vmi.as_deref().and_then(|vmi| vmi.spec.domain.features.as_ref()?.acpi.as_ref()?.enabled);
        let agent = self.shared.agent.lock().is_some();
        self.shared.gate.lock().can_signal = agent || acpi != Some(false);
        Observed {
            now: self.now(),
            vmi,
            domain,
            process,
            exit,
            unhealthy: self.shared.unhealthy.lock().clone(),
            record: self.record.clone(),
            sandbox,
            session: self.session.clone(),
        }
    }

    async fn observe_vmi(&mut self) -> VmiFact {
        let slot = self.shared.vmi.lock().clone();
        match slot {
            VmiSlot::Present(vmi) => {
                let facts = facts_of(&vmi, &self.node.config.node_name);
                self.last_vmi = Some(vmi);
                VmiFact::Present(facts)
            }
            VmiSlot::Unknown => VmiFact::Unknown,
            VmiSlot::Gone => VmiFact::Gone,
            // Somebody says that it is gone: that is worth a question, not a conclusion.
            VmiSlot::Doubtful => {
                let asked = self.shared.asking();
                match self.node.cluster.vmi(&self.shared.namespace, &self.shared.name).await {
                    Err(error) => {
                        tracing::debug!(error = %error, "VMI cannot be confirmed to be gone");
                        VmiFact::Unknown
                    }
                    Ok(answer) => match self.shared.confirm(asked, answer) {
                        Some(vmi) => {
                            let facts = facts_of(&vmi, &self.node.config.node_name);
                            self.last_vmi = Some(vmi);
                            VmiFact::Present(facts)
                        }
                        None if matches!(&*self.shared.vmi.lock(), VmiSlot::Gone) => VmiFact::Gone,
                        // Doubted again while the answer was on its way; whoever did has sent a message, too.
                        None => VmiFact::Unknown,
                    },
                }
            }
        }
    }

    async fn observe_domain(&self) -> DomainFact {
        match self.node.hypervisor.get(self.shared.uuid).await {
            Ok(info) => DomainFact::of(info.state),
            Err(HypervisorError::NoDomain { .. }) => DomainFact::Absent,
            Err(error) => {
                tracing::debug!(error = %error, "domain cannot be observed");
                DomainFact::Unknown
            }
        }
    }

    async fn observe_process(&self) -> ProcessFact {
        let name = fv_domain::domain_name(self.shared.uuid);
        match tokio::task::spawn_blocking(move || process::qemu_alive(&name)).await {
            Ok(Ok(true)) => ProcessFact::Alive,
            Ok(Ok(false)) => ProcessFact::Dead,
            Ok(Err(error)) => {
                tracing::warn!(error = %error, "processes cannot be looked at: whether the guest lives is not known");
                ProcessFact::NotAsked
            }
            Err(_) => ProcessFact::NotAsked,
        }
    }

    async fn observe_exit(&self, absent: bool) -> Option<ExitCause> {
        let seen = *self.shared.exit.lock();
        let undecided = self.record.as_ref().is_some_and(|r| r.may_have_run() && r.outcome.is_none());
        if seen.is_some() || !absent || !undecided {
            return seen;
        }
        // It ended while nobody listened: libvirt keeps a note.
        match self.node.hypervisor.last_stop(self.shared.uuid).await {
            Ok(reason) => reason.and_then(ExitCause::of),
            Err(error) => {
                tracing::debug!(error = %error, "no note about the end of the domain");
                None
            }
        }
    }

    async fn observe_sandbox(&mut self) -> SandboxFact {
        let known = self.record.as_ref().and_then(|record| record.pod_uid.clone());
        let mut candidates: Vec<String> = known.into_iter().collect();
        if let Some(vmi) = self.last_vmi.as_deref() {
            for uid in pods_here(vmi, &self.node.config.node_name) {
                if !candidates.contains(uid) {
                    candidates.push(uid.clone());
                }
            }
        }
        // A pod that is being deleted stays until the guest has moved to its replacement; which one that is only the API knows.
        let leaving = if candidates.len() > 1 { self.leaving_pods().await } else { BTreeSet::new() };
        candidates.sort_by_key(|uid| leaving.contains(uid));
        self.awaits_pod = false;
        let mut failed = false;
        self.located = None;
        for pod_uid in candidates {
            match self.node.sandboxes.locate(&pod_uid).await {
                Ok(Some(sandbox)) => {
                    let id = match rustix::fs::fstat(&sandbox.netns) {
                        Ok(stat) => format!("{pod_uid}/{}:{}", stat.st_dev, stat.st_ino),
                        Err(_) => pod_uid.clone(),
                    };
                    self.awaits_pod = leaving.contains(&pod_uid);
                    self.located = Some(Located { pod_uid, sandbox, id: id.clone() });
                    return SandboxFact::Present { id };
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(error = %error, "sandbox cannot be looked for");
                    failed = true;
                }
            }
        }
        if failed { SandboxFact::Unknown } else { SandboxFact::Missing }
    }

    async fn leaving_pods(&self) -> BTreeSet<String> {
        match self.node.cluster.leaving_pods(&self.shared.namespace, &self.shared.uid).await {
            Ok(leaving) => leaving,
            // The guest stays where it is.
            Err(error) => {
                tracing::debug!(error = %error, "launcher pods cannot be listed");
                BTreeSet::new()
            }
        }
    }
}

/// UIDs of the VMI's launcher pods on this node.
pub(crate) fn pods_here<'a>(vmi: &'a VirtualMachineInstance, node: &'a str) -> impl Iterator<Item = &'a String> {
    let pods = vmi.status.iter().flat_map(|status| &status.active_pods);
    pods.filter(move |(_, at)| *at == node).map(|(uid, _)| uid)
}

/// Whether the VMI is to end.
pub(crate) fn unwanted(vmi: &VirtualMachineInstance, node: &str) -> bool {
    let facts = facts_of(vmi, node);
    facts.deleting || facts.evacuate
}

/// The part of a VMI the decision needs.
pub(super) fn facts_of(vmi: &VirtualMachineInstance, node: &str) -> VmiFacts {
    let status = vmi.status.as_ref();
    let grace =
        vmi.spec.termination_grace_period_seconds.unwrap_or(DEFAULT_GRACE_SECONDS).clamp(0, i64::from(u32::MAX));
    // With the other strategies the guest leaves alive, or somebody else sees to it.
    let shut_down = matches!(vmi.spec.eviction_strategy.as_deref(), None | Some("" | "None"));
    VmiFacts {
        phase: VmiPhase::parse(status.and_then(|s| s.phase.as_deref())),
        assigned_here: status.and_then(|s| s.node_name.as_deref()) == Some(node),
        deleting: vmi.metadata.deletion_timestamp.is_some(),
        evacuate: shut_down && status.and_then(|s| s.evacuation_node_name.as_deref()) == Some(node),
        grace: SignedDuration::from_secs(grace),
        start_paused: vmi.spec.start_strategy.as_deref() == Some("Paused"),
        domain_deleted: status
            .is_some_and(|s| s.conditions.iter().any(|c| c.type_ == conditions::DOMAIN_DELETED && c.status == "True")),
    }
}
