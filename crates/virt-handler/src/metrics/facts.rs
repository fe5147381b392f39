//! What is known of a guest at a scrape.

use std::collections::BTreeMap;

use fv_api::VirtualMachineInstance;
use fv_host::link::LinkStats;
use fv_hypervisor::DomainStats;

use crate::process::ProcessStats;

/// A guest; what could not be read is missing.
#[derive(Clone, Debug, Default)]
pub(super) struct Guest {
    pub(super) node: String,
    pub(super) namespace: String,
    pub(super) name: String,
    /// Labels of the instance, as labels of its series.
    pub(super) labels: Vec<(String, String)>,
    /// Names of volumes by disk: `vda` → `system`.
    pub(super) volumes: BTreeMap<String, String>,
    pub(super) stats: Option<DomainStats>,
    pub(super) process: Option<ProcessStats>,
    /// What passed each interface, as the guest sees it.
    pub(super) links: Vec<(String, LinkStats)>,
}

pub(super) fn volumes(vmi: &VirtualMachineInstance) -> BTreeMap<String, String> {
    let volumes = vmi.status.iter().flat_map(|status| &status.volume_status);
    volumes.map(|volume| (volume.target.clone(), volume.name.clone())).collect()
}
