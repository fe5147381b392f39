//! The facts.

use std::collections::BTreeMap;

use fv_api::config::CertificateRotation;
use fv_api::{KubeVirt, KubeVirtSpec, KubeVirtStatus};
use fv_render::install::{
    MANAGED_BY, MANAGER, OWNER, Object, ObjectId, SYSTEM_NAMESPACE, is_config_of, is_name_of_ours, monitoring,
};
use serde_json::Value;

use super::FINALIZER;
use super::certificates::Authority;
use super::objects::Live;

/// What the resource asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Everything to install but the certificates' objects.
    pub objects: Vec<Object>,
    pub identifier: String,
    /// JSON of what the installation is made of.
    pub config: String,
    pub registry: String,
    pub version: String,
}

/// A machine of a user.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Workload {
    /// `VirtualMachine` or `VirtualMachineInstance`.
    pub kind: &'static str,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// Whether it is being deleted.
    pub is_leaving: bool,
}

/// The world as the operator last saw it.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    pub kubevirt: KubeVirt,
    /// Names (`namespace/name`) of other KubeVirt resources that come before this one, by [`in_order`].
    pub elders: Vec<String>,
    /// Namespace of the operator: whose label is ours.
    pub namespace: String,
    /// Version of the operator's program.
    pub operator_version: String,
    /// Go's name of the architecture of the cluster's machines.
    pub architecture: String,
    /// What is to be installed; the error is what is wrong with the resource.
    pub target: Result<Target, String>,
    /// Objects with label [`MANAGED_BY`] of an operator or under a name where ours would be.
    pub live: BTreeMap<ObjectId, Live>,
    /// Generations of objects as this process wrote them, where the status does not say yet.
    pub written: BTreeMap<ObjectId, i64>,
    /// What is known of the certificates.
    pub authority: Authority,
    pub workloads: Vec<Workload>,
    /// Machines whose launcher pods have another image than new ones, where that is known.
    pub outdated: Option<usize>,
    /// The failure of the last attempt to act.
    pub failure: Option<String>,
}

impl Observed {
    pub(super) fn status(&self) -> KubeVirtStatus {
        self.kubevirt.status.clone().unwrap_or_default()
    }

    /// How certificates are renewed; as usual where the resource is invalid.
    pub(super) fn rotation(&self) -> CertificateRotation {
        CertificateRotation::from_kubevirt(&self.kubevirt).unwrap_or_default()
    }

    pub(super) fn is_deleting(&self) -> bool {
        self.kubevirt.metadata.deletion_timestamp.is_some()
    }

    /// Whether another operator follows the resource: then it is that one's, with its status and its finalizer.
    pub fn is_anothers(&self) -> bool {
        follower(&self.kubevirt, &self.namespace) == Follower::Another
    }

    /// Whether the resource is in another namespace than its operator, which has not followed it so far.
    pub(super) fn is_elsewhere(&self) -> bool {
        follower(&self.kubevirt, &self.namespace) == Follower::Elsewhere
    }

    /// Whether an object is ours to write: it has our label, and it is where a label can be believed.
    pub(super) fn owns(&self, id: &ObjectId, live: &Live) -> bool {
        label(&live.value, OWNER) == Some(&self.namespace)
            && (self.wants(id) || (is_name_of_ours(&id.name) && self.is_guarded(id)))
    }

    /// Objects of another installation, and objects of others under names that ours would have.
    pub(super) fn foreign(&self) -> Vec<String> {
        let is_managed = |live: &Live| label(&live.value, MANAGED_BY) == Some(MANAGER);
        let foreign = self.live.iter().filter(|(id, live)| !self.owns(id, live));
        let found = foreign.filter(|(id, live)| {
            self.wants(id) || (is_managed(live) && is_name_of_ours(&id.name) && self.is_guarded(id))
        });
        found.map(|(id, _)| id.to_string()).collect()
    }

    /// Our objects.
    pub(super) fn owned(&self) -> impl Iterator<Item = (&ObjectId, &Live)> {
        self.live.iter().filter(|(id, live)| self.owns(id, live))
    }

    /// Whether the installation has an object of this name.
    fn wants(&self, id: &ObjectId) -> bool {
        let objects = self.target.as_ref().map(|target| target.objects.as_slice()).unwrap_or_default();
        super::certificates::is_ours(id, &self.namespace) || objects.iter().any(|object| object.id() == *id)
    }

    /// Whether only administrators write where an object is: tenants may put any label on what they have, but they have nothing in our
    /// namespace, that of the cluster's own components or outside of namespaces. The one object that goes elsewhere is the ServiceMonitor, where the resource says or said.
    fn is_guarded(&self, id: &ObjectId) -> bool {
        if ["", &self.namespace, SYSTEM_NAMESPACE].contains(&id.namespace.as_str()) {
            return true;
        }
        let installed = self.kubevirt.status.as_ref().and_then(|status| status.observed_deployment_config.as_deref());
        let earlier = installed.and_then(|config| serde_json::from_str::<Value>(config).ok());
        let earlier = earlier.and_then(|mut config| serde_json::from_value::<KubeVirtSpec>(config["spec"].take()).ok());
        [Some(&self.kubevirt.spec), earlier.as_ref()].into_iter().flatten().any(|spec| monitoring::is_monitor(id, spec))
    }
}

/// Who follows a KubeVirt resource, in the order in which they count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Follower {
    /// The operator of this namespace: it has begun to install.
    This,
    Another,
    /// Nobody, or the operator of this namespace has refused it so far.
    Nobody,
    /// Nobody yet, and the operator of this namespace never will.
    Elsewhere,
}

fn follower(kubevirt: &KubeVirt, namespace: &str) -> Follower {
    let is_here = kubevirt.metadata.namespace.as_deref() == Some(namespace);
    let nobody = if is_here { Follower::Nobody } else { Follower::Elsewhere };
    let begun = || kubevirt.metadata.finalizers.iter().flatten().any(|name| name == FINALIZER);
    match kubevirt.status.as_ref().and_then(|status| status.target_deployment_config.as_deref()) {
        None | Some("") => nobody,
        Some(config) if !is_config_of(config, namespace) => Follower::Another,
        Some(_) if begun() => Follower::This,
        Some(_) => nobody,
    }
}

/// KubeVirt resources in the order in which they count: the one that the operator of this namespace follows; those of other operators, beside
/// which none is begun, however old it is; then the oldest; last those of other namespaces. Ages are in whole seconds, so names decide between equals.
pub fn in_order(mut kubevirts: Vec<KubeVirt>, namespace: &str) -> Vec<KubeVirt> {
    kubevirts.sort_by_cached_key(|kubevirt| {
        let meta = &kubevirt.metadata;
        let age = meta.creation_timestamp.as_ref().map(|time| time.0);
        (follower(kubevirt, namespace), age, meta.namespace.clone(), meta.name.clone())
    });
    kubevirts
}

fn label<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value["metadata"]["labels"][key].as_str()
}
