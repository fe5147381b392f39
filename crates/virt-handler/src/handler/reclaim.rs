//! Disks and image claims of VMs that are gone: left behind when the node directory was lost, or the machine died at a bad moment.

use std::collections::HashSet;
use std::time::Duration;

use fv_api::VirtualMachineInstance;
use kube::Api;
use kube::api::ListParams;
use uuid::Uuid;

use super::Handler;
use crate::process;

const AGAIN: Duration = Duration::from_secs(10);
const DEADLINE: Duration = Duration::from_secs(30);

impl Handler {
    /// Releases what is held for VMs that neither the API, nor libvirt, nor the node's records, nor the kernel know any more. All of
    /// them have to have answered; until then it asks again.
    pub(super) async fn reclaim_disks(&self) {
        while let Err(problem) = self.try_reclaim().await {
            tracing::debug!(problem, "disks left behind cannot be looked for yet");
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn try_reclaim(&self) -> Result<(), String> {
        let node = &self.inner.node;
        // Holders first: a VM that begins to hold something later is not among them.
        let holders = node.disks.holders().await.map_err(|error| error.to_string())?;
        if holders.is_empty() {
            return Ok(());
        }
        let domains = node.hypervisor.list().await.map_err(|error| error.to_string())?;
        let mut known: HashSet<String> = domains.iter().map(|domain| domain.uuid.to_string()).collect();
        // Of all nodes: what matters is whether the VMI exists, not where it is.
        let api: Api<VirtualMachineInstance> = Api::all(node.cluster.client().clone());
        let everything = ListParams::default();
        let list = tokio::time::timeout(DEADLINE, api.list_metadata(&everything));
        let listed =
            list.await.map_err(|_| "the API does not answer".to_owned())?.map_err(|error| error.to_string())?;
        known.extend(listed.items.into_iter().filter_map(|vmi| vmi.metadata.uid));
        for holder in holders {
            // Whoever else holds images does it under another kind of name.
            let Ok(uuid) = Uuid::parse_str(&holder) else { continue };
            if known.contains(&holder) || self.is_known_here(&holder, uuid).await {
                continue;
            }
            match node.disks.release(&holder).await {
                Ok(()) => tracing::info!(uid = holder, "released the disks of a VM that is gone"),
                Err(error) => tracing::warn!(uid = holder, error = %error, "disks of a VM that is gone are kept"),
            }
        }
        Ok(())
    }

    /// Whether anything on this node knows of the VM. What cannot be found out counts as yes.
    async fn is_known_here(&self, uid: &str, uuid: Uuid) -> bool {
        if self.inner.tasks.lock().contains_key(uid) || self.inner.damaged.lock().contains_key(uid) {
            return true;
        }
        let (node, uid) = (std::sync::Arc::clone(&self.inner.node), uid.to_owned());
        let look = move || {
            !matches!(node.store.read(&uid), Ok(None))
                || process::qemu_alive(&fv_domain::domain_name(uuid)).unwrap_or(true)
        };
        tokio::task::spawn_blocking(look).await.unwrap_or(true)
    }
}
