//! Admission of the KubeVirt resource, which virt-operator's webhook calls: one in a cluster, nothing in it that would be
//! ignored, and no removal under running machines when the owner said so.

use fv_api::KubeVirt;
use fv_api::config::{CertificateRotation, ClusterConfig};
use serde_json::Value;

use crate::causes::{Causes, Field};
use crate::json;
use crate::ratchet;
use crate::request::Cause;
use crate::supported;
use crate::validate::decode;

mod gates;
mod spec;
#[cfg(test)]
mod tests;

/// What a removal asks about: how many objects of users are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Workloads {
    pub instances: usize,
    pub machines: usize,
}

/// Why a write to a KubeVirt resource is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KubeVirtRefusal {
    /// The write as a whole; status code 400, as upstream's webhooks answer.
    Request(String),
    /// Single fields; status code 422 with these causes.
    Fields(Vec<Cause>),
}

/// Judges a new resource. `others` are the names (`namespace/name`) of the KubeVirt resources that exist.
pub fn create_kubevirt(object: &Value, others: &[String]) -> Result<(), KubeVirtRefusal> {
    if !others.is_empty() {
        return Err(KubeVirtRefusal::Request("Kubevirt is already created".to_owned()));
    }
    refuse(kubevirt_causes(object))
}

/// Judges a change: only for what the old object did not already have, and never while it is being deleted.
pub fn update_kubevirt(old: &Value, object: &Value) -> Result<(), KubeVirtRefusal> {
    let is_leaving = json::text(object, "metadata.deletionTimestamp").is_some();
    if is_leaving || old.get("spec") == object.get("spec") {
        return Ok(());
    }
    refuse(ratchet::new_causes(kubevirt_causes(object), || kubevirt_causes(old)))
}

/// Judges a removal: refused while machines exist when the owner chose `BlockUninstallIfWorkloadsExist`.
pub fn delete_kubevirt(object: &Value, workloads: Workloads) -> Result<(), KubeVirtRefusal> {
    if json::text(object, "spec.uninstallStrategy") != Some(spec::BLOCK_UNINSTALL) {
        return Ok(());
    }
    let present = match workloads {
        Workloads { instances: 1.., .. } => "Virtual Machine Instances",
        Workloads { machines: 1.., .. } => "Virtual Machines",
        Workloads { instances: 0, machines: 0 } => return Ok(()),
    };
    Err(KubeVirtRefusal::Request(format!(
        "Rejecting the uninstall request, since there are still {present} present. Either delete all KubeVirt related \
         workloads or change the uninstall strategy before uninstalling KubeVirt."
    )))
}

/// Everything wrong with a resource, whatever it was before. The operator asks this too before it follows an object: a webhook
/// may have been away when it was written.
pub fn kubevirt_causes(object: &Value) -> Vec<Cause> {
    let mut causes = Causes::default();
    supported::check_kubevirt(object, &mut causes);
    let Some(kubevirt) = decode::<KubeVirt>(object, &Field::new(""), &mut causes) else { return causes.into_vec() };
    spec::check(&kubevirt.spec, &Field::new("spec"), &mut causes);
    if let Err(error) = ClusterConfig::from_kubevirt(&kubevirt, &ClusterConfig::default()) {
        causes.invalid(&Field::new(error.field), error.to_string());
    }
    if let Err(error) = CertificateRotation::from_kubevirt(&kubevirt) {
        causes.invalid(&Field::new(error.field), error.to_string());
    }
    causes.into_vec()
}

fn refuse(causes: Vec<Cause>) -> Result<(), KubeVirtRefusal> {
    if causes.is_empty() { Ok(()) } else { Err(KubeVirtRefusal::Fields(causes)) }
}
