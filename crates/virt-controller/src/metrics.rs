//! Metrics of machines: read from the controllers' caches at each scrape ([`samples`]), and phase changes as they are heard of
//! ([`transitions`]).

mod samples;
mod transitions;

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use fv_api::{VirtualMachine, VirtualMachineInstance};
use fv_metrics::Samples;
use fv_plan::vmi::PodFacts;
use fv_runtime::Cache;
use fv_runtime::metrics::Source;
use parking_lot::RwLock;

pub(crate) use transitions::observe;

/// What the controllers of this process know of machines, for scrapes: nothing unless they run and have seen everything once. Cheap
/// to clone.
#[derive(Clone, Default)]
pub struct Machines(Arc<RwLock<Option<Known>>>);

struct Known {
    vms: Cache<VirtualMachine>,
    vmis: Cache<VirtualMachineInstance>,
    pods: Cache<PodFacts>,
}

/// Ends what [`Machines::show`] began.
pub(crate) struct Shown(Machines);

impl Drop for Shown {
    fn drop(&mut self) {
        *self.0.0.write() = None;
    }
}

impl Machines {
    /// Shows what these caches know, until the answer is dropped.
    #[must_use]
    pub(crate) fn show(
        &self,
        vms: Cache<VirtualMachine>,
        vmis: Cache<VirtualMachineInstance>,
        pods: Cache<PodFacts>,
    ) -> Shown {
        *self.0.write() = Some(Known { vms, vmis, pods });
        Shown(self.clone())
    }
}

impl Source for Machines {
    fn samples(&self) -> BoxFuture<'_, Samples> {
        async {
            let mut all = Samples::default();
            if let Some(Known { vms, vmis, pods }) = &*self.0.read() {
                for vm in vms.all() {
                    samples::machine(&mut all, &vm);
                }
                for vmi in vmis.all() {
                    let pods = vmi.metadata.uid.as_deref().map(|uid| pods.by_index(uid)).unwrap_or_default();
                    samples::instance(&mut all, &vmi, &pods);
                }
            }
            all
        }
        .boxed()
    }
}
