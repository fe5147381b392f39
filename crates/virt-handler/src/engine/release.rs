//! The steps that end a guest and give back what it held.

use std::sync::Arc;

use fv_hypervisor::HypervisorError;

use super::{StepError, Worker, pods_here};
use fv_plan::EventKind;

impl Worker {
    pub(super) async fn press_power_button(&mut self) -> Result<(), StepError> {
        let first = self.session.last_power_button.is_none();
        match self.node.hypervisor.shutdown(self.shared.uuid).await {
            // Gone already: the next look finds out how.
            Ok(()) | Err(HypervisorError::NoDomain { .. }) => {}
            // A guest that cannot hear it now may later; the grace period decides.
            Err(HypervisorError::InvalidState { step, message }) => {
                tracing::debug!(step, message, "power button not taken");
            }
            Err(error) => return Err(error.into()),
        }
        self.session.last_power_button = Some(self.now());
        if first {
            self.event(EventKind::Normal, "ShuttingDown", "Signaled Graceful Shutdown");
        }
        Ok(())
    }

    pub(super) async fn destroy(&mut self) -> Result<(), StepError> {
        match self.node.hypervisor.destroy(self.shared.uuid).await {
            Ok(()) | Err(HypervisorError::NoDomain { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        self.event(EventKind::Normal, "Deleted", "Signaled Deletion");
        Ok(())
    }

    pub(super) async fn release_disks(&mut self) -> Result<(), StepError> {
        // The drainer and its log end first: nothing may write into what is removed.
        *self.shared.console.lock() = None;
        *self.shared.agent.lock() = None;
        self.session.console_attached = false;
        self.session.prepared = false;
        self.disks = None;
        self.node.disks.release(&self.shared.uid).await?;
        if let Some(cgroups) = &self.node.cgroups {
            cgroups.release(&self.shared.uid).await?;
        }
        let sockets = self.node.socket_dir(&self.shared.uid);
        let path = sockets.display().to_string();
        match tokio::fs::remove_dir_all(&sockets).await {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(StepError::SocketDir { path, source }),
            _ => Ok(()),
        }
    }

    /// Tells every launcher pod of the VM on this node that it may go. A pod that is gone needs no telling.
    pub(super) async fn release_launcher(&mut self) -> Result<(), StepError> {
        let mut pods: std::collections::BTreeSet<String> =
            self.record.iter().filter_map(|r| r.pod_uid.clone()).collect();
        if let Some(vmi) = self.last_vmi.as_deref() {
            pods.extend(pods_here(vmi, &self.node.config.node_name).cloned());
        }
        for pod in pods {
            self.release_pod(&pod).await?;
        }
        self.session.released_launcher = true;
        Ok(())
    }

    /// Tells the launcher of this pod that it may go.
    pub(super) async fn release_pod(&self, pod: &str) -> Result<(), StepError> {
        self.node.tell_launcher(pod, "released", Vec::new()).await.map(drop)
    }

    pub(super) async fn forget(&mut self) -> Result<(), StepError> {
        let Some(record) = self.record.clone() else { return Ok(()) };
        // What libvirt wrote about the domain first: with the record goes the last who knows of it.
        self.node.hypervisor.forget(self.shared.uuid).await?;
        let node = Arc::clone(&self.node);
        tokio::task::spawn_blocking(move || node.store.remove(&record)).await.map_err(StepError::Aborted)??;
        self.record = None;
        self.plan = None;
        *self.shared.exit.lock() = None;
        self.session = crate::vm::facts::Session { released_launcher: true, ..Default::default() };
        Ok(())
    }
}
